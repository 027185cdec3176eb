"""An ONNX graph and the files beside it that hold its weights, uploaded as one zip: put together in memory."""

from __future__ import annotations

import zipfile
from pathlib import PurePosixPath
from typing import Any

from robustness_core.errors import CheckpointError, shown

_MOST_FILES = 64


def joined(archive: zipfile.ZipFile, largest: int) -> bytes:
    """The graph of a zip with its weights inside. Nothing is read but the zip, and at most `largest` bytes of it.

    Names, offsets and lengths are checked against the parts of the zip. Raises CheckpointError, and what zipfile does.
    """
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    graphs = [entry for entry in entries if entry.filename.endswith(".onnx")]
    if len(graphs) != 1 or len(entries) > _MOST_FILES:
        raise CheckpointError("A zip may hold one ONNX graph and the files of its weights; this holds other things.")
    if sum(entry.file_size for entry in entries) > largest or any(entry.flag_bits & 1 for entry in entries):
        raise CheckpointError(f"The zip is encrypted or unpacks to over {largest / 1024**2:.0f} MB, which is refused.")
    import onnx

    try:
        model: Any = onnx.load_model_from_string(archive.read(graphs[0]))
    except Exception as error:  # protobuf's errors have no public base class
        raise CheckpointError("The ONNX graph in the zip is damaged or cut short; upload it again.") from error
    beside = {PurePosixPath(entry.filename).name: entry for entry in entries}
    parts: dict[str, bytes] = {}
    for tensor in model.graph.initializer:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        said = {entry.key: entry.value for entry in tensor.external_data}
        place = said.get("location", "")
        if place not in beside:
            raise CheckpointError(f"The ONNX graph wants the file {shown(place)}, which is not in the zip; add it.")
        if place not in parts:
            parts[place] = archive.read(beside[place])
        start, length = _number(said.get("offset", "0")), _number(said.get("length", str(len(parts[place]))))
        if start + length > len(parts[place]):
            raise CheckpointError(f"The ONNX tensor {shown(tensor.name)} goes on after its file ends; add all of it.")
        tensor.raw_data = parts[place][start : start + length]
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]
    return bytes(model.SerializeToString())


def _number(text: str) -> int:
    if not text.isdecimal() or len(text) > 12:
        raise CheckpointError("The ONNX file names an impossible place for its weights; export it again.")
    return int(text)
