"""Checkpoint files: finding those of a run folder, and reading them without executing anything in them."""

from __future__ import annotations

import contextlib
import errno
import json
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from dsm.errors import UserError, first_line
from dsm.files import written_aside
from dsm.inputs import WEIGHTS
from dsm.limits import DIMENSIONS, TENSORS_TABLE
from dsm.models.foreign import CHOICE
from dsm.models.inert import find_places, read_inert
from dsm.models.pickles import check_pickles
from dsm.seals import BLANK, TAG, DamagedError, check_seal, check_zip, seal
from dsm.untrusted import parse_json

KEY = "dsm"
_SEAL = b'"seal":"'
"""The text before the seal in a file's header; in names and strings its quotes would be escaped."""


def write_tensors(path: str | Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write tensors and JSON data about them, completely or not at all."""
    # Copies: the format refuses tensors that share memory or are not contiguous.
    copies = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    with written_aside(path) as aside:
        # Not save_file: its files are readable only by their owner.
        content = safetensors.torch.save(copies, {KEY: json.dumps(about), "seal": BLANK})
        aside.write_bytes(content)
        seal(aside, content.index(_SEAL) + len(_SEAL))


def read_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors by name, and ``about`` as given to :func:`write_tensors`, empty for foreign files.

    Raises:
        UserError: no such file, not a safetensors file, or changed since it was written.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file.")
    try:
        _check_header(path)
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        if any(tensor.dim() > DIMENSIONS for tensor in tensors.values()):
            raise safetensors.SafetensorError(f"a tensor of more than {DIMENSIONS} dimensions")
    except safetensors.SafetensorError as error:
        raise UserError(f"{path}: is not a safetensors file ({error}).") from None
    except DamagedError:
        raise NoCheckpointError(damaged(path)) from None
    try:
        about = parse_json(metadata.get(KEY, "{}"))
        if not isinstance(about, dict):
            raise ValueError("it is not an object")
    except ValueError as error:
        raise UserError(
            f"{path}: does not say which encoder it holds: the description of its tensors cannot be read "
            f"({error})."
        ) from None
    return tensors, about


def _check_header(path: Path) -> None:
    """Check a file's seal, if it has one, and the length of its header."""
    with path.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if length > TENSORS_TABLE:
            raise safetensors.SafetensorError("its header is too long")
        place = opened.read(length).find(_SEAL + TAG)
    if place >= 0:
        check_seal(path, 8 + place + len(_SEAL))


def damaged(path: Path) -> str:
    """A sentence about a file that has changed since it was written."""
    return f"{path} is damaged: it has changed since it was written (its checksum differs)."


_NAME = re.compile(r"step_\d+\.pt")


@dataclass(frozen=True)
class Exported:
    """The tensors in a file of ``dsm export``, and what it records about them."""

    tensors: dict[str, torch.Tensor]
    about: dict[str, Any]


def checkpoint_of(run: Path, step: int) -> Path:
    """Path of a run folder's checkpoint of a step."""
    return run / "checkpoints" / f"step_{step:08d}.pt"


def step_of(checkpoint: Path) -> int:
    """The step of a run folder's checkpoint, from its name."""
    return int(checkpoint.stem.removeprefix("step_"))


def list_checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run folder, oldest first."""
    found = [p for p in (run / "checkpoints").glob("step_*.pt") if _NAME.fullmatch(p.name)]
    return sorted(found, key=step_of)  # not by name, where step 100000000 comes before 99999999


class NoCheckpointError(UserError):
    """The content of a file is not a checkpoint; other errors may come from the disk."""


def chosen_in(weights: str | Path) -> tuple[Path, str]:
    """The file, and the part of it to load: ``byol.ckpt::target_network``; empty if none is named."""
    path = Path(weights)
    if CHOICE not in path.name or path.exists():
        return path, ""
    name, _, choice = path.name.rpartition(CHOICE)
    return path.with_name(name) if name else path, choice if name else ""


def read_file(path: str | Path) -> Any:
    """The content of a checkpoint, or of a run folder's newest one. Nothing in the file is executed.

    A foreign checkpoint that holds objects besides tensors gives a :class:`~dsm.models.inert.Foreign`.

    Raises:
        NoCheckpointError: the content of the file cannot be read safely.
        UserError: no such file, or it cannot be read now.
    """
    path = Path(path)
    if path.is_dir():
        checkpoints = list_checkpoints(path)
        if not checkpoints:
            raise UserError(f"{path}: has no checkpoint (checkpoints/step_*.pt); give a run folder.")
        path = checkpoints[-1]
    if not path.is_file():
        raise UserError(f"{path}: {WEIGHTS.missing}")
    if path.suffix == ".safetensors":
        tensors, about = read_tensors(path)
        return Exported(tensors, about) if about else tensors
    try:
        check_zip(path)  # first, so that a damaged pickle is not reported as malicious
        check_pickles(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except DamagedError:
        raise NoCheckpointError(damaged(path)) from None
    except Exception as error:  # foreign bytes can make the reader fail in any way
        if _is_of_the_machine(error):
            reason = error.strerror if isinstance(error, OSError) else "not enough memory"
            raise UserError(f"{path}: cannot be read now ({reason}).") from None
        remedy = ""
        if isinstance(error, pickle.UnpicklingError):  # it contains objects that must not be built
            with contextlib.suppress(Exception):
                foreign = read_inert(path)
                if foreign.skipped and find_places(foreign.state):
                    return foreign
            remedy = (
                " If you trust its author (this runs code in the file), these lines save only its "
                f"tensors:\n  s = torch.load({str(path)!r}, map_location='cpu', weights_only=False)\n"
                "  s = max([s, *(v for v in s.values() if isinstance(v, dict))], key=len)\n"
                "  torch.save({k: torch.as_tensor(v) for k, v in s.items() if hasattr(v, 'dtype')}, "
                "'new.pth')"
            )
        has_reason = isinstance(error, (ValueError, pickle.UnpicklingError))
        reason = first_line(error)[:200] if has_reason else type(error).__name__
        raise NoCheckpointError(
            f"{path} is not a checkpoint that can be read safely ({reason}).{remedy}"
        ) from None


def _is_of_the_machine(error: Exception) -> bool:
    """Whether the disk or memory is at fault, rather than the content of the file."""
    if isinstance(error, OSError):  # torch's reader reports some broken zips as an invalid argument
        return error.errno not in (None, errno.EINVAL)
    # torch reports failed allocations as RuntimeError.
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "memory" in str(error))
