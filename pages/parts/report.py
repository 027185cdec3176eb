"""A report: one HTML file that needs nothing else, with live figures, tables, settings and how to repeat it."""

from __future__ import annotations

import html
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from pages.parts import export
from robustness_core.spec import AuditSpec

_STYLE = """body{font-family:system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#0f1218;
background:#fff;line-height:1.5}table{border-collapse:collapse;font-size:.9rem}td,th{border:1px solid #d0d0d8;
padding:.3rem .6rem;text-align:right}td:first-child,th:first-child{text-align:left}pre{background:#f4f3f8;padding:1rem;
overflow-x:auto;white-space:pre-wrap;word-break:break-word}"""


def page(
    title: str,
    parts: Sequence[export.Part],
    figures: Sequence[go.Figure],
    tables: Mapping[str, pd.DataFrame],
    caption: str,
) -> str:
    """The report as HTML; plotly's own code is inside, so the figures work offline. `tables`: heading -> table."""
    drawn = [
        figure.to_html(full_html=False, include_plotlyjs=number == 0, config={"displaylogo": False, "responsive": True})
        for number, figure in enumerate(figures)
    ]
    shown = [
        f"<h2>{html.escape(heading)}</h2>"
        + '<div style="overflow-x:auto">'
        + table.to_html(index=False, escape=True, na_rep="–", float_format=lambda value: f"{value:.4f}", border=0)
        + "</div>"
        for heading, table in tables.items()
    ]
    settings = [export.settings(part) for part in parts]
    commands = "\n".join(command(part.answer.spec) for part in parts)
    sections = [
        f"<h1>{html.escape(title)}</h1>",
        *drawn,
        f"<p>{html.escape(caption)}</p>",
        *shown,
        "<h2>How to repeat it</h2>",
        f"<pre>{html.escape(commands)}</pre>",
        "<h2>Caption for LaTeX</h2>",
        f"<pre>{html.escape(latex(caption))}</pre>",
        "<h2>Settings</h2>",
        f"<pre>{html.escape(json.dumps(settings, indent=1, ensure_ascii=False))}</pre>",
    ]
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>'
    return f'<!DOCTYPE html><html lang="en"><head>{head}</head><body>{"".join(sections)}</body></html>'


def command(spec: AuditSpec) -> str:
    """The command that computes the same without browser and database; the network by its name or its file."""
    words: list[Any] = ["python", "-m", "robustness_core", "audit", f"--network={spec.network}"]
    words += ["--dataset", spec.dataset]
    words += ["--classes", *spec.classes, "--samples", spec.samples, "--layers", ",".join(spec.layers)]
    words += ["--m", *("none" if m is None else m for m in spec.m), "--projections", spec.projections]
    words += ["--seed", spec.seed, "--method", spec.method, "--preset", spec.preset, "--split", spec.split]
    words += [
        "--epsilon",
        f"{spec.epsilon.start:g}:{spec.epsilon.stop:g}:{spec.epsilon.count}",
        "--json",
        f"{Path(spec.network).stem}.json",
    ]
    return shlex.join(str(word) for word in words)


def latex(caption: str) -> str:
    """A caption with LaTeX's own letters escaped and the symbols of the text as mathematics."""
    escaped = "".join(f"\\{letter}" if letter in "&%$#_{}" else letter for letter in caption.replace("\\", ""))
    symbols = {"≥": r"$\ge$", "ε": r"$\varepsilon$", "S²": "$S^2$", "²": "$^2$", "×": r"$\times$", "nj": "$n_j$"}
    for symbol, formula in symbols.items():
        escaped = escaped.replace(symbol, formula)
    return rf"\caption{{{escaped}}}"
