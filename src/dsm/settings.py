"""Settings from Python: call a verb with a config object or with plain keyword arguments.

``dsm.extract(weights="runs/mine", data="test.txt", out="test.npz")`` means the same as
``dsm.extract(ExtractConfig("runs/mine", Path("test.txt"), Path("test.npz")))``. Fields of nested configs are
given by their own names (``windows=3``), or, where two nested configs share a name, as a dictionary
(``data={"train": "train.txt"}``).
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from dsm.errors import UserError, nearest

Config = TypeVar("Config")
Returned = TypeVar("Returned")


def takes_settings(
    config_type: type[Config],
) -> Callable[[Callable[[Config], Returned]], Callable[..., Returned]]:
    """Let a function of one config also be called with the config's fields as keyword arguments.

    The signature and docstring of the function list every setting, so ``help`` shows them.
    """

    def decorate(function: Callable[[Config], Returned]) -> Callable[..., Returned]:
        @functools.wraps(function)
        def call(config: Config | None = None, /, **settings: Any) -> Returned:
            if config is None:
                config = make_config(config_type, settings, called=function.__name__)
            elif settings:
                raise UserError(f"{function.__name__}: give a config or keyword arguments, not both.")
            elif not isinstance(config, config_type):
                raise UserError(
                    f"{function.__name__}: the first argument must be a {config_type.__name__}; "
                    "give other settings by name."
                )
            return function(config)

        call.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')}\n\n{_described(config_type)}"
        call.__signature__ = _signature(config_type, function)  # type: ignore[attr-defined]
        return call

    return decorate


def make_config(config_type: type[Config], settings: Mapping[str, Any], *, called: str = "") -> Config:
    """Build a config from plain values: strings for paths, lists for tuples, dictionaries for nested configs.

    Args:
        called: what errors call the function.

    Raises:
        UserError: a setting is unknown, ambiguous or missing; the config's own checks raise it too.
    """
    called = called or config_type.__name__
    values: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {}
    direct = {one.name: hint for one, hint in _fields(config_type)}
    for name, value in settings.items():
        if name in direct:
            values[name] = value
            continue
        homes = [one for one, hint in direct.items() if name in _names(_dataclass_in(hint))]
        if len(homes) > 1:
            ways = " or ".join(f"{home}={{{name!r}: …}}" for home in homes)
            raise UserError(f"{called}: {name} can mean two settings; write {ways}.")
        if not homes:
            known = [*direct, *(one for hint in direct.values() for one in _names(_dataclass_in(hint)))]
            raise UserError(f"{called}: unknown setting {name!r}{nearest(name, known)}")
        nested.setdefault(homes[0], {})[name] = value
    for name, inner in nested.items():
        given = values.get(name, {})
        if not isinstance(given, Mapping):
            raise UserError(f"{called}: {next(iter(inner))} is a field of {name}, which is given too.")
        values[name] = {**given, **inner}
    missing = [
        one.name
        for one, hint in _fields(config_type)
        if one.name not in values and _required(one) and not _optional_inside(hint)
    ]
    if missing:
        raise UserError(f"{called}: give {', '.join(missing)}.")
    for name, hint in direct.items():
        inner_type = _dataclass_in(hint)
        if inner_type is not None and isinstance(values.get(name), Mapping):
            values[name] = make_config(inner_type, values[name], called=called)
        elif name in values:
            values[name] = _converted(values[name], hint)
    return config_type(**values)


def _fields(config_type: Any) -> Iterator[tuple[Field[Any], Any]]:
    hints = get_type_hints(config_type, include_extras=False)
    for one in fields(config_type):
        if one.init:
            yield one, hints[one.name]


def _required(one: Field[Any]) -> bool:
    return one.default is MISSING and one.default_factory is MISSING


def _optional_inside(hint: Any) -> bool:
    """Whether a required field is a config that can be built without any value."""
    inner = _dataclass_in(hint)
    return inner is not None and not any(_required(one) for one, _ in _fields(inner))


def _dataclass_in(hint: Any) -> Any:
    """The dataclass that a field holds, or None."""
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    found = [option for option in options if is_dataclass(option)]
    return found[0] if len(found) == 1 else None


def _names(config_type: Any) -> list[str]:
    """Names of all fields of a config, at any depth."""
    if config_type is None:
        return []
    names = []
    for one, hint in _fields(config_type):
        names += [one.name, *_names(_dataclass_in(hint))]
    return names


def _converted(value: Any, hint: Any) -> Any:
    """A plain value as the field's type wants it."""
    origin = get_origin(hint)
    if origin is Annotated:
        return _converted(value, get_args(hint)[0])
    if origin in (Union, types.UnionType):
        options = [option for option in get_args(hint) if option is not type(None)]
        return value if value is None or len(options) != 1 else _converted(value, options[0])
    if origin is tuple:
        inner = get_args(hint)
        if isinstance(value, (str, Path)):
            value = (value,)
        if len(inner) == 2 and inner[1] is Ellipsis:
            return tuple(_converted(one, inner[0]) for one in value)
        return tuple(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    return value


def _flat(config_type: Any) -> Iterator[tuple[Field[Any], Any, Any]]:
    """Every field that is no config itself, at any depth, with its type and the config it belongs to."""
    for one, hint in _fields(config_type):
        inner = _dataclass_in(hint)
        if inner is None:
            yield one, hint, config_type
        else:
            yield from _flat(inner)


def _signature(config_type: Any, function: Callable[..., Any]) -> inspect.Signature:
    config = inspect.Parameter("config", inspect.Parameter.POSITIONAL_ONLY, default=None)
    known: dict[str, inspect.Parameter] = {}
    for one, hint, _ in _flat(config_type):
        default = inspect.Parameter.empty if _required(one) else one.default
        if one.default_factory is not MISSING:
            default = one.default_factory()
        known.setdefault(
            one.name,
            inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint),
        )
    returned = inspect.signature(function).return_annotation
    return inspect.Signature([config, *known.values()], return_annotation=returned)


def _described(config_type: Any) -> str:
    """The settings with what is written under each in the source."""
    lines = ["Args:", f"    config: a {config_type.__name__}, instead of the settings below."]
    texts: dict[Any, dict[str, str]] = {}
    seen: set[str] = set()
    for one, _, owner in _flat(config_type):
        if owner not in texts:
            texts[owner] = _field_texts(owner)
        text = " ".join(texts[owner].get(one.name, "").split())
        if one.name not in seen:
            seen.add(one.name)
            lines += textwrap.wrap(
                f"{one.name}: {text}" if text else one.name,
                100,
                initial_indent="    ",
                subsequent_indent="        ",
            )
    return "\n".join(lines)


def _field_texts(config_type: Any) -> dict[str, str]:
    """Docstrings of fields, which Python itself does not keep."""
    found: dict[str, str] = {}
    bases: list[Any] = [base for base in reversed(config_type.__mro__) if is_dataclass(base)]
    for base in bases:
        try:
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        except (OSError, TypeError, SyntaxError, ValueError):  # no source at hand: names must do
            continue
        assert isinstance(tree, ast.ClassDef)
        for before, node in zip(tree.body, tree.body[1:], strict=False):
            if (
                isinstance(before, ast.AnnAssign)
                and isinstance(before.target, ast.Name)
                and isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                found[before.target.id] = node.value.value
    return found
