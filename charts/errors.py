"""Errors over the budget: those of a network under attack beside what no classifier can err on less than."""

from __future__ import annotations

import plotly.graph_objects as go

from charts import style
from charts.curves import Floats
from robustness_core.spec import PAPERS


def errors(
    epsilon: Floats, network: Floats, logits: Floats, images: Floats, *, colour: str, mark: float, dark: bool = False
) -> go.Figure:
    """Draw shares in [0, 1] at the budgets `epsilon` (E,), as steps; `colour` is that of the logits.

    network: the share of images on which it errs under attack. logits, images: the optimal 0-1 loss at its logits, and
    on the images themselves. All in ℓ2, as FAB's norms are. `mark` draws a vertical line at that budget.
    """
    grey = style.reference_colour(dark)
    lines = {
        "the network, under FAB": (network, {"color": colour, "width": 2.4}),
        "at least, at its logits": (logits, {"color": colour, "width": 1.6, "dash": "dash"}),
        "at least, on the images": (images, {"color": grey, "width": 2, "dash": "dot"}),
    }
    return style.figure(
        [
            {"x": epsilon, "y": share, "mode": "lines", "name": name, "line": {**line, "shape": "hv"},
             "hovertemplate": "%{y:.1%}"}
            for name, (share, line) in lines.items()
        ],
        x=style.epsilon_title(PAPERS),
        y="error",
        height=320,
        dark=dark,
        hovermode="x unified",
        shapes=[style.upright(mark, grey)],
        xaxis=style.budgets(epsilon, PAPERS),
        yaxis={"range": [-0.015, 1.015], "tickformat": ".0%"},
    )  # fmt: skip
