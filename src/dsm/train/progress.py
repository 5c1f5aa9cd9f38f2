"""The time that training steps take, and the text about a step in the progress bar."""

from __future__ import annotations

import time


class StepTimer:
    """Measures the time spent waiting for data and working."""

    def __init__(self) -> None:
        self._at = time.perf_counter()
        self._sums = {"wait": 0.0, "work": 0.0}
        self._steps = 0

    def step_done(self) -> None:
        self._steps += 1

    def lap(self, kind: str) -> None:
        """Count the time since the last lap as waiting or as work."""
        now = time.perf_counter()
        self._sums[kind] += now - self._at
        self._at = now

    def restart(self) -> None:
        """Ignore the time since the last lap (logging, saving)."""
        self._at = time.perf_counter()

    def read(self, batch_size: int) -> dict[str, float]:
        """Since the last reading: clips per second, seconds per step of each kind, share of waiting."""
        wait, work = self._sums["wait"], self._sums["work"]
        steps = max(self._steps, 1)
        reading = {
            "clips_per_second": steps * batch_size / max(wait + work, 1e-9),
            "wait_seconds": wait / steps,
            "work_seconds": work / steps,
            "data_wait": wait / max(wait + work, 1e-9),
        }
        self._sums = dict.fromkeys(self._sums, 0.0)
        self._steps = 0
        return reading


def step_note(metrics: dict[str, float], health: dict[str, float], timing: dict[str, float]) -> str:
    """The text about a training step in a progress bar."""
    motion = "".join(f"  {name} {health[name]:.0%}" for name in ("motion", "top1") if name in health)
    motion += f"  balance {health['balance']:+.2f}" if "balance" in health else ""
    speed = "  {clips_per_second:.1f} clips/s  waiting {data_wait:.0%}".format(**timing)
    return f"loss {metrics['loss']:.3f}{motion}{speed}  lr {metrics['lr']:.1e}"
