"""Packages that not every user wants, each behind an extra: loaded where they are needed, or asked for."""

from __future__ import annotations

import importlib
from typing import Any

from dsm.errors import UserError, first_line


def load_extra(
    module: str, extra: str, *, package: str, wanted_by: str, name: str = "", hint: str = ""
) -> Any:
    """Import a module of an extra, or a ``name`` in it.

    Args:
        module: as it is imported.
        extra: as in ``pip install 'dsm-video[extra]'``.
        package: what its users call it.
        wanted_by: the beginning of the sentence that asks for it, as "optical flow".
        hint: the end of that sentence, as "; or leave it out".

    Raises:
        UserError: it is not installed, or cannot be loaded.
    """
    try:
        found = importlib.import_module(module)
        return getattr(found, name) if name else found
    # A library that was built for another torch raises any of them.
    except (ImportError, AttributeError, RuntimeError, OSError) as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == module.split(".")[0]
        why = "is not installed" if missing else f"cannot be used here ({first_line(error)})"
        raise UserError(
            f"{wanted_by} needs {package}, which {why}: pip install 'dsm-video[{extra}]'{hint}."
        ) from None
