"""A scheduler's warning, which SLURM and others send some time before they end a job."""

from __future__ import annotations

import signal

WARNINGS = tuple(getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name))
"""Which it is, is for the user to choose: ``sbatch --signal=USR1@120``. Windows has none."""


def ignore_warnings() -> None:
    """In a worker: all processes of a job are warned, and whoever began the worker is to end it."""
    for number in WARNINGS:
        signal.signal(number, signal.SIG_IGN)
