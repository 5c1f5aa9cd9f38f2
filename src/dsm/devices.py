"""The device that computes, its algorithms, and the threads and reading processes beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from dsm.workers import usable_cores


def best_device() -> torch.device:
    """The first available of CUDA, Apple's MPS and the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    keep_to_cores()
    return torch.device("cpu")


def keep_to_cores(processes: int = 1) -> None:
    """Limit torch to its share of the usable cores, unless ``OMP_NUM_THREADS`` sets the number of threads.

    With more threads than cores (a container limited to two cores of a 64-core machine, or several processes
    that each use all cores) torch is many times slower.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        share = max(1, usable_cores() // processes)
        torch.set_num_threads(share if processes > 1 else min(share, torch.get_num_threads()))


MOST_WORKERS = 12
"""Decoding processes beside a GPU, if nothing else is asked for."""


def reading_workers(asked: int | None, decoder: str = "pyav") -> int:
    """The number of processes that decode for this one: as ``asked`` or, for None, by the machine.

    One on a CPU, where the network needs the cores. A GPU needs more clips than one core decodes: beside it
    the cores are shared between the processes of this machine, and one of each share is left for the process
    itself. A GPU that decodes has to do so in that process.
    """
    if asked is not None:
        return asked
    if decoder == "torchcodec-cuda":
        return 0
    if not torch.cuda.is_available():
        return 1
    # SLURM gives each task its own cores.
    sharing = 1 if "SLURM_CPUS_PER_TASK" in os.environ else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, min(MOST_WORKERS, usable_cores() // sharing - 1))


@contextmanager
def algorithms(device_type: str, *, deterministic: bool) -> Iterator[None]:
    """Let CUDA use only deterministic algorithms, or else those that are fastest for the shapes it meets.

    cuDNN times its algorithms when it meets a shape, and may choose others in each run. PyTorch warns of
    operations without a deterministic algorithm. cuBLAS reads its part of this setting when the process uses
    it for the first time. CPUs are always deterministic.
    """
    cudnn = torch.backends.cudnn
    before, benchmark = torch.are_deterministic_algorithms_enabled(), cudnn.benchmark
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    filled = memory.fill_uninitialized_memory
    if device_type == "cuda":
        cudnn.benchmark = not deterministic
        if deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True, warn_only=True)
            memory.fill_uninitialized_memory = False  # nothing here reads such memory
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warns)
        memory.fill_uninitialized_memory = filled
        cudnn.benchmark = benchmark
