"""What a checkpoint file holds, read without running any of it: safetensors, torch's two containers, ONNX."""

from __future__ import annotations

import io
import json
import math
import re
import stat
import struct
import zipfile
import zlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robustness_core.checkpoints.pickle_reader import WANTED, Inert, Opaque, Storage, TensorSpec, read_pickle
from robustness_core.errors import ACCEPTED, CheckpointError, shown
from robustness_core.files import MOST_TENSORS, check_count, read_header

__all__ = ["ACCEPTED", "WANTED", "Contents", "State", "read", "shown"]

LARGEST_FILE = 500 * 1024**2  # bytes
_LARGEST_PICKLE = 32 * 1024**2
_DEEPEST = 8  # dictionaries within dictionaries that are searched for weights


@dataclass(frozen=True, eq=False)
class State:
    """One state_dict in a file. `path` is where it lies ("" at the top), `tensors` are float32, names without prefix.

    `notes` are sentences about what was changed to get there.
    """

    path: str
    tensors: dict[str, Tensor]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Contents:
    """A file taken apart. `format` is safetensors, torch or onnx; `onnx` holds the bytes of a graph."""

    format: str
    container: str
    states: tuple[State, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    onnx: bytes = b""
    scores: Mapping[str, float] = field(default_factory=dict)  # what the file says of its network, by its own names
    notes: tuple[str, ...] = ()
    whole: str = ""  # the class of a whole module, where that is what was stored
    settings: Mapping[str, Any] = field(default_factory=dict)  # of the training: texts, numbers, lists of numbers


def read(path: Path, *, largest: int = LARGEST_FILE) -> Contents:
    """The contents of a checkpoint file, recognised by its bytes and not by its name.

    Every size is checked before memory is taken for it, every checksum after. `largest` is in bytes.
    Raises CheckpointError with one sentence that says what is wrong and what would be accepted.
    """
    data = _bytes(path, largest)
    if data[:2] == b"\x1f\x8b":
        data = _unzipped(data, largest)
    if data[:4] == b"\xef\xbb\xbf\x08":
        raise CheckpointError(
            "Three bytes of a text mark stand before the ONNX in this file: some program took it for text; download "
            "or copy it again as it is."
        )
    if data[:4] == b"PK\x03\x04":
        return _read_zip(data, largest)
    if data[8:9] == b"{":
        return _read_safetensors(data)
    if data[:1] == b"\x80":
        return _read_legacy(data)
    if data[:1] == b"\x08" and data[4:8] != b"TFL3":
        return Contents("onnx", "onnx", onnx=data)
    raise CheckpointError(f"This is {_guess(data)}, not a network; {ACCEPTED}.")


def _unzipped(data: bytes, largest: int) -> bytes:
    """What a gzip file holds, at most `largest` bytes of it."""
    reader = zlib.decompressobj(wbits=31)
    try:
        whole = reader.decompress(data, largest + 1)
    except zlib.error:
        raise CheckpointError(f"The gzip archive is damaged; {ACCEPTED}.") from None
    if len(whole) > largest:
        raise CheckpointError(f"The gzip archive unpacks to over {largest / 1024**2:.0f} MB; {ACCEPTED}.")
    if not reader.eof or reader.unused_data:
        raise CheckpointError(f"The gzip archive is cut short or holds several files; {ACCEPTED}.")
    return whole


def _bytes(path: Path, largest: int) -> bytes:
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise CheckpointError(f"This is not a file; {ACCEPTED}.")
        if about.st_size > largest:
            raise CheckpointError(
                f"The file has {about.st_size / 1024**2:.0f} MB; at most {largest / 1024**2:.0f} MB are accepted."
            )
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"The file cannot be read: {error.strerror or 'unknown error'}.") from error
    if not data:
        raise CheckpointError(f"The file is empty; {ACCEPTED}.")
    return data


_MAGIC = (
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"%PDF", "a PDF document"),
    (b"\x1f\x8b", "a gzip archive within a gzip archive"),
    (b"version https://git-lfs", "a Git LFS pointer, which stands for a file that was not fetched (git lfs pull)"),
    (b"\x89HDF", "an HDF5 file (Keras), which tf2onnx converts to ONNX (python -m tf2onnx.convert --keras FILE)"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"PK", "a damaged or unusual zip archive"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
)


def _floats(data: bytes) -> bool:
    """Whether bytes look like float32 weights: finite, and most neither tiny nor huge."""
    numbers = torch.frombuffer(bytearray(data[:4096]), dtype=torch.float32).abs()
    usual = ((numbers > 1e-8) & (numbers < 1e4)) | (numbers == 0)
    return bool(numbers.isfinite().all()) and float(usual.float().mean()) > 0.9 and bool((numbers > 0).any())


def _guess(data: bytes) -> str:
    for magic, what in _MAGIC:
        if data.startswith(magic):
            return what
    if data[257:262] == b"ustar":
        return "a tar archive, which may hold one"
    if data[4:8] == b"ORTM":
        return "a model of ONNX Runtime (.ort), which it made of an ONNX file: upload that"
    if data[4:8] == b"TFL3":
        return "a TensorFlow Lite model, which tf2onnx converts to ONNX (python -m tf2onnx.convert --tflite FILE)"
    if re.match(rb"(?:[(\]}cI]|cos\n|cposix\n|cbuiltins\n)", data) and data.rstrip(b"\n").endswith(b"."):
        return "a Python pickle that torch.save did not write"
    sample = data[:4096].decode("utf-8", errors="replace")
    if re.match(r"\ufeff?\s*<(!doctype html|html|head|!--|\?xml)", sample, re.IGNORECASE):
        return "a web page, so the download failed (a login, a quota or a missing file may be why)"
    if re.match(r"\s*\{\s*\"(class_name|config|keras_version|backend)\"", sample):
        return "the description of a Keras model without its weights"
    if len(data) % 4 == 0 and len(data) >= 64 and _floats(data):
        return "numbers without names, such as the data beside an ONNX file; upload the graph too, in one zip"
    return (
        "a text"
        if all(c.isprintable() or c.isspace() for c in sample.rstrip("\ufffd"))
        else "a file of an unknown kind"
    )


# ---------------------------------------------------------------------------------------------------- safetensors


def _read_safetensors(data: bytes) -> Contents:
    metadata, places = read_header(io.BytesIO(data))
    tensors = {}
    for name in sorted(places, key=natural):  # the format sorts names; numbers in them say the order of the layers
        kind, shape, place = places[name]
        flat = _from_bytes(memoryview(data)[place], kind)
        tensors[name] = flat.reshape(shape) if len(flat) else _empty(kind, shape)
    states = _accept([(tensors, "")], bare="program" in metadata)
    settings = {key: _value(text) for key, text in metadata.items()}
    return Contents("safetensors", "safetensors", states, metadata, settings=settings)


def natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts `conv2` before `conv10`."""
    parts = re.findall(r"\d{1,18}|[^\d]+|\d", name)
    return [(0, int(part), part) if part.isdecimal() and part.isascii() else (1, 0, part) for part in parts]


# ------------------------------------------------------------------------------------------------------ torch, zip


def _read_zip(data: bytes, largest: int) -> Contents:
    damaged = CheckpointError(f"The zip container of the file is damaged or cut short; {ACCEPTED}.")
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OverflowError, NotImplementedError, struct.error, RecursionError):
        raise damaged from None
    if any(entry.filename.endswith(".onnx") for entry in entries):
        from robustness_core.checkpoints.onnx import external

        try:
            return Contents("onnx", "zip", onnx=external.joined(archive, largest))
        except CheckpointError:
            raise
        except Exception as error:  # of zipfile, zlib and struct
            raise damaged from error
    root = _root({entry.filename for entry in entries})
    _check_entries(entries, len(data))
    members = {entry.filename: entry for entry in entries}

    def member(name: str) -> bytes:
        try:
            content = archive.read(members[name])  # at most the declared size; compares the checksum
        except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, struct.error):
            raise CheckpointError(
                f"The part {shown(name)} of the file is damaged (its checksum or size is wrong); {ACCEPTED}."
            ) from None
        except Exception as error:  # zlib.error has no base class of its own
            raise damaged from error
        if len(content) != members[name].file_size:
            raise damaged
        return content

    weights = [name for name in members if name.startswith(f"{root}/data/")]
    contents = {name: member(name) for name in members if name not in weights}
    if contents.get(f"{root}/byteorder", b"little") != b"little":
        raise CheckpointError(f"The weights were written on a big-endian machine; {WANTED} on a little-endian one.")
    pickled = contents[f"{root}/data.pkl"]
    if len(pickled) > _LARGEST_PICKLE:
        raise CheckpointError(f"The file describes far more than the weights of a network; {WANTED}.")
    tree = _whole_pickle(pickled)
    for name in weights:
        member(name)  # for its checksum, whether it is used or not

    @lru_cache(maxsize=1)  # tensors that share a storage mostly follow each other
    def part(name: str) -> memoryview:
        return memoryview(member(name))

    def storage(wanted: Storage) -> memoryview:
        name = f"{root}/data/{wanted.key}"
        if name not in members:
            raise CheckpointError(f"The file lacks a part that its weights need ({shown(name)}); it was cut short.")
        return part(name)

    return _torch("zip", tree, storage)


def _check_entries(entries: list[zipfile.ZipInfo], size: int) -> None:
    """Refuse a zip directory that lies, points out of the archive or unpacks to more than was uploaded."""
    check_count(len(entries) // 2)
    names = [entry.filename for entry in entries]
    if len(set(names)) != len(names):
        raise CheckpointError(f"The zip container lists a part twice; {ACCEPTED}.")
    for entry in entries:
        parts = entry.orig_filename.split("/")
        if ".." in parts or entry.orig_filename[:1] in ("/", "") or re.search(r"[\\\x00:]", entry.orig_filename):
            raise CheckpointError(f"The zip container holds the unsafe name {shown(entry.orig_filename)}; {ACCEPTED}.")
        if entry.flag_bits & 0x1:
            raise CheckpointError(f"The zip container is encrypted; {ACCEPTED}.")
        if entry.compress_type != zipfile.ZIP_STORED:
            raise CheckpointError(f"The zip container is compressed, which torch.save never does; {WANTED}.")
        if entry.compress_size != entry.file_size or entry.file_size > size:
            raise CheckpointError(f"The zip container declares sizes that it does not hold; {ACCEPTED}.")
    if sum(entry.file_size for entry in entries) > size:
        raise CheckpointError(f"The parts of the zip container overlap; {ACCEPTED}.")


def _root(names: set[str]) -> str:
    """The folder of `data.pkl`; says what else the archive is if there is none, or if it carries code."""
    roots = [name.removesuffix("/data.pkl") for name in names if name.endswith("/data.pkl")]
    if any(name.endswith(".weights.h5") for name in names):
        raise CheckpointError(
            "This is a Keras model, which tf2onnx converts to ONNX (python -m tf2onnx.convert --keras FILE)."
        )
    if any(name.endswith((".npy",)) for name in names):
        raise CheckpointError(f"This is a NumPy archive (.npz), not a network; {ACCEPTED}.")
    if any("/code/" in name or name.endswith("/constants.pkl") for name in names):
        raise CheckpointError(f"This is TorchScript, which carries code, and is not read; {WANTED}.")
    if any(re.search(r"(^|/)(archive_format|serialized_exported_program\.json|models/.*\.json)$", n) for n in names):
        raise CheckpointError(f"This is an exported program (.pt2), which carries code, and is not read; {WANTED}.")
    inside = next((n for n in sorted(names) if n.endswith((".pt", ".pth", ".th", ".ckpt", ".safetensors"))), None)
    if not roots and inside is not None:
        raise CheckpointError(f"This is a zip archive with {shown(inside)} in it; unpack it and upload that.")
    if len(roots) != 1 or "/" in roots[0]:
        raise CheckpointError(f"This is a zip archive, not a network; {ACCEPTED}.")
    return roots[0]


# --------------------------------------------------------------------------------------------------- torch, legacy

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001


def _read_legacy(data: bytes) -> Contents:
    file = io.BytesIO(data)
    magic = read_pickle(file)
    if magic != _LEGACY_MAGIC or isinstance(magic, bool):
        raise CheckpointError(f"This is a Python pickle that torch.save did not write; {ACCEPTED}.")
    protocol, system, tree, keys = (read_pickle(file) for _ in range(4))
    if protocol != _LEGACY_PROTOCOL or not isinstance(system, dict) or not system.get("little_endian", False):
        raise CheckpointError(f"The file was written by an unknown version of torch.save; {WANTED}.")
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise CheckpointError(f"The file is damaged; {ACCEPTED}.")
    specs = list(_tensor_specs(tree))
    kinds = {spec.storage.key: spec.storage for spec in specs}
    if sorted(kinds) != sorted(set(keys)):
        raise CheckpointError(f"The file is damaged: its list of parts does not fit its weights; {ACCEPTED}.")
    position, parts = file.tell(), {}
    for key in keys:
        width = _width(kinds[key].kind)
        if position + 8 > len(data):
            raise CheckpointError(f"The file is cut short; {ACCEPTED}.")
        (numel,) = struct.unpack_from("<q", data, position)
        position += 8
        if numel != kinds[key].numel or position + numel * width > len(data):
            raise CheckpointError(f"The file is damaged or cut short; {ACCEPTED}.")
        parts[key] = memoryview(data)[position : position + numel * width]
        position += numel * width
    if position != len(data):
        raise CheckpointError(f"The file goes on after its weights end; {ACCEPTED}.")
    return _torch("legacy", tree, lambda wanted: parts[wanted.key])


# ---------------------------------------------------------------------------------------------- from tree to states


def _whole_pickle(pickled: bytes) -> Any:
    file = io.BytesIO(pickled)
    tree = read_pickle(file)
    if file.tell() != len(pickled):
        raise CheckpointError(f"The pickle in the file goes on after its end; {WANTED}.")
    return tree


def _tensor_specs(tree: Any) -> Iterator[TensorSpec]:
    """Every tensor anywhere in a tree, which may hold itself."""
    seen: set[int] = set()
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Inert):
            waiting.append(node.state)
        elif isinstance(node, TensorSpec):
            yield node
        elif isinstance(node, dict | list | tuple) and id(node) not in seen:
            seen.add(id(node))
            waiting.extend(node.values() if isinstance(node, dict) else node)


def _torch(container: str, tree: Any, storage: Any) -> Contents:
    unread = (node for node in _objects(tree) if _module_of(node) is None and str(node.kind) not in _SETTINGS)
    ignored = sorted({str(node.kind) for node in unread})
    notes = [f"Objects beside the weights were left unread: {', '.join(map(shown, ignored[:5]))}."] if ignored else []
    whole = next((str(node.kind) for node in _objects(tree) if _module_of(node) is not None), "")
    if whole:
        notes.append(
            f"The file holds a whole module ({shown(whole)}), of which the tensors alone were read, as data: how they "
            f"follow each other is guessed."
        )
    return Contents(
        "torch",
        container,
        _accept(_states(tree, storage)),
        scores=_scores(tree, storage),
        notes=tuple(notes),
        whole=whole,
        settings=_settings(tree),
    )


def _objects(tree: Any) -> Iterator[Inert]:
    return (node for node in _nodes(tree) if isinstance(node, Inert))


def _nodes(tree: Any) -> Iterator[Any]:
    """Every value anywhere in a tree, which may hold itself; objects are not entered."""
    seen: set[int] = set()
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict | list | tuple):
            if id(node) not in seen:
                seen.add(id(node))
                waiting.extend(node.values() if isinstance(node, dict) else node)
        else:
            yield node


def _module_of(node: Any, depth: int = 0) -> dict[str, TensorSpec] | None:
    """The state_dict of a whole module, put together from the attributes that the file lists; None for no module."""
    state = node.state if isinstance(node, Inert) else None
    if not isinstance(state, dict) or not isinstance(state.get("_parameters"), dict) or depth > 2 * _DEEPEST:
        return None
    found: dict[str, TensorSpec] = {}
    for part in ("_parameters", "_buffers"):
        values = state.get(part)
        for key, value in values.items() if isinstance(values, dict) else ():
            if isinstance(value, TensorSpec):
                found[str(key)] = value
    modules = state.get("_modules")
    for key, inner in modules.items() if isinstance(modules, dict) else ():
        found |= {f"{key}.{name}": value for name, value in (_module_of(inner, depth + 1) or {}).items()}
        check_count(len(found))
    return found


_SCORE = re.compile(r"(?i)(^|_|\.)(acc|accuracy|prec|precision1|prec1|top1|acc1|sa|err|error)(_?\d)?($|_)")


def _scores(tree: Any, storage: Any) -> dict[str, float]:
    """The numbers at the top of a file that its author measured of the network, by their names."""
    found: dict[str, float] = {}
    for key, value in tree.items() if isinstance(tree, dict) else ():
        if not isinstance(key, str) or not _SCORE.search(key):
            continue
        if isinstance(value, TensorSpec) and math.prod(value.size) == 1:
            value = _tensor(value, storage, key, _Budget(64)).reshape(()).item()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            found[key] = float(value)
    return found


_SETTINGS = {"argparse.Namespace", "types.SimpleNamespace"}  # classes of which a training keeps its settings
_MOST_SETTINGS = 1000


def _settings(tree: Any) -> dict[str, Any]:
    """Texts, numbers and short lists of numbers at the top of a file and in what lies there, by their last names."""
    found: dict[str, Any] = {}
    waiting: deque[tuple[Any, int]] = deque([(tree, 0)])
    while waiting and len(found) < _MOST_SETTINGS:
        node, depth = waiting.popleft()
        if isinstance(node, Inert) and str(node.kind) in _SETTINGS:
            node = node.state
        for key, value in list(node.items())[:_MOST_SETTINGS] if isinstance(node, dict) else ():
            short = isinstance(value, list | tuple) and 1 <= len(value) <= 3
            if isinstance(value, str | int | float) or (short and all(isinstance(one, int | float) for one in value)):
                found.setdefault(str(key), value)
            elif depth < 2:
                waiting.append((value, depth + 1))
    return found


def _value(text: str) -> Any:
    """What a text of a safetensors header says: numbers where it holds them, else itself."""
    try:
        return json.loads(text) if len(text) < 200 else text
    except ValueError:
        return text


def _states(tree: Any, storage: Any) -> list[tuple[dict[str, Tensor], str]]:
    """The state_dicts in a tree, the likeliest first, with the path of each; weights are copied out one by one."""
    found: list[tuple[int, str, dict[str, TensorSpec]]] = []
    seen: set[int] = set()
    waiting: deque[tuple[Any, str, int]] = deque([(tree, "", 0)])
    too_deep = False
    while waiting:
        node, path, depth = waiting.popleft()
        if (module := _module_of(node)) is not None:
            node = module
        if not isinstance(node, dict | list | tuple) or id(node) in seen:
            continue
        seen.add(id(node))
        if depth > _DEEPEST:
            too_deep = True
            continue
        items = list(node.items() if isinstance(node, dict) else enumerate(node))[: 4 * MOST_TENSORS]
        named = {str(key): value for key, value in items if isinstance(key, str) and isinstance(value, TensorSpec)}
        if layers := _layers(items):
            named |= {f"{key}.{name}": value for key, layer in layers for name, value in layer.items()}
            items = [item for item in items if all(item[1] is not layer for _, layer in layers)]
        if any(len(spec.size) >= 2 for spec in named.values()) and not _of_optimiser(path, named):
            check_count(len(named))
            found.append((_likelihood(path), path, named))
        waiting.extend((value, f"{path}.{key}" if path else str(key), depth + 1) for key, value in items)
    if not found:
        arrays = any(isinstance(node, Opaque) and node.kind.endswith("._reconstruct") for node in _nodes(tree))
        reason = "its numbers are NumPy arrays" if arrays else "it holds no named weights"
        reason = "its dictionaries are nested too deeply" if too_deep else reason
        raise CheckpointError(f"No state_dict was found in the file, since {reason}; {WANTED}.")
    budget = _Budget(LARGEST_FILE)
    first = sorted(found, key=lambda item: item[0])[:16]
    return [({name: _tensor(spec, storage, name, budget) for name, spec in state.items()}, p) for _, p, state in first]


def _layers(items: list[tuple[Any, Any]]) -> list[tuple[Any, dict[str, TensorSpec]]]:
    """The entries that hold one layer each: a network kept as a dictionary a layer. None where all have one shape, as
    stages of a network of one layer have."""
    known = {*_OF_LAYERS, *_COUNTERS}
    found = [
        (key, node)
        for key, node in items
        if isinstance(node, dict) and set(node) <= known and "weight" in node
        and all(isinstance(value, TensorSpec) for value in node.values())
    ]  # fmt: skip
    return found if len({node["weight"].size for _, node in found}) > 1 else []


_MOMENTS = {"momentum_buffer", "exp_avg", "exp_avg_sq", "max_exp_avg_sq", "square_avg", "sum", "step", "ax", "mu"}


def _of_optimiser(path: str, named: Mapping[str, TensorSpec]) -> bool:
    return "optim" in path.lower() or set(named) <= _MOMENTS


def _likelihood(path: str) -> int:
    last = next((part for part in reversed(path.split(".")) if not part.isdecimal()), "")
    usual = ("", "state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "ema")
    return usual.index(last) if last in usual else len(usual)


@dataclass
class _Budget:
    """Bytes that may still be copied out: many tensors may share one storage."""

    left: int


def _tensor(spec: TensorSpec, storage: Any, name: str, budget: _Budget) -> Tensor:
    width = _width(spec.kind)
    count = math.prod(spec.size)
    raw = storage(spec.storage)
    reach = spec.offset + sum((n - 1) * step for n, step in zip(spec.size, spec.stride, strict=True)) + 1
    if count > 0 and reach * width > len(raw):
        raise CheckpointError(f"The tensor {shown(name)} is larger than the data stored for it; {WANTED}.")
    if any(n > 1 and step == 0 for n, step in zip(spec.size, spec.stride, strict=True)) or count * width > len(raw):
        raise CheckpointError(f"The tensor {shown(name)} repeats its data (stride 0); {WANTED}, after .contiguous().")
    budget.left -= count * width
    if budget.left < 0:
        raise CheckpointError(f"The weights in the file share their data and unpack to too much; {WANTED}.")
    if count == 0:
        return _empty(spec.kind, spec.size)
    flat = _from_bytes(raw[spec.offset * width : reach * width], spec.kind)
    return torch.as_strided(flat, spec.size, spec.stride).contiguous()


def _from_bytes(raw: memoryview, kind: str) -> Tensor:
    dtype: torch.dtype = getattr(torch, kind)
    return torch.frombuffer(bytearray(raw), dtype=dtype) if len(raw) else torch.empty(0, dtype=dtype)


def _empty(kind: str, shape: Sequence[int]) -> Tensor:
    """A tensor without numbers, whose other sizes may be beyond what torch can name."""
    return torch.empty(tuple(min(size, 1 << 7) for size in shape), dtype=getattr(torch, kind))


def _width(kind: str) -> int:
    widths = {"bytes": 1, "bool": 1, "bfloat16": 2, "complex64": 8, "complex128": 16}
    return widths[kind] if kind in widths else int(re.sub(r"\D", "", kind)) // 8


# ------------------------------------------------------------------------------------------- from weights to float32


def _accept(states: list[tuple[dict[str, Tensor], str]], *, bare: bool = False) -> tuple[State, ...]:
    """States of finite float32 weights; the first must be sound, others that are not are left out.

    `bare`: there may be no weights, since the file says the steps of its network.
    """
    accepted = []
    for position, (tensors, path) in enumerate(states):
        try:
            accepted.append(_accept_state(tensors, path, bare))
        except CheckpointError:
            if position == 0:
                raise
    return tuple(accepted)


_COUNTERS = ("num_batches_tracked", "n_averaged")  # of training steps; no output depends on them
_OF_LAYERS = ("weight", "bias", "running_mean", "running_var", "weight_orig", "weight_g", "weight_v", "original")
# Of quantisation-aware training, which rounds what a layer gives: the layers without that are what is read.
_ROUNDING = re.compile(
    r"(^|\.)((weight|activation|bias)_(post_process|fake_quant)\..*|fake_quant_enabled|observer_enabled|zero_point|"
    r"(weight|bias)_bits|quantize_activation|adjust_output_shift|output_shift|shift_quantile|act_alpha|wgt_alpha)$"
)
# What losses, metrics, counters, random states and verifiers leave in a state_dict.
_NEEDLESS = re.compile(
    r"(?i)(^|\.)(criterion|loss|loss_\w+|\w+_loss|metrics?|\w+_metric)\.|"
    r"(^|\.)(steps?|global_step|epoch|\w*counter|\w*rng_state|(\w+_)?(lower|upper)_?bounds?|[lu]b)$"
)


def _accept_state(tensors: dict[str, Tensor], path: str, bare: bool) -> State:
    sound: dict[str, Tensor] = {}
    kinds: set[str] = set()
    ignored: list[str] = []
    for name, tensor in tensors.items():
        last = name.split(".")[-1]
        if last in _COUNTERS:
            continue
        whole = not (tensor.is_floating_point() or tensor.is_complex())
        if _ROUNDING.search(name) or _NEEDLESS.search(name) or (whole and last not in _OF_LAYERS):
            ignored.append(name)
            continue
        if tensor.is_complex():
            raise CheckpointError(f"The tensor {shown(name)} holds complex numbers; only real weights are accepted.")
        if not tensor.is_floating_point():
            raise CheckpointError(
                f"The tensor {shown(name)} holds whole numbers ({str(tensor.dtype)[6:]}); "
                f"only floats of 16, 32 or 64 bits are accepted."
            )
        if name.endswith("running_var") and bool((tensor < 0).any()):
            raise CheckpointError(f"The tensor {shown(name)} holds a negative variance; the file is damaged.")
        if not torch.isfinite(tensor).all():
            raise CheckpointError(
                f"The tensor {shown(name)} holds NaN or infinite numbers; only finite weights are accepted."
            )
        if tensor.dtype != torch.float32:
            kinds.add(str(tensor.dtype)[6:])
        sound[name] = tensor.to(torch.float32)
        if not torch.isfinite(sound[name]).all():
            raise CheckpointError(
                f"The tensor {shown(name)} holds numbers too large for float32, in which networks are run."
            )
    if not bare and not any(tensor.dim() >= 2 for tensor in sound.values()):
        raise CheckpointError(f"No weights of a network were found in the file; {WANTED}.")
    notes = [f"The weights were {' and '.join(sorted(kinds))} and are used as float32."] if kinds else []
    if ignored:
        more = f" and {len(ignored) - 5} more" if len(ignored) > 5 else ""
        notes.append(f"Tensors that no layer needs were ignored: {', '.join(map(shown, ignored[:5]))}{more}.")
    if any(_ROUNDING.search(name) for name in ignored):
        notes.append(
            "The network was trained for quantisation, whose rounding and scaling are not read: as it stands here it "
            "is another function than its author's."
        )
    folded, how = fold(sound)
    return State(path, without_prefix(folded), (*notes, *how))


def fold(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Weights that are stored in parts, put together as in evaluation, and sentences about it.

    Weight norm is g v / |v|, each output by itself; spectral norm divides by u' W v with the stored u and v; pruning
    multiplies with its mask. Raises CheckpointError for parts that are none of these.
    """
    parts: dict[str, dict[str, Tensor]] = {}
    folded: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        found = re.fullmatch(r"(.*?)\.?parametrizations\.(weight|bias)\.(.+)", name)
        found = found or re.fullmatch(r"(.*?)\.?(weight|bias)_(orig|mask|g|v|u)", name)
        if found is None:
            folded[name] = tensor
            continue
        whole = f"{found[1]}.{found[2]}" if found[1] else found[2]
        parts.setdefault(whole, {})[found[3]] = tensor
        folded.setdefault(whole, tensor)  # keeps the place
    how: dict[str, list[str]] = {}
    for name, one in parts.items():
        try:
            what, folded[name] = _whole(one)
        except (RuntimeError, KeyError, IndexError) as error:
            raise CheckpointError(
                f"The tensor {shown(name)} is stored in parts ({', '.join(map(shown, sorted(one)))}) that are neither "
                f"weight norm, spectral norm nor pruning; save the network without them."
            ) from error
        how.setdefault(what, []).append(name)
    return folded, [f"Folded from {what}: {', '.join(map(shown, names[:5]))}." for what, names in how.items()]


def _whole(parts: Mapping[str, Tensor]) -> tuple[str, Tensor]:
    if set(parts) in ({"g", "v"}, {"original0", "original1"}):
        size, direction = (parts["g"], parts["v"]) if "g" in parts else (parts["original0"], parts["original1"])
        along = [axis for axis in range(direction.dim()) if size.dim() != direction.dim() or size.shape[axis] == 1]
        return "weight norm", size * direction / torch.linalg.vector_norm(direction, dim=along, keepdim=True)
    if set(parts) == {"orig", "mask"}:
        return "pruning", parts["orig"] * parts["mask"]
    names = ("orig", "u", "v") if "u" in parts else ("original", "0._u", "0._v")
    if set(parts) == set(names):
        weight, left, right = (parts[name] for name in names)
        return "spectral norm", weight / (left @ (weight.flatten(1) @ right))
    raise KeyError("no such parts")


def without_prefix(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names without the wrappings that every one of them carries, such as DataParallel's `module.`.

    What is left of each name still has a layer and a tensor of it: `fc.weight`.
    """
    for _ in range(_DEEPEST):
        first = {name.split(".")[0] for name in tensors}
        if len(first) > 1 or any(name.count(".") < 2 for name in tensors):
            break
        tensors = {name.partition(".")[2]: tensor for name, tensor in tensors.items()}
    return tensors
