"""Optional packages, one extra each: imported when needed; if missing, the error says what to install."""

from __future__ import annotations

import importlib
import importlib.util
import mmap
import sys
from typing import Any

from dsm.errors import UserError, first_line, machine_fault

EXTRAS = {
    "export": "onnxruntime",
    "faiss": "faiss",
    "flow": "cv2",
    "hdf5": "h5py",
    "lance": "lance",
    "mlflow": "mlflow",
    "parquet": "pyarrow",
    "slurm": "submitit",
    "storage": "s3fs",
    "timm": "timm",
    "torchcodec": "torchcodec",
    "torchvision": "torchvision",
    "trackio": "trackio",
    "transformers": "transformers",
    "umap": "umap",
    "wandb": "wandb",
}
"""A module of each extra."""


_ROOM = 2**28
"""Bytes of address space that must be free to load a module; OpenCV's libraries take 180 MB."""


def installed_extras() -> dict[str, bool]:
    """Which extras are installed; none of them is imported."""
    return {extra: importlib.util.find_spec(module) is not None for extra, module in EXTRAS.items()}


def load_extra(
    module: str, extra: str, *, package: str, wanted_by: str, name: str = "", hint: str = ""
) -> Any:
    """Import a module that belongs to an extra, or a ``name`` in it.

    Args:
        module: its import name.
        extra: as in ``pip install 'dsm-video[extra]'``.
        package: its name on the package index.
        wanted_by: the start of the error message, such as "optical flow".
        hint: the end of the error message, such as "; or leave it out".

    Raises:
        UserError: it is not installed or cannot be loaded. MemoryError: memory is short. Also what importing
            it raises if the machine is at fault.
    """
    try:
        if module not in sys.modules:
            _check_room()
        loaded = importlib.import_module(module)
        return getattr(loaded, name) if name else loaded
    # A library built for another version of torch can raise any of these.
    except (ImportError, AttributeError, RuntimeError, OSError) as error:
        if machine_fault(error) is not None:  # with too little memory, installing it would not help
            raise
        missing = isinstance(error, ModuleNotFoundError) and error.name == module.split(".")[0]
        why = "is not installed" if missing else f"cannot be used here ({first_line(error)})"
        raise UserError(
            f"{wanted_by} needs {package}, which {why}: pip install 'dsm-video[{extra}]'{hint}."
        ) from None


def _check_room() -> None:
    """Raise MemoryError if memory is short: a library that runs out of memory while loading crashes."""
    try:
        mmap.mmap(-1, _ROOM).close()
    except OSError:
        raise MemoryError from None
