"""Checkpoints on the disk: those of a run folder, and what a file holds, of which nothing is executed."""

from __future__ import annotations

import contextlib
import errno
import pickle
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dsm.errors import UserError
from dsm.models.inert import read_inert
from dsm.models.load_report import CHOICE
from dsm.models.places import find_places
from dsm.models.tensor_file import read_tensors

_NAME = re.compile(r"step_\d+\.pt")


@dataclass(frozen=True)
class Exported:
    """What a file of ``dsm export`` holds, and what it says about that."""

    tensors: dict[str, torch.Tensor]
    about: dict[str, Any]


def checkpoint_of(run: Path, step: int) -> Path:
    """Where a run folder has its checkpoint of a step."""
    return run / "checkpoints" / f"step_{step:08d}.pt"


def list_checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run folder, oldest first."""
    return sorted(p for p in (run / "checkpoints").glob("step_*.pt") if _NAME.fullmatch(p.name))


class NoCheckpointError(UserError):
    """The bytes of a file are no checkpoint, whoever reads them; other errors may be of the disk."""


def chosen_in(weights: str | Path) -> tuple[Path, str]:
    """A file, and what in it is to be taken: ``byol.ckpt::target_network``; empty where nothing is said."""
    path = Path(weights)
    if CHOICE not in path.name or path.exists():
        return path, ""
    name, _, choice = path.name.rpartition(CHOICE)
    return path.with_name(name) if name else path, choice if name else ""


def read_file(path: str | Path) -> Any:
    """What a checkpoint holds: of a run folder its newest. Nothing in the file is executed.

    Of another's that holds objects beside its tensors, a :class:`~dsm.models.inert.Foreign`.

    Raises:
        NoCheckpointError: what is in the file cannot be read safely.
        UserError: no such file, or it cannot be read now.
    """
    path = Path(path)
    if path.is_dir():
        found = list_checkpoints(path)
        if not found:
            raise UserError(f"{path}: holds no checkpoint (checkpoints/step_*.pt); is it a run?")
        path = found[-1]
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint or run folder (--weights).")
    if path.suffix == ".safetensors":
        tensors, about = read_tensors(path)
        return Exported(tensors, about) if about else tensors
    try:
        if _is_swollen(path):
            raise ValueError("what it holds is far larger than it")
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a stranger's bytes can make the reader fail in any way
        if _is_of_the_machine(error):
            reason = error.strerror if isinstance(error, OSError) else "not enough memory"
            raise UserError(f"{path}: cannot be read now ({reason}).") from None
        remedy = ""
        if isinstance(error, pickle.UnpicklingError):  # of objects that are not to be built
            with contextlib.suppress(Exception):
                foreign = read_inert(path)
                if foreign.skipped and find_places(foreign.state):
                    return foreign
            remedy = (
                " If you trust who made it, for reading it so runs what is in it, these two lines write its "
                f"tensors alone:\n  s = torch.load({str(path)!r}, map_location='cpu', weights_only=False)\n"
                "  torch.save({k: v for k, v in s.get('state_dict', s).items() if torch.is_tensor(v)}, "
                "'new.pth')"
            )
        raise NoCheckpointError(
            f"{path}: is not a checkpoint that can be read safely ({type(error).__name__}).{remedy}"
        ) from None


def _is_of_the_machine(error: Exception) -> bool:
    """Whether the disk or the memory is at fault, and not what is in the file."""
    if isinstance(error, OSError):  # torch's reader calls some broken zips an invalid argument
        return error.errno not in (None, errno.EINVAL)
    # torch tells of memory that it does not get in a RuntimeError.
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "memory" in str(error))


def _is_swollen(path: Path) -> bool:
    """Whether a zip holds what torch never writes there: packed entries, or a call that takes memory."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        packed = any(one.compress_type != zipfile.ZIP_STORED for one in archive.infolist())
        tables = [one for one in archive.infolist() if one.filename.endswith("data.pkl")]
        return packed or any(b"bytearray" in archive.read(one) for one in tables)
