"""Features: one vector per video or per clip, in memory and in ``.npz``, ``.npy`` and ``.parquet`` files.

Files are written row by row, so a set need not fit into memory. Features in an ``.npz`` are memory-mapped:
opening one takes no time, and no memory for rows that are not used.
"""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsm.data.groups import find_groups
from dsm.data.lists import MOST_CLASSES, UNLABELLED
from dsm.errors import UserError, has_control, without_control
from dsm.extras import load_extra
from dsm.files import written_aside
from dsm.terminal import note


@dataclass(frozen=True)
class Features:
    """The features of the videos of a list, or of their clips."""

    features: NDArray[np.float32]
    """(n, d)."""
    labels: NDArray[np.int64]
    """(n,), -1 where unlabelled."""
    paths: list[str]
    """n; of clips, the video's."""
    meta: dict[str, Any] = field(default_factory=dict)
    """Where they come from: weights, list, clip, windows; ``classes``: what the labels are called."""
    times: NDArray[np.float32] | None = None
    """(n, 2), seconds: when each clip begins and ends, NaN where its video does not say; None for videos."""

    def __len__(self) -> int:
        return len(self.features)

    @property
    def dim(self) -> int:
        return self.features.shape[1]

    def part(self, rows: NDArray[np.int64]) -> Features:
        """Some of the rows, in the order given; copies, where the features are mapped from a file."""
        return replace(
            self,
            features=np.array(self.features[rows]),
            labels=self.labels[rows],
            paths=[self.paths[row] for row in rows],
            times=None if self.times is None else self.times[rows],
        )

    def identities(self) -> list[str]:
        """What tells videos apart: the path, under the folder it counts from where that is known."""
        root = str(self.meta.get("root", ""))
        return [f"{root}/{path}" for path in self.paths] if root else self.paths

    def groups(self, *, file: Path | None, regex: str) -> list[str] | None:
        """Which rows belong together: as a table or an expression says, else the clips of a video.

        None where every row stands alone.
        """
        found = find_groups(self.paths, file=file, regex=regex)
        return self.identities() if found is None and self.times is not None else found

    def need_labels(self, name: str) -> None:
        """Raise UserError where a label is missing; ``name`` says of what."""
        if len(self) == 0 or (self.labels < 0).any():
            raise UserError(f"the {name} must hold labelled videos; lists with `path label` give labels.")


def numbered_alike(one: Features, two: Features, names: tuple[str, str]) -> Features:
    """The second with its labels numbered as in the first, where both say what their labels are called.

    Each may be of a list with names of classes, which numbers them for itself. Classes that the first has
    not get numbers above its own. What was numbered otherwise is told.

    Args:
        names: what to call both.
    """
    first, second = _classes(one), _classes(two)
    shared = min(len(first), len(second))
    if not shared or first[:shared] == second[:shared] or two.labels.max(initial=-1) >= len(second):
        return two
    known = {name: label for label, name in enumerate(first)}
    most = max(len(first), int(one.labels.max(initial=-1)) + 1)
    for name in second:
        known.setdefault(name, max(most, len(known)))
        most = max(most, known[name] + 1)
    note(f"{names[1]}: its classes are numbered otherwise than those of {names[0]}; they are matched by name")
    told = np.array([*(known[name] for name in second), -1], np.int64)  # -1 picks the last: unlabelled
    classes = sorted(known, key=lambda name: known[name])
    meta = {**two.meta, "classes": classes if len(classes) == most else []}
    return replace(two, labels=told[two.labels], meta=meta)


def _classes(features: Features) -> list[str]:
    """What the labels are called; empty where the file does not say, or not for each of its own a name."""
    found = features.meta.get("classes")
    names = [str(name) for name in found] if isinstance(found, list) else []
    return names if len(set(names)) == len(names) else []


def same_dimensions(one: Features, two: Features, names: tuple[str, str]) -> None:
    """Raise UserError where two cannot be compared."""
    if one.dim != two.dim:
        raise UserError(
            f"{names[0]} and {names[1]} have {one.dim} and {two.dim} dimensions; "
            "extract both with the same weights."
        )


SUFFIXES = (".npz", ".npy", ".parquet")
MOST_PACKED = 100
"""How many times its size a file may hold: features hardly pack."""
# Rows looked at or written at a time.
ROWS = 65536
# An extra field that does nothing but align what comes after it, by the number of Android's zip tools.
_ALIGN, _TO = 0xD935, 64


def check_suffix(path: Path) -> None:
    """Raise UserError unless features can be written to a file of this name."""
    if path.suffix not in SUFFIXES:
        raise UserError(
            f"{path}: features are written as .npz or .parquet (with labels and paths) or .npy (bare array)."
        )
    if path.suffix == ".parquet":
        _pyarrow()


def save_features(path: str | Path, features: Features) -> None:
    """Write features; the ending of the name says how."""
    write_features(path, features, [features.features])


def write_features(path: str | Path, about: Features, chunks: Iterable[NDArray[np.float32]]) -> None:
    """Write features that come in chunks.

    Args:
        about: everything but the features: its ``features`` may be an empty (n, d) of which only the
            shape counts.
        chunks: (some, d) each, n rows together.
    """
    path = Path(path)
    check_suffix(path)
    write = {".npz": _write_npz, ".npy": _write_npy, ".parquet": _write_parquet}[path.suffix]
    with written_aside(path) as aside:
        write(aside, about, chunks)


def load_features(path: str | Path) -> Features:
    """Read an ``.npz`` or ``.parquet`` of features; pickled objects in it are refused.

    Returns:
        Of an ``.npz`` the features are mapped from the file, and cannot be written to.

    Raises:
        UserError: no such file, or not such a file.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such features file. `dsm extract` makes one.")
    if path.suffix == ".npy":
        raise UserError(
            f"{path}: a bare array has neither paths nor labels; extract to .npz or .parquet, or `dsm data "
            f"features {path} --videos LIST --out NEW.npz` gives it those of a list."
        )
    try:
        found = _read_parquet(path) if path.suffix == ".parquet" else _read_npz(path)
    except UserError:
        raise
    except Exception:  # a stranger's bytes can make the reader fail in any way
        raise UserError(
            f"{path}: is not a features file (.npz with features, labels, paths and meta{_held(path)}). What "
            f"another tool made, `dsm data features {path} --features NAME --labels NAME --paths NAME --out "
            "NEW.npz` takes over."
        ) from None
    shapes = (found.features.ndim, found.labels.ndim, len(found.labels), len(found.paths))
    times = found.times is None or found.times.shape == (len(found.features), 2)
    if shapes != (2, 1, len(found), len(found)) or not isinstance(found.meta, dict) or not times:
        raise UserError(f"{path}: its features, labels and paths do not belong together.")
    if len(found) and not UNLABELLED <= found.labels.min() <= found.labels.max() < MOST_CLASSES:
        raise UserError(f"{path}: labels must be from {UNLABELLED} to {MOST_CLASSES - 1}.")
    if has_control("".join(found.paths)):
        raise UserError(f"{path}: a path in it holds a control character.")
    chunks = (found.features[first : first + ROWS] for first in range(0, len(found), ROWS))
    if not all(np.isfinite(chunk).all() for chunk in chunks):
        raise UserError(f"{path}: some features are not finite numbers; extract them again.")
    return found


def _held(path: Path) -> str:
    """What a file holds in place of features, in words."""
    try:
        if path.suffix == ".parquet":
            names = list(_pyarrow().parquet.read_schema(path).names)
        else:
            with zipfile.ZipFile(path) as archive:
                names = [name.removesuffix(".npy") for name in archive.namelist()]
    except Exception:  # a stranger's bytes can make the reader fail in any way; the caller says that
        return ""
    return f"; it holds {without_control(', '.join(names[:10]))}"


def _write_npy(file: Path, about: Features, chunks: Iterable[NDArray[np.float32]]) -> None:
    with file.open("wb") as opened:
        _stream(opened, about.features.shape, chunks)


def _stream(opened: Any, shape: tuple[int, ...], chunks: Iterable[NDArray[np.float32]]) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_2_0(opened, header)
    for chunk in chunks:
        opened.write(np.ascontiguousarray(chunk, "<f4").data)


def _write_npz(file: Path, about: Features, chunks: Iterable[NDArray[np.float32]]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        entry = zipfile.ZipInfo("features.npy")
        # Local header, name, the 20 bytes of a large file's sizes: what comes then lies at a round place.
        filled = (-(30 + len(entry.filename) + 20 + 4)) % _TO
        entry.extra = struct.pack("<HH", _ALIGN, filled) + bytes(filled)
        with archive.open(entry, "w", force_zip64=True) as opened:
            _stream(opened, about.features.shape, chunks)
        others: dict[str, NDArray[Any]] = {
            "labels": about.labels,
            "paths": np.array(about.paths, dtype=np.str_),
            "meta": np.array(json.dumps(about.meta)),
        }
        if about.times is not None:
            others["times"] = about.times
        for name, array in others.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as opened:
                np.lib.format.write_array(opened, array, allow_pickle=False)


def _read_npz(path: Path) -> Features:
    with np.load(path, allow_pickle=False) as arrays:
        size = path.stat().st_size
        if sum(one.file_size for one in arrays.zip.infolist()) > MOST_PACKED * max(size, 2**20):
            raise ValueError("holds far more than its size")
        mapped = _mapped(path, arrays.zip.getinfo("features.npy"))
        features = np.ascontiguousarray(arrays["features"], np.float32) if mapped is None else mapped
        labels, named = arrays["labels"].astype(np.int64), arrays["paths"]
        if named.shape != (len(features),) or labels.shape != (len(features),):
            raise ValueError("its arrays do not go together")
        paths = named.tolist()
        times = arrays["times"].astype(np.float32) if "times" in arrays.files else None
        meta = json.loads(str(arrays["meta"]))
        return Features(features, labels, [str(name) for name in paths], meta, times)


def _mapped(path: Path, entry: zipfile.ZipInfo) -> NDArray[np.float32] | None:
    """The array of an entry as it lies in the archive; None where it is compressed, or of another type."""
    if entry.compress_type != zipfile.ZIP_STORED:
        return None
    with path.open("rb") as opened:
        opened.seek(entry.header_offset + 26)
        opened.seek(sum(struct.unpack("<HH", opened.read(4))), 1)
        version = np.lib.format.read_magic(opened)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, in_columns, kind = read[version](opened)
        if in_columns or kind != np.dtype("<f4") or len(shape) != 2 or 0 in shape:
            return None
        return np.memmap(path, kind, "r", opened.tell(), shape)


def _pyarrow() -> Any:
    load_extra("pyarrow.parquet", "parquet", package="pyarrow", wanted_by="a .parquet file")
    import pyarrow

    return pyarrow


def _write_parquet(file: Path, about: Features, chunks: Iterable[NDArray[np.float32]]) -> None:
    arrow = _pyarrow()
    dim = about.features.shape[1]
    fields = [("path", arrow.string()), ("label", arrow.int64())]
    if about.times is not None:
        fields += [("start", arrow.float32()), ("end", arrow.float32())]
    fields += [("feature", arrow.list_(arrow.float32(), dim))]
    schema = arrow.schema(fields, metadata={"dsm": json.dumps(about.meta)})
    with arrow.parquet.ParquetWriter(file, schema) as writer:
        first = 0
        for chunk in _at_most(chunks, ROWS):
            rows = slice(first, first + len(chunk))
            first += len(chunk)
            columns = [about.paths[rows], about.labels[rows]]
            if about.times is not None:
                columns += [about.times[rows, 0], about.times[rows, 1]]
            flat = arrow.array(np.ascontiguousarray(chunk, np.float32).reshape(-1))
            arrays = [*map(arrow.array, columns), arrow.FixedSizeListArray.from_arrays(flat, dim)]
            writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))


def _at_most(chunks: Iterable[NDArray[np.float32]], rows: int) -> Iterator[NDArray[np.float32]]:
    for chunk in chunks:
        for first in range(0, len(chunk), rows):
            yield chunk[first : first + rows]


def parquet_table(path: Path) -> Any:
    """A file of Parquet as pyarrow has it, unless it would take far more memory than its size.

    Raises:
        ValueError: it would. And what pyarrow raises.
    """
    arrow = _pyarrow()
    about = arrow.parquet.read_metadata(path)
    groups = [about.row_group(number) for number in range(about.num_row_groups)]
    columns = [group.column(number) for group in groups for number in range(group.num_columns)]
    # Equal values pack to nothing: both how many there are and how large they are.
    held = sum(max(8 * one.num_values, one.total_uncompressed_size) for one in columns)
    if held > MOST_PACKED * max(path.stat().st_size, 2**20):
        raise ValueError("holds far more than its size")
    return arrow.parquet.read_table(path)


def _read_parquet(path: Path) -> Features:
    table = parquet_table(path)
    column = table["feature"].combine_chunks()
    features = column.flatten().to_numpy().reshape(len(column), -1).astype(np.float32, copy=False)
    times = None
    if "start" in table.column_names:
        times = np.stack([table[name].to_numpy() for name in ("start", "end")], axis=1).astype(np.float32)
    meta = json.loads((table.schema.metadata or {})[b"dsm"])
    labels = table["label"].to_numpy().astype(np.int64)
    paths = table["path"].to_pylist()
    if not all(isinstance(one, str) for one in paths):
        raise ValueError("paths that are none")
    return Features(features, labels, paths, meta, times)
