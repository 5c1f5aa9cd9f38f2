"""The logs of a run: ``metrics.jsonl``, one line per logged step, and ``gradients.jsonl``."""

from __future__ import annotations

import contextlib
import errno
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsm.files import json_text, write_text
from dsm.limits import LOG_LINE
from dsm.terminal import console
from dsm.untrusted import is_number, open_ordinary, parse_json

if TYPE_CHECKING:
    from torch import nn  # torch takes seconds to import, and verbs on lists do not need it

MOST_STEPS = 2**53
"""Steps up to this one are exact on a figure's axis (float64)."""
METRICS, GRADIENTS = "metrics.jsonl", "gradients.jsonl"
TRACKED = "trackers.json"
MONITOR = "monitor/"
"""Prefix of the metrics of an evaluation during training."""


class RunLog:
    """Appends metrics to ``metrics.jsonl`` and to trackers, and gradients to ``gradients.jsonl``.

    A step has one line; a second ``write`` for the same step, such as an evaluation, extends it.
    """

    def __init__(
        self, out: Path, *, keep_steps: int = 0, without: str = "", track: Sequence[str] = ()
    ) -> None:
        """Open the logs.

        Args:
            keep_steps: drop what an earlier run logged after this step, the step of its checkpoint.
            without: at this step, also drop metrics with this prefix.
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
        """Log the mean and maximum absolute gradient of each layer, and its norm over the weights' norm."""
        import torch

        names, sizes = [], []
        for name, weight in module.named_parameters():
            if weight.grad is not None and weight.ndim > 1:
                norm = weight.grad.norm() / weight.detach().norm().clamp(min=1e-12)
                names.append(name.removesuffix(".weight"))
                sizes.append(torch.stack([weight.grad.abs().mean(), weight.grad.abs().max(), norm]))
        # Read together: the CPU would wait for a GPU at each.
        layers = dict(zip(names, torch.stack(sizes).tolist() if sizes else [], strict=True))
        self._gradients.write(step, {"layers": layers})

    def close(self, *, done: bool = True) -> None:
        """``done``: the run has finished all its steps."""
        for one in (self._metrics, self._gradients):
            with contextlib.suppress(OSError):  # a full disk was reported when writing the line failed
                one.close()
        self._tracking.close(done=done)


class _Lines:
    """A file of JSON lines, one per step, to append to."""

    def __init__(self, path: Path, keep_steps: int, without: str) -> None:
        """Drop the lines after ``keep_steps``, and from that step's line metrics prefixed ``without``."""
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
            # One call that overwrites the line: a reader, or a kill, never leaves half of the new one.
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
    """The numbers in a line of a log, including its step."""
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
    """A line of a log; None if it is incomplete, as a running or killed run may leave it."""
    try:
        record = parse_json(text)
    except ValueError:
        return None
    step = record.get("step") if isinstance(record, dict) else None
    return record if type(step) is int and 0 <= step < MOST_STEPS else None
