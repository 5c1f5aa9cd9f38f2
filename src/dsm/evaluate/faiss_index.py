"""Approximate search: FAISS proposes rows, dsm compares them exactly.

FAISS keeps rows as one byte per dimension, a quarter of float32. So it may fail to propose a near row; the
cosines and their order come from the features themselves.

The index of ``archive.npz`` is kept beside it as ``archive.npz.faiss``: what FAISS writes, then a line of
JSON that says what it is, the length of that line, and a seal (``dsm/seals.py``). An index that is damaged,
or of other features, is built again.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dsm.errors import UserError
from dsm.evaluate.nearest import Ids, Matrix, nearest, unit_rows
from dsm.extras import load_extra
from dsm.files import json_text, written_aside
from dsm.limits import INDEX_LINE
from dsm.runs.claims import hold_alone
from dsm.seals import BLANK, DamagedError, check_seal, fingerprint, seal
from dsm.terminal import note, progress, warn
from dsm.untrusted import checked, parse_json

EXACT_UP_TO = 100_000
"""A file with at most this many rows is searched exactly, without an index."""
ENGINE = "faiss"
CHUNK = 2**16
"""Number of rows to read and add at a time."""
SEARCHED_CELLS = 16
TRAINED_ON = 50
"""Number of rows per cell from which FAISS finds the cells."""
Told = Callable[[int], None]
_LENGTH = struct.Struct("<Q")
_FORMAT = 1


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
        """Append rows (n, d); ``told`` is called with the number of rows done."""
        for first, unit in chunks_of(rows):
            self._index.add(unit)
            told(first + len(unit))

    def save(self, file: Path) -> None:
        """Write it as FAISS does."""
        _faiss().write_index(self._index, str(file))

    def candidates(self, unit: Matrix, k: int) -> Ids:
        """Rows (m, k) for unit queries (m, d), in any order; -1 if fewer are found."""
        found: Ids = self._index.search(np.ascontiguousarray(unit, np.float32), k)[1]
        return found


def build(rows: Matrix, told: Told = lambda done: None) -> FaissEngine:
    """An engine with rows (n, d), which are read chunk by chunk."""
    engine = FaissEngine.trained_on(rows)
    engine.add(rows, told)
    return engine


def _faiss() -> Any:
    return load_extra("faiss", "faiss", package="FAISS", wanted_by="--engine faiss")


@dataclass(frozen=True)
class IndexFacts:
    """The description in an index file."""

    format: int
    engine: str
    kind: str
    rows: int
    dim: int
    features: str
    """The fingerprint of the features file."""
    bytes: int
    """Length of the library's part, in bytes."""


class OtherError(ValueError):
    """An index file of dsm, but not of these features."""


def index_file(features: Path) -> Path:
    """Where the index of a features file is kept."""
    return features.with_name(f"{features.name}.{ENGINE}")


def write_index(file: Path, engine: FaissEngine, features: Path) -> None:
    """Write an engine's index, whole or not at all."""
    with written_aside(file) as aside:
        engine.save(aside)
        size = aside.stat().st_size
        about = IndexFacts(_FORMAT, ENGINE, engine.kind, len(engine), engine.dim, fingerprint(features), size)
        line = json_text(asdict(about)).encode()
        with aside.open("ab") as opened:
            opened.write(line + _LENGTH.pack(len(line)) + BLANK.encode())
        seal(aside, size + len(line) + _LENGTH.size)


def read_about(file: Path) -> IndexFacts:
    """Read the description in an index file, after checking its size and seal.

    Raises:
        DamagedError: it has changed. ValueError: it is not an index file.
    """
    size = file.stat().st_size
    end = len(BLANK) + _LENGTH.size
    with file.open("rb") as opened:
        opened.seek(max(size - end, 0))
        tail = opened.read()
        length = _LENGTH.unpack(tail[: _LENGTH.size])[0] if len(tail) == end else 0
        if not 0 < length <= min(INDEX_LINE, size - end):
            raise ValueError("is not an index of dsm")
        opened.seek(size - end - length)
        line = opened.read(length)
    check_seal(file, size - len(BLANK))
    about = checked(parse_json(line.decode()), IndexFacts, "the index")
    if about.format != _FORMAT or about.bytes != size - end - length:
        raise ValueError("is an index that this version of dsm cannot read")
    return about


def read_index(file: Path, features: Path, shape: tuple[int, int]) -> FaissEngine:
    """The engine in an index file.

    Args:
        features: the features file that it belongs to. shape: its (rows, d).

    Raises:
        OtherError: it was built from other features. DamagedError, ValueError: it cannot be used.
    """
    about = read_about(file)
    if (about.engine, about.rows, about.dim, about.features) != (ENGINE, *shape, fingerprint(features)):
        raise OtherError("was built from other features")
    engine = FaissEngine.opened(file)
    if (len(engine), engine.dim) != shape:
        raise ValueError("its content does not match its description")
    return engine


def engine_beside(features: Path, rows: Matrix) -> FaissEngine:
    """The engine of a features file, from the index beside it, which is built if it is missing.

    Raises:
        UserError: another file is in its place, or FAISS is not installed.
    """
    file = index_file(features)
    if file.exists():
        try:
            return read_index(file, features, (len(rows), rows.shape[1]))
        except OtherError:
            note(f"{file}: was built from other features than {features} now has; building it again")
        except DamagedError:
            warn(f"{file}: is damaged (its checksum differs); building it again.")
        except UserError:
            raise
        except Exception as error:  # a library that reads an untrusted file can fail in any way
            raise UserError(
                f"{file}: cannot be used as the index of {features} ({error}); remove it to build it again."
            ) from None
    hold_alone(file)
    with progress("FAISS index", len(rows)) as bar:
        write_index(file, build(rows, bar.update), features)
    return FaissEngine.opened(file)  # mapped, while what was built is all in memory


class Parts:
    """The engines of several features files, whose rows follow one another."""

    def __init__(self, files: Sequence[Path], counts: Sequence[int], rows: Matrix) -> None:
        """Open or build an engine of each file of more than :data:`EXACT_UP_TO` rows (see above).

        Args:
            counts: the rows of each file. rows: (sum of counts, d), those of all.
        """
        self._rows = rows
        self._parts: list[tuple[slice, FaissEngine | None]] = []
        first = 0
        for file, count in zip(files, counts, strict=True):
            place = slice(first, first + count)
            engine = engine_beside(file, rows[place]) if count > EXACT_UP_TO else None
            self._parts.append((place, engine))
            first += count

    def candidates(self, unit: Matrix, k: int) -> Ids:
        """Rows (m, about k per file) for unit queries (m, d), -1 where fewer are found; of a file without an
        engine, the nearest rows.
        """
        found = []
        for place, engine in self._parts:
            count = place.stop - place.start
            if engine is None:
                rows = nearest(self._rows[place], unit, k).places
            else:
                rows = engine.candidates(unit, min(k, count))
            known = (rows >= 0) & (rows < count)  # an index file may contain any number
            found.append(np.where(known, rows + place.start, -1))
        return np.concatenate(found, 1)
