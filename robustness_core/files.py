"""Files, without torch: written whole or not at all; safetensors; what the project's own say of their networks."""

from __future__ import annotations

import io
import json
import math
import os
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
import numpy.typing as npt
import platformdirs

from robustness_core.errors import ACCEPTED, CheckpointError, StrataError, shown

Values = tuple[float, ...]
Place = tuple[str, tuple[int, ...], slice]  # the kind of a tensor's numbers, its shape, and its bytes in the file
MOST_TENSORS = 5_000  # ResNet-110 has 660
_LARGEST_HEADER = 8 * 1024**2
# What safetensors call a kind of number: its name elsewhere, and its bytes.
_KINDS = {
    "F64": ("float64", 8), "F32": ("float32", 4), "F16": ("float16", 2), "BF16": ("bfloat16", 2), "I64": ("int64", 8),
    "I32": ("int32", 4), "I16": ("int16", 2), "I8": ("int8", 1), "U8": ("uint8", 1), "U16": ("uint16", 2),
    "U32": ("uint32", 4), "U64": ("uint64", 8), "BOOL": ("bool", 1), "C64": ("complex64", 8),
}  # fmt: skip
_CODES = {name: code for code, (name, _) in _KINDS.items()}


def cache_folder() -> Path:
    """Where downloads are kept: STRATA_CACHE, else the user's cache folder."""
    return Path(os.environ.get("STRATA_CACHE") or platformdirs.user_cache_dir("strata"))


def check_writable(path: Path) -> None:
    """Raises StrataError if no file can be written there, before hours are spent on what it shall hold."""
    folder = path.resolve().parent
    if not folder.is_dir():
        raise StrataError(f"The folder of {str(path)!r} does not exist; name a file in a folder that does.")
    if path.is_dir():
        raise StrataError(f"{str(path)!r} is a folder; name a file.")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StrataError(f"{str(path)!r} cannot be written: {error.strerror or error}.") from error


def write_whole(path: Path, content: bytes) -> None:
    """Write beside `path`, then replace it, so that a full disk leaves the old file whole. Raises StrataError."""
    write_together({path: content})


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write files that belong together: none is replaced before all of them lie on the disk. Raises StrataError."""
    beside = {path: path.with_name(f"{path.name}.{secrets.token_hex(4)}.part") for path in contents}
    try:
        for path, content in contents.items():
            with beside[path].open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for path, part in beside.items():
            os.replace(part, path)
    except OSError as error:
        path = next(iter(contents))
        raise StrataError(f"{path} could not be written: {error.strerror or error}.") from error
    finally:
        for part in beside.values():
            part.unlink(missing_ok=True)


# ---------------------------------------------------------------------------------------------------- safetensors


def read_header(file: BinaryIO) -> tuple[dict[str, str], dict[str, Place]]:
    """The metadata of a safetensors file, whoever wrote it, and where its tensors lie; the numbers are not read.

    Layout: the length of the header (8 bytes, little-endian), the header (JSON, padded with spaces), the numbers.
    Every size is checked before memory is taken for it, and the tensors must fill the file without a gap or an
    overlap, so that nothing can hide and nothing can expand. Raises CheckpointError.
    """
    damaged = CheckpointError(f"The safetensors file is damaged or cut short; {ACCEPTED}.")
    left = file.seek(0, io.SEEK_END) - 8
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if length > min(left, _LARGEST_HEADER):
        raise damaged
    try:
        header = json.loads(file.read(length).decode("utf-8"), object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError):
        raise damaged from None
    if not isinstance(header, dict):
        raise damaged
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise damaged
    check_count(len(header))
    tensors: dict[str, Place] = {}
    position = 0
    for name, entry in sorted(header.items(), key=lambda item: _offsets(item[1])):
        try:
            code, shape, (start, stop) = entry["dtype"], entry["shape"], entry["data_offsets"]
        except (TypeError, KeyError, ValueError):
            raise damaged from None
        if not isinstance(code, str) or code not in _KINDS:
            raise CheckpointError(
                f"The tensor {shown(name)} holds {shown(code)} numbers; floats of 16, 32 or 64 bits are accepted."
            )
        if not isinstance(shape, list) or len(shape) > 8 or not all(_is_size(n) for n in (*shape, start, stop)):
            raise damaged
        kind, width = _KINDS[code]
        if start != position or stop - start != math.prod(shape) * width:
            raise damaged
        position = stop
        tensors[name] = kind, tuple(shape), slice(8 + length + start, 8 + length + stop)
    if position != left - length:
        raise damaged
    return metadata, tensors


def check_count(count: int) -> None:
    """Raises CheckpointError for more tensors than any network here has."""
    if count > MOST_TENSORS:
        raise CheckpointError(f"The file lists {count} tensors; at most {MOST_TENSORS} are accepted.")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name appears twice")
    return found


def _offsets(entry: Any) -> tuple[int, int]:
    """A key that sorts tensors as they lie, one without numbers before the next."""
    try:
        start, stop = entry["data_offsets"]
        return int(start), int(stop)
    except (TypeError, KeyError, ValueError, OverflowError):
        return -1, -1


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**40


def to_bytes(
    tensors: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, str], *, wide_first: bool = False
) -> bytes:
    """A safetensors file. The same numbers always give the same bytes, unlike the library's: one network, one SHA-256.

    Tensors lie in the order of their names, the metadata first in the header. `wide_first` is the layout of the files
    that `train` has always written: numbers of more bytes lie first, and the whole header is sorted.
    """
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    parts: list[Any] = []  # views of the weights, which may take half of the memory there is
    end = 0
    for name, array in sorted(tensors.items(), key=lambda item: (-item[1].itemsize if wide_first else 0, item[0])):
        start, end = end, end + array.nbytes
        header[name] = {"dtype": _CODES[array.dtype.name], "shape": list(array.shape), "data_offsets": [start, end]}
        parts.append(array.reshape(-1).view(np.uint8))
    text = json.dumps(header, sort_keys=wide_first, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])


# ------------------------------------------------------------------------------------ what the project's own files say


@dataclass(frozen=True)
class Description:
    """How to build the network whose weights are in a file: its metadata.

    `architecture` is the text that `networks.build` reads, or the name of a family. mean and std are those of the
    normalisation of pixels in [0, 1], None without one; `program` is the JSON of the steps of a converted graph.
    """

    architecture: str
    input_shape: tuple[int, int, int]
    mean: Values | None = None
    std: Values | None = None
    program: str | None = None

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> Self | None:
        """What the metadata of a file say; None for a file that is not the project's own. Raises CheckpointError."""
        if "architecture" not in metadata or "input_shape" not in metadata:
            return None
        try:
            shape = check_shape(json.loads(metadata["input_shape"]))
            said = (metadata.get(key) for key in ("mean", "std"))
            mean, std = (tuple(map(float, json.loads(text))) if text else None for text in said)
            check_normalisation(mean, std)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise CheckpointError(
                "The file names its architecture, but its input shape or normalisation is damaged."
            ) from error
        return cls(metadata["architecture"], shape, mean, std, metadata.get("program"))

    def metadata(self) -> dict[str, str]:
        """What `of` reads: strings, empty without normalisation."""
        mean, std = ("" if values is None else json.dumps(values) for values in (self.mean, self.std))
        said = {
            "architecture": self.architecture,
            "input_shape": json.dumps(self.input_shape),
            "mean": mean,
            "std": std,
        }
        return said if self.program is None else {**said, "program": self.program}


def described(path: Path) -> Description | None:
    """What a file of the project's own says of its network; None for any other. Its header alone is read."""
    try:
        with path.open("rb") as file:
            return Description.of(read_header(file)[0])
    except (OSError, ValueError):
        return None


def check_shape(sizes: Sequence[int]) -> tuple[int, int, int]:
    """The shape of an input as whole numbers. Raises CheckpointError unless it is C, H, W from 1 to 1024."""
    shape = tuple(int(size) for size in sizes)
    if len(shape) != 3 or not all(0 < size <= 1024 for size in shape):
        raise CheckpointError("The input shape must be three sizes C, H, W from 1 to 1024, for example 1 28 28.")
    return shape


def check_normalisation(mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
    """Raises CheckpointError unless mean and std are both given or both not, finite, and std positive."""
    if (mean is None) != (std is None):
        raise CheckpointError("A normalisation needs both a mean and a std.")
    if mean is None or std is None:
        return
    if not all(math.isfinite(value) for value in (*mean, *std)) or min(std, default=0.0) <= 0:
        raise CheckpointError("The mean and std of a normalisation must be finite numbers, and the std above 0.")


def card_file(path: Path, card: Mapping[str, Any]) -> dict[Path, bytes]:
    """The card of the checkpoint `path`, as what `write_together` writes beside it."""
    return {path.with_suffix(".json"): (json.dumps(card, indent=1, ensure_ascii=False) + "\n").encode()}


def read_card(path: Path) -> dict[str, Any]:
    """The card of the checkpoint `path`, or an empty one where there is none. Raises CheckpointError."""
    card = path.with_suffix(".json")
    if not card.is_file():
        return {}
    try:
        content = json.loads(card.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"The card {card} is not readable JSON.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"The card {card} is not a JSON object.")
    return content
