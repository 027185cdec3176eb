"""`python -m robustness_core train`: trains a network, shows progress, and writes it with its card."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from robustness_core import datasets, layers
from robustness_core.engine.compute import versions
from robustness_core.errors import StrataError
from robustness_core.files import check_writable
from robustness_core.networks import Network
from robustness_core.networks.saving import save
from robustness_core.spec.threat import NORMS
from robustness_core.training.train import (
    HELD_OUT,
    HELD_OUT_STEPS,
    METHODS,
    PRECISIONS,
    EpochReport,
    Trained,
    TrainingSpec,
    train,
)

_DEFAULT = TrainingSpec("small", "mnist", "benign")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--architecture", required=True, help="small, medium, large, or a text such as `flatten, fc 10`"
    )
    parser.add_argument("--dataset", required=True, help=", ".join(datasets.REGISTRY))
    parser.add_argument("--method", required=True, help=", ".join(METHODS))
    usual = ", ".join(
        f"{entry.epsilon:g} and in linf {entry.epsilon_linf:.3g} for {name}"
        for name, entry in datasets.REGISTRY.items()
    )
    parser.add_argument("--threat", default=_DEFAULT.threat, help=f"the norm of the attack, {' or '.join(NORMS)}")
    parser.add_argument("--epsilon", type=float, help=f"its budget on pixels in [0, 1] (default: {usual})")
    parser.add_argument("--epochs", type=int, default=_DEFAULT.epochs)
    parser.add_argument("--attack-steps", type=int, default=_DEFAULT.attack_steps, help="PGD steps a batch")
    parser.add_argument("--beta", type=float, default=_DEFAULT.beta, help="weight of the TRADES term")
    parser.add_argument("--batch", type=int, default=_DEFAULT.batch)
    parser.add_argument(
        "--learning-rate", type=float, default=_DEFAULT.learning_rate, help="at the start of the cosine"
    )
    parser.add_argument("--seed", type=int, default=_DEFAULT.seed)
    parser.add_argument("--limit", type=int, help="use this many training images")
    parser.add_argument(
        "--precision", default=_DEFAULT.precision, help=f"{' or '.join(PRECISIONS)} (half the cost where supported)"
    )
    parser.add_argument("--store-as", choices=("float32", "float16"), default="float32", help="how weights are stored")
    parser.add_argument("--out", type=Path, required=True, help="a .safetensors file; its card goes beside it")


def run(args: argparse.Namespace) -> None:
    """Train and write; the same command goes on where it stopped. Raises StrataError."""
    entry = datasets.get(args.dataset)
    usual = entry.epsilon if args.threat == "l2" else entry.epsilon_linf
    spec = TrainingSpec(
        architecture=args.architecture,
        dataset=args.dataset,
        method=args.method,
        epsilon=usual if args.epsilon is None else args.epsilon,
        epochs=args.epochs,
        attack_steps=args.attack_steps,
        beta=args.beta,
        batch=args.batch,
        learning_rate=args.learning_rate,
        seed=args.seed,
        limit=args.limit,
        precision=args.precision,
        threat=args.threat,
    )
    if args.out.suffix != ".safetensors":
        raise StrataError(f"--out {args.out} must end in .safetensors.")
    check_writable(args.out)
    _train_and_save(spec, args)


def _train_and_save(spec: TrainingSpec, args: argparse.Namespace) -> None:
    with tqdm(desc=args.out.stem, unit="batch", dynamic_ncols=True, disable=None) as bar:

        def on_batch(done: int, total: int) -> None:
            if bar.total != total:  # the first batch after a start or a resumption
                bar.reset(total)
                bar.initial = bar.n = done - 1
            bar.update()

        def on_epoch(report: EpochReport) -> None:
            tqdm.write(
                f"epoch {report.epoch}/{spec.epochs}: loss {report.loss:.4f}, held-out images: "
                f"{report.clean:.1%} clean, {report.robust:.1%} at ε = {spec.epsilon:g}, {report.seconds:.0f} s"
            )

        epochs = args.out.with_suffix(".epochs")
        trained = train(spec, epochs, on_batch=on_batch, on_epoch=on_epoch)
    dtype = torch.float16 if args.store_as == "float16" else None
    # What was measured on older weights does not belong to these.
    save(trained.network, args.out, card(spec, trained, args), dtype=dtype)
    epochs.unlink(missing_ok=True)
    print(f"{args.out}: {trained.images} images, {len(trained.history)} epochs")


def card(spec: TrainingSpec, trained: Trained, args: argparse.Namespace) -> dict[str, Any]:
    """How the network was made, for the JSON beside its weights; `evaluate` adds what is measured."""
    network = trained.network
    return {
        "name": args.out.stem,
        "architecture": network.architecture,
        "input_shape": list(network.input_shape),
        "mean": None if network.mean is None else list(network.mean),
        "std": None if network.std is None else list(network.std),
        "dataset": spec.dataset,
        "images": trained.images,
        "images_from": trained.source if spec.limit is None else f"{trained.images} drawn from {trained.source}",
        "training": {**asdict(spec), "optimiser": "SGD, momentum 0.9, cosine schedule"},
        "command": command_line(spec, args),
        "seconds": round(sum(report.seconds for report in trained.history), 1),
        "versions": versions(),
        "stored_as": args.store_as,
        "epochs_measured": f"on {HELD_OUT} test images before storing, robust under {HELD_OUT_STEPS} steps of PGD",
        "epochs": [asdict(report) for report in trained.history],
        "layers": layer_table(network),
    }


def command_line(spec: TrainingSpec, args: argparse.Namespace) -> str:
    """The command that trains this network again, every setting that differs from its default spelled out."""
    words = ["python", "-m", "robustness_core", "train"]
    for name, value in asdict(spec).items():
        if name in ("architecture", "dataset", "method", "epsilon", "epochs") or value != getattr(_DEFAULT, name):
            short = isinstance(value, float) and float(f"{value:g}") == value
            words += [f"--{name.replace('_', '-')}", f"{value:g}" if short else str(value)]
    if args.store_as != "float32":
        words += ["--store-as", args.store_as]
    return shlex.join([*words, "--out", str(args.out)])


def layer_table(network: Network) -> list[dict[str, Any]]:
    """The layers that an audit offers, from input to output."""
    return [
        {"name": cut.name, "shape": list(cut.shape), "features": cut.features}
        for cut in layers.cuts(network, network.input_shape)
        if cut.main
    ]
