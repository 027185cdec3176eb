"""One pair through a network: its distance at every layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from charts import style
from robustness_core.spec import PAPERS


def distance_by_layer(
    layers: Sequence[str],
    distance: Sequence[float],
    colours: Mapping[str, str],
    *,
    half_apart: float,
    chosen: str | None = None,
    norm: str = PAPERS.symbol,
    dark: bool = False,
) -> go.Figure:
    """Bars of the distance (in `norm`) of one pair at each layer, in layer order.

    `half_apart` is half the distance of the two images, where they meet without any feature: a line that no bar
    passes. The layer `chosen` is framed.
    """
    grey, digits = style.reference_colour(dark), 2 if norm == PAPERS.symbol else 3
    bars: style.Part = {
        "type": "bar", "x": [style.safe(layer) for layer in layers], "y": list(distance), "showlegend": False,
        "marker": {
            "color": [colours.get(layer, grey) for layer in layers],
            "line": {"color": grey, "width": [3 if layer == chosen else 0 for layer in layers]},
        },
        "text": [f"{value:.{digits}f}" for value in distance], "textposition": "outside", "cliponaxis": False,
        "customdata": [value / half_apart if half_apart > 0 else 0.0 for value in distance],
        "hovertemplate": "%{x}: %{y:.4f} (" + norm + " norm), "
                         "%{customdata:.0%} of the way to the midpoint<extra></extra>",
    }  # fmt: skip
    words = style.note(
        "half the distance of the images", grey, xref="x domain", x=0, xanchor="left", y=half_apart, yanchor="bottom"
    )
    return style.figure(
        [bars],
        x="layer, from input to output",
        y=f"distance ({norm} norm)",
        height=300,
        dark=dark,
        bargap=0.45,
        shapes=[style.across(half_apart, grey, "dot")],
        annotations=[words],
        xaxis={"type": "category"},
        yaxis={"range": [0, 1.18 * max([half_apart, *distance])]},
    )
