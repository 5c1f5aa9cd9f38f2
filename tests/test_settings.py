"""Commands called with keywords: the setting of a name, its conversion, and its help."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
import tyro

from dsm.errors import UserError, check_range
from dsm.settings import make_config, takes_settings


@dataclass(frozen=True)
class Kinds:
    """Settings two levels down."""

    strength: float = 1.0
    """How strong."""
    shift: float = 0.5


@dataclass(frozen=True)
class First:
    kinds: Kinds = field(default_factory=Kinds)
    queue: int = 8
    """Length of the queue."""


@dataclass(frozen=True)
class Second:
    queue: int = 16
    only_here: bool = False


@dataclass(frozen=True)
class Optim:
    name: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.1
    """Learning rate."""
    clip: float | None = None


@dataclass(frozen=True)
class Data:
    train: Path
    """Training list."""
    root: Path | None = None
    workers: int = 1
    """Processes."""


@dataclass(frozen=True)
class Watch:
    root: Path | None = None
    """Another root."""
    every: int = 5


@dataclass(frozen=True)
class Base:
    data: Data
    out: Path
    """Where to write."""


@dataclass(frozen=True)
class Config(Base):
    clip: int = 3
    """Not the clip of optim."""
    optim: Optim = field(default_factory=lambda: Optim("adamw", lr=0.5))
    first: Annotated[First, tyro.conf.arg(name="")] = field(default_factory=First)
    second: Second = field(default_factory=Second)
    watch: Watch | None = field(default_factory=Watch)
    weights: Annotated[str, tyro.conf.Positional] = "none"
    seeds: tuple[int, ...] = (0,)
    pair: tuple[int, float] = (1, 2.0)
    files: tuple[Path, ...] = ()
    made: int = field(default=1, init=False)

    def __post_init__(self) -> None:
        if self.clip < 1:
            raise UserError("clip must be at least 1.")


GIVEN = {"train": "train.txt", "out": "runs/a"}


def make(**settings: object) -> Config:
    return make_config(Config, {**GIVEN, **settings}, called="work")


def refused(**settings: object) -> str:
    with pytest.raises(UserError) as error:
        make_config(Config, settings, called="work")
    return str(error.value)


def test_settings_reach_nested_fields() -> None:
    config = make(workers=3, lr=0.25, strength=2.0, every=1)
    assert config.data == Data(Path("train.txt"), workers=3)
    assert config.out == Path("runs/a")
    assert config.first == First(Kinds(2.0))
    assert config.watch == Watch(every=1)
    assert config == make(
        data={"workers": 3}, optim={"lr": 0.25}, first={"strength": 2.0}, watch={"every": 1}
    )


def test_a_group_given_in_part_keeps_the_defaults_of_its_field() -> None:
    assert make().optim == Optim("adamw", 0.5)
    assert make(lr=0.25).optim == Optim("adamw", 0.25)
    assert make(optim=Optim(lr=0.25)).optim == Optim("sgd", 0.25)


def test_nested_groups_are_merged_in_any_order() -> None:
    for settings in (
        {"data": {"root": "a"}, "train": "t", "out": "o"},
        {"train": "t", "out": "o", "data": {"root": "a"}},
    ):
        assert make_config(Config, settings).data == Data(Path("t"), Path("a"))
    given = {"root": "a"}
    make(data=given, workers=2)
    assert given == {"root": "a"}  # the caller's own dictionary


def test_a_field_of_the_config_has_priority_over_a_nested_one() -> None:
    assert make(clip=4).clip == 4
    assert make(optim={"clip": 4}).optim.clip == 4.0


def test_values_are_converted_to_the_fields_type() -> None:
    config = make(seeds=[1, np.int64(2)], pair=[np.int32(3), 4], files="a.txt", weights=Path("runs/b"))
    assert config.seeds == (1, 2)
    assert config.pair == (3, 4.0)
    assert config.files == (Path("a.txt"),)
    assert config.weights == "runs/b"
    assert [type(value) for value in (*config.seeds, *config.pair)] == [int, int, int, float]
    assert make(seeds=7).seeds == (7,)
    assert make(files=["a", Path("b")]).files == (Path("a"), Path("b"))
    assert make(watch=None).watch is None
    assert type(make(lr=1).optim.lr) is float


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stepps": 1, **GIVEN}, "work: unknown setting 'stepps'"),
        ({"worker": 1, **GIVEN}, "did you mean 'workers'"),
        ({}, "work: give train, out."),
        ({"workers": 0, "out": "o"}, "work: give train."),
        ({"data": {"workers": 0}}, "work: give train, out."),
        ({"made": 1, **GIVEN}, "unknown setting 'made'"),
        ({"root": "r", **GIVEN}, 'root can mean 2 settings; write data={"root": …} or watch={"root": …}.'),
        ({"queue": 1, **GIVEN}, 'write first={"queue": …} or second={"queue": …}.'),
        ({"data": {"train": "a"}, **GIVEN}, "train is given twice"),
        ({"data": Data(Path("a")), **GIVEN}, "train is a setting of data, which is already given as a whole"),
        ({**GIVEN, "data": Data(Path("a"))}, "train is a setting of data, which is already given as a whole"),
        ({"optim": "adamw", **GIVEN}, "optim is a group of settings; give a dictionary or a Optim"),
        ({"optim": {"rate": 1}, **GIVEN}, "unknown setting 'rate'"),
        ({"optim": None, **GIVEN}, "optim is a group of settings"),
        ({"name": "adam", **GIVEN}, "name must be 'sgd' or 'adamw', not 'adam'"),
        ({"workers": "3", **GIVEN}, "workers must be an integer, not '3'"),
        ({"workers": True, **GIVEN}, "workers must be an integer, not True"),
        ({"workers": 1.5, **GIVEN}, "workers must be an integer, not 1.5"),
        ({"lr": "fast", **GIVEN}, "lr must be a number, not 'fast'"),
        ({"only_here": 1, **GIVEN}, "only_here must be True or False, not 1"),
        ({"weights": 3, **GIVEN}, "weights must be a string, not 3"),
        ({**GIVEN, "out": 3}, "out must be a path, not 3"),
        ({"pair": (1, 2, 3), **GIVEN}, "pair must be 2 values"),
        ({"seeds": "ab", **GIVEN}, "seeds must be an integer, not 'ab'"),
        ({"clip": 0, **GIVEN}, "clip must be at least 1"),
    ],
)  # fmt: skip
def test_mistakes_are_named(settings: dict[str, object], message: str) -> None:
    assert message in refused(**settings)


@takes_settings(Config)
def work(config: Config) -> Config:
    """Do the work.

    More about it.
    """
    return config


def test_a_verb_takes_its_config_or_keywords() -> None:
    config = make()
    assert work(config) is config
    assert work(**GIVEN) == config
    with pytest.raises(UserError, match="a config or keyword arguments, not both"):
        work(config, **GIVEN)
    with pytest.raises(UserError, match="must be a Config; give other settings by name"):
        work("train.txt")


def test_help_lists_every_setting_as_a_caller_writes_it() -> None:
    text = inspect.getdoc(work)
    assert text is not None
    assert text.startswith("Do the work.\n\nMore about it.\n\nArgs:\n")
    lines = [line.strip() for line in text.splitlines()]
    for line in (
        "config: a Config, instead of the settings below.",
        "train: Training list.",
        'data={"root": …}',
        "workers: Processes.",
        "out: Where to write.",
        "clip: Not the clip of optim.",
        'optim={"clip": …}',
        "lr: Learning rate.",
        "strength: How strong.",
        "shift",
        'first={"queue": …}: Length of the queue.',
        'watch={"root": …}: Another root.',
        "weights",
    ):
        assert line in lines
    assert "made" not in lines


def test_every_setting_in_help_is_accepted() -> None:
    """The text before the colon works as a keyword argument."""
    text = inspect.getdoc(work) or ""
    for line in text.split("instead of the settings below.\n")[1].splitlines():
        written = line.strip().split(": ")[0] if "={" not in line else line.strip().split("}")[0] + "}"
        if "={" in written:
            group, inner = written.split("=", 1)
            name = inner.split('"')[1]
            assert getattr(getattr(make(), group), name) == getattr(
                getattr(make(**{group: {name: getattr(getattr(make(), group), name)}}), group), name
            )
        elif written not in GIVEN:
            make(**{written: _default(make(), written)})


def _default(config: object, name: str) -> object:
    if hasattr(config, name):
        return getattr(config, name)
    inner = (getattr(config, one) for one in ("data", "optim", "first", "second", "watch", "kinds")
             if hasattr(config, one))  # fmt: skip
    for one in inner:
        value = _default(one, name)
        if value is not None:
            return value
    return None


def test_the_signature_has_names_types_and_defaults() -> None:
    signature = inspect.signature(work)
    parameters = signature.parameters
    assert list(parameters)[:4] == ["config", "train", "data", "workers"]
    assert parameters["train"].default is inspect.Parameter.empty
    assert parameters["lr"].default == 0.5  # the field's default, not Optim's
    assert parameters["lr"].annotation is float
    assert parameters["weights"].annotation is str  # without tyro's annotations
    assert parameters["clip"].default == 3
    assert parameters["first"].kind is inspect.Parameter.KEYWORD_ONLY
    assert "queue" not in parameters
    assert "made" not in parameters


@dataclass(frozen=True)
class Numbers:
    share: float | None = None
    inner: Inner = field(default_factory=lambda: Inner())


@dataclass(frozen=True)
class Inner:
    batch_size: float = 2


@pytest.mark.parametrize(
    ("value", "bounds", "message"),
    [
        (1.5, {"least": 0, "most": 1}, "share must be from 0 to 1, not 1.5."),
        (1.0, {"least": 0, "below": 1}, "share must be at least 0 and below 1, not 1.0."),
        (0.0, {"above": 0}, "share must be above 0, not 0.0."),
        (math.nan, {"least": 0}, "share must be at least 0, not nan."),
        (math.inf, {"least": 0}, "share must be at least 0, not inf."),
        (None, {"least": 0}, ""),
        (0.0, {"least": 0, "most": 1}, ""),
        (math.inf, {"above": 0, "finite": False}, ""),
    ],
)
def test_a_number_out_of_range_is_named_with_its_value(
    value: float | None, bounds: dict[str, Any], message: str
) -> None:
    numbers = Numbers(value)
    if message:
        with pytest.raises(UserError) as refused:
            check_range(numbers, "share", **bounds)
        assert str(refused.value) == message
    else:
        check_range(numbers, "share", **bounds)
    with pytest.raises(UserError, match=r"inner\.batch-size must be at least 3, not 2\."):
        check_range(numbers, "inner.batch_size", least=3)
