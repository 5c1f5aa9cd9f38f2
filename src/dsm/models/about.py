"""What a checkpoint says about its weights, as JSON: the fields that are read, and their types."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from dsm.limits import SETTING
from dsm.models.settings import HeadKind
from dsm.untrusted import checked, parse_json


class ProjectionHead(TypedDict):
    """A projection head, as in :mod:`dsm.models.heads`."""

    dim: int
    kind: HeadKind


class Pictures(TypedDict):
    """The normalisation that the encoder was trained with."""

    mean: list[float]
    std: list[float]


class _Kind(TypedDict):
    kind: Literal["head", "lora"]


class Tuned(_Kind, total=False):
    """What was added to an encoder to adapt it, as in :mod:`dsm.models.tuning`."""

    rank: int


class _Needed(TypedDict):
    backbone: str
    model: dict[str, Any]


class About(_Needed, total=False):
    """The fields that are read; others are kept unchanged."""

    method: str
    head: ProjectionHead | None
    pictures: Pictures | None
    tuned: Tuned | None
    clip: dict[str, Any]
    classes: list[str]
    begun_with: str | None
    settings: dict[str, str | int | float | bool | list[Any] | None]


def parse_about(text: str) -> dict[str, Any]:
    """The content of a checkpoint's ``config``.

    Raises:
        ValueError: it is not JSON, or a field is missing or of the wrong type.
    """
    return check_about(parse_json(text))


def check_about(about: Any) -> dict[str, Any]:
    """A file's description of its weights, after checking its form.

    Raises:
        ValueError: a field is missing or of the wrong type, or a setting of the network is beyond bounds.
    """
    found = dict(checked(about, About, "its description"))
    check_settings(found["model"])
    tuned: Any = found.get("tuned") or {}
    rank = tuned.get("rank", 1)
    if not 1 <= rank <= SETTING:
        raise ValueError(f"its rank is {rank}")
    return found


def check_settings(value: Any) -> None:
    """Refuse network settings beyond the limits for files."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            check_settings(one)
    elif isinstance(value, (int, float)) and not abs(value) <= SETTING:
        raise ValueError(f"a setting of its network is beyond {SETTING}")
