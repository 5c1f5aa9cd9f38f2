"""How a study starts: settings from the command line; an error that the user can fix is one sentence."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

import tyro

from dsm.errors import UserError

Options = TypeVar("Options")


def begin(main: Callable[[Options], None], options: type[Options], description: str | None) -> None:
    try:
        main(tyro.cli(options, description=description))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
