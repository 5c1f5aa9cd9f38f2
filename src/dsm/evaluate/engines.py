"""Approximate search behind one small interface: FAISS and usearch propose rows, dsm compares them exactly.

Both store one byte per dimension, a quarter of float32. The rounding and the approximate search can only miss
neighbours; the cosines and their order are computed from the features themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from dsm.evaluate.nearest import Ids, Matrix, unit_rows
from dsm.evaluate.settings import EngineName
from dsm.extras import load_extra

CHUNK = 2**16
"""Number of rows to read and add at a time."""
SEARCHED_CELLS = 16
TRAINED_ON = 50
"""Number of rows per cell from which FAISS finds the cells."""
LINKS, EXPANSION_ADD, EXPANSION_SEARCH = 16, 64, 128
"""For usearch: neighbours of a row in the graph, and rows considered when adding and when searching."""
Told = Callable[[int], None]


class Engine(Protocol):
    """Proposes rows that are likely neighbours."""

    def candidates(self, unit: Matrix, k: int) -> Ids:
        """Rows (m, k) for unit queries (m, d), in any order; -1 if fewer are found."""


class Buildable(Engine, Protocol):
    """An engine of one library."""

    kind: str
    """A description of the index for users."""

    def add(self, rows: Matrix, told: Told = ...) -> None:
        """Append rows (n, d); ``told`` is called with the number of rows done."""

    def save(self, file: Path) -> None:
        """Write it in the library's own format."""


def chunks_of(rows: Matrix) -> Iterator[tuple[int, Matrix]]:
    """The first row of each chunk, and its unit rows in float32."""
    for first in range(0, len(rows), CHUNK):
        yield first, unit_rows(np.asarray(rows[first : first + CHUNK], np.float32))


def cells_of(count: int) -> int:
    """Number of cells for ``count`` rows: half the square root; more take longer to build than they save."""
    return max(int(np.sqrt(count) / 2), 1)


class FaissEngine:
    """FAISS's inverted file: rows in cells around centroids; the cells nearest to a query are searched."""

    def __init__(self, index: Any) -> None:
        self._index = index
        self.kind = f"IVF{index.nlist},SQ8"
        index.nprobe = SEARCHED_CELLS

    @classmethod
    def trained_on(cls, rows: Matrix) -> FaissEngine:
        """An empty engine with cells found from a sample of ``rows`` (n, d)."""
        faiss = _faiss()
        cells = cells_of(len(rows))
        chosen = np.random.default_rng(0).choice(
            len(rows), min(len(rows), TRAINED_ON * cells), replace=False, shuffle=False
        )
        flat = faiss.IndexFlatIP(rows.shape[1])
        index = faiss.IndexIVFScalarQuantizer(
            flat, rows.shape[1], cells, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
        )
        index.train(unit_rows(np.asarray(rows[np.sort(chosen)], np.float32)))
        return cls(index)

    @classmethod
    def opened(cls, file: Path) -> FaissEngine:
        """An index from a file, which is memory-mapped.

        Raises:
            ValueError: the file has another type of index. Also what FAISS raises.
        """
        faiss = _faiss()
        with file.open("rb") as opened:
            if opened.read(4) != b"IwSq":  # FAISS's mark for the type that this class writes
                raise ValueError("has another type of index")
        index = faiss.read_index(str(file), faiss.IO_FLAG_MMAP)
        if not isinstance(index, faiss.IndexIVFScalarQuantizer):
            raise ValueError("has another type of index")
        return cls(index)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def dim(self) -> int:
        return int(self._index.d)

    def add(self, rows: Matrix, told: Told = lambda done: None) -> None:
        """See :class:`Buildable`."""
        for first, unit in chunks_of(rows):
            self._index.add(unit)
            told(first + len(unit))

    def save(self, file: Path) -> None:
        """See :class:`Buildable`."""
        _faiss().write_index(self._index, str(file))

    def candidates(self, unit: Matrix, k: int) -> Ids:
        """See :class:`Engine`."""
        found: Ids = self._index.search(np.ascontiguousarray(unit, np.float32), k)[1]
        return found


class UsearchEngine:
    """usearch's graph (HNSW; Malkov & Yashunin 2020): moves from neighbour to neighbour towards a query."""

    kind = f"HNSW{LINKS},i8"

    def __init__(self, index: Any) -> None:
        self._index = index
        index.expansion_search = EXPANSION_SEARCH

    @classmethod
    def empty(cls, dim: int) -> UsearchEngine:
        """An engine without rows."""
        made = _usearch()(ndim=dim, metric="cos", dtype="i8", connectivity=LINKS, expansion_add=EXPANSION_ADD)
        return cls(made)

    @classmethod
    def opened(cls, file: Path) -> UsearchEngine:
        """An index from a file, which is memory-mapped.

        Raises:
            ValueError: the file has another type of index. Also what usearch raises.
        """
        index = _usearch().restore(str(file), view=True)
        if index is None or str(index.dtype) != "ScalarKind.I8" or "Cos" not in str(index.metric_kind):
            raise ValueError("has another type of index")
        return cls(index)

    def __len__(self) -> int:
        return len(self._index)

    @property
    def dim(self) -> int:
        return int(self._index.ndim)

    def add(self, rows: Matrix, told: Told = lambda done: None) -> None:
        """See :class:`Buildable`."""
        begin = len(self._index)
        for first, unit in chunks_of(rows):
            keys = np.arange(begin + first, begin + first + len(unit), dtype=np.uint64)
            self._index.add(keys, unit, copy=True, threads=torch.get_num_threads())
            told(first + len(unit))

    def save(self, file: Path) -> None:
        """See :class:`Buildable`."""
        self._index.save(str(file))

    def candidates(self, unit: Matrix, k: int) -> Ids:
        """See :class:`Engine`."""
        found = np.full((len(unit), k), -1, np.int64)
        for place, query in enumerate(np.ascontiguousarray(unit, np.float32)):
            keys = np.asarray(self._index.search(query, k, threads=1).keys).astype(np.int64)
            found[place, : len(keys)] = keys
        return found


def build(name: EngineName, rows: Matrix, told: Told = lambda done: None) -> FaissEngine | UsearchEngine:
    """An engine with rows (n, d), which are read chunk by chunk."""
    engine: FaissEngine | UsearchEngine
    engine = FaissEngine.trained_on(rows) if name == "faiss" else UsearchEngine.empty(rows.shape[1])
    engine.add(rows, told)
    return engine


def open_engine(name: EngineName, file: Path) -> FaissEngine | UsearchEngine:
    """An engine from a file; raises as the classes do."""
    return FaissEngine.opened(file) if name == "faiss" else UsearchEngine.opened(file)


def _faiss() -> Any:
    return load_extra("faiss", "faiss", package="FAISS", wanted_by="--engine faiss")


def _usearch() -> Any:
    return load_extra(
        "usearch.index", "usearch", package="usearch", wanted_by="--engine usearch", name="Index"
    )
