"""The structure of the package: modules import downwards only, and files can be read in one sitting."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from warm_dsm import HANG

import dsm
from dsm.commands import VERBS
from dsm.disturb import spatial_kinds, temporal
from dsm.disturb.spatial_mix import SpatialMix
from dsm.disturb.temporal import TemporalMix
from dsm.extras import EXTRAS
from dsm.methods import METHODS, MethodSettings
from dsm.models.adapters import ADAPTERS
from dsm.models.settings import BACKBONES, LIBRARIES
from dsm.models.zoo import MODELS

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
    {"render"},
    {"views"},
    {"disturb"},
    {"video"},
    {"storage"},
    {"launch"},
    {"distributed"},
    {"devices"},
    {"intervals", "workers"},
    {"extras", "terminal"},
    {"inputs", "settings"},
    {"locks", "urls", "weights_names"},
    {"commands", "errors", "files", "seals", "signals", "version"},
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
    names = ("check", "convert", "import_features", "frames", "index", "pack", "subset", "synth")
    lines = [*(f"import dsm.verbs.{name}" for name in names), "import sys; assert 'torch' not in sys.modules"]
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True, timeout=HANG)


HEAVY = (
    "torch", "torchvision", "lightning_fabric", "sklearn", "scipy", "pandas", "matplotlib", "av", "jinja2",
)  # fmt: skip
"""Packages that take long to import."""
STARTS = """
import contextlib, io, sys
from dsm.commands import VERBS
from dsm.cli.main import main

heavy, missing = sys.argv[1].split(","), sys.argv[2]
# What each verb reads is missing: it is refused before the verb is imported.
NEEDED = {
    "bias": f"--weights none --data.test {missing} --out out",
    "card": missing,
    "data check": missing,
    "data frames": f"{missing} --out out",
    "data leaks": f"{missing} {missing}",
    "data pack": f"{missing} --out out",
    "data preview": f"{missing} --out out.png",
    "data split": f"{missing} --out out",
    "data subset": f"{missing} --fraction 0.1 --out out",
    "embed": f"{missing} --out out",
    "explore": f"{missing} --out out.html",
    "export": f"--weights {missing} --out out.onnx",
    "extract": f"--weights none --data {missing} --out out.npz",
    "finetune": f"--data.train {missing} --out out",
    "look": f"--weights none {missing} --out out.png",
    "pretrain": f"--data.train {missing} --out out",
    "probe": f"--train {missing} --test {missing} --out out",
    "report": f"{missing} --out out.html",
    "retrieve": f"--gallery {missing} --queries {missing} --out out",
    "run": f"still-camera --data.train {missing} --out out",
    "search": f"--index {missing} --serve",
    "test": f"--weights none --data.test {missing} --out out",
}
for verb in VERBS:
    for words, code in ((["--help"], 0), (["--mistyped"], 2), (NEEDED.get(verb, "").split(), 2)):
        if not words:
            continue
        sys.argv = ["dsm", *verb.split(), *words]
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            try:
                main()
                ended = 0
            except SystemExit as end:
                ended = end.code or 0
        assert ended == code, (sys.argv, ended, out.getvalue())
        imported = [name for name in heavy if name in sys.modules]
        assert not imported, (sys.argv, imported)
"""


def test_help_and_mistakes_of_every_verb_do_without_heavy_packages(tmp_path: Path) -> None:
    """They would take seconds to import."""
    missing = str(tmp_path / "missing")
    command = [sys.executable, "-c", STARTS, ",".join(HEAVY), missing]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=HANG)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())


def test_settings_name_every_backbone_and_library() -> None:
    """The names are listed apart from the code, which imports torch."""
    assert tuple(MODELS) == BACKBONES
    assert tuple(ADAPTERS) == LIBRARIES
    assert set(METHODS) == {one.name.replace("_", "-") for one in fields(MethodSettings)}


COMMAND_LINE_ONLY = {"demo", "doctor", "models", "recipes", "weights inspect"}


def test_every_verb_is_a_function_of_the_package() -> None:
    verbs = {name for name in VERBS if not name.startswith("data ")}
    assert verbs - COMMAND_LINE_ONLY == verbs & set(dsm.__all__)


def test_every_kind_of_disturbance_has_a_weight() -> None:
    """The weights are listed apart from the kinds, which import torch."""
    assert SpatialMix.kind_names() == list(spatial_kinds.KINDS)
    assert [one.name for one in fields(TemporalMix)] == [*temporal.KINDS, "flow"]


PLACES = {
    "docs/commands.md": [*(verb.split()[-1] for verb in VERBS), *METHODS],
    "docs/training.md": METHODS,
    "docs/models.md": MODELS,
    "docs/disturbances.md": [*spatial_kinds.KINDS, *temporal.KINDS],
}
"""Pages whose tables are written by hand, and what each must name."""


@pytest.mark.parametrize("page", PLACES)
def test_pages_name_all_that_there_is(page: str) -> None:
    text = (ROOT.parents[1] / page).read_text(encoding="utf-8")
    assert [name for name in PLACES[page] if not re.search(rf"`(dsm |[a-z]+ )*{name}`", text)] == []


def test_help_and_reference_name_every_method() -> None:
    reference = (ROOT.parents[1] / "docs/api/methods.rst").read_text(encoding="utf-8")
    assert [name for name, method in METHODS.items() if f"{method.__module__}\n" not in reference] == []
    (said,) = re.findall(r'method: str = "dsm"\n    """(.*?);', (ROOT / "train/config.py").read_text("utf-8"))
    assert re.split(r", | or ", said) == list(METHODS)


def test_doctor_knows_every_extra() -> None:
    project = (ROOT.parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    listed = project.split("[project.optional-dependencies]")[1].split("\n[")[0]
    extras = set(re.findall(r"^([a-z0-9]+) = \[", listed, re.MULTILINE)) - {"docs", "dev"}
    assert set(EXTRAS) == extras
