"""Errors over the budget: those of a network under attack beside what no classifier can err on less than."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from charts import style
from charts.curves import Floats
from robustness_core.spec import PAPERS, Threat


def errors(
    epsilon: Floats,
    network: Floats,
    logits: Floats,
    images: Floats,
    *,
    gaps: Sequence[str] = (),
    colour: str,
    mark: float,
    threat: Threat = PAPERS,
    dark: bool = False,
) -> go.Figure:
    """Draw shares in [0, 1] at the budgets `epsilon` (E,), as steps; `colour` is that of the logits.

    network: the share of images on which it errs under attack. logits, images: the optimal 0-1 loss at its logits, and
    on the images themselves. `gaps` (E): what is said on hover of the attacks. `mark` draws a vertical line there.
    """
    grey = style.reference_colour(dark)
    lines = {
        "the network, attacked": (network, {"color": colour, "width": 2.4}),
        "at least, at its logits": (logits, {"color": colour, "width": 1.6, "dash": "dash"}),
        "at least, on the images": (images, {"color": grey, "width": 2, "dash": "dot"}),
    }
    return style.figure(
        [
            {"x": epsilon, "y": share, "mode": "lines", "name": name, "line": {**line, "shape": "hv"},
             **style.said("%{y:.1%}", gaps if share is network else ())}
            for name, (share, line) in lines.items()
        ],
        x=style.epsilon_title(threat),
        y="error",
        height=320,
        dark=dark,
        hovermode="x unified",
        shapes=[style.upright(mark, grey)],
        xaxis=style.budgets(epsilon, threat),
        yaxis={"range": [-0.015, 1.015], "tickformat": ".0%"},
    )  # fmt: skip
