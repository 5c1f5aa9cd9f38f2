"""The folder of a run: config, metrics, TensorBoard, checkpoints, results.

``config.json``, ``metrics.jsonl`` (a line a logged step), TensorBoard events, ``checkpoints/``.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

from dsm.errors import UserError
from dsm.version import __version__

MARKER = "config.json"


def write_atomically(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)


def git_revision() -> str | None:
    """The revision of the checkout this package lies in; None where it is installed without one."""
    here = Path(__file__).parent
    try:
        inside = subprocess.run(
            ["git", "-C", str(here), "ls-files", "--error-unmatch", __file__],
            capture_output=True, text=True, timeout=10,
        )  # fmt: skip
        if inside.returncode:
            return None
        head = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True, text=True, timeout=10,
        )  # fmt: skip
        return head.stdout.strip() or None
    except (OSError, subprocess.TimeoutExpired):
        return None


def versions() -> dict[str, str]:
    import av
    import numpy
    import torch

    return {
        "dsm": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "av": av.__version__,
        "numpy": numpy.__version__,
    }


def plain(value: Any) -> Any:
    """Dataclasses, paths and tuples as what JSON has."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def claim_folder(out: Path, *, overwrite: bool, marker: str = MARKER) -> None:
    """Make sure a run may be written to a folder, before any work is done.

    A folder that holds something is left alone, unless it may be overwritten; then only a folder that
    one of our runs made is emptied, never somebody's photographs.

    Raises:
        UserError: the folder holds a run and may not be overwritten, or holds something else.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file, not a folder; choose another --out.")
    if out.is_dir() and any(out.iterdir()):
        ours = (out / marker).exists()
        if not ours:
            raise UserError(f"{out} is not empty and holds no run of dsm; choose another --out.")
        if not overwrite:
            raise UserError(f"{out} already holds a run; choose another --out, or --overwrite to replace it.")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)


class RunLog:
    """Appends metrics to ``metrics.jsonl`` and TensorBoard."""

    def __init__(self, out: Path, *, keep_steps: int = 0) -> None:
        """``keep_steps``: drop what an earlier run logged after this step; its checkpoint did not hold it."""
        from torch.utils.tensorboard.writer import SummaryWriter

        self._path = out / "metrics.jsonl"
        if self._path.exists():
            lines = self._path.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= keep_steps]
            write_atomically(self._path, "".join(f"{line}\n" for line in kept))
        self._file = self._path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(out), purge_step=keep_steps + 1)

    def write(self, step: int, metrics: dict[str, float]) -> None:
        self._file.write(json.dumps({"step": step, **metrics}) + "\n")
        self._file.flush()
        for name, value in metrics.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        self._file.close()
        self._board.close()


def read_metrics(out: Path) -> list[dict[str, float]]:
    """The logged steps of a run, in order."""
    path = out / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
