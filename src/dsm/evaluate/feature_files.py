"""Files of features: writing and reading ``.npz``, ``.npy`` and ``.parquet``.

Files are written in chunks, so features need not fit into memory. Features in an ``.npz`` are memory-mapped:
opening a file takes no time, and unused rows take no memory.
"""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from dsm.data.list_format import UNLABELLED
from dsm.errors import UserError, first_line, has_control, without_control
from dsm.evaluate.features import Features
from dsm.extras import load_extra
from dsm.files import written_aside
from dsm.inputs import FEATURES
from dsm.limits import MOST_CLASSES, PATH_LENGTH
from dsm.seals import DamagedError, check_zip, room_of, seal_zip
from dsm.untrusted import checked, parse_json

SUFFIXES = (".npz", ".npy", ".parquet")
# Rows read or written at a time.
ROWS = 65536
# An extra field that aligns the data after it; the number is the one that Android's zip tools use.
_ALIGN, _TO = 0xD935, 64


class Meta(TypedDict, total=False):
    """The fields of ``meta`` that are read, whatever tool wrote them; others are kept unchanged."""

    run: str
    weights: str | None
    backbone: str | None
    encoder: str
    extraction: dict[str, Any]
    files: str
    init: str
    seed: int
    root: str
    below: str
    clip: dict[str, Any]
    windows: int
    crops: int
    every: float
    classes: list[str]


def check_suffix(path: Path) -> None:
    """Raise UserError unless features can be written to a file of this name."""
    if path.suffix not in SUFFIXES:
        raise UserError(
            f"{path}: features are written as .npz or .parquet (with labels and paths) or .npy (array only)."
        )
    if path.suffix == ".parquet":
        pyarrow()


def save_features(path: str | Path, features: Features) -> None:
    """Write features; the suffix sets the format."""
    write_features(path, features, [features.features])


def write_features(path: str | Path, about: Features, chunks: Iterable[NDArray[np.float32]]) -> None:
    """Write features that come in chunks.

    Args:
        about: everything but the features; of its ``features``, only the shape (n, d) and, for ``.npz``,
            whether they are float16 are used.
        chunks: (rows, d) each, n rows in total.
    """
    path = Path(path)
    check_suffix(path)
    write = {".npz": _write_npz, ".npy": _write_npy, ".parquet": write_parquet}[path.suffix]
    with written_aside(path) as aside:
        write(aside, about, chunks)
        if path.suffix == ".npz":
            seal_zip(aside)


def load_features(path: str | Path, *, half: bool = False) -> Features:
    """Read features from an ``.npz`` or ``.parquet`` file; pickled objects are refused.

    Args:
        half: keep float16, mapped from the file, rather than convert it to float32.

    Returns:
        The features; those of an ``.npz`` are mapped from the file and read-only.

    Raises:
        UserError: there is no such file, or it is not a features file.
    """
    path = Path(path)
    FEATURES.check(path)
    if path.suffix == ".npy":
        raise UserError(
            f"{path}: a bare array has no paths or labels. Extract to .npz or .parquet, or add those "
            f"of a list with `dsm data features {path} --videos LIST --out NEW.npz`."
        )
    try:
        loaded = _read_parquet(path) if path.suffix == ".parquet" else _read_npz(path)
    except UserError:
        raise
    except DamagedError:
        raise UserError(f"{path}: is damaged (its checksum differs); extract the features again.") from None
    except Exception as error:  # an untrusted file can make the reader fail in any way
        if "CRC checksum" in str(error):  # a page of a Parquet file is damaged
            raise UserError(
                f"{path}: is damaged ({first_line(error)}); extract the features again."
            ) from None
        raise UserError(
            f"{path} is not a features file (.npz with features, labels, paths and meta{_held(path)}). "
            f"Import another tool's file with `dsm data features {path} --features NAME --labels NAME "
            "--paths NAME --out NEW.npz`."
        ) from None
    try:
        loaded = replace(loaded, meta=dict(checked(loaded.meta, Meta, "meta")))
    except ValueError as error:
        raise UserError(f"{path}: its meta is not as dsm writes it ({error}).") from None
    shapes = (loaded.features.ndim, loaded.labels.ndim, len(loaded.labels), len(loaded.paths))
    times = loaded.times is None or loaded.times.shape == (len(loaded.features), 2)
    if shapes != (2, 1, len(loaded), len(loaded)) or not times:
        raise UserError(f"{path}: the shapes of its features, labels and paths do not match.")
    if len(loaded) and not UNLABELLED <= loaded.labels.min() <= loaded.labels.max() < MOST_CLASSES:
        raise UserError(f"{path}: labels must be from {UNLABELLED} to {MOST_CLASSES - 1}.")
    check_paths(loaded.paths, f"{path}: one of its paths")
    chunks = (loaded.features[first : first + ROWS] for first in range(0, len(loaded), ROWS))
    if not all(np.isfinite(chunk).all() for chunk in chunks):
        raise UserError(f"{path}: some features are not finite numbers; extract them again.")
    if loaded.features.dtype != np.float32 and not half:
        loaded = replace(loaded, features=np.asarray(loaded.features, np.float32))
    return loaded


def check_paths(paths: Sequence[str], which: str) -> None:
    """Raise UserError if a path has a control character or is too long; ``which`` starts the message."""
    if max(map(len, paths), default=0) > PATH_LENGTH:  # in files, every path takes as much as the longest
        raise UserError(f"{which} has more than {PATH_LENGTH} characters.")
    if has_control("".join(paths)):
        raise UserError(f"{which} contains a control character.")


def _held(path: Path) -> str:
    """The names of the arrays in a file, for a message; empty if it cannot be read."""
    try:
        if path.suffix == ".parquet":
            names = list(pyarrow().parquet.read_schema(path).names)
        else:
            with zipfile.ZipFile(path) as archive:
                names = [name.removesuffix(".npy") for name in archive.namelist()]
    except Exception:  # an untrusted file can make the reader fail in any way; the caller reports that
        return ""
    return f"; this file has {without_control(', '.join(names[:10]))}"


def _write_npy(file: Path, about: Features, chunks: Iterable[NDArray[np.float32]]) -> None:
    with file.open("wb") as opened:
        _stream(opened, about.features.shape, chunks)


def _stream(
    opened: Any, shape: tuple[int, ...], chunks: Iterable[NDArray[np.float32]], kind: str = "<f4"
) -> None:
    header = {"descr": kind, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_2_0(opened, header)
    for chunk in chunks:
        with np.errstate(over="ignore"):
            written = np.ascontiguousarray(chunk, kind)
        if kind == "<f2" and np.isinf(written).any() and np.isfinite(chunk).all():
            raise UserError("some features are above 65504, the largest float16; remove --half.")
        opened.write(written.data)


def _write_npz(file: Path, about: Features, chunks: Iterable[NDArray[np.float32]]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        entry = zipfile.ZipInfo("features.npy")
        # Align the data after the local header, the name and the 20 bytes of a large file's sizes.
        filled = (-(30 + len(entry.filename) + 20 + 4)) % _TO
        entry.extra = struct.pack("<HH", _ALIGN, filled) + bytes(filled)
        with archive.open(entry, "w", force_zip64=True) as opened:
            kind = "<f2" if about.features.dtype == np.float16 else "<f4"
            _stream(opened, about.features.shape, chunks, kind)
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
        if sum(one.file_size for one in arrays.zip.infolist()) > room_of(path):
            raise ValueError("holds far more than its size")
        check_zip(path)
        mapped = _mapped(path, arrays.zip.getinfo("features.npy"))
        features = np.ascontiguousarray(arrays["features"], np.float32) if mapped is None else mapped
        labels, named = arrays["labels"].astype(np.int64), arrays["paths"]
        if named.shape != (len(features),) or labels.shape != (len(features),):
            raise ValueError("the shapes of its arrays do not match")
        paths = named.tolist()
        times = arrays["times"].astype(np.float32) if "times" in arrays.files else None
        meta = parse_json(str(arrays["meta"]))
        return Features(features, labels, [str(name) for name in paths], meta, times)


def _mapped(path: Path, entry: zipfile.ZipInfo) -> NDArray[np.float32] | None:
    """The array of an entry, mapped from the archive; None if it is compressed or of another type."""
    if entry.compress_type != zipfile.ZIP_STORED:
        return None
    with path.open("rb") as opened:
        opened.seek(entry.header_offset + 26)
        opened.seek(sum(struct.unpack("<HH", opened.read(4))), 1)
        version = np.lib.format.read_magic(opened)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, in_columns, kind = read[version](opened)
        if in_columns or kind not in (np.dtype("<f4"), np.dtype("<f2")) or len(shape) != 2 or 0 in shape:
            return None
        return np.memmap(path, kind, "r", opened.tell(), shape)


def pyarrow() -> Any:
    """The module pyarrow, with its ``parquet``.

    Raises:
        UserError: it is not installed.
    """
    load_extra("pyarrow.parquet", "parquet", package="pyarrow", wanted_by="a .parquet file")
    return load_extra("pyarrow", "parquet", package="pyarrow", wanted_by="a .parquet file")


def write_parquet(
    file: Path,
    about: Features,
    chunks: Iterable[NDArray[np.float32]],
    more: Mapping[str, Sequence[str | None]] = MappingProxyType({}),
) -> None:
    """Write the tables of :func:`arrow_tables` to a file."""
    schema, tables = arrow_tables(about, chunks, more)
    with pyarrow().parquet.ParquetWriter(file, schema, write_page_checksum=True) as writer:
        for table in tables:
            writer.write_table(table)


def arrow_tables(
    about: Features,
    chunks: Iterable[NDArray[np.float32]],
    more: Mapping[str, Sequence[str | None]] = MappingProxyType({}),
) -> tuple[Any, Iterator[Any]]:
    """A pyarrow schema and tables of up to ``ROWS`` rows, as :func:`write_features` writes them.

    Args:
        more: further text columns, n values each.
    """
    arrow = pyarrow()
    dim = about.features.shape[1]
    fields = [("path", arrow.string()), ("label", arrow.int64())]
    fields += [(name, arrow.string()) for name in more]
    if about.times is not None:
        fields += [("start", arrow.float32()), ("end", arrow.float32())]
    fields += [("feature", arrow.list_(arrow.float32(), dim))]
    schema = arrow.schema(fields, metadata={"dsm": json.dumps(about.meta)})

    def tables() -> Iterator[Any]:
        first = 0
        for chunk in _at_most(chunks, ROWS):
            rows = slice(first, first + len(chunk))
            first += len(chunk)
            columns: list[Any] = [about.paths[rows], about.labels[rows]]
            arrays = [
                *map(arrow.array, columns),
                *(arrow.array(one[rows], arrow.string()) for one in more.values()),
            ]
            if about.times is not None:
                arrays += [arrow.array(about.times[rows, side]) for side in (0, 1)]
            flat = arrow.array(np.ascontiguousarray(chunk, np.float32).reshape(-1))
            arrays.append(arrow.FixedSizeListArray.from_arrays(flat, dim))
            yield arrow.Table.from_arrays(arrays, schema=schema)

    return schema, tables()


def _at_most(chunks: Iterable[NDArray[np.float32]], rows: int) -> Iterator[NDArray[np.float32]]:
    for chunk in chunks:
        for first in range(0, len(chunk), rows):
            yield chunk[first : first + rows]


def parquet_table(path: Path) -> Any:
    """Read a Parquet file as a pyarrow table, unless it would take far more memory than its size.

    Raises:
        ValueError: it would take far more memory. Also whatever pyarrow raises.
    """
    arrow = pyarrow()
    about = arrow.parquet.read_metadata(path)
    groups = [about.row_group(number) for number in range(about.num_row_groups)]
    columns = [group.column(number) for group in groups for number in range(group.num_columns)]
    # Equal values compress to almost nothing, so both their number and their size are checked.
    held = sum(max(8 * one.num_values, one.total_uncompressed_size) for one in columns)
    if held > room_of(path):
        raise ValueError("holds far more than its size")
    return arrow.parquet.read_table(path, page_checksum_verification=True)


def is_list(column: Any) -> bool:
    """Whether the values of a pyarrow column are lists."""
    types = pyarrow().types
    kinds = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    return any(kind(column.type) for kind in kinds)


def rows_of_lists(column: Any) -> NDArray[Any]:
    """A pyarrow column of lists as an array (n, d).

    Raises:
        ValueError: it holds no lists, or lists of different lengths, or some are missing.
    """
    if not is_list(column) or column.null_count:
        raise ValueError("its features are not lists of numbers")
    fixed = pyarrow().types.is_fixed_size_list(column.type)
    if not fixed and len(column.value_lengths().unique()) > 1:
        raise ValueError("its rows have different lengths")
    return np.asarray(column.flatten().to_numpy(zero_copy_only=False)).reshape(len(column), -1)


def _read_parquet(path: Path) -> Features:
    table = parquet_table(path)
    features = rows_of_lists(table["feature"].combine_chunks()).astype(np.float32, copy=False)
    times = None
    if "start" in table.column_names:
        times = np.stack([table[name].to_numpy() for name in ("start", "end")], axis=1).astype(np.float32)
    meta = parse_json((table.schema.metadata or {})[b"dsm"].decode("utf-8"))
    labels = table["label"].to_numpy().astype(np.int64)
    paths = table["path"].to_pylist()
    if not all(isinstance(one, str) for one in paths):
        raise ValueError("some paths are not strings")
    return Features(features, labels, paths, meta, times)
