"""Checks what a checkpoint would make ``torch.load`` allocate, before it is read.

Torch refuses to run code, but not to fill memory: 54 bytes may name a ``bytearray`` of any size, a tensor of
any shape, or a hundred thousand copies of one list. Here the pickles of a file are scanned without building
anything, and only the names and sizes that tensors and plain values need are accepted.
"""

from __future__ import annotations

import io
import pickle
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from dsm.limits import PICKLE_TABLE
from dsm.models.inert import Reader, Storage

_ZIP = b"PK\x03\x04"
# The numbers at the start of files of torch before 1.6: three pickles before that of the content.
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
# Other names that torch reads; none takes more memory than its arguments.
_HARMLESS = {
    "torch.Size", "torch.device", "collections.Counter", "_codecs.encode",
    "builtins.set", "__builtin__.set", "builtins.complex", "__builtin__.complex",
    *(str(kind) for kind in vars(torch).values() if isinstance(kind, torch.dtype)),
}  # fmt: skip


class _Scan(Reader):
    """Reads a pickle, but with tensors without numbers.

    Args:
        sizes: bytes that the file stores under each key; None if they are known only after the pickle.
    """

    def __init__(self, file: io.BytesIO, sizes: Mapping[str, int] | None) -> None:
        super().__init__(file, lambda key, dtype: torch.empty(0))
        self._sizes = sizes
        self.asked: dict[str, int] = {}
        """The bytes stored under each key, according to the pickle."""

    def persistent_load(self, about: Any) -> Any:
        """A storage of the size given in the pickle."""
        if not (isinstance(about, tuple) and len(about) in (5, 6) and about[0] == "storage"):
            raise pickle.UnpicklingError("a reference that is not to a storage")
        dtype, key, count = self.dtype_of(about[1]), about[2], about[4]
        if dtype is None or not isinstance(key, str) or type(count) is not int or not 0 <= count < 2**48:
            raise pickle.UnpicklingError("a storage of an unknown type")
        size = count * dtype.itemsize
        if self._sizes is not None and size > self._sizes.get(key, 0):
            raise ValueError("a storage larger than what is stored")
        self.asked[key] = max(size, self.asked.get(key, 0))
        return Storage(torch.empty(count, dtype=dtype, device="meta"))


def check_pickles(path: Path) -> None:
    """Raise an error if ``torch.load`` must not read a file.

    Raises:
        Exception: the file is broken, asks for more memory than its size, or, as an ``UnpicklingError`` of
            ``pickle``, holds objects besides tensors and plain values.
    """
    with path.open("rb") as file:
        if file.read(len(_ZIP)) == _ZIP:  # the same test as torch's
            skipped = _scan_zip(path)
        else:
            file.seek(0)
            skipped = _scan_old(path, file.read(PICKLE_TABLE))
    if others := skipped - _HARMLESS:
        raise pickle.UnpicklingError(f"it contains {sorted(others)[0]}")


def _scan_zip(path: Path) -> set[str]:
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        if any(one.compress_type != zipfile.ZIP_STORED for one in parts):
            raise ValueError("it is compressed, which torch never does")
        if sum(one.file_size for one in parts) > path.stat().st_size:
            raise ValueError("its parts overlap")
        skipped: set[str] = set()
        for table in (one for one in parts if one.filename.split("/")[-1] == "data.pkl"):
            if table.file_size > PICKLE_TABLE:
                raise ValueError("its table is too long")
            stored = f"{table.filename.removesuffix('data.pkl')}data/"
            sizes = {
                one.filename.removeprefix(stored): one.file_size
                for one in parts
                if one.filename.startswith(stored)
            }
            scan = _Scan(io.BytesIO(archive.read(table)), sizes)
            scan.load()
            _refuse_bytearray(scan.skipped)
            skipped |= scan.skipped.keys()
        return skipped


def _refuse_bytearray(names: Iterable[str]) -> None:
    if any(name.endswith(".bytearray") for name in names):
        raise ValueError("it asks for memory that no tensor needs")


def _scan_old(path: Path, begin: bytes) -> set[str]:
    try:
        with tarfile.open(path, "r:"):
            raise ValueError("it is a tar of torch before 0.2; save it again with a newer torch")
    except tarfile.TarError:
        pass
    file = io.BytesIO(begin)
    skipped: set[str] = set()
    asked: dict[str, int] = {}
    for expected in (_MAGIC, _PROTOCOL, None, None, None):  # the system's sizes, the content, and its keys
        scan = _Scan(file, None)
        found = scan.load()
        _refuse_bytearray(scan.skipped)
        if expected is not None and (type(found) is not int or found != expected):
            raise ValueError("it does not start like a file of torch")
        skipped |= scan.skipped.keys()
        asked |= scan.asked
    if sum(asked.values()) > path.stat().st_size:
        raise ValueError("its tensors are larger than the file")
    return skipped
