"""Images: the data sets that audits can ask, and the upload of images of one's own."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from pages.parts import screen, upload, words
from robustness_core import datasets
from robustness_core.datasets.own import SPLIT, ImageSet
from robustness_core.errors import StrataError
from store import image_sets, networks
from store.database import Database

AS_THEY_ARE = "as the pictures are"
WAYS = {"refuse": None, "resize": "resize", "crop": "crop"}
MOST_SHOWN = 12  # pictures, one of each class


def main() -> None:
    screen.begin("Images")
    db = screen.database()
    busy = st.session_state.get("images_file") is not None or "images_added" in st.session_state
    with st.expander("Add images of your own", expanded=busy):
        _upload(db)
    st.caption(
        "The data sets that audits can ask. One that is not here is looked for in STRATA_DATA and in the cache folder."
    )
    _table()
    _remove(db)


def _table() -> None:
    rows = [
        {
            "name": entry.name,
            "images": sum(entry.sizes.values()),
            "size": _times(entry.input_shape),
            "classes": len(entry.class_names),
            "class names": ", ".join(entry.class_names),
            "here": "yes" if any(entry.present(split) for split in entry.sizes) else "no",
        }
        for entry in datasets.REGISTRY.values()
    ]
    st.dataframe(pd.DataFrame(rows), hide_index=True, width="stretch", alt="All data sets")


def _upload(db: Database) -> None:
    shapes: dict[str, tuple[int, ...] | None] = {AS_THEY_ARE: None}
    for network in networks.all(db):
        shapes.setdefault(_times(network.input_shape), network.input_shape)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        size = st.selectbox(
            "Size and colour", list(shapes), key="images_size", width=220,
            help="Channels × height × width: those of the pictures, or those that one of the networks takes.",
        )  # fmt: skip
        way = st.segmented_control(
            "Pictures of another size", list(WAYS), default="refuse", required=True, key="images_fit",
            help="resize scales each until it fills the size; crop leaves its scale. Both keep the middle.",
        )  # fmt: skip
    file = st.file_uploader(
        "Drop a zip of class folders, or an .npz, here", key="images_file",
        help="A zip with a folder of PNG or JPEG for each class, or an .npz with an array of images and one of labels. "
        "It is read in a process of its own, with limits.",
    )  # fmt: skip
    added = st.session_state.pop("images_added", None)
    if added is not None:
        st.success(f"{screen.escape(added)} is added.")
        _link(db, added)
    if file is None:
        return
    key = (file.file_id, size, way)
    if st.session_state.get("images_read", (None,))[0] != key:
        with st.spinner("Reading the images in a process of its own …", show_time=True):
            st.session_state["images_read"] = key, _read(file, shapes[size], WAYS[way])
    found = st.session_state["images_read"][1]
    if isinstance(found, str):
        st.error(screen.escape(found))
        return
    _show(db, found)


def _read(file: UploadedFile, shape: tuple[int, ...] | None, fit: Any) -> ImageSet | str:
    """The images, or why there are none."""
    try:
        with upload.on_disk(file, "zip") as path:
            return upload.images(path, PurePath(file.name).stem, shape, fit)
    except StrataError as error:
        return str(error)


def _show(db: Database, found: ImageSet) -> None:
    counts = np.bincount(found.labels, minlength=len(found.class_names))
    shape = _times(found.input_shape)
    st.markdown(f"{len(found.labels):,} images of {len(counts)} classes, {shape}.")
    if not any(network.input_shape == found.input_shape for network in networks.all(db)):
        st.info(f"No network here takes {shape} images: choose the size of one above, or add one under Networks.")
    shown = [int(np.argmax(found.labels == label)) for label in np.flatnonzero(counts)[:MOST_SHOWN]]
    with st.container(horizontal=True):
        for index in shown:
            name = found.class_names[found.labels[index]]
            st.image(found.pixels[index].squeeze(), caption=screen.escape(name), width=72)
    rows = pd.DataFrame({"class": found.class_names, "images": counts})
    st.dataframe(rows, hide_index=True, alt="Images of each class", height=min(240, 38 + 35 * len(rows)))
    if found.name in datasets.REGISTRY:
        st.info(f"These images are here already, as **{screen.escape(found.name)}**.")
        _link(db, found.name)
        return
    st.caption(f"SHA-256 of the content: {found.sha256}")
    st.button("Add these images", type="primary", on_click=_add, args=(db, found))


def _add(db: Database, found: ImageSet) -> None:
    try:
        st.session_state["images_added"] = image_sets.put(db, found)
    except StrataError as error:
        st.toast(screen.escape(str(error)))


def _link(db: Database, name: str) -> None:
    """The way to Explore, for the first network that takes these images."""
    shape = datasets.get(name).input_shape
    fitting = next((network.name for network in networks.all(db) if network.input_shape == shape), None)
    if fitting is not None:
        words.link_to_explore("Audit a network on them in Explore →", {"network": fitting, "dataset": name})


def _remove(db: Database) -> None:
    own = [name for name in image_sets.enter(db) if SPLIT in datasets.get(name).sizes]
    if not own:
        return
    with st.popover("Remove images of your own"):
        name = st.selectbox("Images", own, key="images_removed")
        st.caption("What was found on them stays; for an audit of more of them they must be added again.")
        st.button("Remove them", on_click=_removed, args=(db, name))


def _removed(db: Database, name: str) -> None:
    try:
        image_sets.remove(db, name)
    except StrataError as error:
        st.toast(screen.escape(str(error)))


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(str(size) for size in shape)


main()
