"""Networks: all of them, closely; uploads; rename, annotate, remove."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

import pandas as pd
import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from charts.captions import Caption
from pages.parts import captions, normalisation, question, references, screen, undo, upload, words
from robustness_core import datasets
from robustness_core.errors import StrataError
from robustness_core.spec import Threat
from robustness_core.spec.threat import NORMS
from store import StoreError, networks
from store.database import Database
from store.records import LayerRecord, NetworkRecord


def main() -> None:
    screen.begin("Networks")
    db = screen.database()
    available = networks.all(db)
    busy = bool(st.session_state.get("file")) or "added" in st.session_state
    with st.expander("Add a network of your own", expanded=busy or not available):
        _upload(db)
    undo.show(db, "Networks")
    if not available:
        st.info("There is no network yet; the worker enters the bundled ones when it starts.")
        return
    _table(available)
    named = st.query_params.get("show", "")
    chosen = next((one for one in available if one.name == named), None)
    if chosen is None:
        if named:
            st.warning(f"The address names {screen.escape(named)}, which is not here.")
        st.caption("Tick a row to see a network closely.")
        return
    _details(db, chosen)


def _table(available: list[NetworkRecord]) -> None:
    rows = pd.DataFrame(
        {
            "name": [one.name for one in available],
            "source": [one.source for one in available],
            "training": [words.training(one) for one in available],
            "accuracy": [words.accuracies(one) for one in available],
            "input": ["×".join(str(size) for size in one.input_shape) for one in available],
            "layers": [sum(layer.main for layer in one.layers) for one in available],
            "added": [words.ago(one.created) for one in available],
            "note": [" ".join((*(f"#{tag}" for tag in one.tags), one.note)).strip() for one in available],
        }
    )
    st.dataframe(
        rows,
        hide_index=True,
        width="stretch",
        key="network_table",
        alt="All networks",
        on_select=lambda: _select([one.name for one in available]),
        selection_mode="single-row",
    )


def _select(names: list[str]) -> None:
    rows = st.session_state["network_table"].selection.rows
    if rows:
        st.query_params["show"] = names[rows[0]]


def _details(db: Database, network: NetworkRecord) -> None:
    st.subheader(screen.escape(network.name), anchor=False)
    with st.container(horizontal=True, vertical_alignment="center"):
        words.link_to_explore("Audit it in Explore →", {"network": network.name})
        if network.source != "zoo":  # the worker would put a bundled one back
            with st.popover("Remove"):
                _offer_removal(db, network)
        screen.link_button()
    st.caption(screen.escape(f"{words.training(network)}. {words.accuracies(network)}"))
    st.code(network.architecture, language=None, wrap_lines=True)
    values = "none" if network.mean is None else f"mean {network.mean}, std {network.std}"
    st.caption(screen.escape(f"Normalisation: {values}. File: {network.format}. SHA-256: {network.sha256}."))
    normalisation.section(db, network)
    with st.container(horizontal=True):
        key = network.id
        st.text_input("Name", network.name, key=f"name_{key}", max_chars=120, on_change=_rename, args=(db, network))
        st.text_input("Note", network.note, key=f"note_{key}", max_chars=2000, on_change=_annotate, args=(db, key))
        st.text_input(
            "Tags", " ".join(network.tags), key=f"tags_{key}", max_chars=200, on_change=_annotate, args=(db, key),
            help="Words with spaces between them",
        )  # fmt: skip
    _layers([layer for layer in network.layers if layer.main])
    _attacks(network)
    if network.card:
        with st.expander("Card"):
            st.code(json.dumps(network.card, indent=1, ensure_ascii=False), language=None, height=300)


def _layers(layers: Sequence[LayerRecord]) -> None:
    befores = [None, *(layer.features for layer in layers)]
    rows = [
        {
            "layer": layer.name,
            "shape": "×".join(str(size) for size in layer.shape),
            "features nj": layer.features,
            "to the one before": question.ratio(before, layer.features).strip(" ()"),
            "affine": layer.affine,
        }
        for before, layer in zip(befores, layers, strict=False)
    ]
    st.dataframe(
        pd.DataFrame(rows), hide_index=True, column_config=screen.number_columns({}), alt="Layers of the network"
    )


def _attacks(network: NetworkRecord) -> None:
    """How the reference attacks of the card compare, a table a norm."""
    for norm in NORMS:
        found = references.of_card(network, norm)
        if found is None:
            continue
        symbol = Threat(norm).symbol
        st.dataframe(
            found.table(),
            hide_index=True,
            placeholder="–",
            column_config=screen.number_columns(
                {"median norm": "%.4f", "mean gap to the best": "percent", "is the best": "percent",
                 "passes an image": "%.0f"}
            ),
            alt=f"Reference attacks in {symbol}",
        )  # fmt: skip
        captions.show(
            Caption(
                f"Least {symbol} norms found by {found.names} on {len(found.numbers)} images of two classes.",
                "The network is asked for these two classes only, on the images that an audit takes. The best of an "
                "image is the least that any of them found, verified within the pixel range; gaps and shares are over "
                "the images that it gets right without attack, and an attack that is within 0.1 % is the best, too. "
                f"Passes are forward and backward ones.{found.about}",
            )
        )


def _offer_removal(db: Database, network: NetworkRecord) -> None:
    lost = networks.dependents(db, network.id)
    st.markdown(
        f"Remove **{screen.escape(network.name)}**? With it go {lost.audits:,} audits and "
        f"{lost.distances:,} distances, for good after a day."
    )
    st.button("Remove it", key=f"remove_{network.id}", on_click=_remove, args=(db, network.id, network.name))


def _remove(db: Database, network_id: int, name: str) -> None:
    try:
        networks.set_aside(db, network_id)
    except StoreError as error:
        st.toast(screen.escape(str(error)))
    else:
        st.query_params.pop("show", None)
        undo.offer("Networks", f"{name} was removed.", networks.restore, network_id)


def _rename(db: Database, network: NetworkRecord) -> None:
    name = st.session_state[f"name_{network.id}"]
    try:
        networks.rename(db, network.id, name)
    except StoreError as error:
        st.toast(screen.escape(str(error)))
    else:
        st.query_params["show"] = name.strip()


def _annotate(db: Database, network_id: int) -> None:
    note, tags = (st.session_state.get(f"{name}_{network_id}", "") for name in ("note", "tags"))
    try:
        networks.annotate(db, network_id, note=note, tags=list(dict.fromkeys(tags.split())))
    except StoreError as error:
        st.toast(screen.escape(str(error)))


def _upload(db: Database) -> None:
    files = st.file_uploader(
        "Drop a checkpoint here", key="file", accept_multiple_files=True,
        help="safetensors, a state_dict of torch (.pt, .pth, .th) or ONNX, known by their content; no code of the "
        "file is run. An ONNX graph and the files of its weights go together.",
    )  # fmt: skip
    added = st.session_state.pop("added", None)
    if added is not None:
        st.success(f"{screen.escape(added)} is added.")
        words.link_to_explore("Audit it in Explore →", {"network": added})
    if not files:
        return
    file = next((one for one in files if one.name.lower().endswith(".onnx")), files[0])
    beside = [one for one in files if one is not file]
    if beside and not file.name.lower().endswith(".onnx"):
        st.error("Drop one checkpoint at a time, or an ONNX graph with the files of its weights.")
        return
    hints = _hints(file.file_id)
    key = (*(one.file_id for one in files), json.dumps(hints, sort_keys=True))
    if st.session_state.get("inspected", (None,))[0] != key:
        with st.spinner("Looking at the file in a process of its own …", show_time=True):
            try:
                suffix = PurePath(file.name).suffix.lstrip(".").lower()
                with upload.on_disk(file, suffix, {one.name: one for one in beside}) as path:
                    result: upload.Inspected | str = upload.inspect(path, hints)
            except StrataError as error:
                result = str(error)
        st.session_state["inspected"] = (key, result)
    found = st.session_state["inspected"][1]
    if isinstance(found, str):
        st.error(screen.escape(found))
        return
    _result(db, found, file)


def _hints(file_id: str) -> dict[str, Any]:
    """What the user knows better than the guess: typed here, or taken from what else it could be."""
    with st.popover("Say what it is, if the guess is wrong"):
        architecture = st.text_input(
            "Architecture", key=f"architecture_{file_id}", placeholder="conv 16 4x4/2, relu, flatten, fc 10"
        )
        dataset = st.selectbox("Data set", ["guess", *datasets.REGISTRY], key=f"dataset_{file_id}")
        mean = st.text_input("Mean of the normalisation", key=f"mean_{file_id}", placeholder="0.485 0.456 0.406")
        std = st.text_input("Its standard deviation", key=f"std_{file_id}", placeholder="0.229 0.224 0.225")
    typed = {
        "architecture": architecture.strip(),
        "dataset": "" if dataset == "guess" else dataset,
        "mean": upload.numbers(mean),
        "std": upload.numbers(std),
        "stage": st.session_state.get(f"stage_{file_id}"),
    }
    return {**st.session_state.get(f"taken_{file_id}", {}), **{name: value for name, value in typed.items() if value}}


def _result(db: Database, found: upload.Inspected, file: UploadedFile) -> None:
    report = found.report
    measured = report.get("accuracy")
    st.markdown(
        screen.escape(
            f"{report['parameters']:,} parameters, {report['classes']} classes, "
            f"{'×'.join(str(size) for size in report['input_shape'])} images, normalisation "
            f"{report['normalisation_name'] or 'none'}."
        )
    )
    st.code(report["architecture"], language=None, wrap_lines=True)
    if measured is not None:
        st.markdown(
            f"**{measured:.1%}** right on {report['images']} test images of {screen.escape(str(report['dataset']))}"
        )
    for warning in report["warnings"]:
        st.warning(screen.escape(warning))
    _layers([layer for layer in found.layers if layer.main])
    if len(report["stages"]) > 1:
        first, *others = report["stages"]
        label = "Take another output of the graph" if report["format"] == "onnx" else "Take other weights of the file"
        st.selectbox(label, others, None, key=f"stage_{file.file_id}", placeholder=first)
    _alternatives(report, file.file_id)
    known = networks.by_sha256(db, found.sha256) or networks.by_sha256(db, report["sha256"])
    if known is not None:
        st.info(f"This network is here already, as **{screen.escape(known.name)}**.")
        words.link_to_explore("Audit it in Explore →", {"network": known.name})
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input("Name", PurePath(file.name).stem[:120], max_chars=120, key="new_name", width=320)
        st.button("Add this network", type="primary", on_click=_add, args=(db, found))


def _alternatives(report: dict[str, Any], file_id: str) -> None:
    """The other architectures and normalisations that were measured, each to be taken instead."""
    taken = f"taken_{file_id}"
    if taken in st.session_state:
        st.button("Go back to the guess", on_click=st.session_state.pop, args=(taken,))
    candidates = report["candidates"]
    if len(candidates) < 2:
        return
    with st.expander("What else it could be"):
        st.dataframe(
            pd.DataFrame(candidates)[["architecture", "normalisation_name", "accuracy", "images"]],
            hide_index=True,
            alt="Candidates with their accuracy",
        )
        labels = [f"{i}: {one['architecture']}, {one['normalisation_name']}" for i, one in enumerate(candidates)]
        st.selectbox(
            "Take another", labels[1:], None, key=f"other_{file_id}", placeholder="Keep the first",
            on_change=_take, args=(candidates, file_id),
        )  # fmt: skip


def _take(candidates: list[dict[str, Any]], file_id: str) -> None:
    label = st.session_state[f"other_{file_id}"]
    if label is None:
        return
    chosen = candidates[int(label.partition(":")[0])]
    normalisation = chosen["normalisation"] or {"mean": [0.0], "std": [1.0]}
    st.session_state[f"taken_{file_id}"] = {
        "architecture": chosen["architecture"], "input_shape": chosen["input_shape"], **normalisation
    }  # fmt: skip


def _add(db: Database, found: upload.Inspected) -> None:
    """Register the network under the name that was typed, also where it came together with the click."""
    try:
        record = upload.add(db, found, st.session_state["new_name"])
    except StoreError as error:
        st.toast(screen.escape(str(error)))
    else:
        st.session_state["added"] = record.name


main()
