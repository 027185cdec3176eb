"""`python -m charts AUDIT.json --out FIGURE.pdf`: the figures of an audit for a paper, in one PDF or SVG.

AUDIT.json is what `python -m robustness_core audit --json` writes, or *JSON* on a screen. For each network and each m
there are its curves, with every step of the loss, and ε½ of each layer, or with --at the loss at that budget.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from charts import attribution, paper, style
from charts.curves import Curve, Floats, layer_curves
from robustness_core.errors import StrataError
from robustness_core.files import check_writable, write_whole
from robustness_core.optimal_loss import loss_steps
from robustness_core.optimal_loss.statistics import half_budget, student


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, or 2 with one line on stderr if there is nothing to draw."""
    parser = argparse.ArgumentParser(prog="python -m charts", description=__doc__.split("\n\n")[1])
    parser.add_argument("audit", type=Path, metavar="AUDIT.json")
    parser.add_argument("--out", type=Path, required=True, metavar="FIGURE.pdf|FIGURE.svg")
    parser.add_argument("--width", default="column", help="column (3.25 in), page (6.75 in), or inches")
    parser.add_argument("--font", default=paper.FONTS[0], help=f"a font's name, for example {', '.join(paper.FONTS)}")
    parser.add_argument("--size", type=float, default=8.0, help="of the letters, in points")
    parser.add_argument("--at", type=float, metavar="EPSILON", help="draw the loss of each layer at this budget")
    args = parser.parse_args(arguments)
    try:
        kind = args.out.suffix.removeprefix(".")
        if kind not in ("pdf", "svg"):
            raise paper.PaperError(f"A figure is a file that ends in .pdf or .svg, not {str(args.out)!r}.")
        check_writable(args.out)
        look = paper.Look(_inches(args.width), args.font, args.size)
        documents = _read(args.audit)
        panels = [panel for document in documents for panel in panels_of(document, args.at)]
        write_whole(args.out, paper.save(lambda: panels, kind, look))
    except StrataError as error:
        print(f"strata: {error}", file=sys.stderr)
        return 2
    return 0


def _inches(text: str) -> float:
    try:
        return paper.WIDTHS.get(text) or float(text)
    except ValueError:
        raise paper.PaperError(f"The width is column, page or a number of inches, not {text!r}.") from None


def _read(path: Path) -> list[Mapping[str, Any]]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no JSON"
        raise paper.PaperError(f"{str(path)!r} cannot be read: {why}.") from None
    documents = found if isinstance(found, list) else [found]
    if not all(isinstance(one, dict) and one.get("layers") and "epsilon" in one for one in documents):
        raise paper.PaperError(f"{str(path)!r} is no audit: what `audit --json` or a screen's JSON writes is one.")
    return documents


def panels_of(document: Mapping[str, Any], at: float | None = None) -> list[paper.Panel]:
    """The panels of one network, two for each m; of each layer its ε½, or its loss at the budget `at` if given."""
    epsilon = np.array(document["epsilon"], dtype=np.float64)
    layers = document["layers"]
    colours = style.layer_colours(list(dict.fromkeys(layer["layer"] for layer in layers)))
    panels = []
    for m in dict.fromkeys(layer["m"] for layer in layers):
        found = [(_matrices(layer), layer) for layer in layers if layer["m"] == m]
        curves = [_curve(layer, matrices, epsilon) for matrices, layer in found]
        name = f"{document['network']}, {'without projection' if m is None else f'through m = {m} mixtures'}"
        panels.append((name, layer_curves(epsilon, curves, colours, images=_images(document, m), mark=at)))
        if at is not None:
            panels.append((f"{name}: loss at ε = {at:g}", attribution.loss_by_layer(epsilon, curves, at, colours)))
        else:
            bars = [_half(curve, matrices) for curve, (matrices, _) in zip(curves, found, strict=True)]
            panels.append((f"{name}: ε½", attribution.by_layer(bars, colours, "ε½ (ℓ2 norm)")))
    return panels


def _matrices(layer: Mapping[str, Any]) -> list[Floats]:
    """The distances of each projection, NaN where a pair is unknown."""
    return [np.array(one["distances"], dtype=np.float64) for one in layer["projections"]]


def _curve(layer: Mapping[str, Any], matrices: list[Floats], epsilon: Floats) -> Curve:
    known = tuple(int(np.isfinite(matrix).sum()) for matrix in matrices)
    losses = [one["loss"] or np.zeros(len(epsilon)) for one in layer["projections"]]
    total = sum(matrix.size for matrix in matrices)
    # A finding says that what is unknown is not needed; audits from before there were any have none.
    left_out = tuple(
        matrix.size - count if one.get("finding") else 0
        for matrix, count, one in zip(matrices, known, layer["projections"], strict=True)
    )
    steps = tuple(map(loss_steps, matrices)) if sum(known) + sum(left_out) == total else ()
    return Curve(
        layer["layer"], layer["features"], layer["m"], np.array(losses), sum(known), total, known, left_out, steps
    )


def _half(curve: Curve, matrices: list[Floats]) -> attribution.Bar:
    """ε½ of a layer with Student's interval over its projections."""
    if not curve.known:
        return attribution.Bar(curve.layer, None)
    interval = student([half_budget(matrices[index]) for index in curve.whole or curve.begun])
    low = float(np.maximum(interval.low, 0.0))  # a budget is not below 0
    return attribution.Bar(curve.layer, interval.value, low, interval.high, "≤" if curve.lower else "")


def _images(document: Mapping[str, Any], m: int | None) -> Curve | None:
    """The curve of the images themselves, as far as the file has it: without projection, and what a screen drew."""
    lines = {(one["kind"], one.get("m")): one["y"] for one in document.get("overlays", ())}
    loss = (
        lines.get(("input, same m", m)) if m is not None else lines.get(("input space", m), document.get("input_loss"))
    )
    return None if loss is None else Curve("input", 0, m, np.array([loss], dtype=np.float64), 1, 1)


if __name__ == "__main__":
    sys.exit(main())
