"""The look that all figures share: colours of layers, fonts, margins and safe text."""

from __future__ import annotations

import html
import math
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from robustness_core.spec import Threat

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Part = dict[str, Any]  # of a figure, in plotly's words: a trace, a line, a note, settings of an axis

LOG2 = math.log(2.0)
_STEPS, _TICKS = (1, 2, 4, 8, 16, 32, 64), 8  # of 1/255 between two ticks of an axis, and at most so many ticks
LOSS_TITLE = "optimal loss (nats)"
LOSS_RANGE = (-0.012, LOG2 * 1.08)  # a line at 0 is seen whole, and one at log 2

# The plasma scale, from which the ends that vanish on the background are cut: early layers are cool, deep ones warm.
_PLASMA = (
    "#0d0887", "#41049d", "#6a00a8", "#8f0da4", "#b12a90", "#cc4778",
    "#e16462", "#f2844b", "#fca636", "#fcce25", "#f0f921",
)  # fmt: skip
_LIGHT_RANGE = (0.0, 0.64)
_DARK_RANGE = (0.4, 1.0)
_APART = 33  # with it the names of the bundled networks of one data set want different looks
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


def _channels(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _plasma(position: float) -> str:
    """The colour at `position` in [0, 1], as #rrggbb."""
    scaled = position * (len(_PLASMA) - 1)
    lower = min(int(scaled), len(_PLASMA) - 2)
    weight = scaled - lower
    mixed = (
        round(a + weight * (b - a))
        for a, b in zip(_channels(_PLASMA[lower]), _channels(_PLASMA[lower + 1]), strict=True)
    )
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def palette(count: int, dark: bool = False) -> list[str]:
    """`count` colours in order, lighter step by step, readable on a white (or, if `dark`, a black) background."""
    start, stop = _DARK_RANGE if dark else _LIGHT_RANGE
    if count == 1:
        return [_plasma((start + stop) / 2)]
    return [_plasma(start + (stop - start) * i / (count - 1)) for i in range(count)]


def layer_colours(layers: Sequence[str], dark: bool = False) -> dict[str, str]:
    """Colour of each layer by its place in the network, so that it is the same in every figure.

    `layers` are all layers of the network in order. A layer before its activation (`conv1.pre`) has the colour of
    the layer after it.
    """
    main = [name for name in layers if not name.endswith(".pre")]
    colours = dict(zip(main, palette(len(main), dark), strict=True)) if main else {}
    fallback = reference_colour(dark)
    return {name: colours.get(name.removesuffix(".pre"), fallback) for name in layers}


def network_looks(names: Sequence[str], dark: bool = False) -> dict[str, tuple[str, str]]:
    """Colour and line pattern of networks side by side: of Okabe and Ito those readable on the background.

    A network has the look that its name gives it, wherever it stands; of two that want the same the later one takes the
    next that is free, so up to six all differ.
    """
    light = ("#0072b2", "#b34f00", "#007a5a", "#a8518a", "#5b5b5b", "#a06a00")
    night = ("#56b4e9", "#ff9d5c", "#2bc99a", "#e5a0cb", "#c8c8c8", "#f0e442")
    count, looks = len(light), dict[str, int]()
    for name in names:
        wanted = [(zlib.crc32(name.encode(), _APART) + step) % count for step in range(count)]
        looks[name] = next((look for look in wanted if look not in looks.values()), wanted[0])
    return {name: ((night if dark else light)[look], dash(look)) for name, look in looks.items()}


def dash(index: int) -> str:
    """A line pattern by number, a second sign beside the colour."""
    return _DASHES[index % len(_DASHES)]


def reference_colour(dark: bool = False) -> str:
    """The colour of what is there for comparison: the input space, log 2, unknown values."""
    return "#b8bcc6" if dark else "#5c6370"


def translucent(colour: str, alpha: float) -> str:
    """`colour` (#rrggbb) with opacity `alpha` from 0 (unseen) to 1."""
    red, green, blue = _channels(colour)
    return f"rgba({red},{green},{blue},{alpha:g})"


def safe(text: str) -> str:
    """`text` for titles, legends and hover boxes, where plotly would read HTML; long names are cut at 60 letters."""
    return html.escape(text if len(text) <= 60 else text[:59] + "…", quote=False)


def said(value: str, more: Sequence[str]) -> Part:
    """The hover box of a trace: the `value` as plotly's template, and a text a point below it, if there are any."""
    if not more:
        return {"hovertemplate": value}
    return {"hovertemplate": f"{value}<br>%{{text}}", "text": [safe(text) for text in more]}


def budgets(epsilon: Floats, threat: Threat) -> Part:
    """The axis of budgets (E,), but for its title: in ℓ∞ its ticks are multiples of 1/255, in both units."""
    axis: Part = {"range": [float(epsilon[0]), float(epsilon[-1])], "unifiedhovertitle": {"text": "ε = %{x:.3f}"}}
    if threat.norm == "l2":
        return axis
    first, last = (255 * float(end) for end in (epsilon[0], epsilon[-1]))
    step = next((step for step in _STEPS if (last - first) / step <= _TICKS), _STEPS[-1])
    ticks = [step * k for k in range(math.ceil(first / step), math.floor(last / step) + 1)]
    axis |= {
        "tickvals": [tick / 255 for tick in ticks],
        "ticktext": [f"{tick / 255:.3f}<br>{tick}/255" for tick in ticks],
    }
    return axis | {"unifiedhovertitle": {"text": "ε = %{x:.4f}"}}


def epsilon_title(threat: Threat) -> str:
    """The title of an axis of budgets."""
    return f"budget ε ({threat.symbol} norm, {'valid images' if threat.box else 'pixels in [0, 1]'})"


def across(y: float, colour: str, dash: str = "dash") -> Part:
    """A thin line over the whole width at `y`."""
    line = {"color": colour, "width": 1, "dash": dash}
    return {"type": "line", "xref": "x domain", "x0": 0, "x1": 1, "y0": y, "y1": y, "line": line}


def upright(x: float, colour: str, dash: str = "solid") -> Part:
    """A thin line over the whole height at `x`."""
    line = {"color": colour, "width": 1, "dash": dash}
    return {"type": "line", "yref": "y domain", "y0": 0, "y1": 1, "x0": x, "x1": x, "line": line}


def note(text: str, colour: str, **place: Any) -> Part:
    """Words in the figure, without an arrow; `place` are plotly's own settings of an annotation."""
    return {"text": text, "font": {"color": colour, "size": 12}, "showarrow": False, **place}


def axis(title: str, dark: bool = False) -> Part:
    """The common look of an axis."""
    grid, ink = "rgba(128,128,128,0.22)", {"color": _ink(dark)}
    lines = {"gridcolor": grid, "zeroline": False, "automargin": True, "linecolor": grid}
    return {"title": {"text": title, "font": ink}, "tickfont": ink, **lines}


def _ink(dark: bool) -> str:
    return "#e6e8ee" if dark else "#1f2430"


def figure(
    traces: Iterable[Part], *, x: str, y: str, height: int = 420, dark: bool = False, **layout: Any
) -> go.Figure:
    """A figure of `traces` in the common look; `x` and `y` are axis titles with units.

    `layout` are plotly's own settings; those of an axis, the legend or a margin are added to the common ones. All is
    given to plotly in one step: each of its add_ and update_ methods checks everything again, which takes five times as
    long as the figure.
    """
    ink = _ink(dark)
    look: Part = {
        "height": height,
        "margin": {"l": 56, "r": 16, "t": 16, "b": 48},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": ink, "size": 13},
        "showlegend": True,
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0, "font": {"color": ink}, "itemwidth": 44},
        "hoverlabel": {"namelength": -1},
        "dragmode": "zoom",
        "xaxis": axis(x, dark),
        "yaxis": axis(y, dark),
    }
    for name, value in layout.items():
        look[name] = {**look.get(name, {}), **value} if isinstance(value, dict) else value
    return go.Figure(list(traces), look)


def axes_of(figure: go.Figure) -> list[str]:
    """The axes of a figure by the number of their x, "" for the first; an axis on the right belongs to the first."""
    found = [(trace.xaxis or "x").removeprefix("x") for trace in figure.data]
    return sorted(dict.fromkeys(found), key=lambda number: int(number or 1))
