"""Figures are tested on the data they hold: which lines, which values, which hover texts."""

import math

import numpy as np
import pytest
from scipy import stats

from charts import attribution, compare, curves, errors, learn, matrix, pairs, scaling, style
from robustness_core.optimal_loss import loss_curve, loss_steps
from robustness_core.spec import Threat

EPSILON = np.linspace(0, 4, 5)
LOSSES = np.array([[0.0, 0.0, 0.2, 0.5, 0.69], [0.0, 0.1, 0.4, 0.6, 0.69]])
COLOURS = style.layer_colours(["conv1", "logits"])


def curve(layer: str = "conv1", known: int = 8, m: int | None = 10) -> curves.Curve:
    return curves.Curve(layer, 100, m, LOSSES, known, 8)


def images(losses: np.ndarray) -> curves.Curve:
    """The curve of the images themselves."""
    return curves.Curve("input", 784, None, losses[None], 4, 4)


def losses(networks: dict[str, list[curves.Curve]], at: float = 2.0) -> dict[str, list[compare.Measured]]:
    """The loss of every layer of every network at a budget."""
    return {name: compare.losses(EPSILON, layers, at) for name, layers in networks.items()}


def by_depth(networks: dict[str, list[curves.Curve]], at: float, **look):
    return compare.by_depth(losses(networks, at), "loss (nats)", top=style.LOG2, **look)


def apart(networks: dict[str, list[curves.Curve]], minus: str, *, relative: bool) -> dict[str, np.ndarray]:
    found = compare.differences(losses(networks), minus, relative=relative)
    return {name: np.array([one.value for one in layers]) for name, layers in found.items()}


def traces(figure, name):
    return [trace for trace in figure.data if trace.name == name]


def test_layer_curve_is_the_mean_in_a_band_of_both_projections() -> None:
    figure = curves.layer_curves(EPSILON, [curve()], COLOURS)
    (line,) = traces(figure, "conv1")
    (band,) = traces(figure, "conv1, band")
    np.testing.assert_allclose(line.y, LOSSES.mean(axis=0))
    assert line.line.color == COLOURS["conv1"]
    assert (band.y.min(), band.y.max()) == (LOSSES.min(), LOSSES.max())
    high = dict(zip(band.x[:9], band.y[:9], strict=True))  # the last height at a budget is the one that counts
    np.testing.assert_allclose([high[budget] for budget in EPSILON], LOSSES.max(axis=0))


def test_band_of_three_projections_is_students_interval_of_the_mean() -> None:
    losses = np.stack([*LOSSES, LOSSES[0] / 2])
    low, high = curves.Curve("conv1", 100, 10, losses, 12, 12).band
    ends = np.stack([stats.t.interval(0.95, 2, row.mean(), stats.sem(row)) for row in losses.T[1:]], axis=1)
    np.testing.assert_allclose(low[1:], np.maximum(ends[0], 0))
    np.testing.assert_allclose(high[1:], np.minimum(ends[1], style.LOG2))
    assert (low[0], high[0]) == (0, 0)
    assert curves.Curve("conv1", 100, 10, losses[:1], 4, 4).band is None


def test_curves_are_steps_that_lie_below_the_loss_of_every_distance() -> None:
    """Of distances of which none is a budget: what is drawn is nowhere above the loss, and equal to it at budgets."""
    rng = np.random.default_rng(0)
    distances = rng.uniform(0.3, 4, (6, 6))
    one = curves.Curve("conv1", 100, 10, loss_curve(distances, EPSILON)[None], 36, 36)
    (line,) = curves.layer_curves(EPSILON, [one], COLOURS).data
    assert line.line.shape == "hv"
    between = np.linspace(0, 4, 101)
    drawn = np.array([curves.value_at(EPSILON, one.losses, budget)[0] for budget in between])
    true = loss_curve(distances, between)
    assert (drawn <= true + 1e-12).all()
    np.testing.assert_allclose(drawn[::25], true[::25])
    x, y = curves.stairs(EPSILON, one.losses[0])
    np.testing.assert_array_equal(np.unique(x), EPSILON)
    np.testing.assert_allclose(np.interp(between, x, y)[between % 1 != 0], drawn[between % 1 != 0])


def test_steps_are_drawn_at_the_distances_themselves_and_hover_speaks_of_budgets() -> None:
    rng = np.random.default_rng(0)
    distances = [rng.uniform(0.3, 4, (6, 6)) for _ in range(2)]
    losses = np.stack([loss_curve(one, EPSILON) for one in distances])
    steps = tuple(loss_steps(one) for one in distances)
    one = curves.Curve("conv1", 100, 10, losses, 72, 72, steps=steps)
    band, line, unseen = curves.layer_curves(EPSILON, [one], COLOURS).data
    between = np.linspace(0, 4, 997)
    true = np.stack([loss_curve(matrix, between) for matrix in distances])
    place = np.searchsorted(line.x, between, side="right") - 1
    np.testing.assert_allclose(np.asarray(line.y)[place], true.mean(axis=0), atol=1e-11)
    assert (band.y.min(), band.y.max()) == (0, pytest.approx(true.max()))
    assert (line.hoverinfo, unseen.marker.size, unseen.showlegend) == ("skip", 0.1, False)
    np.testing.assert_array_equal(unseen.x, EPSILON)
    np.testing.assert_allclose(unseen.y, losses.mean(axis=0))
    assert len({trace.legendgroup for trace in (band, line, unseen)}) == 1
    narrow = curves.layer_curves(EPSILON[1:3], [one], COLOURS, single=True).data[0]
    assert (narrow.x[0], narrow.x[-1]) == (1.0, 2.0)


def test_compare_and_scaling_draw_every_step_too() -> None:
    distances = np.random.default_rng(1).uniform(0.3, 4, (6, 6))
    one = curves.Curve("conv1", 9, 10, loss_curve(distances, EPSILON)[None], 36, 36, steps=(loss_steps(distances),))
    between = np.linspace(0, 4, 997)
    for figure in (
        compare.small_multiples(EPSILON, {"a": [one]}, images=one),
        scaling.curves_by_m(EPSILON, [one], [one]),
    ):
        lines = [trace for trace in figure.data if trace.mode == "lines" and trace.x[0] is not None]
        assert len(lines) == 2
        for line in lines:
            place = np.searchsorted(line.x, between, side="right") - 1
            np.testing.assert_allclose(np.asarray(line.y)[place], loss_curve(distances, between), atol=1e-11)


def test_single_projections_share_one_legend_entry() -> None:
    figure = curves.layer_curves(EPSILON, [curve()], COLOURS, single=True)
    assert [trace.showlegend for trace in figure.data] == [True, False]
    np.testing.assert_allclose(figure.data[1].y, LOSSES[1])


def test_references_are_drawn_and_log2_is_a_line() -> None:
    figure = curves.layer_curves(
        EPSILON, [], COLOURS, images=images(LOSSES[0]), overlays={"FAB": (EPSILON, EPSILON)}, mark=2.0
    )
    assert {trace.name for trace in figure.data} == {"input", "FAB"}
    assert figure.data[0].line.dash == "dot"
    lines = {(shape.x0, shape.y0) for shape in figure.layout.shapes}
    assert (0, style.LOG2) in lines
    assert (2.0, 0) in lines
    assert figure.layout.yaxis.range[1] == pytest.approx(2 * style.LOG2)  # FAB rises past log 2: that must be seen


def test_budgets_in_linf_stand_at_multiples_of_a_255th() -> None:
    budgets = np.linspace(0, 0.13, 5)
    figure = curves.layer_curves(budgets, [curve()], COLOURS, threat=Threat("linf", box=True))
    axis = figure.layout.xaxis
    assert axis.title.text == "budget ε (ℓ∞ norm, valid images)"
    steps = 255 * np.array(axis.tickvals)
    np.testing.assert_allclose(steps, steps.round(), atol=1e-9)
    assert 4 <= len(steps) <= 9
    assert axis.ticktext[1] == f"{axis.tickvals[1]:.3f}<br>{steps[1]:.0f}/255"
    assert curves.layer_curves(budgets, [curve()], COLOURS).layout.xaxis.tickvals is None


def test_accuracy_has_an_axis_of_its_own() -> None:
    figure = curves.layer_curves(EPSILON, [], COLOURS, accuracy=(EPSILON, 1 - EPSILON / 4))
    (line,) = traces(figure, "PGD accuracy")
    assert line.yaxis == "y2"
    assert tuple(figure.layout.yaxis2.range) == (0, 1)


def test_partly_known_curve_says_so_and_unknown_one_is_left_out() -> None:
    figure = curves.layer_curves(EPSILON, [curve(known=4), curve("logits", known=0)], COLOURS)
    assert {trace.name for trace in figure.data if trace.showlegend is not False} == {"conv1 (50% known)"}


def of_projections(*known: int, layer: str = "conv1") -> curves.Curve:
    """Three projections of four pairs each; the loss of one of which nothing is known is 0."""
    losses = np.stack([*LOSSES, LOSSES[0]]) * (np.array(known) > 0)[:, None]
    return curves.Curve(layer, 100, 10, losses, sum(known), 12, known)


def test_mean_and_band_are_over_whole_projections() -> None:
    """One that has hardly begun would pull the mean towards 0."""
    one = of_projections(4, 1, 0)
    (line,) = curves.layer_curves(EPSILON, [one], COLOURS).data  # one projection has no band
    assert line.name == "conv1 (1 of 3 projections)"
    np.testing.assert_allclose(line.y, LOSSES[0])
    begun = of_projections(2, 2, 0)
    line = curves.layer_curves(EPSILON, [begun], COLOURS).data[-1]
    assert line.name == "conv1 (33% known)"
    np.testing.assert_allclose(line.y, LOSSES.mean(axis=0))
    assert (one.lower, begun.lower, of_projections(4, 4, 4).lower) == (False, True, False)
    single = curves.layer_curves(EPSILON, [of_projections(0, 4, 1)], COLOURS, single=True)
    assert [trace.name for trace in single.data] == [
        "conv1 (1 of 3 projections)",
        "conv1 (1 of 3 projections), projection 3",
    ]


def test_bars_of_lower_bounds_are_hatched_and_state_no_change() -> None:
    drawn = [of_projections(4, 0, 0), of_projections(2, 1, 1, layer="logits")]
    figure = attribution.loss_by_layer(EPSILON, [images(np.zeros(5)), *drawn], 2.0, COLOURS)
    bars, numbers = figure.data
    np.testing.assert_allclose(bars.y, [0.0, 0.2, np.mean([0.2, 0.4, 0.2])])
    assert bars.marker.pattern.shape == ("", "", "/")
    assert list(numbers.text) == ["0.00", "0.20", "≥ 0.27"]
    assert figure.layout.xaxis.ticktext == ("input", "conv1<br>+0.20", "logits")


def test_a_layer_of_which_nothing_is_known_keeps_its_place_among_the_bars() -> None:
    drawn = [curve("conv1"), curve("conv2", known=0), curve("logits")]
    bars, numbers = attribution.loss_by_layer(EPSILON, drawn, 2.0, COLOURS).data
    assert list(bars.x) == ["conv1", "conv2", "logits"]
    np.testing.assert_allclose(bars.y, [0.3, np.nan, 0.3])
    assert list(numbers.text) == ["0.30", "?", "0.30"]
    assert not any("from the one before" in hover for hover in bars.customdata)  # across it no change is stated


def test_differences_leave_lower_bounds_out() -> None:
    networks = {
        "a": [of_projections(4, 0, 0), of_projections(1, 1, 0, layer="logits")],
        "b": [curve(), curve("logits")],
    }
    first, second = by_depth(networks, 2.0, minus="b").data
    assert list(first.x) == [1]
    np.testing.assert_allclose(first.y, 0.2 - 0.3)
    np.testing.assert_allclose(second.y, [0, 0])
    assert len(by_depth(networks, 2.0).data[0].x) == 2


def test_entry_of_the_legend_keeps_its_group_while_pairs_become_known() -> None:
    """By its group the browser knows an entry again that the reader has hidden."""
    parts = [curve(known=4), curve(known=8)]
    assert len({line.legendgroup for one in parts for line in curves.layer_curves(EPSILON, [one], COLOURS).data}) == 1
    assert len({by_depth({"a": [one]}, 2.0).data[0].legendgroup for one in parts}) == 1


def test_partly_known_curve_is_thin_and_its_final_part_is_marked() -> None:
    figure = curves.layer_curves(EPSILON, [curve(known=4), curve("logits")], COLOURS, final=1.5)
    widths = [trace.line.width for trace in figure.data if trace.showlegend is not False]
    assert widths[0] < widths[1]
    assert 1.5 in {shape.x0 for shape in figure.layout.shapes}
    assert "may still rise" in [note.text for note in figure.layout.annotations][-1]


def test_hostile_layer_name_is_escaped_everywhere() -> None:
    evil = "<img src=x>"
    for figure in (
        curves.layer_curves(EPSILON, [curve(evil)], {}),
        attribution.loss_by_layer(EPSILON, [curve(evil)], 1.0, {}),
        compare.small_multiples(EPSILON, {evil: [curve(evil)]}),
        by_depth({evil: [curve(evil)]}, 1.0),
    ):
        assert evil not in figure.to_json().encode().decode("unicode_escape")


def test_value_between_budgets_is_that_of_the_one_below() -> None:
    np.testing.assert_allclose(curves.value_at(EPSILON, LOSSES, 2.5), [0.2, 0.4])
    np.testing.assert_allclose(curves.value_at(EPSILON, LOSSES, 2.9999999), [0.5, 0.6])  # a budget of six digits
    np.testing.assert_allclose(curves.value_at(EPSILON, LOSSES, 9.0), [0.69, 0.69])
    np.testing.assert_allclose(curves.value_at(EPSILON[1:], LOSSES[:, 1:], 0.5), [0.0, 0.0])


def test_bars_have_their_intervals_and_say_which_are_bounds() -> None:
    drawn = [
        attribution.Bar("input", 1.0, 0.8, 1.2),
        attribution.Bar("conv1", 3.0, 2.0, math.inf),
        attribution.Bar("conv2", 2.0, sign="≤"),
        attribution.Bar("fc1", math.inf),
        attribution.Bar("logits", None),
    ]
    figure = attribution.by_layer(drawn, COLOURS, "ε½")
    bars, numbers = figure.data
    assert list(numbers.text) == ["1.00", "3.00", "≤ 2.00", "∞", "?"]
    np.testing.assert_allclose(bars.y, [1, 3, 2, np.nan, np.nan])
    np.testing.assert_allclose(bars.error_y.array[:1], 0.2)
    np.testing.assert_allclose(bars.error_y.arrayminus, [0.2, 1, 0, 0, 0])
    assert bars.marker.pattern.shape == ("", "", "/", "", "")
    assert figure.layout.xaxis.ticktext == ("input", "conv1<br>+2.00", "conv2", "fc1", "logits")
    assert "2.0000 to ∞" in bars.customdata[1]


def test_loss_by_layer_starts_at_the_input_and_names_the_change() -> None:
    figure = attribution.loss_by_layer(EPSILON, [images(LOSSES[0]), curve(), curve("logits")], 2.0, COLOURS)
    bar, numbers = figure.data
    assert list(bar.x) == list(numbers.x) == ["input", "conv1", "logits"]
    assert list(numbers.text) == ["0.20", "0.30", "0.30"]
    assert figure.layout.xaxis.ticktext == ("input", "conv1<br>+0.10", "logits<br>+0.00")
    np.testing.assert_allclose(numbers.y, [0.2, 0.4, 0.4])  # where the whiskers end
    np.testing.assert_allclose(bar.y, [0.2, 0.3, 0.3])
    np.testing.assert_allclose(bar.error_y.array, [0, 0.1, 0.1])
    assert bar.customdata[1].endswith("<br>+0.1000 from the one before")


def test_matrix_has_a_click_marker_on_every_known_cell_only() -> None:
    distance = np.array([[1.0, np.nan, 3.0], [4.0, 5.0, 6.0]])
    collided = np.array([[True, False, False], [True, True, True]])
    figure = matrix.distance_matrix(distance, collided, [11, 12], [21, 22, 23], (3, 7), chosen=(1, 2))
    (cells,), (missed,) = traces(figure, "pairs"), traces(figure, "no collision")
    assert cells.type == missed.type == "scatter"
    np.testing.assert_array_equal(
        cells.customdata,
        [[0, 0, 11, 21, 1.0], [1, 0, 12, 21, 4.0], [1, 1, 12, 22, 5.0], [1, 2, 12, 23, 6.0]],
    )
    np.testing.assert_array_equal(missed.customdata, [[0, 2, 11, 23, 3.0]])
    for trace in (cells, missed):
        np.testing.assert_array_equal(np.stack([trace.y, trace.x], axis=1), trace.customdata[:, :2])
    assert "did not collide" in missed.hovertemplate
    assert "did not collide" not in cells.hovertemplate
    assert missed.marker.opacity is None  # its cross is seen
    frame = figure.layout.shapes[0]
    assert (frame.x0, frame.y0) == (1.5, 0.5)


def test_matrix_draws_no_more_than_200_rows() -> None:
    figure = matrix.distance_matrix(np.ones((300, 250)), np.ones((300, 250), bool), range(300), range(250), (3, 7))
    assert figure.data[0].z.shape == (200, 200)
    assert len(figure.data[1].x) == 40_000
    assert figure.data[1].type == "scattergl"  # WebGL, for many


def test_nearest_first_puts_unknown_rows_last() -> None:
    distance = np.array([[3.0, 2.0], [np.nan, np.nan], [1.0, np.nan]])
    rows, columns = matrix.nearest_first(distance)
    assert list(rows) == [2, 0, 1]
    assert list(columns) == [0, 1]


def test_distance_against_m_has_the_law_the_input_and_a_dot_a_projection() -> None:
    lines = {"law": ("√m law through m = 4", np.array([0.6, 1.1, 2.3])), "images": np.array([0.1, 0.2, 0.4])}
    measured = [np.array([0.5, 0.7]), np.array([1.1]), np.array([2.5])]
    intervals = [(-0.1, 1.3), (math.nan, math.nan), (2.0, 3.0)]
    figure = scaling.distance_against_m([1, 4, 16], measured, exponent=(0.5, 0.4, 0.6), intervals=intervals, **lines)
    assert figure.layout.xaxis.type == figure.layout.yaxis.type == "log"
    drawn = {trace.name: list(trace.y) for trace in figure.data}
    assert drawn["√m law through m = 4"] == [0.6, 1.1, 2.3]
    assert drawn["input through the same m"] == [0.1, 0.2, 0.4]
    assert drawn["mean, ∝ m^0.50 (0.40 to 0.60)"] == pytest.approx([0.6, 1.1, 2.5])
    (dots,) = traces(figure, "one projection")
    assert list(dots.x) == [1, 1, 4, 16]
    whiskers = figure.data[-1].error_y
    np.testing.assert_allclose(whiskers.array, [0.7, 0, 0.5])
    np.testing.assert_allclose(whiskers.arrayminus, [0.594, 0, 0.5])  # a logarithm has no 0


def test_spread_of_a_pair_of_the_mean_and_of_theory_are_in_per_cent() -> None:
    figure = scaling.spread_against_m([1, 10], [0.7, 0.2], [0.1, 0.05], "#000000", theory=np.array([0.707, 0.22]))
    drawn = {trace.name: list(trace.y) for trace in figure.data}
    assert drawn == {"one pair": [70, 20], "mean over pairs": [10, 5], "theory, one pair": [70.7, 22]}


def test_curves_by_m_name_every_m() -> None:
    asked = [curve(m=1), curve(m=2, known=0), curve(m=5, known=3), curve(m=None)]
    figure = scaling.curves_by_m(EPSILON, asked)
    assert [trace.name for trace in figure.data] == ["m = 1", "m = 5 (37% known)", "no projection"]
    whole, part, _ = figure.data
    assert part.line.width < whole.line.width


def test_curves_by_m_have_the_input_of_the_same_m_beside_them() -> None:
    asked, inputs = [curve(m=1), curve(m=2, known=0), curve(m=5)], [images(LOSSES[0]) for _ in range(3)]
    figure = scaling.curves_by_m(EPSILON, asked, inputs)
    assert [trace.name for trace in figure.data[1:]] == ["input, m = 1", "m = 1", "input, m = 5", "m = 5"]
    for dotted, line in zip(figure.data[1::2], figure.data[2::2], strict=True):
        assert (dotted.line.color, dotted.legendgroup) == (line.line.color, line.legendgroup)
        assert (dotted.line.dash, line.line.dash, dotted.showlegend) == ("dot", "solid", False)
        np.testing.assert_allclose(dotted.y, LOSSES[0])


def test_depth_lines_align_by_order_or_relative_depth_and_subtract() -> None:
    networks = {"a": [curve("conv1"), curve("logits")], "b": [curve("conv1"), curve("fc1"), curve("logits")]}
    by_order = by_depth(networks, 2.0)
    assert list(by_order.data[1].x) == [1, 2, 3]
    difference = by_depth(networks, 2.0, relative=True, minus="a")
    assert list(difference.data[1].x) == [0.0, 0.5, 1.0]
    np.testing.assert_allclose(difference.data[0].y, 0.0, atol=1e-12)


def test_numbers_by_depth_have_students_intervals_and_the_input_beside_them() -> None:
    half = np.array([1.0, 2.0, 4.0])
    three = curves.Curve("conv1", 100, 10, np.tile(LOSSES[0], (3, 1)), 12, 12)
    seen = compare.Measured(curves.Curve("input", 784, 10, three.losses, 12, 12), half / 10)
    networks = {
        "a": [compare.Measured(three, half), compare.Measured(three, np.array([1.0, 3.0, 4.0]))],
        "b": [compare.Measured(three, 2 * half), compare.Measured(three, np.array([1.0, np.inf, 2.0]))],
    }
    figure = compare.by_depth(networks, "ε½", images=seen)
    dotted, first, second = figure.data
    assert (dotted.name, list(dotted.y)) == ("input through m = 10", [pytest.approx(0.7 / 3)] * 2)
    np.testing.assert_allclose(first.y, [7 / 3, 8 / 3])
    low, high = stats.t.interval(0.95, 2, half.mean(), stats.sem(half))
    assert first.error_y.array[0] == pytest.approx(high - 7 / 3)
    assert first.error_y.arrayminus[0] == pytest.approx(7 / 3 - low)
    np.testing.assert_allclose(second.y, [14 / 3])  # of infinite ε½ there is no mean
    assert first.x[0] < 1 < second.x[0]  # so that whiskers lie side by side
    change = compare.differences(networks, "a", relative=False)["b"]
    paired = stats.t.interval(0.95, 2, half.mean(), stats.sem(half))  # 2 half - half, seed by seed
    assert (change[0].low, change[0].high) == pytest.approx(paired)
    assert math.isnan(change[1].value)
    assert len(compare.by_depth(networks, "ε½", images=seen, minus="a").data) == 2  # the input is no difference


def test_layers_of_which_nothing_is_known_keep_their_axis() -> None:
    nothing = {"a": [curve("conv1", known=0), curve("fc1", known=0), curve("logits", known=0)]}
    axis = by_depth(nothing, 2.0).layout.xaxis
    assert (axis.range[0] > 0, axis.range[1] < 4, list(axis.ticktext)) == (True, True, ["conv1", "fc1", "logits"])
    assert list(by_depth(nothing, 2.0, relative=True).layout.xaxis.range) == [-0.05, 1.05]


def steps(*losses: float) -> list[curves.Curve]:
    """Layers whose loss is the same at every budget."""
    return [curves.Curve(f"layer{number}", 9, 10, np.full((1, 5), loss), 8, 8) for number, loss in enumerate(losses)]


def test_what_is_subtracted_is_the_same_layer_by_order_or_the_losses_between_at_the_same_depth() -> None:
    networks = {"short": steps(0.1, 0.4), "long": steps(0.1, 0.2, 0.6)}
    by_order = apart(networks, "short", relative=False)
    np.testing.assert_allclose(by_order["long"], [0.0, -0.2, np.nan])  # the short one has no third layer
    aligned = apart(networks, "short", relative=True)
    np.testing.assert_allclose(aligned["long"], [0.0, 0.2 - 0.25, 0.2], atol=1e-12)
    drawn = by_depth(networks, 2.0, minus="short").data[1]
    assert list(drawn.x) == [1, 2]
    begun = curves.Curve("layer0", 9, 10, np.zeros((1, 5)), 4, 8)
    networks["short"][0] = begun  # only a bound: nothing is known on that side of its other layer
    outside = apart(networks, "short", relative=True)["long"]
    np.testing.assert_allclose(outside, [np.nan, np.nan, 0.2])


def test_a_network_that_is_partly_known_says_so_and_keeps_its_places() -> None:
    networks = {"a": [curve("conv1"), curve("fc1", known=0), curve("logits", known=4)], "b": [curve()] * 3}
    line, whole = by_depth(networks, 2.0).data
    assert (line.name, whole.name) == ("a (50% known)", "b")
    assert list(line.x) == [1, 3]
    assert list(line.marker.symbol) == ["circle", "circle-open"]
    assert list(by_depth(networks, 2.0, relative=True).data[0].x) == [0.0, 1.0]
    panels = compare.small_multiples(EPSILON, networks)
    assert not any(trace.showlegend for trace in panels.data)  # their layers differ, so do the colours of a name
    assert [note.text for note in panels.layout.annotations[:2]] == ["a<br>(50% known)", "b"]
    assert panels.data[1].line.width < panels.data[0].line.width


def test_layers_are_named_where_all_networks_have_the_same() -> None:
    same = {name: [curve("conv1"), curve("logits")] for name in "ab"}
    assert by_depth(same, 2.0).layout.xaxis.ticktext == ("conv1", "logits")
    panels = compare.small_multiples(EPSILON, same)
    assert [(line.name, line.legendgroup) for line in panels.data if line.showlegend] == [
        ("conv1",) * 2,
        ("logits",) * 2,
    ]
    assert len(traces(panels, "conv1")) == 2
    other = {**same, "c": [curve("conv1"), curve("fc1"), curve("logits")]}
    assert by_depth(other, 2.0).layout.xaxis.ticktext is None


def test_accuracies_have_a_line_a_network_that_states_one_in_the_colour_of_its_losses() -> None:
    measured = (np.array([0.0, 1.0, 2.0]), np.array([0.9, 0.6, 0.1]))
    figure = compare.accuracy_by_budget({"a": None, "<b>": measured}, 1.5)
    (line,) = figure.data
    assert (line.name, list(line.y)) == ("&lt;b&gt;", [0.9, 0.6, 0.1])
    losses = by_depth({"a": [curve()], "<b>": [curve()]}, 1.5)
    assert line.line.color == losses.data[1].line.color
    assert figure.layout.shapes[0].x0 == 1.5


def test_numbers_of_bars_keep_off_the_line_at_log_2() -> None:
    heights = [0.3, style.LOG2 - 0.03, style.LOG2]
    drawn = [curves.Curve(f"fc{i}", 10, 2, np.full((1, 5), height), 1, 1) for i, height in enumerate(heights)]
    figure = attribution.loss_by_layer(EPSILON, drawn, 1.0, COLOURS)
    (numbers,) = [trace for trace in figure.data if trace.type == "scatter"]
    np.testing.assert_allclose(numbers.y, [0.3, style.LOG2, style.LOG2])
    assert list(numbers.text) == ["0.30", "0.66", "0.69"]


def test_small_multiples_have_a_panel_a_network() -> None:
    figure = compare.small_multiples(EPSILON, {name: [curve()] for name in "abcd"}, images=images(LOSSES[0]))
    assert [note.text for note in figure.layout.annotations[:4]] == list("abcd")
    assert len({trace.xaxis for trace in figure.data}) == 4
    axes = [figure.layout[f"xaxis{number}"] for number in ("", 2, 3, 4)]  # the fourth panel stands below the first
    assert [axis.title.text for axis in axes] == ["", *["budget ε (ℓ2)"] * 3]
    assert [axis.showticklabels for axis in axes] == [False, True, True, True]
    long = compare.small_multiples(EPSILON, {"cifar10-medium-trades0.5": [curve()], "a" * 100: [curve()]})
    titles = [note.text for note in long.layout.annotations[:2]]
    assert titles == ["cifar10-medium-<br>trades0.5", "a" * 15 + "<br>" + "a" * 14 + "…"]


def test_distance_of_a_pair_has_a_bar_a_layer_below_half_the_distance_of_the_images() -> None:
    figure = pairs.distance_by_layer(["conv1", "<b>"], [1.0, 2.0], COLOURS, half_apart=4.0, chosen="<b>")
    (bar,) = figure.data
    assert list(bar.x) == ["conv1", "&lt;b&gt;"]
    assert list(bar.customdata) == [0.25, 0.5]
    assert list(bar.marker.line.width) == [0, 3]
    assert figure.layout.shapes[0].y0 == 4.0
    assert figure.layout.yaxis.range[1] > 4.0


def test_every_place_of_the_plane_can_be_clicked() -> None:
    points = np.array([-0.9, -0.5]), np.array([0.9, 0.6])
    figure = learn.meeting(EPSILON, np.zeros((5, 5)), points, points, 1.0, 0.0, reach=0.2)
    (markers,) = traces(figure, "places")
    clickable = np.stack([markers.x, markers.y], axis=1)
    assert len(clickable) == 25
    np.testing.assert_array_equal(clickable[[0, 1, -1]], [[-0.2, -0.2], [-0.1, -0.2], [0.2, 0.2]])
    assert figure.layout.clickmode == "event+select"


@pytest.mark.parametrize("higher", [0, 1])
def test_labels_of_a_collision_lie_on_opposite_sides(higher: int) -> None:
    """That of the higher end above it, and that of its point below."""
    points = np.array([-0.9, -0.5]), np.array([0.9, 0.6])
    ends = [np.array([0.0, 0.0]), np.array([0.0, 0.0])]
    ends[higher] = np.array([0.0, 0.09])
    figure = learn.meeting(EPSILON, np.zeros((5, 5)), points, tuple(ends), 1.0, 0.0)
    moves = [trace for trace in figure.data if trace.text]
    labels = {text: side for move in moves for text, side in zip(move.text, move.textposition, strict=True)}
    above, below = (("x̃", "x̃′"), ("x̃′", "x̃"))[higher]
    assert (labels[above], labels[below]) == ("top center", "bottom center")
    assert labels[above[0] + above[2:]] == "bottom center"
    assert labels[below[0] + below[2:]] == "top center"


def test_errors_are_steps_of_the_network_its_logits_and_the_images() -> None:
    figure = errors.errors(EPSILON, EPSILON / 4, EPSILON / 8, EPSILON / 16, colour="#123456", mark=2.0)
    assert [trace.line.shape for trace in figure.data] == ["hv"] * 3
    network, logits, images_only = figure.data
    np.testing.assert_array_equal([network.y[-1], logits.y[-1], images_only.y[-1]], [1, 0.5, 0.25])
    assert network.line.color == logits.line.color == "#123456"
    assert [shape.x0 for shape in figure.layout.shapes] == [2.0]
