"""A figure of this folder as matplotlib draws it: vectors, for paper.

Every figure is described once, in plotly's words. Here stands how matplotlib draws those parts of them that the figures
of this folder are made of: lines, bands, bars, whiskers, maps, shapes and notes. Needs matplotlib.
"""

from __future__ import annotations

import html
import re
from typing import Any, Final, Literal

import numpy as np
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, MultipleLocator, PercentFormatter
from matplotlib.transforms import blended_transform_factory

from charts.style import axes_of

__all__ = ["Figure", "draw"]

Entries = dict[str, tuple[int, Any]]  # of a legend: name -> its rank and what it stands for
_DASHES: Final[dict[str, Any]] = {
    "solid": "-", "dash": "--", "dot": ":", "dashdot": "-.", "longdash": (0, (8, 3)), "longdashdot": (0, (8, 3, 1, 3)),
}  # fmt: skip
_POINT: Final = 0.5  # points of the paper for a pixel of the screen
_INK: Final = "#1f2430"


def draw(figure: go.Figure, part: SubFigure, size: float, width: float) -> None:
    """Draw a figure on a part of the page that is `width` inches wide; `size`: of its letters, in points."""
    numbers = axes_of(figure)
    domains = [[figure.layout[f"{side}axis{number}"].domain or (0, 1) for side in "xy"] for number in numbers]
    lefts, tops = sorted({x[0] for x, _ in domains}), sorted({-y[1] for _, y in domains})
    grid = part.subplots(len(tops), len(lefts), squeeze=False)
    places = [grid[tops.index(-y[1])][lefts.index(x[0])] for x, y in domains]
    for spare in set(grid.ravel()) - set(places):
        spare.set_visible(False)
    entries: Entries = {}
    for number, axes in zip(numbers, places, strict=True):
        _pair_of_axes(figure, number, axes, entries)
    if len(numbers) == 1:
        _notes(figure, places[0])
    else:
        for axes, title in zip(places, figure.layout.annotations, strict=True):
            axes.set_title(_text(title.text))
    if entries and figure.layout.showlegend is not False:
        _legend(part if len(numbers) > 1 else places[0], entries, size, width)


def _pair_of_axes(figure: go.Figure, number: str, axes: Axes, entries: Entries) -> None:
    """What stands between one x and one y; a second y on the right shares the x of the first."""
    layout = figure.layout
    traces = [trace for trace in figure.data if (trace.xaxis or "x") == f"x{number}"]
    right = axes.twinx() if any((trace.yaxis or "y") != f"y{number}" for trace in traces) else axes
    for trace in traces:
        handle = _trace(trace, axes if (trace.yaxis or "y") == f"y{number}" else right, layout.bargap or 0.2)
        if handle is not None and trace.showlegend is not False and trace.name:
            entries.setdefault(trace.name, (trace.legendrank or 1000, handle))
    _axis(axes, "x", layout[f"xaxis{number}"])
    _axis(axes, "y", layout[f"yaxis{number}"])
    if right is not axes:
        right.grid(False)
        right.spines["right"].set_visible(True)
        _axis(right, "y", layout.yaxis2)
    for shape in layout.shapes:
        if (shape.xref or "x").removesuffix(" domain") == f"x{number}":
            _shape(shape, axes)


def _legend(where: Axes | SubFigure, entries: Entries, size: float, width: float) -> None:
    """The names above the axes, or below several, in as many columns as there is room for."""
    ordered = sorted(entries.items(), key=lambda entry: entry[1][0])
    names = [_text(name) for name, _ in ordered]
    inches = max(map(len, names)) * 0.55 * (size - 1) / 72 + 0.42
    place: dict[str, Any] = {"loc": "outside lower center"}
    if isinstance(where, Axes):
        place = {"loc": "lower left", "bbox_to_anchor": (0, 1)}
    where.legend(
        [handle for _, (_, handle) in ordered], names, ncols=max(1, min(len(names), int((width - 0.5) / inches))),
        frameon=False, handlelength=2.2, columnspacing=1, borderaxespad=0.2, borderpad=0.2, labelspacing=0.25, **place,
    )  # fmt: skip


def _trace(trace: Any, axes: Axes, gap: float) -> Any:
    """Draw one trace; returns what stands for it in a legend, None for what has no place there."""
    if trace.type == "bar":
        return _bars(trace, axes, gap)
    if trace.type == "heatmap":
        return _map(trace, axes)
    x, y = _numbers(trace.x) if trace.mode != "text" else np.arange(len(trace.x)), _numbers(trace.y)
    if trace.mode == "text":
        return _words_above(axes, x, y, trace.text)
    if trace.fill == "toself":
        colour, alpha = _colour(trace.fillcolor)
        return axes.fill(x, y, color=colour, alpha=alpha, linewidth=0) and None
    handle = _line(trace, axes, x, y) if "lines" in trace.mode else None
    hidden = trace.marker.opacity == 0 or (np.ndim(trace.marker.size) == 0 and (trace.marker.size or 6) < 1)
    if "markers" not in trace.mode or hidden:
        return handle
    _whiskers(trace, axes, x, y)
    marks = _markers(trace, axes, x, y)
    return marks if handle is None else (handle, marks) if marks is not None else handle


def _line(trace: Any, axes: Axes, x: Any, y: Any) -> Any:
    steps = "steps-post" if trace.line.shape == "hv" else "default"
    dash, width = _DASHES[trace.line.dash or "solid"], (trace.line.width or 2) * _POINT
    return axes.plot(x, y, color=_colour(trace.line.color)[0], linewidth=width, linestyle=dash, drawstyle=steps)[0]


def _markers(trace: Any, axes: Axes, x: Any, y: Any) -> Any:
    """Circles, filled or open, and crosses; the last that was drawn stands in the legend."""
    symbols = np.array(_each(trace.marker.symbol or "circle", len(x)), dtype=object)
    colour, size, marks = _colour(trace.marker.color or trace.line.color)[0], (trace.marker.size or 6) * _POINT, None
    looks = {"circle": ("o", colour), "circle-open": ("o", "white"), "x-thin": ("x", colour)}
    for symbol, (marker, face) in looks.items():
        if (chosen := symbols == symbol).any():
            edge = "white" if marker == "x" else colour  # crosses lie on a map
            (marks,) = axes.plot(x[chosen], y[chosen], marker, markersize=size, markerfacecolor=face,
                                 markeredgecolor=edge, markeredgewidth=0.7, alpha=trace.marker.opacity)  # fmt: skip
    return marks


def _whiskers(trace: Any, axes: Axes, x: Any, y: Any) -> None:
    bar = trace.error_y
    if bar.array is None or bar.visible is False:
        return
    drawn = np.isfinite(y)
    ends = [np.maximum(_numbers(side)[drawn], 0) for side in (bar.arrayminus, bar.array)]
    axes.errorbar(
        x[drawn], y[drawn], ends, fmt="none", ecolor=_colour(bar.color)[0], elinewidth=0.7, capsize=1.8, capthick=0.7
    )


def _bars(trace: Any, axes: Axes, gap: float) -> None:
    names, heights, count = [str(name) for name in trace.x], _numbers(trace.y), len(trace.x)
    colours, hatches = _each(trace.marker.color, count), _each(trace.marker.pattern.shape, count)
    frames = _each(trace.marker.line.width, count)
    for place, (height, text, hatch, frame) in enumerate(zip(heights, colours, hatches, frames, strict=True)):
        colour = _colour(text)[0]
        edge = colour if hatch else _colour(trace.marker.line.color)[0] if frame else "none"
        axes.bar(place, height, 1 - gap, color="white" if hatch else colour, hatch="/////" if hatch else None,
                 edgecolor=edge, linewidth=(frame or 1) * _POINT)  # fmt: skip
    places = np.arange(count)
    _whiskers(trace, axes, places, heights)
    _words_above(axes, places, heights, trace.text or ())
    axes.set_xticks(places, [_text(name) for name in names])
    axes.set_xlim(-0.5, count - 0.5)


def _words_above(axes: Axes, x: Any, y: Any, words: Any) -> None:
    for place, height, text in zip(x, y, words, strict=False):
        if np.isfinite(height):
            axes.annotate(_text(text), (place, height), (0, 1.5), textcoords="offset points", ha="center", va="bottom",
                          fontsize="small", annotation_clip=False)  # fmt: skip


def _map(trace: Any, axes: Axes) -> None:
    values = np.array(trace.z, dtype=np.float64)
    rows, columns = values.shape
    cells = axes.pcolormesh(np.arange(columns + 1) - 0.5, np.arange(rows + 1) - 0.5, values, cmap="viridis")
    axes.set_aspect("equal")
    axes.grid(False)
    scale = axes.figure.colorbar(cells, ax=axes, location="right", label=_text(trace.colorbar.title.text or ""))
    if scale.solids is not None:  # which matplotlib draws as pixels
        scale.solids.set(rasterized=False, edgecolor="face")


def _axis(axes: Axes, side: Literal["x", "y"], axis: Any) -> None:
    """Title, scale, range and ticks of one axis."""
    ruler: Any = axes.xaxis if side == "x" else axes.yaxis
    names = axis.type == "category"  # at 0, 1, 2, …
    ruler.set_label_text(_text(axis.title.text or ""))
    if axis.type == "log":
        (axes.set_xscale if side == "x" else axes.set_yscale)("log")
        ruler.minorticks_off()
    if axis.range is not None:
        ends = [10.0**end if axis.type == "log" else end for end in axis.range]
        (axes.set_xlim if side == "x" else axes.set_ylim)(*ends)
    elif axis.rangemode == "tozero":
        axes.set_ylim(bottom=0)
    if axis.tickvals is not None:
        places = np.arange(len(axis.tickvals)) if names else _numbers(axis.tickvals)
        words = [_text(text) for text in axis.ticktext or [f"{place:g}" for place in places]]
        most = max((text.count("\n") for text in words), default=0)
        words = [text + "\n" * (most - text.count("\n")) for text in words]  # the first lines stand side by side
        low, high = sorted(ruler.get_view_interval())
        shown = [(place, text) for place, text in zip(places, words, strict=True) if names or low <= place <= high]
        ruler.set_ticks([place for place, _ in shown], [text for _, text in shown])
    elif axis.tickformat == ".0%":
        ruler.set_major_formatter(PercentFormatter(1, decimals=0))
    elif axis.tickformat == "d":
        ruler.set_major_locator(MaxNLocator(integer=True))
    elif axis.dtick == 1:
        ruler.set_major_locator(MultipleLocator(1))
    if axis.showticklabels is False:
        ruler.set_tick_params(labelbottom=False, labelleft=False)
    if names:
        axes.grid(False, axis=side)


def _shape(shape: Any, axes: Axes) -> None:
    """A line across or upright, or a rectangle."""
    across, upright = (str(ref or "").endswith(" domain") for ref in (shape.xref, shape.yref))
    colour, width = _colour(shape.line.color)[0], (shape.line.width or 0) * _POINT
    if shape.type == "line":
        dash = _DASHES[shape.line.dash or "solid"]
        if across:
            axes.axhline(shape.y0, color=colour, linewidth=width, linestyle=dash)
        else:
            axes.axvline(shape.x0, color=colour, linewidth=width, linestyle=dash)
        return
    place = axes.get_yaxis_transform() if across else axes.get_xaxis_transform() if upright else axes.transData
    axes.add_patch(
        Rectangle(
            (shape.x0, shape.y0), shape.x1 - shape.x0, shape.y1 - shape.y0, transform=place, clip_on=False,
            facecolor=_colour(shape.fillcolor)[0] if shape.fillcolor else "none",
            edgecolor=colour if width else "none", linewidth=width, alpha=shape.opacity,
        )
    )  # fmt: skip


def _notes(figure: go.Figure, axes: Axes) -> None:
    for note in figure.layout.annotations:
        inside = [str(ref or "").endswith(("domain", "paper")) for ref in (note.xref, note.yref)]
        x = 10.0**note.x if figure.layout.xaxis.type == "log" and not inside[0] else note.x
        place = blended_transform_factory(*(axes.transAxes if one else axes.transData for one in inside))
        axes.text(x, note.y, _text(note.text), transform=place, color=_colour(note.font.color)[0], fontsize="small",
                  ha=note.xanchor or "center", va=note.yanchor or "center")  # fmt: skip


def _each(value: Any, count: int) -> list[Any]:
    """A setting for each of `count` parts: plotly has one for all, or a list."""
    return [value] * count if value is None or isinstance(value, str) or np.ndim(value) == 0 else list(value)


def _numbers(values: Any) -> Any:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _text(words: str) -> str:
    """Words that stand in a figure as HTML."""
    return html.unescape(re.sub(r"<br\s*/?>", "\n", words))


def _colour(text: str | None) -> tuple[Any, float]:
    """A colour and its opacity."""
    found = re.fullmatch(r"rgba\(([\d.]+),([\d.]+),([\d.]+),([\d.]+)\)", (text or _INK).replace(" ", ""))
    if found is None:
        return text or _INK, 1.0
    red, green, blue, alpha = map(float, found.groups())
    return (red / 255, green / 255, blue / 255), alpha
