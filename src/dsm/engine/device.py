"""Where to compute, and with how many threads."""

from __future__ import annotations

import os

import torch

from dsm.cores import usable_cores


def best_device() -> torch.device:
    """CUDA, then Apple's MPS, then the CPU: the first that is there."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    keep_to_cores()
    return torch.device("cpu")


def keep_to_cores(processes: int = 1) -> None:
    """Let torch take its share of the cores there are, where ``OMP_NUM_THREADS`` does not say how many.

    Threads beyond them, as where a container has a quota of two cores on a machine of 64, or processes that
    each take all, are many times slower.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        share = max(1, usable_cores() // processes)
        torch.set_num_threads(share if processes > 1 else min(share, torch.get_num_threads()))
