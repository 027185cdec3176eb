"""Home: the shelf of networks, what was asked lately, what runs now, and one obvious next step."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import streamlit as st

from charts import sparkline, style
from pages.parts import known, progress, question, screen, words
from robustness_core import datasets
from robustness_core.spec import AuditSpec
from store import audits, networks, shipped, supervisor, workers
from store.database import Database
from store.records import AuditRecord, NetworkRecord

RECENT = 8
FINISHED = 300  # audits among which the bars of the cards are looked for
JUST_COME = timedelta(minutes=1)


def main() -> None:
    screen.begin("Strata")
    st.markdown("Where in this network is its adversarial robustness lost?")
    db = screen.database()
    shelf = networks.all(db)
    if not shelf:
        _empty(db)
        return
    recent = [audit for audit in audits.recent(db, 50, kind="audit") if isinstance(audit.spec, AuditSpec)]
    _next_step(shelf, recent)
    _running(db)
    st.subheader("Networks", anchor=False)
    with st.container(horizontal=True, gap="medium"):
        done = audits.recent(db, FINISHED, "done", kind="audit")
        bars = {network.id: found for network in shelf if (found := _bars(db, network, done)) is not None}
        for network in shelf:
            _card(network, bars)
    if recent:
        st.subheader("Recent audits", anchor=False)
        main = words.main_layers(shelf)
        for audit in recent[:RECENT]:
            _line(audit, words.describe(audit, main))
        st.page_link("pages/audits.py", label="All audits →")
    _look_for_audits(db, shelf, recent)


def _empty(db: Database) -> None:
    if workers.alive(db):
        st.info("The worker is putting the bundled networks on the shelf; this takes a few seconds.")
    elif supervisor.elsewhere():
        st.info(
            "Nothing is here yet. A worker puts the bundled networks on the shelf; start one where it shall run: "
            "python -m worker"
        )
    else:
        st.info("Nothing is here yet. The worker is starting and will put the bundled networks on the shelf.")
    st.page_link("pages/networks.py", label="Or add a network of your own")
    screen.look_for_networks(db)


def _look_for_audits(db: Database, shelf: list[NetworkRecord], recent: list[AuditRecord]) -> None:
    """For a minute after bundled networks have come, look each second for the audits that come with them."""

    def young() -> bool:
        now = datetime.now(UTC)
        return any(network.source == "zoo" and now - network.created < JUST_COME for network in shelf)

    if not young():
        return

    @st.fragment(run_every=1.0)
    def look() -> None:
        found = {audit.id for audit in audits.recent(db, 50, kind="audit")}
        if not young() or found != {audit.id for audit in recent}:
            st.rerun()

    look()


def _next_step(shelf: list[NetworkRecord], recent: list[AuditRecord]) -> None:
    if any(audit.worker is None or audit.worker.host != shipped.HOST for audit in recent):
        return  # somebody has asked something; what came with Strata was asked by nobody here
    with st.container(border=True):
        st.markdown("**Start here.** Ask how robust each layer is; the first answer takes under a minute.")
        (name,) = question.shown_first([network.name for network in shelf], 1)
        words.link_to_explore(f"→ Explore {screen.escape(name)}", {"network": name})


def _running(db: Database) -> None:
    def active() -> list[AuditRecord]:
        return audits.recent(db, 5, "running", kind="audit") + audits.recent(db, 5, "queued", kind="audit")

    @st.fragment(run_every=1.0 if active() else None)
    def now() -> None:
        found = active()
        if not found:
            if st.session_state.get("home_busy"):
                st.session_state["home_busy"] = False
                st.rerun()
            return
        st.session_state["home_busy"] = True
        st.subheader("Now", anchor=False)
        for audit in found[:5]:
            st.caption(f"{screen.escape(words.network_of(audit))}: {screen.escape(words.describe(audit))}")
            progress.strip(db, audit)

    now()


@dataclass(frozen=True)
class Bars:
    """What the bars of a card show: the mean distance of every layer, which `spec` asked."""

    spec: AuditSpec
    distances: dict[str, float]

    @property
    def asked(self) -> tuple[object, ...]:
        """What must be the same for bars to be compared; over how many pairs and projections they average need not."""
        spec = self.spec
        return spec.dataset, spec.split, spec.classes, spec.m, spec.method, spec.preset


def _card(network: NetworkRecord, bars: dict[int, Bars]) -> None:
    with st.container(border=True, width=320, gap="small"):
        st.markdown(f"**{screen.escape(network.name)}**")
        st.caption(screen.escape(words.training(network)))
        accuracies = words.accuracies(network)
        if accuracies:
            st.caption(screen.escape(accuracies))
        layers = [layer for layer in network.layers if layer.main]
        st.caption(screen.escape(in_short(network.architecture)), help=screen.escape(network.architecture))
        st.caption(f"{len(layers)} layers, {'×'.join(str(size) for size in network.input_shape)} images")
        if network.id in bars:
            _draw(network, bars[network.id], [one for one in bars.values() if one.asked == bars[network.id].asked])
        else:
            st.caption("No finished audit yet.")
        words.link_to_explore("Explore →", {"network": network.name})


def in_short(architecture: str) -> str:
    """The widths of a plain chain, `conv 16-32, fc 100-10`; of any other architecture the start of its text."""
    items = [item.split() for item in architecture.split(", ")]
    widths = {kind: "-".join(item[1] for item in items if item[0] == kind and item[1:]) for kind in ("conv", "fc")}
    if items[0][:1] in (["conv"], ["fc"], ["flatten"]) and widths["fc"]:
        architecture = ", ".join(f"{kind} {text}" for kind, text in widths.items() if text)
    return architecture if len(architecture) <= 48 else architecture[:47] + "…"


def _draw(network: NetworkRecord, shown: Bars, alike: list[Bars]) -> None:
    """Bars on the scale of all cards that asked the same, `alike`, so that cards can be compared."""
    top = max(value for one in alike for value in one.distances.values())
    colours = style.layer_colours([layer.name for layer in network.layers], screen.dark())
    svg = sparkline.bars(list(shown.distances.values()), [colours[name] for name in shown.distances], top)
    values = ", ".join(f"{name} {value:.2f}" for name, value in shown.distances.items())
    st.image(svg, alt=f"Mean distance by layer on a scale from 0 to {top:.2f}: {values}")
    spec = shown.spec
    m = "without projection" if spec.m[0] is None else f"at m = {spec.m[0]}, N = {spec.projections}"
    one, other = (words.class_label(spec.dataset, label) for label in spec.classes)
    st.caption(
        f"Mean distance by layer {m}; {spec.dataset}, {one} against {other}, S = {spec.samples}, "
        f"{spec.method}. Full height is {top:.2f}, the largest of the cards that asked this."
    )


def _bars(db: Database, network: NetworkRecord, done: list[AuditRecord]) -> Bars | None:
    """What the last finished audit of more than one layer found, if its images are on this machine."""
    for audit in done:
        spec = audit.spec
        whole = isinstance(spec, AuditSpec) and spec.network == network.name and len(spec.layers) > 1
        if whole and isinstance(spec, AuditSpec) and len(spec.m) == 1:
            try:
                distances = _mean_distances(audit.id, network.sha256, spec.key, db, spec)
            except datasets.DatasetError:
                return None
            return None if distances is None else Bars(spec, distances)
    return None


@st.cache_data(show_spinner=False, max_entries=500)
def _mean_distances(audit_id: int, sha256: str, key: str, _db: Database, _spec: AuditSpec) -> dict[str, float] | None:
    """Mean distance of every layer of a finished audit; its distances never change."""
    answer = known.answer(_db, _spec, sha256)
    if answer.known < answer.total:
        return None
    return {
        layer: float(np.mean([projection.matrix.distance.mean() for projection in group]))
        for (layer, _), group in answer.groups.items()
    }


def _line(audit: AuditRecord, asks: str) -> None:
    assert isinstance(audit.spec, AuditSpec)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.badge(audit.state, color=screen.STATE_COLOURS[audit.state])
        words.link_to_audit(audit.spec, screen.escape(audit.spec.network))
        st.caption(f"{screen.escape(asks)} · {words.ago(audit.created)}")


main()
