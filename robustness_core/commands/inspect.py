"""`python -m robustness_core inspect`: says what a checkpoint is, whoever made it, in a process with limits."""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from robustness_core import datasets
from robustness_core.sandbox.parent import Limits, inspect


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="safetensors, a state_dict of torch, or ONNX")
    parser.add_argument("--architecture", help="a text such as `conv 16 4x4/2 p1, relu, flatten, fc 10`, or a name")
    parser.add_argument("--dataset", help=f"{', '.join(datasets.REGISTRY)}, where the guess is wrong")
    parser.add_argument("--mean", type=float, nargs="+", help="of the normalisation, on pixels in [0, 1]")
    parser.add_argument("--std", type=float, nargs="+", help="of the normalisation")
    parser.add_argument("--input-shape", type=int, nargs=3, metavar=("C", "H", "W"))
    about = "which of several state_dicts in the file, or of several outputs of a graph, by the name shown"
    parser.add_argument("--stage", "--output", dest="stage", metavar="NAME", help=about)
    parser.add_argument("--against", type=Path, metavar="OTHER", help="say where the network of another file differs")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--copy", type=Path, metavar="OUT", help="write the network as a safetensors file of its own")
    parser.add_argument("--memory", type=float, default=4.0, help="GB that looking at the file may take")
    parser.add_argument("--largest", type=float, default=500.0, help="MB that the file may have")


def run(args: argparse.Namespace) -> None:
    """Print the report. Raises CheckpointError for a file that is refused."""
    names = ("architecture", "dataset", "mean", "std", "input_shape", "stage")
    hints = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    limits = Limits(memory=int(args.memory * 1024**3), largest=int(args.largest * 1024**2))
    if args.against is not None:
        report = _against(args, hints, limits)
    else:
        report = inspect(args.file, hints, limits=limits, copy=args.copy)
    print(json.dumps(report, indent=1) if args.json else _text(report))
    if args.against is not None and not args.json:
        print(_differences(report["against"]))


def _against(args: argparse.Namespace, hints: dict[str, Any], limits: Limits) -> dict[str, Any]:
    """The report of the file, with how the network of the other one differs. Both are parsed in children."""
    from robustness_core.checkpoints import load, twins

    with tempfile.TemporaryDirectory(prefix="strata-against-") as folder:
        reports, networks = [], []
        for place, path in enumerate((args.file, args.against)):
            copy = Path(folder) / f"{place}.safetensors"
            reports.append(inspect(path, hints if place == 0 else {}, limits=limits, copy=copy))
            networks.append(load(copy))
        if args.copy is not None:
            shutil.copyfile(Path(folder) / "0.safetensors", args.copy)
        return {
            **reports[0],
            "against": {
                "accuracy": reports[1]["accuracy"],
                "architecture": reports[1]["architecture"],
                "tensors": [asdict(one) for one in twins.tensors(*networks)],
                "features": [asdict(one) for one in twins.features(*networks)],
            },
        }


def _differences(against: dict[str, Any]) -> str:
    accuracy = "not measured" if against["accuracy"] is None else f"{against['accuracy']:.4f}"
    lines = ["", f"against: {against['architecture']}, accuracy {accuracy}"]
    for kind in ("tensors", "features"):
        lines += ["", f"{kind:<28}{'of the other':<28}difference over the largest"]
        for one in against[kind]:
            share = "other sizes" if one["share"] is None else f"{one['share']:.1e}"
            lines.append(f"{one['name']:<28}{one['other']:<28}{share}")
    return "\n".join(lines)


def _text(report: dict[str, Any]) -> str:
    shape = "×".join(map(str, report["input_shape"]))
    lines = [
        f"{report['architecture']}",
        f"{report['format']} ({report['container']}), {report['parameters']:,} parameters, images {shape}, "
        f"{report['classes']} classes",
        f"normalisation: {_normalisation(report)}",
    ]
    if report["accuracy"] is not None:
        lines.append(f"accuracy: {report['accuracy']:.4f} on {report['images']} test images of {report['dataset']}")
    lines += ["", f"{'layer':<24}{'shape':>14}{'features':>10}{'ratio':>8}  affine"]
    for layer in report["layers"]:
        size = "×".join(map(str, layer["shape"]))
        affine = "yes" if layer["affine"] else ""
        lines.append(f"{layer['name']:<24}{size:>14}{layer['features']:>10}{layer['ratio']:>8.2f}  {affine}".rstrip())
    if len(report["candidates"]) > 1:
        lines += ["", "candidates"]
        lines += [
            f"  {one['accuracy']:.3f} on {one['images']:>5} images: {one['architecture']} ({one['normalisation_name']})"
            for one in report["candidates"]
        ]
    return "\n".join([*lines, *([""] if report["warnings"] else []), *report["warnings"]])


def _normalisation(report: dict[str, Any]) -> str:
    values = report["normalisation"]
    if values is None:
        return "none, pixels in [0, 1]"
    mean, std = (" ".join(f"{value:g}" for value in values[key]) for key in ("mean", "std"))
    return f"{report['normalisation_name']}: mean {mean}, std {std}"
