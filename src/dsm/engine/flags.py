"""Settings as one types them."""

from __future__ import annotations

from typing import Any


def as_flag(name: str, value: Any) -> str:
    """``--optim.lr 0.1``, ``--no-recompute``, ``--dsm.no-joint``."""
    if isinstance(value, bool):
        group, _, last = name.rpartition(".")
        return f"--{group + '.' if group else ''}{'' if value else 'no-'}{last}"
    words = value if isinstance(value, list) else [value]
    return " ".join([f"--{name}", *map(str, words)])
