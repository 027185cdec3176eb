"""The web process: its server, the navigation over the screens, and a worker beside it."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from pages.parts import login, screen, shell
from store import supervisor

PAGES = Path(__file__).parent / "pages"


def main() -> None:
    st.set_page_config(
        page_title="Strata",
        page_icon=str(PAGES / "assets" / "strata.png"),
        layout="wide",
        initial_sidebar_state="collapsed",
    )
    current = st.navigation(
        [
            st.Page(PAGES / "home.py", title="Home", default=True),
            st.Page(PAGES / "explore.py", title="Explore"),
            st.Page(PAGES / "pairs.py", title="Pairs"),
            st.Page(PAGES / "compare.py", title="Compare"),
            st.Page(PAGES / "classes.py", title="Classes"),
            st.Page(PAGES / "scaling.py", title="Scaling"),
            st.Page(PAGES / "paper.py", title="Paper"),
            st.Page(PAGES / "audits.py", title="Audits"),
            st.Page(PAGES / "networks.py", title="Networks"),
            st.Page(PAGES / "images.py", title="Images"),
            st.Page(PAGES / "learn.py", title="Learn"),
        ],
        position="top",
    )
    login.require()
    screen.keep_a_worker()
    current.run()


if __name__ == "__main__":  # streamlit runs this file anew for each visitor and each of their acts
    main()
else:  # the server imports it once, and serves what it finds under this name
    supervisor.watch()
    app = st.App(__file__, middleware=shell.MIDDLEWARE)
