"""The normalisation and architecture of an uploaded network: whether they are settled, and a copy where one is wrong.

A network with another normalisation is another function. So a correction never changes what is registered: it adds a
copy, whose weights file and hash differ, and none of whose distances are those of the first.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import streamlit as st

from pages.parts import screen, upload, words
from robustness_core.errors import StrataError
from store import StoreError, networks
from store.database import Database
from store.records import NetworkRecord

Values = list[float]
NONE: tuple[Values, Values] = [0.0], [1.0]  # mean and std that change nothing


def section(db: Database, network: NetworkRecord) -> None:
    """What is in doubt about an upload, and the ways to settle it; nothing for a bundled network."""
    if network.source != "upload":
        return
    _architecture(db, network)
    if doubt := words.normalisation_doubt(network):
        st.warning(
            screen.escape(
                f"The normalisation ({words.normalisation(network)}) is not settled: {doubt}. Every figure of this "
                "network says so until it is confirmed or corrected here."
            )
        )
    if rival := words.rival(network):
        st.caption(screen.escape(f"A quick audit of the other reading ({_rival(network)}): {rival}."))
    with st.popover("Confirm or correct the normalisation" if doubt else "Correct the normalisation"):
        _offer(db, network, doubt)


def _architecture(db: Database, network: NetworkRecord) -> None:
    """The other architectures that fit the weights: one is added beside this network, or this one confirmed."""
    if doubt := words.architecture_doubt(network):
        st.warning(
            screen.escape(
                f"The architecture is not settled: {doubt}. Every figure of this network says so until it is "
                "confirmed or corrected here."
            )
        )
    others = words.part(network.card, "inspected").get("architectures") or []
    if not others:
        return
    with st.popover("Confirm or correct the architecture" if doubt else "Correct the architecture"):
        if doubt:
            st.button("This architecture is right", key=f"sure_{network.id}", on_click=_sure, args=(db, network))
        chosen = st.selectbox("Another that was measured", others, None, key=f"text_{network.id}")
        _button("Add it as that", "read", network)
        if st.session_state.get("normalisation_clicked") == ("read", network.id):
            st.session_state.pop("normalisation_clicked")
            if chosen is None:
                st.error("Choose an architecture.")
            else:
                _reread(db, network, str(chosen))


def _rival(network: NetworkRecord) -> str:
    other = words.part(words.part(network.card, "inspected"), "rival")
    return f"{other.get('architecture')}; {other.get('normalisation_name')}"


def _sure(db: Database, network: NetworkRecord) -> None:
    _note(db, network, architecture_doubt="")


def _reread(db: Database, network: NetworkRecord, text: str) -> None:
    """Register the same weights in another architecture and show that network."""
    mean, std = _own(network)
    found = _look(db, network, {"architecture": text, "mean": mean, "std": std})
    if found is None:
        return
    _add(db, network, found, ", read again", "architecture_doubt", "it was read again as")


def _offer(db: Database, network: NetworkRecord, doubt: str) -> None:
    if doubt:
        st.button("It is right as it is", key=f"confirm_{network.id}", on_click=_confirm, args=(db, network))
    found = words.part(network.card, "inspected").get("normalisations") or []
    labels = {_label(one): one for one in found if _values(one) != _own(network)}
    chosen = None
    if labels:
        chosen = st.selectbox(
            "Another that was measured", list(labels), None, key=f"usual_{network.id}", placeholder="Choose one"
        )
    else:
        _button("Measure the usual ones", "measure", network)
    mean = st.text_input("Mean", key=f"new_mean_{network.id}", placeholder="0.485 0.456 0.406")
    std = st.text_input("Standard deviation", key=f"new_std_{network.id}", placeholder="0.229 0.224 0.225")
    st.caption("Of pixels in [0, 1], a number for each channel. The corrected network is added beside this one: it is "
               "another function, so nothing that is known of this one is taken over.")  # fmt: skip
    _button("Add the corrected network", "correct", network)
    clicked = st.session_state.pop("normalisation_clicked", None)
    typed = upload.numbers(mean), upload.numbers(std)
    if clicked == ("measure", network.id):
        _measure(db, network)
    elif clicked != ("correct", network.id):
        return
    elif any(typed):
        _correct(db, network, *typed)
    elif chosen is not None:
        _correct(db, network, *_values(labels[chosen]))
    else:
        st.error("Choose a normalisation or type its mean and standard deviation.")


def _button(label: str, what: str, network: NetworkRecord) -> None:
    """A button whose work is done where it can show a spinner and say why it cannot be done."""

    def click() -> None:
        st.session_state["normalisation_clicked"] = (what, network.id)

    st.button(label, key=f"{what}_{network.id}", on_click=click)


def _label(one: Mapping[str, Any]) -> str:
    return f"{one['normalisation_name']}: {one['accuracy']:.1%} right on {one['images']:,} images"


def _values(one: Mapping[str, Any]) -> tuple[Values, Values]:
    values = one["normalisation"]
    return NONE if values is None else (values["mean"], values["std"])


def _own(network: NetworkRecord) -> tuple[Values, Values]:
    return NONE if network.mean is None or network.std is None else (list(network.mean), list(network.std))


def _confirm(db: Database, network: NetworkRecord) -> None:
    _note(db, network, normalisation_doubt="", normalisation_confirmed=True)


def _measure(db: Database, network: NetworkRecord) -> None:
    report = _look(db, network, {"measure_normalisations": True})
    if report is None:
        return
    if not (found := upload.measured(report.report)):
        st.error("No data set fits this network, so nothing can be measured; type the mean and the deviation.")
        return
    _note(db, network, normalisations=found)
    st.rerun()


def _correct(db: Database, network: NetworkRecord, mean: Values, std: Values) -> None:
    """Register the copy and show it. What the card of the first one says of its doubt stays true of it."""
    found = _look(db, network, {"mean": mean, "std": std})
    if found is None:
        return
    ending = f", mean {' '.join(f'{value:g}' for value in mean)}"
    _add(db, network, found, ending, "normalisation_doubt", "it was corrected in a copy,")


def _add(db: Database, network: NetworkRecord, found: upload.Inspected, ending: str, doubt: str, says: str) -> None:
    """Register a copy of a network, named with an `ending`, and show it; the `doubt` of the first one says so."""
    # The copy is of the same file as the first one.
    uploaded = words.part(network.card, "inspected").get("sha256", network.sha256)
    found = replace(found, report={**found.report, "format": network.format, "sha256": uploaded})
    try:
        record = upload.add(db, found, network.name[: 120 - len(ending)] + ending)
    except StoreError as error:
        st.error(screen.escape(str(error)))
        return
    _note(db, network, **{doubt: f"{says} {record.name}"})
    st.session_state["added"] = record.name
    st.query_params["show"] = record.name
    st.rerun()


def _look(db: Database, network: NetworkRecord, hints: Mapping[str, Any]) -> upload.Inspected | None:
    """Look at the stored weights as at an upload; None after saying why that cannot be."""
    try:
        content = io.BytesIO(networks.weights(db, network.id))
        with (
            st.spinner("Looking at the network in a process of its own …", show_time=True),
            upload.on_disk(content, "safetensors") as path,
        ):
            return upload.inspect(path, hints)
    except StrataError as error:
        st.error(screen.escape(str(error)))
        return None


def _note(db: Database, network: NetworkRecord, **said: Any) -> None:
    """Write into the card's part about the upload."""
    inspected = {**words.part(network.card, "inspected"), **said}
    networks.put_card(db, network.id, {**network.card, "inspected": inspected})
