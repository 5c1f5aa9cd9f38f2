"""Safe reading of checkpoints that contain other objects besides tensors: only the tensors are built.

People save settings, numbers and whole objects with their weights (``argparse.Namespace``, numpy scalars,
OmegaConf, a scheduler), which ``torch.load`` refuses. Here every name in a file, apart from those of tensors,
becomes an empty object that does nothing when it is called, filled or changed: no code that the file names is
looked up, imported or run. The names of skipped objects are kept for the user. Tensors are found under
any keys.

Only torch's zip format (since 1.6) is read, and memory use never exceeds the size of the file.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from dsm.errors import without_control
from dsm.limits import DIMENSIONS, PICKLE_STEPS, PICKLE_TABLE, REPEATED_NUMBERS
from dsm.models.foreign import label_of

# Limits on depth and number of places, because a foreign file may nest endlessly.
_DEEPEST, _MOST_PLACES = 6, 256


def find_places(state: Any) -> dict[str, dict[str, Tensor]]:
    """The tensors of a checkpoint, grouped by their place in it.

    Returns:
        Keys that lead to a place, joined by dots (empty for the top) -> its tensors by name.
    """
    places: dict[str, dict[str, Tensor]] = {}
    visited: set[int] = set()
    todo: list[tuple[str, Any, int]] = [("", state, 0)]
    for nest, inside, depth in todo:
        # An object may contain itself.
        if id(inside) in visited or depth > _DEEPEST or len(places) >= _MOST_PLACES:
            continue
        visited.add(id(inside))
        if isinstance(inside, Inert):
            tensors = module_tensors(inside)
        elif isinstance(inside, Mapping):
            tensors = {str(name): value for name, value in inside.items() if isinstance(value, Tensor)}
            more = [(label_of(nest, str(key)), value, depth + 1) for key, value in inside.items()]
            todo += [one for one in more if isinstance(one[1], (Mapping, Inert))][:_MOST_PLACES]
        else:
            continue
        if tensors:
            places[nest] = tensors
    return places


def find_tensors(state: Any) -> dict[str, Tensor]:
    """The tensors at the place of a checkpoint with the most tensors; empty if there are none."""
    return max(find_places(state).values(), key=len, default={})


_DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
# Instructions that allocate memory before the data to fill it is read, or that refer outside the file.
_REFUSED = (
    pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER, pickle.EXT1, pickle.EXT2, pickle.EXT4,
    pickle.PERSID,
)  # fmt: skip


@dataclass(frozen=True)
class Foreign:
    """The content of a file without the objects that were not built."""

    state: Any
    skipped: list[str] = field(default_factory=list)
    """Types of these objects: ``argparse.Namespace``."""


class Inert:
    """Stands in for an object of any class: accepts everything and keeps only a module's tensors."""

    __slots__ = ("held",)
    held: Any

    def __new__(cls, *_: Any, **__: Any) -> Inert:
        instance = object.__new__(cls)
        instance.held = None
        return instance

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __call__(self, *_: Any, **__: Any) -> Inert:
        return Inert()

    def __setstate__(self, state: Any = None) -> None:
        if isinstance(self, Inert) and isinstance(state, dict):
            self.held = state

    def __setitem__(self, *_: Any) -> None:
        pass

    def append(self, *_: Any) -> None:
        pass

    def extend(self, *_: Any) -> None:
        pass

    def add(self, *_: Any) -> None:
        pass

    def __reduce_ex__(self, _: Any) -> Any:
        raise TypeError("an inert object cannot be saved")


class _Dict(dict[Any, Any]):
    """An ordered dict whose attributes cannot be set, so that a file cannot replace its methods."""

    __slots__ = ()

    def __setstate__(self, *_: Any) -> None:
        pass


class _Maker:
    """Wraps one of our functions that make tensors, so that a file cannot modify torch's."""

    __slots__ = ("_make",)
    _make: Callable[..., Any]

    def __init__(self, make: Callable[..., Any]) -> None:
        object.__setattr__(self, "_make", make)

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setattr__(self, *_: Any) -> None:
        pass

    def __setstate__(self, *_: Any) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Storage:
    """Numbers of one type, as stored in the file."""

    numbers: Tensor

    def __setstate__(self, *_: Any) -> None:
        pass


@dataclass(frozen=True, slots=True)
class _Kind:
    dtype: torch.dtype

    def __setstate__(self, *_: Any) -> None:
        pass


def _tensor(storage: Any = None, offset: Any = 0, size: Any = (), stride: Any = (), *_: Any) -> Any:
    """A view of a storage, which must contain it entirely; repeated numbers take no extra memory."""
    if not isinstance(storage, Storage):
        return Inert()
    places = [offset, *size, *stride]
    if (
        len(size) > DIMENSIONS
        or len(size) != len(stride)
        or not all(type(one) is int and 0 <= one < 2**48 for one in places)
    ):
        raise pickle.UnpicklingError("a tensor with an impossible shape")
    count = 1
    for side in size:
        count *= side
    last = offset + sum((side - 1) * step for side, step in zip(size, stride, strict=True))
    if count and last >= len(storage.numbers):
        raise pickle.UnpicklingError("a tensor larger than its storage")
    if not count:
        return storage.numbers.new_empty(size)
    return torch.as_strided(storage.numbers, size, stride, offset)


def _parameter(data: Any = None, *_: Any) -> Any:
    return data if isinstance(data, Tensor) else Inert()


def _from_type(function: Any = None, _kind: Any = None, arguments: Any = (), *_: Any) -> Any:
    """A tensor that was saved with extra attributes, without them."""
    return function(*arguments) if isinstance(function, _Maker) and isinstance(arguments, tuple) else Inert()


_TENSORS = (("torch._utils", "_rebuild_tensor"), ("torch._utils", "_rebuild_tensor_v2"))
_MAKERS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _from_type,
}


_PLAIN = (str, bytes, float, bool, type(None))
_SIZED = (str, bytes, list, tuple, dict, set, frozenset)


def _check_keys(keys: Iterable[Any]) -> None:
    """Refuse keys that are not plain: hashing or printing a tuple of tuples can take for ever."""
    for key in keys:
        inside = key if isinstance(key, tuple) else (key,)
        if not all(isinstance(one, _PLAIN) or _is_short(one) for one in inside):
            raise pickle.UnpicklingError("a key that is neither a string nor a number")


def _is_short(one: Any) -> bool:
    return isinstance(one, int) and abs(one) < 2**64


class _Counted:
    """A pickle with a limit on reads of single bytes, because each instruction is one."""

    def __init__(self, file: io.BytesIO) -> None:
        self._file, self._left = file, PICKLE_STEPS
        self.readline = file.readline

    def read(self, size: int = -1) -> bytes:
        if size == 1:
            self._left -= 1
            if self._left < 0:
                raise ValueError("its table has more instructions than any network needs")
        return self._file.read(size)


# Python's unpickler, because the C one allocates memory by the indices in a file.
class Reader(pickle._Unpickler):
    """Unpickles tensors and plain values; all else becomes inert.

    Args:
        file: the pickle, in memory.
        storage: the numbers stored under a key.
    """

    dispatch: ClassVar[dict[int, Any]] = {
        code: call
        for code, call in pickle._Unpickler.dispatch.items()
        if code not in {one[0] for one in _REFUSED}
    }

    def __init__(self, file: io.BytesIO, storage: Callable[[str, torch.dtype], Tensor]) -> None:
        super().__init__(_Counted(file), encoding="utf-8", errors="replace")
        self.skipped: dict[str, None] = {}
        self._storage = storage
        self._room = len(file.getbuffer()) + 2**20
        """How many more items calls may copy: a short pickle can copy a long list a million times."""
        self._repeats = REPEATED_NUMBERS

    def _tensor(self, storage: Any = None, *arguments: Any) -> Any:
        made = _tensor(storage, *arguments)
        if isinstance(made, Tensor):
            self._repeats -= max(made.numel() - len(storage.numbers), 0)
        if self._repeats < 0:
            raise ValueError("its tensors repeat far more numbers than the file contains")
        return made

    def _count(self, arguments: Any) -> None:
        if not isinstance(arguments, (tuple, list)):
            raise pickle.UnpicklingError("a call without arguments")
        self._room -= sum(len(one) for one in arguments if isinstance(one, _SIZED))
        if self._room < 0:
            raise ValueError("its calls copy far more than the file contains")

    def _load_frame(self) -> None:
        """Ignore frames: they only give the amount to read at once."""
        self.read(8)  # type: ignore[attr-defined]

    def _load_reduce(self) -> None:
        self._count(self.stack[-1])  # type: ignore[attr-defined]
        super().load_reduce()  # type: ignore[misc]

    def _instantiate(self, called: Any, arguments: Any) -> None:
        self._count(arguments)
        super()._instantiate(called, arguments)  # type: ignore[misc]

    def _load_setitem(self) -> None:
        _check_keys(self.stack[-2:-1])  # type: ignore[attr-defined]
        super().load_setitem()  # type: ignore[misc]

    def _load_setitems(self) -> None:
        _check_keys(self.stack[::2])  # type: ignore[attr-defined]
        super().load_setitems()  # type: ignore[misc]

    def _load_dict(self) -> None:
        _check_keys(self.stack[::2])  # type: ignore[attr-defined]
        super().load_dict()  # type: ignore[misc]

    def _load_members(self) -> None:
        _check_keys(self.stack)  # type: ignore[attr-defined]
        super().load_additems()  # type: ignore[misc]

    def _load_frozenset(self) -> None:
        _check_keys(self.stack)  # type: ignore[attr-defined]
        super().load_frozenset()  # type: ignore[misc]

    dispatch |= {
        pickle.FRAME[0]: _load_frame,
        pickle.REDUCE[0]: _load_reduce,
        pickle.SETITEM[0]: _load_setitem,
        pickle.SETITEMS[0]: _load_setitems,
        pickle.DICT[0]: _load_dict,
        pickle.ADDITEMS[0]: _load_members,
        pickle.FROZENSET[0]: _load_frozenset,
    }

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name; nothing is looked up or imported."""
        if (module, name) in _TENSORS:
            return _Maker(self._tensor)
        if (module, name) in _MAKERS:
            return _Maker(_MAKERS[module, name])
        if (module, name) == ("collections", "OrderedDict"):
            return _Dict
        if module in ("torch", "torch.storage") and name in _DTYPES:
            return _Kind(_DTYPES[name])
        self.skipped[without_control(f"{module}.{name}")[:100]] = None
        return Inert

    @staticmethod
    def dtype_of(kind: Any) -> torch.dtype | None:
        """The type that :meth:`find_class` gave for a kind of storage; None for anything else."""
        return kind.dtype if isinstance(kind, _Kind) else None

    def persistent_load(self, about: Any) -> Any:
        if not (isinstance(about, tuple) and len(about) == 5 and about[0] == "storage"):
            raise pickle.UnpicklingError("a reference that is not to a storage")
        kind, key = about[1], about[2]
        if not isinstance(kind, _Kind) or not isinstance(key, str):
            return Inert()
        return Storage(self._storage(key, kind.dtype))


def read_inert(path: Path) -> Foreign:
    """Read a file of ``torch.save``; anything but tensors, numbers, text and containers becomes inert.

    Raises:
        Exception: of many kinds, if the file is broken or malicious.
    """
    with zipfile.ZipFile(path) as archive:
        if any(one.compress_type != zipfile.ZIP_STORED for one in archive.infolist()):
            raise ValueError("it is compressed")
        if sum(one.file_size for one in archive.infolist()) > path.stat().st_size:
            raise ValueError("its parts overlap")
        (table,) = (one for one in archive.infolist() if one.filename.split("/")[1:] == ["data.pkl"])
        folder = table.filename.split("/")[0]
        if table.file_size > PICKLE_TABLE:
            raise ValueError("its table is too long")
        order = f"{folder}/byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise ValueError("it has another byte order")
        stored: dict[tuple[str, torch.dtype], Tensor] = {}

        def storage(key: str, dtype: torch.dtype) -> Tensor:
            if (key, dtype) not in stored:
                content = bytearray(archive.read(f"{folder}/data/{key}"))
                whole = len(content) // dtype.itemsize * dtype.itemsize
                empty = torch.empty(0, dtype=dtype)
                stored[key, dtype] = torch.frombuffer(content[:whole], dtype=dtype) if whole else empty
            return stored[key, dtype]

        reader = Reader(io.BytesIO(archive.read(table)), storage)
        return Foreign(reader.load(), list(reader.skipped))


def module_tensors(module: Inert, prefix: str = "", depth: int = 0) -> dict[str, Tensor]:
    """The state dict of a module that was saved whole (``torch.save(model, …)``)."""
    held = module.held
    if not isinstance(held, dict) or depth > 32:
        return {}
    tensors: dict[str, Tensor] = {}
    for kind in ("_parameters", "_buffers"):
        values = held.get(kind)
        if isinstance(values, Mapping):
            tensors |= {f"{prefix}{name}": one for name, one in values.items() if isinstance(one, Tensor)}
    children = held.get("_modules")
    if isinstance(children, Mapping):
        for name, one in children.items():
            if isinstance(one, Inert) and len(tensors) < 100_000:
                tensors |= module_tensors(one, f"{prefix}{name}.", depth + 1)
    return tensors
