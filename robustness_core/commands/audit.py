"""`python -m robustness_core audit`: an audit without browser or database, with a progress bar and JSON."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from robustness_core import datasets, zoo
from robustness_core.checkpoints import sha256
from robustness_core.datasets import own, pictures
from robustness_core.engine.audit import Interrupted, run_audit
from robustness_core.engine.result import AuditResult
from robustness_core.errors import SpecError, StrataError
from robustness_core.files import check_writable, write_whole
from robustness_core.layers import cuts, main_layers
from robustness_core.sandbox import untrusted
from robustness_core.spec import PRECISIONS, AuditSpec, EpsilonGrid, Threat, too_large_words
from robustness_core.spec.fields import FIELDS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--network", required=True, help="a bundled network's name, or a checkpoint file")
    parser.add_argument("--architecture", help="the architecture text of a file that does not say its own")
    parser.add_argument("--mean", type=float, nargs="+", help="of the file's normalisation, on pixels in [0, 1]")
    parser.add_argument("--std", type=float, nargs="+", help="of the file's normalisation")
    for field in FIELDS.values():
        says = f"{field.help} One of {', '.join(field.options)}." if field.options else field.help
        parser.add_argument(field.flag, dest=field.name, help=says, **{"default": field.default, **field.argument})
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    parser.add_argument("--memory", type=float, help="GiB that a batch of pairs may use")
    parser.add_argument("--precision", default="auto", choices=PRECISIONS, help="of the search's steps")
    parser.add_argument("--json", type=Path, metavar="OUT.json", help="write the whole result here; - prints it")


def run(args: argparse.Namespace) -> None:
    path = zoo.find(args.network)
    given = {name: getattr(args, name) for name in ("architecture", "mean", "std")}
    hints = {name: value for name, value in given.items() if value is not None}
    network, guessed = untrusted.load(path, hints)
    for sentence in guessed:
        print(f"strata: {sentence}", file=sys.stderr)
    names = main_layers(network, network.input_shape)
    asked = {name: getattr(args, name) for name in FIELDS if name != "epsilon"}
    fitting = datasets.fitting(network.input_shape) or list(datasets.REGISTRY.values())
    dataset = _dataset(args.dataset or fitting[0].name)
    if args.split not in dataset.sizes and len(dataset.sizes) == 1:
        (asked["split"],) = dataset.sizes
    asked |= {"dataset": dataset.name, "classes": _classes(args.classes, dataset)}
    asked["layers"] = names if args.layers == "all" else [*filter(None, map(str.strip, args.layers.split(",")))]
    asked["m"] = [_dimension(text) for text in args.m]
    usual = EpsilonGrid.usual(Threat(args.threat, args.box), dataset.epsilon_linf)
    epsilon = usual if args.epsilon is None else EpsilonGrid.parse(args.epsilon)
    spec = AuditSpec.of(args.network, **asked, epsilon=epsilon)
    if args.json is not None and str(args.json) != "-":
        check_writable(args.json)
    sizes = {cut.name: cut.features for cut in cuts(network, network.input_shape)}
    if note := too_large_words(spec.search.too_large(sizes), sizes):
        print(f"strata: {note}", file=sys.stderr)
    with tqdm(total=0, unit="pair", disable=None, file=sys.stderr) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        memory = None if args.memory is None else args.memory * 2**30
        try:
            result = run_audit(
                spec,
                network,
                sha256(path),
                device=args.device,
                memory=memory,
                precision=args.precision,
                progress=progress,
            )
        except Interrupted as stop:
            if stop.result.known == 0:
                raise
            result = stop.result
    _give_out(result, args.json)
    if result.missing:
        raise KeyboardInterrupt(f"stopped; {result.known:,} of {result.total:,} distances were found and kept.")


def _give_out(result: AuditResult, path: Path | None) -> None:
    """The table, the JSON or both."""
    if path is None:
        print(_table(result))
    elif str(path) == "-":
        print(json.dumps(result.to_json()))
    else:
        print(_table(result), file=sys.stderr)
        try:
            write_whole(path, json.dumps(result.to_json()).encode())
        except StrataError as error:
            print(json.dumps(result.to_json()))  # hours of work are not thrown away
            raise StrataError(f"{str(error).rstrip('.')}; the JSON went to the output.") from error


def _classes(words: Sequence[str] | None, dataset: datasets.Entry) -> list[int]:
    if words is None:
        return list(dataset.pair)
    if words == ["all"]:
        return list(range(len(dataset.class_names)))
    try:
        return [int(word) for word in words]
    except ValueError:
        raise SpecError(f"The classes {' '.join(words)!r} must be two or more whole numbers, or all.") from None


def _dataset(name: str) -> datasets.Entry:
    """A data set by its name, or images of one's own from a folder or a file."""
    if name in datasets.REGISTRY or not Path(name).exists():
        return datasets.get(name)
    return own.register(pictures.read(Path(name)))


def _dimension(text: str) -> int | None:
    if text == "none":
        return None
    try:
        return int(text)
    except ValueError:
        raise SpecError(f"The projection dimension m {text!r} must be a whole number, or none.") from None


def _table(result: AuditResult) -> str:
    """Mean distance and a few losses, series by series, for a reader at a terminal."""
    epsilons = result.spec.epsilon.values()
    places = sorted({round(i * (len(epsilons) - 1) / 4) for i in range(5)})
    head = f"{'layer':<16}{'nj':>8}{'m':>6}{'seed':>6}{'searched':>10}{'distance':>10}{'collided':>10}{'gap':>8}"
    lines = [head + "".join(f"{'L(' + format(epsilons[i], 'g') + ')':>10}" for i in places)]
    for r in result.series:
        if r.missing:
            continue
        known = r.found.known
        m = "none" if r.series.m is None else str(r.series.m)
        distance = f"{np.nanmean(r.found.distance):.3f}" if r.complete else "–"  # of the near pairs it would be short
        gap = "" if r.finding is None or r.finding.gap is None else f"{r.finding.gap.mean:.3f}"
        line = (
            f"{r.series.layer:<16}{r.features:>8}{m:>6}{r.series.seed:>6}{known.sum() / r.pairs:>10.1%}{distance:>10}"
        )
        line += f"{r.found.collided[known].mean():>10.1%}{gap:>8}"
        lines.append(line + "".join(f"{r.loss[i]:>10.4f}" for i in places))
    lines.append(f"{'input space':<74}" + "".join(f"{result.input_loss[i]:>10.4f}" for i in places))
    sets = result.spec.search.sets
    most = f"log {sets} = {math.log(sets):.4f} with sets of up to {sets} images" if sets > 2 else "log 2 = 0.6931"
    lines.append(
        f"Distances, in {result.spec.search.threat.words}, are upper bounds found by search; "
        f"losses are lower bounds, in nats (at most {most})."
    )
    if any(not one.found.collided[one.found.known].all() for one in result.series):
        lines.append("Pairs that did not collide stand at their midpoints: nothing was found, no robustness is shown.")
    return "\n".join(lines)
