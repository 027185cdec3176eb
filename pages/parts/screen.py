"""What every screen does: open the database, know the theme, show a figure, write text that users gave."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Literal

import plotly.graph_objects as go
import streamlit as st
from streamlit.runtime.pages_manager import PagesManager

import store
from pages.parts import filters
from store import audits, image_sets, networks
from store.records import NetworkRecord
from store.supervisor import elsewhere, ensure

STATE_COLOURS: Final[dict[str, Literal["gray", "blue", "green", "red", "orange"]]] = {
    "queued": "gray",
    "running": "blue",
    "done": "green",
    "failed": "red",
    "cancelled": "orange",
}
WATCH_SECONDS = 1.5
_SPECIAL = re.compile(r"([!-/:-@\[-`{-~])")


def escape(text: str) -> str:
    """`text` so that Markdown shows it letter by letter: no link, image, HTML, formula or colour comes of it."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def dark() -> bool:
    """Whether the browser shows the dark theme."""
    return st.context.theme.type == "dark"


def begin(title: str, *, watched: bool = True) -> None:
    """The start of every screen: its title, below the navigation of app.py; `watched` if it shows what is stored.

    Until app.py has run once in this process, streamlit takes every file of pages/ for a program of its own, so the
    first visitor who follows a link to a screen would see it without app.py. Say that this is not so, and start over.
    """
    if PagesManager.uses_pages_directory:
        PagesManager.uses_pages_directory = False
        st.rerun()
    filters.keep(title)
    st.title(title, anchor=False)
    for sentence in filters.unknown():
        st.warning(escape(sentence))
    if watched:
        _watch()


def _watch() -> None:
    """Start the screen over when an audit or a network has come, moved on or gone, whoever did it and wherever."""
    try:
        db = _connect(None)
        seen = audits.mark(db)
    except store.StoreError:
        return  # the screen says so itself

    @st.fragment(run_every=WATCH_SECONDS)
    def look() -> None:
        with suppress(store.StoreError):  # the next look may succeed
            if audits.mark(db) != seen:
                st.rerun()

    look()


@st.cache_resource(show_spinner="Opening the database …")
def _connect(url: str | None) -> store.Database:
    return store.connect(url)


def database() -> store.Database:
    """The open database; where it cannot be opened the screen says so in a sentence and ends."""
    try:
        db = _connect(None)
        image_sets.enter(db)  # those that somebody added meanwhile
        return db
    except store.StoreError as error:
        st.error(escape(str(error)))
        st.stop()


@st.cache_resource(show_spinner=False, ttl=15)
def _ensure_worker() -> str | None:
    """Start a worker unless one runs; asked again every 15 seconds of use, so a dead one is replaced."""
    try:
        ensure(database())
    except (OSError, store.StoreError) as error:
        return str(error)
    return None


def keep_a_worker() -> None:
    """See that a worker runs on this machine, unless STRATA_WORKER=none says that workers run elsewhere."""
    if elsewhere():
        return
    problem = _ensure_worker()
    if problem is not None:
        st.warning(f"No worker could be started: {escape(problem)} Start one with `python -m worker`.")


def show(figure: go.Figure, key: str, filename: str, alt: str, **more: Any) -> Any:
    """Show a figure; its bar saves it as SVG, and as PNG (pages/assets/saving.js)."""
    config = {
        "displaylogo": False,
        "toImageButtonOptions": {"format": "svg", "filename": filename, "scale": 2},
        "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
    }
    return st.plotly_chart(figure, key=f"figure_{key}", config=config, alt=alt, **more)


# What the head of a column says to whoever points at it.
COLUMN_HELP: Final = {
    "ε½": "The least budget at which the optimal loss reaches half of log 2; found distances make it an upper bound.",
    "passes a pair": "How often the search ran both images through the network, forward or backward; mean over pairs.",
    "passes": "How often the search ran both images through the network, forward or backward.",
    "residual": "How far the found images are from meeting, as a share: in features or pixels, whichever is more.",
    "collided": "Whether the found images meet to a residual of 0.0001; a pair that does not stands at its midpoint.",
    "features nj": "nj, the number of features of the layer.",
    "to the one before": "Its number of features beside that of the layer before.",
    "affine": "f(x) = Lx + k: distances of an affine layer are exact, and the √m law is known.",
}


def number_columns(formats: Mapping[str, str]) -> dict[str, Any]:
    """The columns of a table: those with a format of their own, name -> format as in `"%.4f" % number`, and help."""
    explained = {name: st.column_config.Column(help=text) for name, text in COLUMN_HELP.items()}
    numbers = {
        name: st.column_config.NumberColumn(format=form, help=COLUMN_HELP.get(name)) for name, form in formats.items()
    }
    return {**explained, **numbers}


def begin_with_networks(title: str) -> tuple[store.Database, list[NetworkRecord]]:
    """The start of a screen that shows networks.

    Where there is none it says so and how they come, and ends; `begin` starts over when they are there.
    """
    begin(title)
    db = database()
    available = networks.all(db)
    if not available:
        st.info(
            "There is no network yet. The worker puts the bundled ones there when it starts, which takes a few "
            "seconds; or add your own under Networks."
        )
        st.page_link("pages/networks.py", label="Add a network →")
        st.stop()
    return db, available


def link_button(named: Mapping[str, str | Sequence[str]] | None = None) -> None:
    """A button that copies the address of this view.

    `named`: what the link shall name even where the address leaves it out, since it is what the screen shows unasked;
    that may be something else another day.
    """
    wanted = html.escape(json.dumps(named or {}))
    st.html(
        f'<button type="button" class="copy-link" aria-live="polite" data-named="{wanted}">Copy link</button>'
        """<style>.copy-link{font:inherit;font-size:.875rem;color:inherit;background:transparent;
border:1px solid rgba(128,128,128,.45);border-radius:.4rem;padding:.42rem .75rem;cursor:pointer;min-height:2.5rem}
.copy-link:hover,.copy-link:focus-visible{border-color:#9c4dcc;outline:none}</style>
<script>
for (const button of document.querySelectorAll(".copy-link")) {
  button.onclick = async () => {
    const link = new URL(location.href);
    for (const [name, values] of Object.entries(JSON.parse(button.dataset.named)))
      if (!link.searchParams.has(name)) for (const value of [values].flat()) link.searchParams.append(name, value);
    try { await navigator.clipboard.writeText(link); button.textContent = "Copied"; }
    catch (error) { window.prompt("The link of this view", link); }
    setTimeout(() => { button.textContent = "Copy link"; }, 1500);
  };
}
</script>""",
        unsafe_allow_javascript=True,
        width="content",
    )


def span(least: float, most: float) -> str:
    """A duration that is not known exactly: 20 s to 2 min; about 3 min."""
    words = seconds(least), seconds(most)
    return f"about {words[1]}" if words[0] == words[1] else " to ".join(words)


def seconds(value: float) -> str:
    """A duration in words: 8 s, 3 min, 1 h 20 min."""
    if value < 90:
        return f"{max(1, round(value))} s"
    minutes = round(value / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
