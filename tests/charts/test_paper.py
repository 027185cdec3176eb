"""Figures for papers: every figure of the screens as vectors, at the width and in the font that were asked for."""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
from matplotlib.figure import Figure

from charts import attribution, compare, curves, errors, matrix, pairs, paper, scaling, vector
from charts.__main__ import main
from charts.curves import Curve
from charts.document import panels_of

EPSILON = np.linspace(0.0, 8.0, 81)
NAMES = ("conv1", "fc1", "logits")
COLOURS = {"conv1": "#0d0887", "fc1": "#8f0da4", "logits": "#e16462"}


def curve(name: str, count: int = 5, *, known: int = 400, steps: bool = False) -> Curve:
    at = np.sort(np.random.default_rng(len(name)).uniform(0.5, 6.0, (count, 30)), axis=1)
    heights = np.linspace(0.02, math.log(2), 30)
    losses = np.stack([np.concatenate([[0.0], heights])[np.searchsorted(row, EPSILON, side="right")] for row in at])
    exact = tuple((row, heights) for row in at) if steps else ()
    return Curve(name, 100, 10, losses, known * count, 400 * count, steps=exact)


LAYERS = [curve(name, steps=True) for name in NAMES]
BARS = [attribution.Bar("conv1", 1.2, 1.0, 1.4), attribution.Bar("fc1", 2.5, sign="≤"), attribution.Bar("x", None)]
DISTANCES = np.random.default_rng(0).uniform(1.0, 4.0, (6, 7))
MEASURED = {name: compare.losses(EPSILON, LAYERS, 2.0) for name in ("one", "<b>two</b> & $x$")}
FIGURES = {
    "curves": curves.layer_curves(
        EPSILON, LAYERS, COLOURS, images=curve("input", 1), accuracy=(np.array([0.0, 2.0]), np.array([0.9, 0.4])),
        overlays={"FAB loss": (EPSILON, EPSILON / 8)}, mark=2.0, final=3.0,
    ),
    "bars": attribution.by_layer(BARS, COLOURS, "ε½ (ℓ2 norm)"),
    "loss": attribution.loss_by_layer(EPSILON, LAYERS, 2.0, COLOURS),
    "errors": errors.errors(EPSILON, EPSILON / 8, EPSILON / 16, EPSILON / 20, colour="#e16462", mark=1.0),
    "matrix": matrix.distance_matrix(
        DISTANCES, DISTANCES < 3.5, range(6), range(7), (3, 7), chosen=(1, 2), edge=([True] + [False] * 5, [])
    ),
    "depth": compare.by_depth(MEASURED, "loss (nats)", images=compare.losses(EPSILON, [curve("input")], 2.0)[0]),
    "multiples": compare.small_multiples(EPSILON, {"one": LAYERS, "two": LAYERS, "three": LAYERS}, columns=2),
    "law": scaling.distance_against_m(
        [1, 10, 50], [np.array([1.0, 1.2]), np.array([3.0, 3.3]), np.array([7.0, 7.2])], exponent=(0.5, 0.4, 0.6),
        law=("√m law", np.array([1.0, 3.2, 7.1])), intervals=[(0.9, 1.3), (2.8, 3.4), (6.9, 7.5)], region=(1.0, 20.0),
    ),
    "spread": scaling.spread_against_m([1, 10], [0.3, 0.1], [0.2, 0.05], "#8f0da4"),
    "by m": scaling.curves_by_m(EPSILON, LAYERS, LAYERS),
    "pair": pairs.distance_by_layer(NAMES, [1.0, 2.0, 3.0], COLOURS, half_apart=3.5, chosen="fc1"),
}  # fmt: skip
ALL = [(f"All of {name}", figure) for name, figure in FIGURES.items()]


def size_of(svg: str) -> tuple[float, float]:
    """Width and height of an SVG in points."""
    found = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', svg)
    assert found
    return float(found[1]), float(found[2])


@pytest.mark.parametrize("name", FIGURES)
def test_every_line_of_a_figure_is_drawn_where_it_is(name) -> None:
    figure = FIGURES[name]
    drawing = Figure(layout="constrained")
    vector.draw(figure, drawing.subfigures(), 8.0, 3.25)
    drawn = [np.column_stack(line.get_data()).astype(float) for axes in drawing.axes for line in axes.lines]
    lines = [trace for trace in figure.data if trace.type == "scatter" and "lines" in trace.mode and not trace.fill]
    for trace in lines:
        wanted = np.array([[np.nan if v is None else v for v in side] for side in (trace.x, trace.y)], dtype=float).T
        assert any(one.shape == wanted.shape and np.allclose(one, wanted, equal_nan=True) for one in drawn), trace.name
    titles = {axis.title.text for axis in figure.select_xaxes()} - {None, ""}
    assert titles == {axes.get_xlabel() for axes in drawing.axes} - {""}


def test_bars_have_their_heights_and_a_bound_is_hatched() -> None:
    drawing = Figure()
    vector.draw(FIGURES["bars"], drawing.subfigures(), 8.0, 3.25)
    bars = [bar for bar in drawing.axes[0].patches if bar.get_width() > 0]
    np.testing.assert_allclose([bar.get_height() for bar in bars], [1.2, 2.5, np.nan])
    assert [bool(bar.get_hatch()) for bar in bars] == [False, True, False]
    assert [text.get_text() for text in drawing.axes[0].texts][:2] == ["1.20", "≤ 2.50"]


@pytest.mark.parametrize(("width", "font"), [("column", "DejaVu Sans"), ("page", "STIXGeneral")])
def test_all_panels_are_one_file_of_vectors_as_wide_as_asked(width, font) -> None:
    look = paper.Look(paper.WIDTHS[width], font)
    svg = paper.save(lambda: ALL, "svg", look).decode()
    assert size_of(svg)[0] == pytest.approx(72 * look.width)
    assert "<image" not in svg
    drawn = len(re.findall(r'<g id="axes_\d+">', svg))
    assert drawn == len(ALL) + 2 + 1 + 1  # three panels in one, one empty place among four, a second axis, a colour bar
    pdf = paper.save(lambda: ALL, "pdf", look)
    assert pdf.startswith(b"%PDF")
    assert b"/Subtype /Image" not in pdf
    assert re.search(rb"/MediaBox \[ ?0 0 %d " % (72 * look.width), pdf)
    assert font.replace(" ", "").encode() in re.sub(rb"[-#]?", b"", b"".join(re.findall(rb"/BaseFont /(\S+)", pdf)))


def test_a_page_has_two_panels_in_a_row() -> None:
    two = ALL[1:3]
    column, page = (size_of(paper.save(lambda: two, "svg", paper.Look(w)).decode()) for w in paper.WIDTHS.values())
    assert page[1] / page[0] < 0.6 * column[1] / column[0]


def document(value: float = 1.5, **more: object) -> dict[str, object]:
    """An audit as `audit --json` writes it: every pair at the same distance."""
    distances = np.full((4, 4), value)
    loss = np.where(EPSILON >= value, math.log(2), 0.0).tolist()
    one = {"seed": 0, "distances": distances.tolist(), "loss": loss}
    layers = [{"layer": name, "features": 9, "m": 10, "projections": [one, one]} for name in NAMES]
    return {"network": "made <up>", "epsilon": EPSILON.tolist(), "layers": layers, **more}


def test_panels_of_an_audit_state_its_numbers() -> None:
    (name, lines), (_, bars) = panels_of(document(1.52))
    assert name == "made <up>, through m = 10 mixtures"
    np.testing.assert_allclose(bars.data[0].y, 1.52)  # the budget at which every classifier fails at once
    conv1 = next(trace for trace in lines.data if trace.name == "conv1" and trace.mode == "lines")
    assert 1.52 in conv1.x  # between two budgets of the range
    unknown = document()
    unknown["layers"][0]["projections"] = [{"seed": 0, "distances": [[None] * 4] * 4, "loss": None}]  # type: ignore[index]
    (name, lines), (_, bars) = panels_of(document(1.52) | {"threat": {"norm": "linf", "box": True}})
    assert "ℓ∞, valid images" in name
    assert lines.layout.xaxis.title.text.startswith("budget ε (ℓ∞ norm")
    assert bars.layout.yaxis.title.text == "ε½ (ℓ∞ norm)"
    assert panels_of(unknown)[1][1].data[1].text[0] == "?"
    losses = panels_of(document(), at=2.0)[1][1]
    np.testing.assert_allclose(losses.data[0].y, math.log(2))
    assert "input" in [trace.name for trace in panels_of(document(
        overlays=[{"kind": "input, same m", "m": 10, "y": EPSILON.tolist()}]))[0][1].data]  # fmt: skip


def test_panels_of_three_classes_show_what_sets_tell() -> None:
    distances = np.where(np.kron(np.eye(3), np.ones((2, 2))) == 1, np.nan, 1.5)  # two images of each class
    loss = np.select([EPSILON >= 2.5, EPSILON >= 1.5], [math.log(3), math.log(2)], 0.0).tolist()
    matrix = [[None if math.isnan(value) else value for value in row] for row in distances.tolist()]
    sets = [{"images": [i, j, k], "distance": 2.5} for i in (0, 1) for j in (2, 3) for k in (4, 5)]
    one = {"seed": 0, "distances": matrix, "loss": loss, "finding": None, "sets": sets}
    layers = [{"layer": "fc1", "features": 9, "m": 10, "projections": [one]}]
    given = document(classes=[0, 1, 2], indices=[[0, 1]] * 3, layers=layers)
    (_, lines), (_, bars) = panels_of(given)
    (drawn,) = [trace for trace in lines.data if trace.name == "fc1"]  # whole: no share of known pairs stands beside it
    np.testing.assert_allclose(np.interp([2.0, 3.0], drawn.x, drawn.y), [math.log(2), math.log(3)])
    assert lines.layout.yaxis.range[1] > math.log(3)
    np.testing.assert_allclose(bars.data[0].y, 1.5)
    bars = panels_of(given, at=3.0)[1][1]
    np.testing.assert_allclose(bars.data[0].y, math.log(3))
    assert bars.layout.yaxis.range[1] > math.log(3)


def test_the_command_writes_what_it_is_asked_for(tmp_path: Path) -> None:
    audit, out = tmp_path / "a.json", tmp_path / "a.pdf"
    audit.write_text(json.dumps([document(), document(2.0)]))
    assert main([str(audit), "--out", str(out), "--width", "5", "--font", "DejaVu Serif", "--size", "9"]) == 0
    assert re.search(rb"/MediaBox \[ ?0 0 360 ", out.read_bytes())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--out", "a.png"], "ends in .pdf or .svg"),
        (["--out", "nowhere/a.pdf"], "does not exist"),
        (["--width", "wide"], "column, page or a number of inches"),
        (["--width", "200"], "2 to 20 inches wide"),
        (["--size", "1"], "4 to 20 points"),
        (["--font", "No Such Font"], "No font is called 'No Such Font'"),
        (["empty.json"], "is no audit"),
        (["broken.json"], "cannot be read: it is no JSON"),
        (["gone.json"], "cannot be read: No such file"),
    ],
)
def test_the_command_refuses_in_one_sentence(options, sentence, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in (("a.json", json.dumps(document())), ("empty.json", "{}"), ("broken.json", "{")):
        Path(name).write_text(text)
    given = options if options[0].endswith("json") else ["a.json", *options]
    assert main([*given, *([] if "--out" in given else ["--out", "a.pdf"])]) == 2
    said = capsys.readouterr().err
    assert re.fullmatch(rf"strata: .*{re.escape(sentence)}.*\n", said)
    assert not Path("a.pdf").exists()


def test_without_matplotlib_a_sentence_says_how_it_comes(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert not paper.possible()
    with pytest.raises(paper.PaperError, match="make run EXTRAS=figures"):
        paper.save(lambda: [("", go.Figure())], "pdf", paper.Look())
