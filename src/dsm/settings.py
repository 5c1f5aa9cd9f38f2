"""Settings from Python: call a verb with a config object or with plain keyword arguments.

``dsm.extract(weights="runs/mine", data="test.txt", out="test.npz")`` means the same as
``dsm.extract(ExtractConfig("runs/mine", Path("test.txt"), Path("test.npz")))``. Fields of nested configs are
given by their own names (``windows=3``). If several nested configs share a name, the setting goes into a
dictionary (``monitor={"root": "videos"}``); ``help`` and the error message say which.
"""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import numbers
import os
import sys
import textwrap
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from dsm.errors import UserError, did_you_mean, is_utf8
from dsm.locks import work

Config = TypeVar("Config")
Returned = TypeVar("Returned")
Names = tuple[str, ...]

MOST_MEANINGS = 6
"""Most meanings of an ambiguous name that an error message lists."""
WIDTH = 100
"""Width of the list of settings in a docstring, in characters."""


def takes_settings(
    config_type: type[Config],
) -> Callable[[Callable[[Config], Returned]], Callable[..., Returned]]:
    """Let a function of one config also be called with the config's fields as keyword arguments.

    The signature and docstring of the function list every setting, so ``help`` shows them. What the function
    locks is released when it ends.
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
            _check_names(config)
            with work():
                return function(config)

        call.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')}\n\n{_described(config_type)}"
        call.takes_settings = config_type  # type: ignore[attr-defined]
        call.__signature__ = _signature(config_type, function)  # type: ignore[attr-defined]
        return call

    return decorate


def _check_names(config: Any) -> None:
    """Raise UserError for a setting, or a working folder, that is not UTF-8: text files cannot name it."""
    for text in _texts(config):
        if not is_utf8(text):
            raise UserError(f"{text}: its name is not UTF-8; rename it.")
    with suppress(FileNotFoundError):  # the folder was removed meanwhile
        if not is_utf8(str(Path.cwd())):
            raise UserError(
                f"{Path.cwd()}: the name of this folder is not UTF-8; rename it, or run dsm in another one."
            )


def _texts(value: Any) -> Iterator[str]:
    if is_dataclass(value):
        yield from itertools.chain.from_iterable(_texts(getattr(value, one.name)) for one in fields(value))
    elif isinstance(value, (tuple, list)):
        yield from itertools.chain.from_iterable(map(_texts, value))
    elif isinstance(value, (str, Path)):
        yield str(value)


def make_config(config_type: type[Config], settings: Mapping[str, Any], *, called: str = "") -> Config:
    """Build a config from plain values: strings for paths, lists for tuples, dictionaries for nested configs.

    A nested config that is given in part keeps the defaults of the field that holds it.

    Args:
        called: name of the function in error messages.

    Raises:
        UserError: a setting is unknown, ambiguous, missing, given twice or of the wrong type; the config's
            own checks raise it too.
    """
    called = called or config_type.__name__
    values = _resolved(config_type, settings, called)
    missing = [_written(_address(config_type, path)) for path in _missing(config_type, None, values)]
    if missing:
        raise UserError(f"{called}: give {', '.join(missing)}.")
    config: Config = _built(config_type, None, values, called)
    return config


@dataclass(frozen=True)
class _Setting:
    """A field of a config, or of one nested in it."""

    path: Names
    """The names of the fields that lead to it; its own is last."""
    hint: Any
    """Its type."""
    owner: Any
    """The config type that declares it."""
    default: Any
    """MISSING if a value must be given."""

    @property
    def name(self) -> str:
        return self.path[-1]

    @property
    def nested(self) -> Any:
        """The config type of the field, or None."""
        return _dataclass_in(self.hint)


def _own(config_type: Any, base: Any = None, before: Names = ()) -> Iterator[_Setting]:
    """The fields of a config. Their defaults are the values of ``base``, if given."""
    hints = _hints(config_type)
    for one in fields(config_type):
        if not one.init:
            continue
        default = one.default if one.default_factory is MISSING else one.default_factory()
        if base is not None:
            default = getattr(base, one.name)
        yield _Setting((*before, one.name), hints[one.name], config_type, default)


def _leaves(config_type: Any, base: Any = None, before: Names = ()) -> Iterator[_Setting]:
    """Every field that is not a config itself, at any depth."""
    for one in _own(config_type, base, before):
        if one.nested is None:
            yield one
        else:
            inner = one.default if is_dataclass(one.default) else None
            yield from _leaves(one.nested, inner, one.path)


@functools.cache
def _hints(config_type: Any) -> dict[str, Any]:
    return get_type_hints(config_type, include_extras=False)


def _dataclass_in(hint: Any) -> Any:
    """The dataclass in a field's type, or None."""
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    configs = [option for option in options if is_dataclass(option)]
    return configs[0] if len(configs) == 1 else None


@functools.cache
def _meanings(config_type: Any) -> dict[str, list[Names]]:
    """The paths that each name can mean. A field of the config itself comes before any nested one."""
    meanings: dict[str, list[Names]] = {}

    def collect(inner_type: Any, before: Names) -> None:
        for one in _own(inner_type, None, before):
            meanings.setdefault(one.name, []).append(one.path)
            if one.nested is not None:
                collect(one.nested, one.path)

    collect(config_type, ())
    own = {one.name: [one.path] for one in _own(config_type)}
    return {**meanings, **own}


def _address(config_type: Any, path: Names) -> Names:
    """The shortest end of a path whose first name has one meaning."""
    meanings = _meanings(config_type)
    for start in reversed(range(len(path))):
        if meanings[path[start]] == [path[: start + 1]]:
            return path[start:]
    return path


def _written(address: Names) -> str:
    """A setting as a caller writes it: ``windows``, or ``monitor={"root": …}``."""
    if len(address) == 1:
        return address[0]
    value = "…"
    for name in reversed(address[1:]):
        value = f'{{"{name}": {value}}}'
    return f"{address[0]}={value}"


def _resolved(config_type: Any, settings: Mapping[str, Any], called: str) -> dict[str, Any]:
    """The settings as nested dictionaries, each at the place of its field."""
    meanings = _meanings(config_type)
    values: dict[str, Any] = {}
    for name, value in settings.items():
        paths = meanings.get(name, [])
        if not paths:
            raise UserError(f"{called}: unknown setting {name!r}{did_you_mean(name, meanings)}")
        if len(paths) > 1:
            ways = [_written(_address(config_type, path)) for path in paths[:MOST_MEANINGS]]
            raise UserError(
                f"{called}: {name} can mean {len(paths)} settings; write {' or '.join(ways)}"
                f"{' or others' if len(paths) > MOST_MEANINGS else ''}."
            )
        _put(values, paths[0], value, called)
    for one in _own(config_type):
        if one.nested is not None and isinstance(values.get(one.name), Mapping):
            values[one.name] = _resolved(one.nested, values[one.name], called)
    return values


def _put(values: dict[str, Any], path: Names, value: Any, called: str) -> None:
    """Put a value at its path. Groups that are given in parts are merged."""
    *groups, name = path
    inside = values
    for group in groups:
        given = inside.get(group, {})
        if not isinstance(given, Mapping):
            raise UserError(f"{called}: {name} is a setting of {group}, which is already given as a whole.")
        inside[group] = inside = dict(given)
    if name not in inside:
        inside[name] = value
    elif isinstance(inside[name], Mapping) and isinstance(value, Mapping):
        for inner, inner_value in value.items():
            _put(inside, (name, inner), inner_value, called)
    elif isinstance(inside[name], Mapping):
        raise UserError(
            f"{called}: {next(iter(inside[name]))} is a setting of {name}, which is already given as a whole."
        )
    else:
        raise UserError(f"{called}: {name} is given twice; give it once.")


def _missing(config_type: Any, base: Any, values: Mapping[str, Any], before: Names = ()) -> Iterator[Names]:
    """The paths of settings that must be given and are not."""
    for one in _own(config_type, base, before):
        given = values.get(one.name, {} if one.default is MISSING else one.default)
        if one.nested is not None and isinstance(given, Mapping):
            inner = None if one.default is MISSING else one.default
            yield from _missing(one.nested, inner, given, one.path)
        elif one.default is MISSING and one.name not in values:
            yield one.path


def _built(config_type: Any, base: Any, values: Mapping[str, Any], called: str) -> Any:
    """A config of resolved values; ``base`` supplies those that are not given."""
    made: dict[str, Any] = {}
    for one in _own(config_type, base):
        if one.name not in values and (one.nested is None or one.default is not MISSING):
            continue
        value = values.get(one.name, {})
        if one.nested is None:
            made[one.name] = _converted(value, one.hint, f"{called}: {one.name}")
        elif isinstance(value, Mapping):
            inner = None if one.default is MISSING else one.default
            made[one.name] = _built(one.nested, inner, value, called)
        elif isinstance(value, one.nested) or (value is None and type(None) in get_args(one.hint)):
            made[one.name] = value
        else:
            raise UserError(
                f"{called}: {one.name} is a group of settings; give a dictionary or a {one.nested.__name__}, "
                f"not {value!r}."
            )
    return config_type(**made) if base is None else replace(base, **made)


def _converted(value: Any, hint: Any, named: str) -> Any:
    """Convert a plain value to the field's type.

    Raises:
        UserError: it is of another type.
    """
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _converted_to_one(value, get_args(hint), named)
    if origin is Literal:
        if value not in get_args(hint):
            raise UserError(f"{named} must be {_either(map(repr, get_args(hint)))}, not {value!r}.")
        return value
    if origin is tuple:
        return _converted_tuple(value, get_args(hint), named)
    if hint is Path and isinstance(value, (str, os.PathLike)):
        return Path(value)
    if hint is str and isinstance(value, (str, os.PathLike)):
        return os.fspath(value)
    if hint is bool and isinstance(value, (bool, np.bool_)):
        return bool(value)
    if hint is int and _is(value, numbers.Integral):
        return int(value)
    if hint is float and _is(value, numbers.Real):
        return float(value)
    if hint in _KINDS:
        raise UserError(f"{named} must be {_KINDS[hint]}, not {value!r}.")
    return value


def _is(value: Any, kind: type[Any]) -> bool:
    """Whether it is a number of this kind; True and False are not."""
    return isinstance(value, kind) and not isinstance(value, (bool, np.bool_))


_KINDS = {Path: "a path", str: "a string", bool: "True or False", int: "an integer", float: "a number"}


def _converted_to_one(value: Any, options: tuple[Any, ...], named: str) -> Any:
    """Convert a value to the first type of a union that accepts it."""
    if value is None and type(None) in options:
        return None
    refused: UserError | None = None
    for option in options:
        if option is not type(None):
            try:
                return _converted(value, option, named)
            except UserError as error:
                refused = refused or error
    assert refused is not None
    raise refused


def _converted_tuple(value: Any, types_inside: tuple[Any, ...], named: str) -> tuple[Any, ...]:
    """A tuple from any sequence; a single value is a tuple of one."""
    single = isinstance(value, (str, os.PathLike)) or not isinstance(value, Iterable)
    items = [value] if single else list(value)
    if len(types_inside) == 2 and types_inside[1] is Ellipsis:
        return tuple(_converted(item, types_inside[0], named) for item in items)
    if len(items) != len(types_inside):
        raise UserError(f"{named} must be {len(types_inside)} values, not {value!r}.")
    return tuple(_converted(item, kind, named) for item, kind in zip(items, types_inside, strict=True))


def _either(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


def _signature(config_type: Any, function: Callable[..., Any]) -> inspect.Signature:
    """The config, then every setting by the first name of its address."""
    parameters: dict[str, inspect.Parameter] = {}
    for one in _leaves(config_type):
        first, *inside = _address(config_type, one.path)
        # A group has no default here: its settings each have one.
        default = None if inside else inspect.Parameter.empty if one.default is MISSING else one.default
        annotation = dict[str, Any] if inside else one.hint
        parameters.setdefault(
            first,
            inspect.Parameter(first, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation),
        )
    config = inspect.Parameter("config", inspect.Parameter.POSITIONAL_ONLY, default=None)
    returned = inspect.signature(function).return_annotation
    return inspect.Signature([config, *parameters.values()], return_annotation=returned)


def _described(config_type: Any) -> str:
    """Every setting with its docstring from the source."""
    lines = ["Args:", f"    config: a {config_type.__name__}, instead of the settings below."]
    for one in _leaves(config_type):
        text = " ".join(_field_texts(one.owner).get(one.name, "").split())
        setting = _written(_address(config_type, one.path))
        lines += textwrap.wrap(
            f"{setting}: {text}" if text else setting,
            WIDTH,
            initial_indent="    ",
            subsequent_indent="        ",
        )
    return "\n".join(lines)


@functools.cache
def _field_texts(config_type: Any) -> dict[str, str]:
    """Docstrings of fields, which Python itself does not keep."""
    texts: dict[str, str] = {}
    bases: list[Any] = [base for base in reversed(config_type.__mro__) if is_dataclass(base)]
    for base in bases:
        tree = _classes(base.__module__).get(base.__name__)
        body = tree.body if tree is not None else []
        for before, node in itertools.pairwise(body):
            if (
                isinstance(before, ast.AnnAssign)
                and isinstance(before.target, ast.Name)
                and isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                texts[before.target.id] = node.value.value
    return texts


@functools.cache
def _classes(module: str) -> dict[str, ast.ClassDef]:
    """The classes in a module's source, by name; none if there is no source."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, TypeError, SyntaxError, KeyError):
        return {}
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
