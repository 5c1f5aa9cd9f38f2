"""The folder of a run: config, metrics, TensorBoard, checkpoints, results.

``config.json``, ``metrics.jsonl`` (a line a logged step), ``gradients.jsonl``, TensorBoard events,
``checkpoints/``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import platform
import subprocess
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from dsm.errors import UserError
from dsm.files import empty_folder, json_text, read_object, write_text
from dsm.runs.bad_videos import LEDGER
from dsm.terminal import console
from dsm.version import __version__

if TYPE_CHECKING:
    from torch import nn  # torch takes seconds to import, and verbs on lists do without it

MARKER = "config.json"
METRICS, GRADIENTS = "metrics.jsonl", "gradients.jsonl"


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


MADE_BY = "made_by"
"""What a marker says besides settings, so that nobody else's file of its name is taken for one."""
NEVER_LASTING = frozenset(("out", "overwrite", "resume", "devices", "workers", "timeout", "cache_mb"))
"""Names of settings that say where work goes and how fast it is done, not what comes out."""


def lasting(config: Any, *, but: Collection[str] = ()) -> dict[str, Any]:
    """Settings that must stay as they were for work to go on, as what JSON has.

    Args:
        config: a dataclass; those in it lose the names of :data:`NEVER_LASTING` too.
        but: more names to leave out, of its own fields.
    """
    settings = {name: value for name, value in plain(config).items() if name not in but}
    return _without_passing(settings)


def _without_passing(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _without_passing(value) if isinstance(value, dict) else value
        for name, value in settings.items()
        if name not in NEVER_LASTING
    }


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by the names of their flags: ``optim.weight-decay``."""
    named: dict[str, Any] = {}
    for name, value in settings.items():
        key = f"{prefix}{name.replace('_', '-')}"
        named |= flat(value, f"{key}.") if isinstance(value, dict) else {key: value}
    return named


def read_record(out: Path) -> dict[str, Any] | None:
    """What a run wrote down of itself: ``command``, ``config``, ``versions``, ``revision``.

    None where this project did not write the folder: others have a ``config.json`` too.
    """
    record = read_object(out / MARKER) or {}
    ours = {"config", "versions", "revision"} <= record.keys()
    return record if ours and all(isinstance(record[name], dict) for name in ("config", "versions")) else None


def claim_folder(out: Path, *, overwrite: bool, needed: Iterable[Path]) -> None:
    """Make sure a run may be written to a folder, before any work is done.

    A folder that holds something is left alone, unless it may be overwritten, or its run ended before its
    first step; then only a folder that one of our runs made is emptied, never somebody's photographs.

    Args:
        needed: files that the run reads, which may not lie in a folder that is emptied.

    Raises:
        UserError: the folder holds a run and may not be overwritten, or holds something else.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file, not a folder; choose another --out.")
    if out.is_dir() and any(out.iterdir()):
        if read_record(out) is None:
            raise UserError(f"{out} is not empty and holds no run of dsm; choose another --out.")
        if not overwrite and _has_begun(out):
            raise UserError(f"{out} already holds a run; choose another --out, or --overwrite to replace it.")
        check_outside(needed, out)
        empty_folder(out)
    out.mkdir(parents=True, exist_ok=True)


def _has_begun(run: Path) -> bool:
    """Whether there is something to be lost: a run that found no videos leaves its own empty files."""
    log, own = run / METRICS, (MARKER, METRICS, GRADIENTS, LEDGER, "checkpoints")
    others = [path for path in run.iterdir() if path.name not in own and ".tfevents." not in path.name]
    return bool(others) or any((run / "checkpoints").glob("*")) or (log.is_file() and log.stat().st_size > 0)


def claim_by_settings(
    out: Path,
    marker: str,
    settings: dict[str, Any],
    *,
    what: str,
    overwrite: bool,
    needed: Iterable[Path],
) -> None:
    """Take a folder for work that goes on where it was stopped, if its settings are the same.

    ``overwrite`` empties a folder of other settings alone: the command that began with it goes on too. Only a
    folder whose marker this project wrote is emptied.

    Args:
        marker: the file in it that holds the settings.
        what: what the folder is called in messages: "a demo".
        needed: files that the work reads, which may not lie in a folder that is emptied.

    Raises:
        UserError: it holds work of other settings and may not be overwritten, or something else.
    """
    settings = {MADE_BY: "dsm", **settings}
    file = out / marker
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file, not a folder; choose another --out.")
    if out.is_dir() and any(out.iterdir()):
        found = read_object(file)
        if found is None or found.get(MADE_BY) != "dsm":
            raise UserError(f"{out} is not empty and not {what}; choose another --out.")
        if found != settings:
            if not overwrite:
                raise UserError(
                    f"{out} holds {what} of other settings; choose another --out, or --overwrite to replace "
                    "it."
                )
            check_outside(needed, out)
            empty_folder(out)
    write_text(file, json.dumps(settings, indent=2) + "\n")


def check_outside(needed: Iterable[Path], out: Path) -> None:
    """Raise UserError where ``--overwrite`` would take what is read: by its name or behind links."""
    named, real = out.absolute(), out.resolve()
    for path in needed:
        if path.absolute().is_relative_to(named) or path.resolve().is_relative_to(real):
            raise UserError(f"{path}: lies in --out, which --overwrite empties; choose another --out.")


def claim_file(path: Path, *, overwrite: bool) -> None:
    """Make sure a file may be written, before any work is done.

    Raises:
        UserError: it exists and may not be overwritten, or is a folder.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder, not a file; name a file to write.")
    if path.exists() and not overwrite:
        raise UserError(f"{path} already exists; choose another name, or --overwrite to replace it.")


class RunLog:
    """Appends metrics to ``metrics.jsonl`` and TensorBoard, gradients to ``gradients.jsonl``."""

    def __init__(self, out: Path, *, keep_steps: int = 0) -> None:
        """``keep_steps``: drop what an earlier run logged after this step; its checkpoint did not hold it."""
        from torch.utils.tensorboard.writer import SummaryWriter

        self._metrics, self._gradients = (_append(out / name, keep_steps) for name in (METRICS, GRADIENTS))
        self._board = SummaryWriter(str(out), purge_step=keep_steps + 1)
        self._board_told = False

    def write(self, step: int, metrics: dict[str, float]) -> None:
        _write_line(self._metrics, {"step": step, **metrics})
        try:
            for name, value in metrics.items():
                self._board.add_scalar(name, value, step)
        except OSError as error:  # its thread that writes has ended, as on a full disk, and says so for ever
            if not self._board_told:
                console.print(f"TensorBoard's file cannot be written ({error}).", style="bold yellow")
            self._board_told = True

    def write_gradients(self, step: int, module: nn.Module) -> None:
        """Of each layer: the mean and the greatest size of its gradient, and its norm over the weights'."""
        layers = {
            name.removesuffix(".weight"): [
                float(weight.grad.abs().mean()),
                float(weight.grad.abs().max()),
                float(weight.grad.norm() / weight.detach().norm().clamp(min=1e-12)),
            ]
            for name, weight in module.named_parameters()
            if weight.grad is not None and weight.ndim > 1
        }
        _write_line(self._gradients, {"step": step, "layers": layers})

    def close(self) -> None:
        for one in (self._metrics, self._gradients, self._board):
            with contextlib.suppress(OSError):  # of a full disk was told where a line could not be written
                one.close()


def _append(path: Path, keep_steps: int) -> TextIO:
    if path.exists():
        kept = [line for line in _read_lines(path) if line["step"] <= keep_steps]
        write_text(path, "".join(f"{json_text(line)}\n" for line in kept))
    return path.open("a", encoding="utf-8")


def _write_line(file: TextIO, record: dict[str, Any]) -> None:
    """A log that cannot be written, as on a full disk, is no reason to end the training."""
    try:
        file.write(json_text(record) + "\n")
        file.flush()
    except OSError as error:
        console.print(f"{file.name}: a line cannot be written ({error.strerror}).", style="bold yellow")


def read_metrics(out: Path) -> list[dict[str, float]]:
    """The logged steps of a run, in order; what is not logged at a step is not in it, null is NaN."""
    return [
        {
            name: math.nan if value is None else value
            for name, value in line.items()
            if value is None or isinstance(value, (int, float))
        }
        for line in _read_lines(out / METRICS)
    ]


def read_gradients(out: Path) -> list[dict[str, Any]]:
    """Steps with the size of each layer's gradient, as :meth:`RunLog.write_gradients` wrote them."""
    lines = [line for line in _read_lines(out / GRADIENTS) if isinstance(line.get("layers"), dict)]
    for line in lines:
        for name, sizes in line["layers"].items():
            if isinstance(sizes, list):
                line["layers"][name] = [math.nan if size is None else size for size in sizes]
    return lines


def _read_lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        # A run that goes on, or was killed, may have written half of a line.
        with contextlib.suppress(ValueError, RecursionError):
            record = json.loads(line)
            if isinstance(record, dict) and isinstance(record.get("step"), int):
                found.append(record)
    return found
