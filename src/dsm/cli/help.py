"""Help for verbs with many settings: `--help` shows the main ones, `--help-all` shows all."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, field, fields, is_dataclass, make_dataclass
from functools import partial
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import tyro

ALL = "--help-all"


def shortened(config: type, names: Sequence[str]) -> type:
    """A copy of a settings class whose help shows only some settings.

    Args:
        names: the settings to show, as on the command line without the dashes: ``data.train``.
    """
    hints = get_type_hints(config, include_extras=True)
    shown: list[tuple[str, Any, Any]] = []
    for one in fields(config):
        name, kind = _flag(one.name), hints[one.name]
        needed = one.default is MISSING and one.default_factory is MISSING
        inner = [other.removeprefix(f"{name}.") for other in names if other.startswith(f"{name}.")]
        if _has_no_name(kind):
            inner = list(names)
        if one.default_factory is not MISSING:
            default: Any = field(default_factory=one.default_factory)
        else:
            default = field() if needed else field(default=one.default)
        if inner:
            bare, *marks = get_args(kind) if get_origin(kind) is Annotated else (kind,)
            short = shortened(bare, inner)
            kind = Annotated[(short, *marks)] if marks else short
            if one.default_factory is not MISSING:
                whole = one.default_factory()
                values = {setting.name: getattr(whole, setting.name) for setting in fields(whole)}
                default = field(default_factory=partial(short, **values))
        elif name not in names and not needed:
            kind = Annotated[kind, tyro.conf.Suppress]
        shown.append((one.name, kind, default))
    return make_dataclass(config.__name__, shown, bases=(config,), frozen=True)


def groups(config: type, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The groups of settings of a class: the prefix of their flags, and what they set."""
    for name, kind in get_type_hints(config, include_extras=True).items():
        bare = get_args(kind)[0] if get_origin(kind) is Annotated else kind
        if not is_dataclass(bare):
            continue
        if _has_no_name(kind):
            yield from groups(bare, prefix)  # type: ignore[arg-type]
        else:
            about = inspect.getdoc(bare) or ""
            yield f"--{prefix}{_flag(name)}.*", about.split("\n\n")[0].replace("\n", " ")


def _has_no_name(kind: Any) -> bool:
    """Whether the flags of a group leave out the group's own name."""
    return any(getattr(mark, "name", None) == "" for mark in get_args(kind)[1:])


def _flag(name: str) -> str:
    return name.replace("_", "-")
