"""Read a pickle as data: its opcodes are interpreted into plain values and nothing it names is imported or run."""

from __future__ import annotations

import io
import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from robustness_core.errors import CheckpointError, shown

_MOST_OPERATIONS = 4_000_000  # about four seconds; a state_dict needs some forty a tensor


WANTED = "save the weights with torch.save(model.state_dict(), ...) or as safetensors"


@dataclass(frozen=True)
class Global:
    """The name of something in Python (`torch.FloatStorage`), never the thing itself."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True)
class Storage:
    """A run of numbers in the file: `kind` is a dtype's name (float32), or `bytes` where the tensor says it."""

    key: str
    kind: str
    numel: int


@dataclass(frozen=True, eq=False)
class TensorSpec:
    """A view of a storage; offset, size and stride count elements of `kind`."""

    storage: Storage
    kind: str
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class Opaque:
    """A value that is no weight and is left unread, such as a date; `kind` is the name of what would make it."""

    kind: str = ""


@dataclass(eq=False)
class Inert:
    """What a pickle says of an object of some class: the name of the class and the object's attributes, as data.

    No such class is looked up and no such object is made.
    """

    kind: Global
    state: Any = None


_STORAGE_KINDS = {
    "FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool", "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128", "UntypedStorage": "bytes",
}  # fmt: skip
_DTYPES = {
    "float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64",
    "complex128", "uint16", "uint32", "uint64",
}  # fmt: skip
# Things that training scripts often store beside the weights. They stay unread: naming them runs nothing here.
_UNREAD = {
    "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct", "numpy.ndarray", "numpy.dtype", "_codecs.encode",
    "torch.device", "torch.Size", "torch.serialization._get_layout", "datetime.datetime", "datetime.timedelta",
    "pathlib.PosixPath", "pathlib.PurePosixPath", "pathlib.WindowsPath", "builtins.set", "__builtin__.set",
    "builtins.frozenset", "__builtin__.frozenset", "builtins.slice", "__builtin__.slice", "__builtin__.complex",
    "builtins.range", "__builtin__.xrange", "builtins.complex", "builtins.bytearray", "__builtin__.bytearray",
    "numpy.float64", "numpy.float32", "numpy.int64", "numpy.bool_", "collections.deque",
    "easydict.EasyDict", "yacs.config.CfgNode", "pytorch_lightning.utilities.parsing.AttributeDict",
    "lightning.fabric.utilities.data.AttributeDict", "lightning_fabric.utilities.data.AttributeDict",
    "lightning.pytorch.utilities.parsing.AttributeDict", "uuid.UUID", "datetime.date",
}  # fmt: skip
_SCALARS = {"numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"}
_RECONSTRUCTORS = {"copyreg._reconstructor", "copy_reg._reconstructor", "copyreg.__newobj__"}
_DICTS = {
    "collections.OrderedDict",
    "collections.defaultdict",
    "collections.Counter",
    "builtins.dict",
    "__builtin__.dict",
}
_TENSORS = {"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3"}
_PARAMETERS = {"_rebuild_parameter", "_rebuild_parameter_with_state"}
_OTHER_TENSORS = {
    "_rebuild_sparse_tensor": "a sparse",
    "_rebuild_sparse_csr_tensor": "a sparse",
    "_rebuild_qtensor": "a quantised",
    "_rebuild_nested_tensor": "a nested",
    "_rebuild_meta_tensor_no_storage": "an empty (meta)",
    "_rebuild_wrapper_subclass": "a wrapped",
    "_rebuild_device_tensor_from_numpy": "a foreign",
}


@dataclass
class _Machine:
    """The stack machine of the pickle protocol, on plain values."""

    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)
    copied: int = 0  # entries of dictionaries made from others

    def count(self, entries: int) -> None:
        """Raises CheckpointError for a pickle that copies one collection over and over."""
        self.copied += entries
        if self.copied > _MOST_OPERATIONS:
            raise CheckpointError(f"The file holds far more entries than the weights of a network need; {WANTED}.")

    def pop(self) -> Any:
        if not self.stack or (self.marks and len(self.stack) <= self.marks[-1]):
            raise IndexError("the stack is empty")
        return self.stack.pop()

    def top(self) -> Any:
        if not self.stack:
            raise IndexError("the stack is empty")
        return self.stack[-1]

    def since_mark(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items


def read_pickle(file: io.BytesIO) -> Any:
    """The value of the pickle at the position of `file`, which ends up behind it.

    Dicts, lists, tuples, numbers and texts come back as themselves, tensors as TensorSpec, everything else that is
    known to be harmless as Opaque. Raises CheckpointError if the pickle names anything else, or is damaged.
    """
    machine = _Machine()
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if count > _MOST_OPERATIONS:
                raise CheckpointError(f"The file holds far more entries than the weights of a network need; {WANTED}.")
            if opcode.name == "STOP":
                return machine.pop()
            step = _STEPS.get(opcode.name)
            if step is None:
                raise CheckpointError(f"The pickle in the file uses {opcode.name}, which weights never need; {WANTED}.")
            step(machine, argument)
    except CheckpointError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, EOFError):
        pass  # the name of what was wrong in the bytes tells a user nothing
    raise CheckpointError(f"The pickle in the file is damaged or cut short; {WANTED}.")


def _resolve(module: Any, name: Any) -> Any:
    """What a name in a pickle stands for: the name itself, or a refusal of what holds no plain weights."""
    if not isinstance(module, str) or not isinstance(name, str):
        raise TypeError("a name must be a text")
    found = Global(module, name)
    full = str(found)
    if module == "torch.storage" and name in ("UntypedStorage", "TypedStorage", "_UntypedStorage"):
        return Global("torch", "UntypedStorage")
    if full == "torch.storage._load_from_bytes":
        raise CheckpointError(f"The weights were written by pickle.dump, which is not read; {WANTED}.")
    if module == "torch._utils" and name in _OTHER_TENSORS:
        raise CheckpointError(f"The file holds {_OTHER_TENSORS[name]} tensor; only dense float weights are accepted.")
    return found


_NO_OBJECTS = ("os", "posix", "nt", "subprocess", "builtins", "__builtin__")  # modules whose names no weights need


def _of_class(found: Global) -> bool:
    """Whether a name looks like that of a class, an object of which may be kept as data."""
    return found.name[:1].isupper() and found.module.split(".")[0] not in _NO_OBJECTS


def _call(machine: _Machine, function: Any, arguments: Any) -> Any:
    """The value of a call that a pickle asks for, computed by this file's own rules."""
    if not isinstance(function, Global):
        return Opaque()
    if not isinstance(arguments, tuple):
        raise TypeError("a call needs a tuple")
    full = str(function)
    if full in _DICTS:
        pairs = arguments[-1] if arguments and isinstance(arguments[-1], list | dict) else []
        machine.count(len(pairs))
        made: dict[Any, Any] = {}
        for pair in pairs.items() if isinstance(pairs, dict) else pairs:
            _put(made, *pair)
        return made
    if function.module == "torch._utils" and function.name in _TENSORS:
        return _tensor(function.name, arguments)
    if function.module == "torch._utils" and function.name in _PARAMETERS:
        return arguments[0]
    if function.name == "_rebuild_from_type_v2":  # (function, type, arguments, state): a Parameter or a plain subclass
        return _call(machine, arguments[0], arguments[2])
    if full == "torch.nn.parameter.Parameter":
        return arguments[0] if arguments else Opaque()
    if full in _SCALARS and len(arguments) == 2 and isinstance(arguments[1], bytes) and len(arguments[1]) == 8:
        return struct.unpack("<d", arguments[1])[0]  # a score that NumPy computed; of float64 alone
    if full == "_codecs.encode" and len(arguments) == 2 and isinstance(arguments[0], str):
        return arguments[0].encode("latin1")
    if full == "torch.Size":
        return tuple(arguments[0][:8]) if arguments else ()
    if full in _RECONSTRUCTORS and arguments and isinstance(arguments[0], Global):
        return Inert(arguments[0])
    if full in _UNREAD or full.startswith("numpy.dtypes."):
        return Opaque(full)
    if not arguments and _of_class(function):  # an object to be filled with attributes; anything more is a call
        return Inert(function)
    raise CheckpointError(
        f"The file asks to call {shown(full)}, which weights never need, so nothing of it was run; {WANTED}."
    )


def _tensor(name: str, arguments: tuple[Any, ...]) -> TensorSpec:
    storage, offset, size, stride = arguments[:4]
    if not isinstance(storage, Storage):
        raise TypeError("a tensor needs a storage")
    kind = storage.kind
    if name == "_rebuild_tensor_v3":
        kind = arguments[6].name
    if kind not in _DTYPES:
        raise CheckpointError(f"The file holds numbers of the kind {shown(kind)}, which is not read; {WANTED}.")
    numbers = (offset, *size, *stride)
    if any(not isinstance(n, int) or isinstance(n, bool) or n < 0 or n >= 2**40 for n in numbers):
        raise CheckpointError(f"A tensor in the file has an impossible shape; {WANTED}.")
    if len(size) != len(stride) or len(size) > 8:
        raise CheckpointError(f"A tensor in the file has an impossible shape; {WANTED}.")
    return TensorSpec(storage, kind, offset, tuple(size), tuple(stride))


def _persistent(identity: Any) -> Storage | Global:
    """("storage", type, key, location, numel[, view]) of both containers that torch.save writes; or ("module", class,
    file, source) of old ones, whose source stays unread."""
    if identity[0] == "module" and isinstance(identity[1], Global):
        return identity[1]
    tag, kind, key, _, numel = identity[:5]
    if tag != "storage" or not isinstance(kind, Global) or not isinstance(key, str):
        raise TypeError("not a storage")
    if len(identity) > 5 and identity[5] is not None:
        raise CheckpointError(f"The file uses storage views of very old torch versions; {WANTED}.")
    if not isinstance(numel, int) or numel < 0:
        raise TypeError("not a size")
    return Storage(key, _STORAGE_KINDS[kind.name], numel)


def _put(target: Any, key: Any, value: Any) -> None:
    if isinstance(target, dict):
        if isinstance(key, int) and abs(key) >= 1 << 63:
            raise CheckpointError(f"The file names an entry by a number of over 64 bits, as no weights do; {WANTED}.")
        plain = isinstance(key, str | int | float | bool | None)
        target[key if plain else ("", len(target))] = value  # other keys name nothing, and hashing them may not end
    elif not isinstance(target, Opaque | Inert):
        raise TypeError("not a dict")


def _put_all(machine: _Machine) -> None:
    items = machine.since_mark()
    for key, value in zip(items[::2], items[1::2], strict=True):
        _put(machine.top(), key, value)


def _extend(target: Any, items: list[Any]) -> None:
    if isinstance(target, list):
        target.extend(items)
    elif not isinstance(target, Opaque | Inert):
        raise TypeError("not a list")


def _push(value: Callable[[_Machine, Any], Any]) -> Callable[[_Machine, Any], None]:
    return lambda machine, argument: machine.stack.append(value(machine, argument))


def _tuple(count: int) -> Callable[[_Machine, Any], None]:
    def step(machine: _Machine, _: Any) -> None:
        machine.stack.append(tuple(reversed([machine.pop() for _ in range(count)])))

    return step


def _pairs(items: list[Any]) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    for key, value in zip(items[::2], items[1::2], strict=True):
        _put(made, key, value)
    return made


def _global_from_stack(machine: _Machine, _: Any) -> Any:
    name, module = machine.pop(), machine.pop()
    return _resolve(module, name)


def _reduce(machine: _Machine, _: Any) -> Any:
    arguments, function = machine.pop(), machine.pop()
    return _call(machine, function, arguments)


def _new_with_keywords(machine: _Machine, _: Any) -> Any:
    _, arguments, function = machine.pop(), machine.pop(), machine.pop()
    return _call(machine, function, arguments)


def _build(machine: _Machine, _: Any) -> None:
    """Attributes of an object; those of a state_dict, its _metadata, are never needed."""
    state, made = machine.pop(), machine.top()
    if isinstance(made, Inert):
        made.state = state


def _memoize(machine: _Machine, _: Any) -> None:
    machine.memo[len(machine.memo)] = machine.top()


def _memo_put(machine: _Machine, argument: Any) -> None:
    machine.memo[int(argument)] = machine.top()


def _argument(_: _Machine, argument: Any) -> Any:
    return argument


_VALUES = (
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "BYTEARRAY8",
)  # fmt: skip
_STEPS: dict[str, Callable[[_Machine, Any], object]] = {
    **{name: _push(_argument) for name in _VALUES},
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "MARK": lambda machine, _: machine.marks.append(len(machine.stack)),
    "POP": lambda machine, _: machine.pop(),
    "POP_MARK": lambda machine, _: machine.since_mark(),
    "DUP": _push(lambda machine, _: machine.top()),
    "NONE": _push(lambda machine, _: None),
    "NEWTRUE": _push(lambda machine, _: True),
    "NEWFALSE": _push(lambda machine, _: False),
    "EMPTY_LIST": _push(lambda machine, _: []),
    "EMPTY_DICT": _push(lambda machine, _: {}),
    "EMPTY_TUPLE": _push(lambda machine, _: ()),
    "EMPTY_SET": _push(lambda machine, _: Opaque()),
    "LIST": _push(lambda machine, _: machine.since_mark()),
    "TUPLE": _push(lambda machine, _: tuple(machine.since_mark())),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "DICT": _push(lambda machine, _: _pairs(machine.since_mark())),
    "FROZENSET": _push(lambda machine, _: machine.since_mark() or Opaque()),
    "ADDITEMS": lambda machine, _: machine.since_mark(),
    "APPEND": lambda machine, _: _extend(machine.stack[-2], [machine.pop()]),
    "APPENDS": lambda machine, _: _extend(machine.stack[machine.marks[-1] - 1], machine.since_mark()),
    "SETITEM": lambda machine, _: _put(machine.stack[-3], *reversed([machine.pop(), machine.pop()])),
    "SETITEMS": lambda machine, _: _put_all(machine),
    "PUT": _memo_put,
    "BINPUT": _memo_put,
    "LONG_BINPUT": _memo_put,
    "MEMOIZE": _memoize,
    "GET": _push(lambda machine, argument: machine.memo[int(argument)]),
    "BINGET": _push(lambda machine, argument: machine.memo[argument]),
    "LONG_BINGET": _push(lambda machine, argument: machine.memo[argument]),
    "GLOBAL": _push(lambda machine, argument: _resolve(*argument.split(" ", 1))),
    "STACK_GLOBAL": _push(_global_from_stack),
    "INST": _push(lambda machine, name: _call(machine, _resolve(*name.split(" ", 1)), tuple(machine.since_mark()))),
    "OBJ": _push(lambda machine, _: _object(machine, machine.since_mark())),
    "REDUCE": _push(_reduce),
    "NEWOBJ": _push(_reduce),
    "NEWOBJ_EX": _push(_new_with_keywords),
    "BUILD": _build,
    "BINPERSID": _push(lambda machine, _: _persistent(machine.pop())),
}


def _object(machine: _Machine, items: list[Any]) -> Any:
    return _call(machine, items[0], tuple(items[1:]))
