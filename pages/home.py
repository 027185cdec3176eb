"""Home: what an audit measures, one obvious next step, what runs now, the networks, and what was asked lately."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import streamlit as st

from charts import learn, sparkline, style
from pages.parts import cards, known, progress, question, reading, screen, toy, words
from robustness_core import datasets
from robustness_core.errors import DatasetError
from robustness_core.optimal_loss import loss_curve, optimal_loss
from robustness_core.spec import AuditSpec
from store import audits, networks, shipped, supervisor, workers
from store.database import Database
from store.records import AuditRecord, NetworkRecord

RECENT = 8
LISTED = 300  # audits among which the recent ones are looked for


CARD = 305  # pixels; four stand side by side in a window of 1440


def main() -> None:
    screen.begin("Strata")
    db = screen.database()
    available = networks.all(db)
    recent = [audit for audit in audits.recent(db, LISTED, kind="audit") if isinstance(audit.spec, AuditSpec)]
    own = [audit for audit in recent if not _came(audit)]
    recent = own + [audit for audit in recent[::-1] if _came(audit)]  # of which the curves came first
    left, right = st.columns([1, 1.1], gap="large")
    with left:
        st.markdown(
            "Where in this network is its adversarial robustness lost? For every layer Strata searches how little two "
            "images of different classes must be moved until the layer cannot tell them apart, and from all such pairs "
            "follows the least loss that any classifier on this layer can have under attack."
        )
        st.page_link("pages/learn.py", label="How this works, step by step →")
        if available:
            if not own:
                _next_step(available)
    with right:
        _picture()
    if not available:
        _empty(db)
        return
    _running(db)
    st.subheader("Networks", anchor=False)
    with st.container(horizontal=True, gap="small"):
        bars = _all_bars(db, available, audits.answered(db))
        for network in sorted(available, key=lambda network: (network.id not in bars, cards.natural(network.name))):
            _card(network, bars)
    if recent:
        st.subheader("Recent audits", anchor=False)
        main = words.main_layers(available)
        for audit in recent[:RECENT]:
            _line(audit, words.describe(audit, main))
        st.page_link("pages/audits.py", label="All audits →")


@st.fragment
def _picture() -> None:
    """What an audit measures, on points whose own inputs are their features; the budget can be moved."""
    epsilon = st.slider("Budget ε", 0.0, 1.0, 0.5, 0.05, key="home_budget")
    first, second = toy.two_classes(10, seed=1)
    distances = np.linalg.norm(first[:, None] - second[None], axis=-1) / 2
    best = optimal_loss(distances <= epsilon)
    graph, curve = st.columns([1.2, 1], gap="small")
    with graph:
        figure = learn.conflict_graph(
            first, second, distances <= epsilon, (best.left, best.right), epsilon, height=250, dark=screen.dark()
        )
        alt = f"Images as points that can be moved by {epsilon:g}; lines join those of two classes that can meet"
        screen.show(figure, "meaning", "strata-meaning", alt)
    with curve:
        grid = np.linspace(0, 1, 101)
        figure = learn.loss_so_far(grid, loss_curve(distances, grid), epsilon, height=250, dark=screen.dark())
        screen.show(figure, "meaning_loss", "strata-meaning-loss", "The least loss over the budget")
    st.caption(
        f"Two images are in conflict where they can be moved onto each other with ε = {epsilon:g} each; the best "
        f"classifier then loses {best.cross_entropy:.2f} nats."
    )


def _empty(db: Database) -> None:
    if workers.alive(db):
        st.info("The worker is entering the bundled networks; this takes a few seconds.")
    elif supervisor.elsewhere():
        st.info(
            "Nothing is here yet. A worker enters the bundled networks; start one where it shall run: python -m worker"
        )
    else:
        st.info("Nothing is here yet. The worker is starting and will enter the bundled networks.")
    st.page_link("pages/networks.py", label="Or add a network of your own")


def _came(audit: AuditRecord) -> bool:
    """Whether it came with Strata: nobody asked it here."""
    return audit.worker is not None and audit.worker.host == shipped.HOST


def _next_step(available: list[NetworkRecord]) -> None:
    with st.container(border=True):
        st.markdown("**Start here.** Ask how robust each layer is; the first answer takes under a minute.")
        (name,) = question.shown_first([network.name for network in available], 1)
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
    """What the bars of a card show: ε½ of the input and of every layer, which `spec` asked."""

    spec: AuditSpec
    halves: dict[str, float]

    @property
    def asked(self) -> tuple[object, ...]:
        return cards.asked(self.spec)


def _card(network: NetworkRecord, bars: dict[int, Bars]) -> None:
    with st.container(border=True, width=CARD, gap="small"):
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
    top = max(value for one in alike for value in one.halves.values())
    grey = style.reference_colour(screen.dark())
    colours = style.layer_colours([layer.name for layer in network.layers], screen.dark())
    svg = sparkline.bars(list(shown.halves.values()), [colours.get(name, grey) for name in shown.halves], top)
    values = ", ".join(f"{name} {value:.2f}" for name, value in shown.halves.items())
    st.image(svg, alt=f"ε½ by layer on a scale from 0 to {top:.2f}: {values}")
    spec, search = shown.spec, shown.spec.search
    one, other = (datasets.class_label(spec.sample.dataset, label) for label in spec.sample.classes)
    st.caption(
        f"ε½ of input and layers through m = {search.m[0]} mixtures, N = {search.projections}, S = {spec.sample.size}; "
        f"{spec.sample.dataset}, {one} against {other}. Full height {top:.2f}.",
        help="ε½: the least budget at which the optimal loss reaches half of log 2, seen through m random mixtures of "
        "the features. Larger is easier to use robustly; it is not information kept or lost.",
    )


def _all_bars(db: Database, available: Sequence[NetworkRecord], done: Sequence[AuditSpec]) -> dict[int, Bars]:
    """Network id -> its bars, of finished audits whose images are on this machine."""
    specs = cards.chosen([spec for spec in done if len(spec.sample.classes) == 2])
    found: dict[int, Bars] = {}
    for network in available:
        spec = specs.get(network.name)
        try:
            halves = None if spec is None else _halves(db.name, network.sha256, spec.key, db, spec, network)
        except DatasetError:
            continue
        if spec is not None and halves is not None:
            found[network.id] = Bars(spec, halves)
    return found


@st.cache_data(show_spinner=False, max_entries=500)
def _halves(
    database: str, sha256: str, key: str, _db: Database, _spec: AuditSpec, _network: NetworkRecord
) -> dict[str, float] | None:
    """ε½ of the input and every layer of a finished audit, means over projections; its distances never change."""
    answer = known.answer(_db, _spec, _network)
    if answer.missing:
        return None
    return {layer.name: layer.half.value for layer in reading.of(answer, _network).layers}


def _line(audit: AuditRecord, asks: str) -> None:
    assert isinstance(audit.spec, AuditSpec)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.badge(audit.state, color=screen.STATE_COLOURS[audit.state])
        words.link_to_audit(audit.spec, screen.escape(audit.spec.network))
        st.caption(f"{screen.escape(asks)} · {words.ago(audit.created)}")


main()
