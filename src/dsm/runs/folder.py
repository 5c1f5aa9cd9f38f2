"""The folder of a run: claiming it, and reading and writing its settings and logs.

It holds ``config.json``, ``metrics.jsonl`` (one line per logged step), ``gradients.jsonl``, TensorBoard
events, ``trackers.json`` (what trackers were sent) and ``checkpoints/``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import math
import os
import platform
import subprocess
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from dsm.errors import UserError
from dsm.files import PART, empty_folder, is_hidden, json_text, read_object, sweep, write_text
from dsm.limits import LOG_LINE
from dsm.locks import hold, sweep_locks
from dsm.runs.bad_videos import LEDGER
from dsm.terminal import console, note
from dsm.untrusted import checked, is_number, open_ordinary, parse_json, read_json
from dsm.urls import is_url, shown
from dsm.version import __version__

if TYPE_CHECKING:
    from torch import nn  # torch takes seconds to import, and verbs on lists do not need it

MARKER = "config.json"
MOST_STEPS = 2**53
"""Steps up to here are exact in a figure's axis."""
METRICS, GRADIENTS = "metrics.jsonl", "gradients.jsonl"
TRACKED = "trackers.json"
MONITOR = "monitor/"
"""How the names of metrics of an evaluation during training begin."""


def git_revision() -> str | None:
    """The git revision of the checkout that contains this package; None outside a checkout."""
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


def versions_text() -> str:
    """The versions, and the git revision if there is one, for the foot of a page."""
    revision = git_revision()
    return ", ".join([*map(" ".join, versions().items()), *([f"revision {revision}"] if revision else [])])


def plain(value: Any) -> Any:
    """Dataclasses, paths and tuples as JSON types."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return shown(value) if isinstance(value, Path) else value


MADE_BY = "made_by"
"""Key of a marker that identifies it as this project's; other tools may write files of the same name."""
NEVER_LASTING = frozenset(
    ("out", "overwrite", "resume", "devices", "workers", "timeout", "track", "copy_to")
    + ("cache_mb", "cache_folder", "cache_gb")
)
"""Names of settings that affect where output goes and how fast, but not the result."""


def lasting(config: Any, *, but: Collection[str] = ()) -> dict[str, Any]:
    """Settings that must not change if work is to continue, as JSON types.

    Args:
        config: a dataclass; the names in :data:`NEVER_LASTING` are removed from it and nested dataclasses.
        but: further fields of ``config`` to leave out.
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


def flags_of(config: Any) -> dict[str, Any]:
    """The settings of a training run by the names of their flags, without those of methods it does not use.

    Args:
        config: its settings, or what its ``config.json`` holds of them.
    """
    settings = dict(plain(config))
    methods, method = settings.pop("settings", None), settings.get("method")
    if isinstance(methods, dict) and isinstance(method, str):
        settings[method] = methods.get(method.replace("-", "_"), {})
    head = settings.pop("head", None)
    return flat(settings | head if isinstance(head, dict) else settings)


class _Needed(TypedDict):
    config: dict[str, Any]
    versions: dict[str, str]
    revision: str | None


class _Data(TypedDict, total=False):
    videos: int | None
    frames: int | None


class Record(_Needed, total=False):
    """The fields of a run's ``config.json`` that are read."""

    command: str
    data: _Data


def read_record(out: Path) -> dict[str, Any] | None:
    """A run's ``config.json``: ``command``, ``config``, ``versions``, ``revision``.

    None where this project did not write the folder: other tools write a ``config.json`` too, and a
    stranger's may hold fields of any type.
    """
    try:
        return dict(checked(read_json(out / MARKER), Record))
    except (OSError, ValueError):
        return None


def hold_alone(out: Path) -> None:
    """Lock a file or folder that will be written (``dsm.locks``), or say that its disk has no locks.

    Removes what killed processes left there.

    Raises:
        UserError: another command is writing it.
    """
    for folder in (out.absolute().parent, out):
        sweep(folder)
        sweep_locks(folder)
    if reason := hold(out):
        note(f"{out}: cannot be locked ({reason}); see that no other command writes it.")


def claim_folder(out: Path, *, overwrite: bool, needed: Iterable[Path]) -> None:
    """Make sure a run may be written to a folder, before any work is done.

    A folder that is not empty is refused unless ``overwrite`` is set or its run ended before its first step.
    Even then only a folder that a run of this project made is emptied, never other files.

    Args:
        needed: files that the run reads; they must not be in a folder that is emptied.

    Raises:
        UserError: the folder holds a run and may not be overwritten, holds something else, or another
            command is writing it.
    """
    hold_alone(out)
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file, not a folder; choose another --out.")
    if out.is_dir() and any(out.iterdir()):
        if read_record(out) is None:
            raise UserError(f"{out} is not empty and is not a run of dsm; choose another --out.")
        if not overwrite and _has_begun(out):
            raise UserError(
                f"{out} already holds a run; choose another --out, or use --overwrite to replace it."
            )
        check_outside(needed, out)
        empty_folder(out, MARKER)
    out.mkdir(parents=True, exist_ok=True)


def _has_begun(run: Path) -> bool:
    """Whether emptying the folder would lose anything: a run that failed early leaves only empty files."""
    log, own = run / METRICS, (MARKER, METRICS, GRADIENTS, TRACKED, LEDGER, "checkpoints", "wandb")
    others = [
        path
        for path in run.iterdir()
        if path.name not in own and ".tfevents." not in path.name and not path.name.endswith(PART)
    ]
    saved = any(not is_hidden(path.name) for path in (run / "checkpoints").glob("*"))
    return bool(others) or saved or (log.is_file() and log.stat().st_size > 0)


def claim_by_settings(
    out: Path,
    marker: str,
    settings: dict[str, Any],
    *,
    what: str,
    overwrite: bool,
    needed: Iterable[Path],
) -> None:
    """Take a folder for work that continues where it stopped, if its settings are the same.

    ``overwrite`` empties the folder only if its settings differ, so that a command with ``--overwrite`` can
    be continued too. Only a folder whose marker this project wrote is emptied.

    Args:
        marker: the name of the file that holds the settings.
        what: what messages call the folder: "a demo".
        needed: files that the work reads; they must not be in a folder that is emptied.

    Raises:
        UserError: it holds work with other settings and may not be overwritten, or something else; or
            another command is writing it.
    """
    hold_alone(out)
    settings = {MADE_BY: "dsm", **settings}
    file = out / marker
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file, not a folder; choose another --out.")
    if out.is_dir() and any(out.iterdir()):
        earlier = read_object(file)
        if earlier is None or earlier.get(MADE_BY) != "dsm":
            raise UserError(f"{out} is not empty and is not {what}; choose another --out.")
        if earlier != settings:
            if not overwrite:
                raise UserError(
                    f"{out} holds {what} with other settings; choose another --out, or use --overwrite to "
                    "replace it."
                )
            check_outside(needed, out)
            empty_folder(out, marker)
    write_text(file, json.dumps(settings, indent=2) + "\n")


def check_outside(needed: Iterable[Path], out: Path) -> None:
    """Raise UserError where ``--overwrite`` would delete a needed file, directly or through links."""
    named, real = out.absolute(), out.resolve()
    for path in needed:
        if is_url(path):
            continue
        if path.absolute().is_relative_to(named) or path.resolve().is_relative_to(real):
            raise UserError(f"{path}: is in --out, which --overwrite empties; choose another --out.")


def claim_file(path: Path, *, overwrite: bool) -> None:
    """Make sure a file may be written, before any work is done.

    Raises:
        UserError: it exists and may not be overwritten, is a folder, or another command is writing it.
    """
    hold_alone(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder, not a file; name a file to write.")
    if path.exists() and not overwrite:
        raise UserError(f"{path} already exists; choose another name, or use --overwrite to replace it.")


class RunLog:
    """Appends metrics to ``metrics.jsonl``, which trackers get too, and gradients to ``gradients.jsonl``.

    A step has one line, to which a second ``write`` of the same step adds, as an evaluation does.
    """

    def __init__(
        self, out: Path, *, keep_steps: int = 0, without: str = "", track: Sequence[str] = ()
    ) -> None:
        """Open the logs.

        Args:
            keep_steps: drop what an earlier run logged after this step, the step of its checkpoint.
            without: at this step, also drop metrics whose names begin so.
            track: trackers besides TensorBoard.

        Raises:
            UserError: a tracker is not installed.
        """
        from dsm.runs.tracking import track_run

        self._metrics = _Lines(out / METRICS, keep_steps, without)
        self._gradients = _Lines(out / GRADIENTS, keep_steps, without)
        self._tracking = track_run(out, ("tensorboard", *track))

    def write(self, step: int, metrics: dict[str, float]) -> None:
        self._metrics.write(step, metrics)
        self._tracking.wake()

    def write_gradients(self, step: int, module: nn.Module) -> None:
        """Log for each layer the mean and maximum absolute gradient, and its norm over the weights' norm."""
        layers = {
            name.removesuffix(".weight"): [
                float(weight.grad.abs().mean()),
                float(weight.grad.abs().max()),
                float(weight.grad.norm() / weight.detach().norm().clamp(min=1e-12)),
            ]
            for name, weight in module.named_parameters()
            if weight.grad is not None and weight.ndim > 1
        }
        self._gradients.write(step, {"layers": layers})

    def close(self, *, done: bool = True) -> None:
        """``done``: the run has finished all its steps."""
        for one in (self._metrics, self._gradients):
            with contextlib.suppress(OSError):  # a full disk was reported when a line could not be written
                one.close()
        self._tracking.close(done=done)


class _Lines:
    """A file of JSON lines, one per step, to append to."""

    def __init__(self, path: Path, keep_steps: int, without: str) -> None:
        """Drop the lines after ``keep_steps``, and what begins with ``without`` from this step's line."""
        kept = [line for line in _read_lines(path) if line["step"] <= keep_steps]
        for line in kept:
            if without and line["step"] == keep_steps:
                for name in [name for name in line if name.startswith(without)]:
                    del line[name]
        *earlier, self._last = kept or [{}]
        write_text(path, "".join(f"{json_text(line)}\n" for line in earlier))
        self._file = path.open("r+b", buffering=0)
        self._begin = self._file.seek(0, os.SEEK_END)
        if self._last:
            self._write()

    def write(self, step: int, values: dict[str, Any]) -> None:
        """Add a line, or ``values`` to the last line if it is of the same step."""
        if self._last.get("step") != step:
            self._begin, self._last = self._file.seek(0, os.SEEK_END), {"step": step}
        self._last |= values
        self._write()

    def _write(self) -> None:
        """Write the last line; a failure, such as a full disk, must not end the training."""
        line = f"{json_text(self._last)}\n".encode()
        try:
            self._file.seek(self._begin)
            # One call, over what the line held before: a reader or a kill finds the old line or the new one.
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            file = self._file.name
            console.print(f"{file}: a line cannot be written ({error.strerror}).", style="bold yellow")
            with contextlib.suppress(OSError):
                self._file.truncate(self._begin)

    def close(self) -> None:
        self._file.close()


def read_metrics(out: Path) -> list[dict[str, float]]:
    """The logged steps of a run, in order; each holds only the metrics logged at it, null is NaN."""
    return [numbers_of(line) for line in _read_lines(out / METRICS)]


def numbers_of(line: dict[str, Any]) -> dict[str, float]:
    """The numbers of a line of a log, its step among them."""
    return {name: _or_nan(value) for name, value in line.items() if value is None or is_number(value)}


def read_gradients(out: Path) -> list[dict[str, Any]]:
    """Steps with the size of each layer's gradient, as :meth:`RunLog.write_gradients` wrote them."""
    lines = []
    for line in _read_lines(out / GRADIENTS):
        layers = line.get("layers")
        if isinstance(layers, dict) and all(map(_is_sizes, layers.values())):
            layers = {name: [_or_nan(one) for one in sizes] for name, sizes in layers.items()}
            lines.append({**line, "layers": layers})
    return lines


def _is_sizes(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(one is None or is_number(one) for one in value)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _read_lines(path: Path) -> list[dict[str, Any]]:
    try:
        descriptor = open_ordinary(path)
    except (FileNotFoundError, ValueError):
        return []
    with open(descriptor, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
        lines = iter(lambda: file.readline(LOG_LINE), "")
        return [record for line in lines if (record := parse_line(line)) is not None]


def parse_line(text: str) -> dict[str, Any] | None:
    """A line of a log; None if it is none: a running or killed run may have written half of one."""
    try:
        record = parse_json(text)
    except ValueError:
        return None
    step = record.get("step") if isinstance(record, dict) else None
    return record if type(step) is int and 0 <= step < MOST_STEPS else None
