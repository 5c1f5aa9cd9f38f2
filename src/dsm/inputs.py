"""Checks that the inputs named in settings exist: the kinds of inputs, and the error if one is missing.

The type of a setting gives its kind (``train: ListFile``). The command line checks all inputs before it
imports a verb, so that a mistyped path is reported at once.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from dsm.errors import UserError
from dsm.urls import is_url
from dsm.weights_names import SHIPPED, published


def _leads_to_something(path: Path) -> bool:
    """Whether there is a file or folder, even if a part of it is named: ``FILE#0-5``, ``FILE::NAME``."""
    if path.exists() or "#" in path.name or "::" in str(path):
        return True
    return any(parent.is_file() for parent in path.parents)  # in an archive


def _is_weights(path: Path) -> bool:
    return str(path) in SHIPPED or published(path) is not None or _leads_to_something(path)


@dataclass(frozen=True)
class Input:
    """A kind of input."""

    missing: str
    """The message after the path if the input is missing."""
    is_there: Callable[[Path], bool] = _leads_to_something
    stands_for_none: str | None = None
    """A value that stands for no input."""
    by_url: bool = False
    """Whether the input may be a URL."""
    folder: str = ""
    """The message if the path is a folder; ``FOLDER`` stands for it."""
    published: str = ""
    """The message if a published model is given."""

    def check(self, path: str | Path) -> None:
        """Raise UserError if there is no such input."""
        if str(path) == self.stands_for_none or self.is_there(Path(path)):
            return
        if self.by_url and is_url(path):  # reading it will tell: a check would take as long
            return
        if self.folder and Path(path).is_dir():
            raise UserError(f"{path}: {self.folder.replace('FOLDER', str(path))}")
        if self.published and published(path):
            raise UserError(f"{path}: {self.published}")
        raise UserError(f"{path}: {self.missing}")


LIST = Input(
    "no such list file. `dsm data index FOLDER --out LIST` makes one.",
    Path.is_file,
    by_url=True,
    folder="is a folder, not a list. `dsm data index FOLDER --out LIST` makes a list of its videos.",
)
ROOT = Input("no such folder; the list's relative paths start from it.", Path.is_dir, by_url=True)
VIDEOS = Input("no such list, folder or video.", by_url=True)
WEIGHTS = Input(
    "no such checkpoint or run folder; published models are hf:ID, tv:NAME or timm:NAME, and "
    "`motion` comes with dsm.",
    _is_weights,
    stands_for_none="none",
)
FEATURES = Input(
    "no such features file. `dsm extract` writes one.",
    Path.is_file,
    folder="is a folder, not a features file. `dsm extract` writes the features of a folder's videos.",
)
GROUPS = Input("no such table of groups (a header, then lines of `path <tab> group`).", Path.is_file)
MASKS = Input("no such folder of masks (--masks): pictures or a video for each video.", Path.is_dir)
OPPOSITES_INPUT = Input(
    "no such file of opposites (--opposites), with two class names per line.", Path.is_file
)
RUN = Input(
    "no such run folder.",
    Path.is_dir,
    published="is a published model, which has its authors' card; `dsm export` writes another card.",
)
TRAINED = Input(
    "no such folder; give folders that `dsm pretrain` or `dsm finetune` wrote, or published models (hf:ID).",
    lambda path: path.is_dir() or published(path) is not None,
)

ListFile = Annotated[Path, LIST]
RootFolder = Annotated[Path, ROOT]
Videos = Annotated[Path, VIDEOS]
Weights = Annotated[str, WEIGHTS]
FeaturesFile = Annotated[Path, FEATURES]
GroupsTable = Annotated[Path, GROUPS]
MasksFolder = Annotated[Path, MASKS]
OppositesFile = Annotated[Path, OPPOSITES_INPUT]
RunFolder = Annotated[Path, RUN]
TrainedFolder = Annotated[Path, TRAINED]


def check_inputs(config: Any) -> None:
    """Check that all inputs named in a config and its nested configs exist.

    A run that resumes does not need the weights that it began with.

    Raises:
        UserError: one is missing.
    """
    hints = get_type_hints(type(config), include_extras=True)
    for one in fields(config):
        value = getattr(config, one.name)
        if is_dataclass(value):
            check_inputs(value)
        elif value is not None:
            for kind in _kinds(hints[one.name]):
                if kind is WEIGHTS and getattr(config, "resume", False):
                    continue
                for path in value if isinstance(value, tuple) else (value,):
                    kind.check(path)


def _kinds(hint: Any) -> Iterator[Input]:
    """The kinds of inputs in a type such as ``tuple[ListFile, ...]`` or ``ListFile | None``."""
    if get_origin(hint) is Annotated:
        yield from (mark for mark in hint.__metadata__ if isinstance(mark, Input))
        yield from _kinds(hint.__origin__)
    elif get_origin(hint) in (Union, types.UnionType, tuple):
        for inner in get_args(hint):
            yield from _kinds(inner)
