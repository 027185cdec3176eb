"""`python -m robustness_core evaluate FILE`: measures a network and writes what it finds into the network's card."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from robustness_core import datasets
from robustness_core.engine.compute import versions
from robustness_core.errors import StrataError
from robustness_core.files import card_file, check_writable, read_card, write_together
from robustness_core.networks import Network
from robustness_core.sandbox import untrusted
from robustness_core.spec import EpsilonGrid, Threat, sample_indices
from robustness_core.spec.threat import NORMS
from robustness_core.training.evaluation import (
    PGD_STEPS,
    USUAL_STEP,
    ClassPair,
    accuracy,
    pgd_accuracies,
    usual_pgd_accuracies,
)
from robustness_core.training.references import (
    FAB_STEPS,
    REFERENCES,
    Progress,
    apgd,
    before_softmax,
    ddn,
    fab,
    losses_along,
    remark,
)
from robustness_core.training.train import PRECISIONS

# The accuracies on all test images, each under its name in the card.
HEADLINES = ("clean", "robust", "usual", "independent")
INDEPENDENT_IMAGES, INDEPENDENT_STEPS = 1_000, 100  # of an attack by a library, which shares no line with ours
AUDITED = "audited"  # and the least perturbations of the images that an audit takes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="a checkpoint; the card goes beside it")
    parser.add_argument("--dataset", help=f"{', '.join(datasets.REGISTRY)} (default: the card's)")
    parser.add_argument("--classes", type=int, nargs=2, metavar=("A", "B"), help="(default: the usual pair)")
    parser.add_argument("--threat", choices=NORMS, help="the norm of the attacks (default: trained, else l2)")
    parser.add_argument("--epsilon", help="budgets as start:stop:count (default: up to twice the trained budget)")
    parser.add_argument("--robust-epsilon", type=float, nargs="+", help="budgets on all test images (default: trained)")
    parser.add_argument("--steps", type=int, default=PGD_STEPS, help="PGD steps")
    parser.add_argument("--images", type=int, help="test images that are attacked for the headline (default: all)")
    parser.add_argument("--grid-images", type=int, default=500, help="test images for each curve over the budgets")
    parser.add_argument("--fab-images", type=int, default=50, help="test images that FAB attacks; 0: none")
    parser.add_argument("--samples", type=int, default=100, help="audited images a class whose least norms are kept")
    parser.add_argument("--seed", type=int, default=0, help="of the attacks and of the audited sample")
    parser.add_argument("--precision", default="float32", help="of PGD's search: " + " or ".join(PRECISIONS))
    parser.add_argument(
        "--only", nargs="+", choices=(*HEADLINES, AUDITED), help="measure these again and keep the rest of the card"
    )


def run(args: argparse.Namespace) -> None:
    """Measure and write the card. Raises StrataError."""
    card = read_card(args.file)
    _check(args)
    check_writable(args.file.with_suffix(".json"))
    network, guessed = untrusted.load(args.file, {} if args.dataset is None else {"dataset": args.dataset})
    for sentence in guessed:
        print(f"strata: {sentence}", file=sys.stderr)
    card["evaluation"] = (card.get("evaluation", {}) if args.only else {}) | measure(network, card, args)
    write_together(card_file(args.file, card))
    print(_summary(args.file.stem, card["evaluation"]))


def _check(args: argparse.Namespace) -> None:
    if args.precision not in PRECISIONS:
        raise StrataError(f"The precision {args.precision!r} is not one of {', '.join(PRECISIONS)}.")
    for epsilon in args.robust_epsilon or ():
        if not (np.isfinite(epsilon) and epsilon >= 0):
            raise StrataError(f"The budget ε is {epsilon:g}; it must be 0 or more.")
    for name, value, least in (
        ("number of PGD steps", args.steps, 1),
        ("number of test images", 1 if args.images is None else args.images, 1),
        ("number of test images for the curves", args.grid_images, 1),
        ("number of images for FAB", args.fab_images, 0),
        ("number of audited images a class", args.samples, 0),
        ("seed", args.seed, 0),
    ):
        if value < least:
            raise StrataError(f"The {name} is {value}; it must be {least} or more.")


def measure(network: Network, card: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """Everything that goes into the card's `evaluation`, as JSON values."""
    begun = time.monotonic()
    dataset = args.dataset or card.get("dataset")
    if dataset is None:
        raise StrataError(f"{args.file} has no card that names its data set; give --dataset.")
    entry = datasets.get(dataset)
    classes = _classes(entry, args.classes)
    training = card.get("training", {})
    norm = args.threat or training.get("threat", "l2")
    asked = args.only or (*HEADLINES, AUDITED)
    # What is lacking is said before hours are spent.
    sample = _sample(dataset, classes, args) if AUDITED in asked else None
    data = sample[0] if sample and asked == [AUDITED] else datasets.fetch(dataset, "test")
    _try(network, data)
    if args.images is not None and args.images > len(data):
        raise StrataError(f"--images asks for {args.images:,} images, but {dataset} has {len(data):,} test images.")
    own = None if training.get("method") == "benign" else training.get("epsilon")
    own = own if norm == training.get("threat", "l2") else None
    trained = own or (entry.epsilon if norm == "l2" else entry.epsilon_linf)
    grid = EpsilonGrid.parse(args.epsilon) if args.epsilon else EpsilonGrid(trained / 4, 2 * trained, 8)
    epsilons = [round(float(epsilon), 6) for epsilon in grid.values()]
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # an eighth faster on the CPU
    order = np.random.default_rng(0).permutation(len(data))  # a part of the test set must hold every class
    made: dict[str, Any] = {
        "command": shlex.join(["python", "-m", "robustness_core", "evaluate", *_words(args)]),
        "search_precision": args.precision,
        "versions": versions(),
    }
    with tqdm(desc=args.file.stem, unit="image", disable=None) as bar:
        measured = {
            name: _headline(name, network, data, order, args.robust_epsilon or [trained], norm, args, bar)
            for name in asked
            if name != AUDITED
        }
        pair = ClassPair(network, classes)
        if sample is not None:
            measured[AUDITED] = _audited(network, *sample, classes, args, bar)
        if args.only:
            made["seconds"] = round(time.monotonic() - begun, 1)
            return {name: part | made for name, part in measured.items()}
        of_pair = order[np.isin(data.labels[order], classes)]
        every = _curves(network, _images(data, order[: args.grid_images]), epsilons, norm, args, bar, "all classes")
        two = _curves(
            pair, _pair_images(data, of_pair[: args.grid_images], classes), epsilons, norm, args, bar, "class pair"
        )
    return {
        "split": "test",
        "source": data.source,
        **measured,
        "ten_classes": every,
        "class_pair": {"classes": list(classes), **two},
        "seconds": round(time.monotonic() - begun, 1),
        **made,
    }


def _headline(
    name: str,
    network: nn.Module,
    data: datasets.Dataset,
    order: np.ndarray[Any, Any],
    epsilons: Sequence[float],
    norm: str,
    args: argparse.Namespace,
    bar: tqdm[Any],
) -> dict[str, Any]:
    """One of HEADLINES: the accuracy on every test image, or under an attack on the first `--images` of them."""
    if name == "clean":
        return {"accuracy": accuracy(network, *_images(data, order)), "images": len(order)}
    if name == "independent":
        return _independent(network, data, order[: args.images][:INDEPENDENT_IMAGES], epsilons, norm, args, bar)
    images = _images(data, order[: args.images])
    attack, words = {
        "robust": (pgd_accuracies, f"shrinking steps, after a first try of {max(1, args.steps // 8)} steps"),
        "usual": (usual_pgd_accuracies, f"constant steps of {USUAL_STEP:g} ε / {args.steps}, the last iterate judged"),
    }[name]
    found = attack(
        network,
        *images,
        epsilons,
        steps=args.steps,
        seed=args.seed,
        norm=norm,
        precision=PRECISIONS[args.precision],
        progress=_progress(bar, f"PGD, {words.split(',')[0]}"),
    )
    return {
        "threat": norm,
        "attack": f"PGD, {'L2' if norm == 'l2' else 'L∞'}, {args.steps} steps, random start, {words}",
        "epsilon": list(epsilons),
        "accuracy": found,
        "images": len(images[1]),
    }


def _independent(
    network: nn.Module,
    data: datasets.Dataset,
    chosen: np.ndarray[Any, Any],
    epsilons: Sequence[float],
    norm: str,
    args: argparse.Namespace,
    bar: tqdm[Any],
) -> dict[str, Any]:
    """The accuracy under DDN, in ℓ∞ under APGD-t: what is longer than a budget withstands it."""
    images = _images(data, chosen)
    title, attack = ("DDN", partial(ddn, steps=INDEPENDENT_STEPS)) if norm == "l2" else ("APGD-t", apgd)
    logits = before_softmax(network, images[0][:100])
    found = attack(logits, *images, norm=norm, seed=args.seed, progress=_progress(bar, title))
    return {
        "threat": norm,
        "attack": f"{title}, {found.settings}",
        "epsilon": list(epsilons),
        "accuracy": found.accuracies(epsilons),
        "images": len(chosen),
        "median_norm": _number(float(np.median(found.norms))),
        "passes": found.passes,
    }


def _curves(
    network: nn.Module,
    images: tuple[Tensor, Tensor],
    epsilons: Sequence[float],
    norm: str,
    args: argparse.Namespace,
    bar: tqdm[Any],
    title: str,
) -> dict[str, Any]:
    """Accuracy over the budgets under PGD, and under FAB on the first images."""
    result: dict[str, Any] = {
        "clean": accuracy(network, *images),
        "images": len(images[1]),
        "threat": norm,
        "epsilon": list(epsilons),
        "pgd": pgd_accuracies(
            network,
            *images,
            epsilons,
            steps=args.steps,
            seed=args.seed,
            norm=norm,
            precision=PRECISIONS[args.precision],
            progress=_progress(bar, f"PGD, {title}"),
        ),
    }
    if args.fab_images and norm == "l2":
        few = images[0][: args.fab_images], images[1][: args.fab_images]
        boundary = fab(network, *few, seed=args.seed, progress=_progress(bar, f"FAB, {title}"))
        result |= {
            "fab": boundary.accuracies(epsilons),
            "fab_images": len(few[1]),
            "fab_steps": FAB_STEPS,
            "fab_median_norm": _number(float(np.median(boundary.norms))),
        }
    return result


def _try(network: Network, data: datasets.Dataset) -> None:
    """Refuse a network that does not take these images or does not know their classes."""
    if network.input_shape != data.input_shape:
        theirs, ours = ("×".join(map(str, shape)) for shape in (network.input_shape, data.input_shape))
        raise StrataError(f"The network takes images of {theirs}, those of {data.name} are {ours}; give --dataset.")
    with torch.no_grad():
        outputs = network(_images(data, np.arange(1))[0]).shape[1]
    if outputs < (classes := len(datasets.get(data.name).class_names)):
        raise StrataError(f"The network has {outputs} outputs, but {data.name} has {classes} classes.")


def _classes(entry: datasets.Entry, asked: Sequence[int] | None) -> tuple[int, int]:
    """The class pair, the usual one where none is asked for."""
    a, b = asked or entry.pair
    last = len(entry.class_names) - 1
    if not (0 <= a <= last and 0 <= b <= last and a != b):
        raise StrataError(f"The classes {a} and {b} must be two different numbers from 0 to {last}.")
    return a, b


def _sample(
    dataset: str, classes: Sequence[int], args: argparse.Namespace
) -> tuple[datasets.Dataset, list[np.ndarray[Any, Any]]] | None:
    """The images of each class that an audit with this seed takes, and their data set; None where none are asked."""
    if not args.samples:
        return None
    data = datasets.load(datasets.bundled(dataset), "train")  # what a fresh installation audits
    return data, [sample_indices(data.labels, label, args.samples, args.seed) for label in classes]


def _audited(
    network: nn.Module,
    data: datasets.Dataset,
    indices: Sequence[np.ndarray[Any, Any]],
    classes: tuple[int, int],
    args: argparse.Namespace,
    bar: tqdm[Any],
) -> dict[str, Any]:
    """Each attack's least norms for the images that an audit with this seed takes, and the losses along its directions.

    All are of the network that is asked for the two classes only, as an audit is. `best_loss`: at each budget the mean
    over the images of the largest loss that any of the attacks reaches.
    """
    chosen = np.concatenate(indices)
    pixels, labels = _pair_images(data, chosen, classes)
    logits = before_softmax(network, pixels)
    pair = ClassPair(logits, classes)
    said = [] if logits is network else ["The network ends in a softmax; the logits before it are attacked."]
    entry = datasets.get(data.name)
    result: dict[str, Any] = {
        "dataset": data.name,
        "split": data.split,
        "seed": args.seed,
        "classes": list(classes),
        "indices": [[int(i) for i in part] for part in indices],
        "remark": " ".join(filter(None, [*said, remark(pair, pixels, labels)])),
    }
    for norm, attacks in REFERENCES.items():
        epsilons = [round(float(e), 6) for e in EpsilonGrid.usual(Threat(norm), entry.epsilon_linf).values()]
        parts, losses = {}, []
        for name, attack in attacks.items():
            title = f"{name}, {Threat(norm).symbol}, audited images"
            found = attack(pair, pixels, labels, norm=norm, seed=args.seed, progress=_progress(bar, title))
            losses.append(losses_along(pair, pixels, labels, found, epsilons))
            parts[name] = {
                "settings": found.settings,
                "passes": found.passes,
                "norms": [_numbers(part) for part in np.split(found.norms, [len(indices[0])])],
                "loss": _numbers(losses[-1].mean(axis=1)),
            }
        best = _numbers(np.max(losses, axis=0).mean(axis=1))
        result[norm] = {"epsilon": epsilons, "attacks": parts, "best_loss": best}
    return result


def _images(data: datasets.Dataset, chosen: np.ndarray[Any, Any]) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(datasets.to_float(data.pixels[chosen])), torch.from_numpy(data.labels[chosen])


def _pair_images(data: datasets.Dataset, chosen: np.ndarray[Any, Any], classes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Images with the labels 0 and 1 for the first and the second class."""
    pixels, labels = _images(data, chosen)
    return pixels, (labels == classes[1]).long()


def _progress(bar: tqdm[Any], title: str) -> Progress:
    started = False

    def show(done: int, total: int) -> None:
        nonlocal started
        if not started:
            bar.set_description_str(title, refresh=False)
            bar.reset(total)
            started = True
        bar.update(done - bar.n)

    return show


def _number(value: float) -> float | None:
    """Six digits after the point; JSON has no infinity, so that becomes null."""
    return round(value, 6) if np.isfinite(value) else None


def _numbers(values: np.ndarray[Any, Any]) -> list[float | None]:
    return [_number(float(value)) for value in values]


def _words(args: argparse.Namespace) -> list[str]:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    known = vars(parser.parse_args([str(args.file)]))
    words = [str(args.file)]
    for name, value in vars(args).items():
        if name not in known or name == "file" or value == known[name]:
            continue
        values = value if isinstance(value, list | tuple) else [value]
        words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return words


def _summary(name: str, evaluation: dict[str, Any]) -> str:
    clean = evaluation.get("clean")
    parts = [] if clean is None else [f"{clean['accuracy']:.2%} clean ({clean['images']} test images)"]
    for key, words in (("robust", "under PGD"), ("usual", "under usual PGD")):
        if key in evaluation:
            part = evaluation[key]
            budgets = zip(part["epsilon"], part["accuracy"], strict=True)
            figures = ", ".join(f"{accuracy:.2%} at ε = {epsilon:g}" for epsilon, accuracy in budgets)
            parts.append(f"{figures} {words} ({part['images']} test images)")
    return f"{name}: {', '.join(parts)}"
