"""Downloads of what a screen shows: CSV, JSON and a report, the link of the view, and where the numbers come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from pages.parts import export, screen


def show(name: str, parts: Sequence[export.Part], report: Callable[[], str]) -> None:
    """The row of downloads; files are called `name`. `report` is called when it is asked for."""
    st.subheader("Take away", anchor=False)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.download_button(
            "CSV",
            lambda: export.as_csv(parts),
            f"{name}.csv",
            "text/csv",
            on_click="ignore",
            help="Curves, a row a budget, layer and projection",
        )
        st.download_button(
            "JSON",
            lambda: export.as_json(parts),
            f"{name}.json",
            "application/json",
            on_click="ignore",
            help="Curves, distances, residuals and settings",
        )
        st.download_button(
            "Report",
            report,
            f"{name}.html",
            "text/html",
            on_click="ignore",
            help="One HTML file that works offline: figures, tables, settings, the command that repeats it",
        )
        screen.link_button()
    devices = sorted({device for part in parts for device in part.answer.devices})
    versions = sorted({version for part in parts for version in part.answer.versions})
    if devices:
        st.caption(screen.escape(f"Computed on {', '.join(devices)} with {', '.join(versions)}."))
