"""Import of other tools' features: arrays of any names, in ``.npz``, ``.npy``, ``.h5`` or ``.parquet``."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsm.data.list_format import UNLABELLED
from dsm.errors import UserError, without_control
from dsm.evaluate.feature_files import check_paths, is_list, parquet_table, pyarrow, rows_of_lists
from dsm.evaluate.features import Features
from dsm.extras import load_extra
from dsm.limits import MOST_CLASSES, UNPACKED
from dsm.seals import check_zip, room_of

HDF5 = (".h5", ".hdf5", ".hdf")
READ = (".npz", ".npy", ".parquet", *HDF5)
Array = NDArray[Any]
_MAX_LISTED = 20
_AT_ONCE = 2**27
"""Bytes of strings to read at a time, if each is as long as the file."""


@dataclass(frozen=True)
class Keys:
    """Names of the arrays in a file; None chooses the only array that fits."""

    features: str | None = None
    """(n, d) numbers; in a Parquet file a column of lists."""
    labels: str | None = None
    """(n,) integers, or class names."""
    paths: str | None = None
    """(n,) strings."""


def read_arrays(path: Path) -> dict[str, Array]:
    """Every array of a file, by name; that of an ``.npy`` is named ``array``. Nothing is unpickled.

    Raises:
        UserError: there is no such file, it has an unsupported suffix, or it cannot be read.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file.")
    kind = path.suffix.lower()
    if kind not in READ:
        raise UserError(f"{path}: cannot be imported; supported formats are {', '.join(READ)}.")
    if kind in HDF5:
        load_extra("h5py", "hdf5", package="h5py", wanted_by=f"{path}:")
    if kind == ".parquet":
        load_extra("pyarrow.parquet", "parquet", package="pyarrow", wanted_by=f"{path}:")
    try:
        if kind == ".npy":
            return {"array": np.lib.format.open_memmap(path, mode="r")}
        return {".npz": _npz, ".parquet": _parquet}.get(kind, _hdf5)(path)
    except UserError:
        raise
    except Exception as error:  # an untrusted file can make the reader fail in any way
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: cannot be read as {kind} ({without_control(reason)[:200]}).") from None


def _npz(path: Path) -> dict[str, Array]:
    with zipfile.ZipFile(path) as archive:
        held = sum(one.file_size for one in archive.infolist())
    if held > room_of(path):
        raise ValueError("its content is far larger than the file")
    check_zip(path)
    by_name = {}
    with np.load(path, allow_pickle=False) as arrays:
        for name in arrays.files:
            try:
                by_name[name] = arrays[name]
            except ValueError:  # an array of Python objects, which would have to be unpickled
                by_name[name] = np.empty(0, object)
    return by_name


def _hdf5(path: Path) -> dict[str, Array]:
    import h5py

    arrays: dict[str, Array] = {}
    room = room_of(path)
    with h5py.File(path, "r") as file:

        def take(name: str, one: Any) -> None:
            if (
                isinstance(one, h5py.Dataset)
                and not (one.external or one.is_virtual)
                and one.dtype.kind != "V"
            ):
                nonlocal room
                room -= one.nbytes  # in total: data that was never written takes no space in the file
                if room < 0:
                    raise UserError(f"{path}: {without_control(name)} is far larger than the file.")
                if h5py.check_string_dtype(one.dtype):
                    arrays[name] = _texts(one, room)
                elif one.dtype.kind != "O":  # rows of different lengths
                    arrays[name] = one[...]

        file.visititems(take)
    return arrays


def _texts(dataset: Any, room: int) -> Array:
    """The strings of a dataset; ValueError if their total length exceeds ``room``: all may be the same."""
    if dataset.ndim != 1:
        return np.empty(0, object)
    found: list[str] = []
    rows = int(min(max(_AT_ONCE * UNPACKED / max(room, 1), 1), 4096))
    for first in range(0, len(dataset), rows):
        found += dataset.asstr(errors="replace")[first : first + rows].tolist()
        room -= sum(map(len, found[first:]))
        if room < 0:
            raise ValueError("its strings are far longer than the file")
    return np.array(found, object)


def _parquet(path: Path) -> dict[str, Array]:
    table = parquet_table(path)
    room = room_of(path)
    arrays: dict[str, Array] = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if is_list(column):
            try:
                arrays[name] = rows_of_lists(column)
            except ValueError:
                arrays[name] = np.empty(0, object)
        elif pyarrow().types.is_nested(column.type):
            arrays[name] = np.empty(0, object)
        else:
            array = column.to_numpy(zero_copy_only=False)
            if array.dtype == object:  # strings, which all take the length of the longest
                room -= (
                    4
                    * len(array)
                    * max((len(one) for one in array.tolist() if isinstance(one, str)), default=0)
                )
                if room < 0:
                    raise ValueError("its strings are far longer than the file")
                array = array if column.null_count else array.astype(np.str_)
            arrays[name] = array
    return arrays


def features_from(
    path: Path, arrays: Mapping[str, Array], keys: Keys, classes: Sequence[str] | None = None
) -> tuple[Features, Keys]:
    """Convert arrays to features.

    Args:
        keys: names of the arrays to use.
        classes: class names in order, if labels are names.

    Returns:
        The features, with paths `row 0`, … and labels -1 if the file has none; and the names used.

    Raises:
        UserError: no array, or more than one, fits; the message names the file's arrays.
    """
    taken = _taken(path, arrays, keys)
    assert taken.features is not None
    features = np.ascontiguousarray(arrays[taken.features], np.float32)
    count = len(features)
    if not np.isfinite(features).all():
        raise UserError(f"{path}: {taken.features} has numbers that are not finite.")
    labels = np.full(count, UNLABELLED, np.int64)
    if taken.labels is not None:
        labels = _labels(path, taken.labels, arrays[taken.labels], classes)
    names = [f"row {row}" for row in range(count)]
    if taken.paths is not None:
        names = [_text(one) for one in arrays[taken.paths].tolist()]
    check_paths(names, f"{path}: a name in {taken.paths}")
    return Features(features, labels, names), taken


def _taken(path: Path, arrays: Mapping[str, Array], keys: Keys) -> Keys:
    rows = _array_name(
        path, arrays, "features", keys.features, lambda one: one.ndim == 2 and one.dtype.kind in "fiu"
    )
    if rows is None:
        raise UserError(f"{path}: has no features, an array of numbers (n, d). {_contents(arrays)}")
    count = len(arrays[rows])

    def in_line(kinds: str) -> Any:
        return lambda one: one.ndim == 1 and len(one) == count and one.dtype.kind in kinds

    labels = _array_name(path, arrays, "labels", keys.labels, in_line("iu"), in_line("iufbUSO"))
    paths = _array_name(path, arrays, "paths", keys.paths, in_line("US"), in_line("USO"))
    return Keys(rows, labels, paths)


def _array_name(
    path: Path, arrays: Mapping[str, Array], what: str, name: str | None, fits: Any, allowed: Any = None
) -> str | None:
    """The given ``name``, or that of the only array that fits; None if none does."""
    if name is not None:
        if name not in arrays:
            raise UserError(f"{path}: has no array {name} (--{what}). {_contents(arrays)}")
        if not (allowed or fits)(arrays[name]):
            shape = "(n, d), numbers" if what == "features" else "(n,), one for each row of the features"
            raise UserError(f"{path}: {name} (--{what}) is not {shape}. {_contents(arrays)}")
        return name
    fitting = [name for name, one in arrays.items() if fits(one)]
    if len(fitting) > 1:
        raise UserError(
            f"{path}: {' and '.join(map(without_control, fitting[:5]))} may all be the {what}; choose one "
            f"with --{what}. {_contents(arrays)}"
        )
    return fitting[0] if fitting else None


def _contents(arrays: Mapping[str, Array]) -> str:
    """A description of the name, type and shape of each array."""
    texts = [
        f"{without_control(name)} {one.dtype} {'x'.join(map(str, one.shape)) or '()'}"
        for name, one in list(arrays.items())[:_MAX_LISTED]
    ]
    return f"Its arrays: {', '.join(texts) or 'none'}{', …' if len(arrays) > _MAX_LISTED else ''}."


def _labels(path: Path, name: str, values: Array, classes: Sequence[str] | None) -> NDArray[np.int64]:
    if values.dtype.kind in "USO":
        texts = [_text(one) for one in values.tolist()]
        if classes is None:
            example = without_control(texts[0] if texts else "")
            raise UserError(
                f"{path}: its labels {name} are names, such as {example}; give --classes, a file with one "
                "name per line, and use it for every file, so that classes have the same numbers in all."
            )
        numbers = {one: number for number, one in enumerate(classes)}
        unknown = next((text for text in texts if text not in numbers), None)
        if unknown is not None:
            raise UserError(f"{path}: the class '{without_control(unknown)}' is not in --classes.")
        return np.array([numbers[text] for text in texts], np.int64)
    labels = values.astype(np.int64)
    if not np.array_equal(labels, values):
        raise UserError(f"{path}: its labels {name} are not integers.")
    if len(labels) and not UNLABELLED <= labels.min() <= labels.max() < MOST_CLASSES:
        raise UserError(f"{path}: its labels {name} must be from {UNLABELLED} to {MOST_CLASSES - 1}.")
    return labels


def _text(one: Any) -> str:
    return one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one)
