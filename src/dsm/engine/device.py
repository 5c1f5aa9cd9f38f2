"""Where to compute."""

from __future__ import annotations

import torch


def best_device() -> torch.device:
    """CUDA, then Apple's MPS, then the CPU: the first that is there."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")
