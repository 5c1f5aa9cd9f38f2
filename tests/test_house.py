"""The structure of the package: modules import downwards only, and files can be read in one sitting."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dsm

ROOT = Path(dsm.__file__).parent
# From top to bottom. A module may import from floors below its own, and from its own room.
FLOORS = [
    {"__main__"},
    {"cli"},
    {"demo"},
    {"verbs"},
    {"recipes"},
    {"pages"},
    {"train"},
    {"evaluate"},
    {"runs"},
    {"methods"},
    {"models"},
    {"synthetic"},
    {"data"},
    {"views"},
    {"disturb"},
    {"video"},
    {"distributed"},
    {"intervals", "workers"},
    {"extras", "terminal"},
    {"settings"},
    {"locks"},
    {"errors", "files", "seals", "signals", "version"},
    {"untrusted"},
    {"limits"},
]
FLOOR_OF = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_floors_import_downwards_only(path: Path) -> None:
    here = room_of(path)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module == "dsm":
            names = [f"dsm.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            if name.startswith("dsm."):
                other = name.split(".")[1]
                assert other == here or FLOOR_OF[other] > FLOOR_OF[here], f"{here} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_can_be_read_in_one_sitting(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 500
    assert ast.get_docstring(ast.parse(text)), "a file needs a docstring"


def test_list_commands_do_not_import_torch() -> None:
    """Importing torch takes seconds, and so would their start."""
    names = ("check", "convert", "features", "frames", "index", "pack", "subset", "synth")
    lines = [*(f"import dsm.verbs.{name}" for name in names), "import sys; assert 'torch' not in sys.modules"]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True, timeout=120)
