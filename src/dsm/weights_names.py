"""How weights are named: by a path, as a published model (``hf:ID``), or as those that come with dsm."""

from __future__ import annotations

from pathlib import Path

LIBRARIES = ("tv", "hf", "timm")
"""Libraries whose models dsm loads by name: torchvision, transformers and timm."""


def published(weights: str | Path) -> tuple[str, str] | None:
    """The library and the rest of weights such as ``hf:facebook/vjepa2-vitl-fpc64-256``; None for a path.

    In ``hf:~/models/x`` the home folder is put for ``~``, which shells do only at the start of a word.
    """
    library, mark, what = str(weights).partition(":")
    if not mark or not what or library not in LIBRARIES:
        return None
    return library, str(Path(what).expanduser()) if what.startswith("~/") else what


MOTION = "motion"
SHIPPED = {MOTION: Path(__file__).with_name("models") / "motion.safetensors"}
"""Weights that come with the package. A folder of that name is ``./motion``, or given as a ``Path``."""


def path_of(weights: str | Path) -> Path:
    """The file or folder of weights; for a published model, its name, which is not a path."""
    if isinstance(weights, str) and weights in SHIPPED:
        return SHIPPED[weights]
    found = published(weights)
    return Path(found[1] if found else weights)


def absolute_name(weights: str | Path) -> str:
    """A name of weights valid in any folder: paths become absolute; ids, ``none`` and ``motion`` stay."""
    found, path = published(weights), path_of(weights)
    if weights in SHIPPED or not path.exists():
        return str(weights)
    return f"{found[0]}:{path.absolute()}" if found else str(path.absolute())
