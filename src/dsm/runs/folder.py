"""The folder of a run, and what its ``config.json`` records: its id, the command, all settings, versions.

The folder also holds ``metrics.jsonl`` and ``gradients.jsonl`` (``logs.py``), TensorBoard events,
``trackers.json`` (what was sent to trackers) and ``checkpoints/``.
"""

from __future__ import annotations

import dataclasses
import platform
import re
import subprocess
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypedDict

from dsm.untrusted import checked, read_json
from dsm.urls import shown
from dsm.version import __version__

MARKER = "config.json"


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


NEVER_LASTING = frozenset(
    ("out", "overwrite", "resume", "devices", "workers", "timeout", "track", "copy_to")
    + ("cache_mb", "cache_folder", "cache_gb")
)
"""Names of settings that do not affect the result, only speed and where output goes."""
HOW_IT_TRAINS = NEVER_LASTING | {
    "log_every", "save_every", "keep", "extend", "compile", "recompute", "nonfinite"
}  # fmt: skip
"""The same for training: also how a run logs, saves and computes."""


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
    """Nested settings by flag: ``optim.weight-decay``."""
    named: dict[str, Any] = {}
    for name, value in settings.items():
        key = f"{prefix}{name.replace('_', '-')}"
        named |= flat(value, f"{key}.") if isinstance(value, dict) else {key: value}
    return named


def flags_of(config: Any, *, method_as: str | None = None) -> dict[str, Any]:
    """The settings of a training run by flag, without those of methods it does not use.

    Args:
        config: its settings, or those in its ``config.json``.
        method_as: what the flags of its method begin with; by default the method's name.
    """
    settings = dict(plain(config))
    methods, method = settings.pop("settings", None), settings.get("method")
    if isinstance(methods, dict) and isinstance(method, str):
        settings[method_as or method] = methods.get(method.replace("-", "_"), {})
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


def run_id(record: Mapping[str, Any] | None) -> str | None:
    """The 32 hexadecimal digits that tell a run from others; None if its ``config.json`` has none."""
    found = (record or {}).get("id")
    return found if isinstance(found, str) and re.fullmatch("[0-9a-f]{32}", found) else None


def read_record(out: Path) -> dict[str, Any] | None:
    """A run's ``config.json``: ``id``, ``command``, ``config``, ``versions``, ``revision``.

    None if this project did not write the folder: other tools write a ``config.json`` too, whose fields may
    have any type.
    """
    try:
        return dict(checked(read_json(out / MARKER), Record))
    except (OSError, ValueError):
        return None
