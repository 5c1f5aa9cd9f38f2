"""Index files: an engine's index kept beside the features that it was built from.

``archive.npz.faiss`` belongs to ``archive.npz``. It contains the library's own format, then a line of JSON
that describes it, the length of that line, and a seal (:mod:`dsm.seals`). An index is derived from its
features: if it is damaged, or made from other features, it is built again.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from dsm.errors import UserError
from dsm.evaluate.engines import Engine, FaissEngine, UsearchEngine, build, open_engine
from dsm.evaluate.nearest import Ids, Matrix, nearest
from dsm.evaluate.settings import EngineName
from dsm.files import json_text, written_aside
from dsm.limits import INDEX_LINE
from dsm.runs.claims import hold_alone
from dsm.seals import BLANK, DamagedError, check_seal, fingerprint, seal
from dsm.terminal import note, progress, warn
from dsm.untrusted import checked, parse_json

EXACT_UP_TO = 100_000
"""A file with at most this many rows is searched exactly, without an index."""
_LENGTH = struct.Struct("<Q")
_FORMAT = 1


@dataclass(frozen=True)
class About:
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


def index_file(features: Path, name: EngineName) -> Path:
    """Where the index of a features file is kept."""
    return features.with_name(f"{features.name}.{name}")


def write_index(file: Path, engine: FaissEngine | UsearchEngine, name: EngineName, features: Path) -> None:
    """Write an engine's index, whole or not at all."""
    with written_aside(file) as aside:
        engine.save(aside)
        size = aside.stat().st_size
        about = About(_FORMAT, name, engine.kind, len(engine), engine.dim, fingerprint(features), size)
        line = json_text(asdict(about)).encode()
        with aside.open("ab") as opened:
            opened.write(line + _LENGTH.pack(len(line)) + BLANK.encode())
        seal(aside, size + len(line) + _LENGTH.size)


def read_about(file: Path) -> About:
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
    about = checked(parse_json(line.decode()), About, "the index")
    if about.format != _FORMAT or about.bytes != size - end - length:
        raise ValueError("is an index that this version of dsm cannot read")
    return about


def read_index(file: Path, name: EngineName, features: Path, shape: tuple[int, int]) -> Engine:
    """The engine in an index file.

    Args:
        features: the features file that it belongs to. shape: its (rows, d).

    Raises:
        OtherError: it was built from other features. DamagedError, ValueError: it cannot be used.
    """
    about = read_about(file)
    if (about.engine, about.rows, about.dim, about.features) != (name, *shape, fingerprint(features)):
        raise OtherError("was built from other features")
    engine = open_engine(name, file)
    if (len(engine), engine.dim) != shape:
        raise ValueError("its content does not match its description")
    return engine


def engine_beside(name: EngineName, features: Path, rows: Matrix) -> Engine:
    """The engine of a features file, from the index beside it, which is built if it is missing.

    Raises:
        UserError: another file is in its place, or the library is not installed.
    """
    file = index_file(features, name)
    if file.exists():
        try:
            return read_index(file, name, features, (len(rows), rows.shape[1]))
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
    with progress(f"index by {name}", len(rows)) as bar:
        write_index(file, build(name, rows, bar.update), name, features)
    return open_engine(name, file)  # memory-mapped, unlike the engine just built


class Parts:
    """The engines of several features files, whose rows follow one another."""

    def __init__(self, name: EngineName, files: Sequence[Path], counts: Sequence[int], rows: Matrix) -> None:
        """Open or build an engine of each file of more than :data:`EXACT_UP_TO` rows (see above).

        Args:
            counts: the rows of each file. rows: (sum of counts, d), those of all.
        """
        self._rows = rows
        self._parts: list[tuple[slice, Engine | None]] = []
        first = 0
        for file, count in zip(files, counts, strict=True):
            place = slice(first, first + count)
            engine = engine_beside(name, file, rows[place]) if count > EXACT_UP_TO else None
            self._parts.append((place, engine))
            first += count

    def candidates(self, unit: Matrix, k: int) -> Ids:
        """See :class:`~dsm.evaluate.engines.Engine`; for a file without an engine, the nearest rows."""
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
