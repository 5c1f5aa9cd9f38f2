"""How a study starts: settings from the command line, progress shown, one sentence for a user's error."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

import tyro

from dsm.errors import UserError
from dsm.signals import Interrupted
from dsm.terminal import show_progress

Options = TypeVar("Options")


def begin(main: Callable[[Options], None], options: type[Options], description: str | None) -> None:
    show_progress()
    try:
        main(tyro.cli(options, description=description))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except Interrupted as stopped:
        print(f"{stopped}; the same command continues.", file=sys.stderr)
        raise SystemExit(stopped.exit_code) from None
