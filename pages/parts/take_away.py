"""Downloads of what a screen shows: CSV, JSON and a report, the link of the view, and where the numbers come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import pandas as pd
import streamlit as st

from charts import paper
from pages.parts import export, python, screen

MIME = {
    "csv": "text/csv",
    "json": "application/json",
    "html": "text/html",
    "npz": "application/octet-stream",
    "png": "image/png",
    "pdf": "application/pdf",
    "svg": "image/svg+xml",
}


def download(label: str, content: Callable[[], str | bytes], file: str, about: str) -> None:
    """A button that makes its content when it is pressed, and leaves the screen as it is."""
    st.download_button(label, content, file, MIME[file.rpartition(".")[2]], on_click="ignore", help=about)


def show(
    name: str,
    parts: Callable[[], Sequence[export.Part]],
    report: Callable[[], str],
    panels: Callable[[], Sequence[paper.Panel]],
    link: Mapping[str, str | Sequence[str]],
    tables: Mapping[str, Callable[[], pd.DataFrame]] | None = None,
) -> None:
    """The row of downloads; files are called `name`. `parts`, `report` and `panels`, all figures of the screen, are
    called again when they are asked for.

    `link`: what a copied link names whatever the address says (see `screen.link_button`). `tables`: heading -> what
    other figures of the screen draw, made when it is asked for; the settings of the first part become their columns.
    """
    shown = parts()
    st.subheader("Take away", anchor=False)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        download("CSV", lambda: export.as_csv(parts()), f"{name}.csv", "All lines as drawn, a row a budget")
        about = "Distance and residual of every known pair, a row a pair"
        download("Distances as CSV", lambda: export.distances_as_csv(parts()), f"{name}-distances.csv", about)
        download(
            "JSON", lambda: export.as_json(parts()), f"{name}.json", "All lines, distances, residuals and settings"
        )
        for heading, table in (tables or {}).items():
            about = f"{heading} as the figures draw them, with the settings"
            download(
                f"{heading} as CSV",
                partial(_csv, table, shown[0]),
                f"{name}-{heading.lower().replace(' ', '-')}.csv",
                about,
            )
        download(
            "Report",
            report,
            f"{name}.html",
            "One HTML file that works offline: figures, tables, settings, the command that repeats it",
        )
        for_papers(name, panels)
        with st.popover("Copy as Python"):
            st.caption("Computes the same in a notebook, or anywhere else that Strata is installed.")
            asked = [(part.answer.spec, part.network) for part in shown]
            st.code(python.lines(asked, screen.database().name), language="python", wrap_lines=True)
        screen.link_button(link)
    devices, versions = export.computed_on(shown)
    if devices:
        st.caption(screen.escape(f"Computed on {', '.join(devices)} with {', '.join(versions)}."))


def for_papers(name: str, panels: Callable[[], Sequence[paper.Panel]]) -> None:
    """All figures of the screen in one file of vectors, of a chosen width and font."""
    with st.popover("For papers"):
        if not paper.possible():
            st.caption(screen.escape(paper.LACKING))
            return
        width = st.selectbox(
            "Width",
            list(paper.WIDTHS),
            key="paper_width",
            format_func=lambda width: f"{width}, {paper.WIDTHS[width]:g} in",
            help="One column of a page with two, or the whole page, as ICML and CVPR have them.",
        )
        font = st.selectbox("Font", paper.FONTS, key="paper_font", help="STIXGeneral looks like Times.")
        look = paper.Look(paper.WIDTHS[width], font)
        for kind in ("pdf", "svg"):
            about = f"All figures of this screen in one {kind.upper()}, {look.size:g} pt letters, no pixels"
            download(kind.upper(), partial(paper.save, panels, kind, look), f"{name}.{kind}", about)


def _csv(table: Callable[[], pd.DataFrame], part: export.Part) -> str:
    return str(export.with_settings(table(), part).to_csv(index=False))
