"""Every code block of README and the docs runs as written, and the runner reports one that fails."""

from __future__ import annotations

import ast
import os
import pkgutil
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import tyro
from docs_blocks import ROOT, Block, blocks_of, pages, unfinished
from docs_stage import Stage, open_stage

from dsm.cli.main import find_verb
from dsm.commands import VERBS
from dsm.errors import UserError
from dsm.version import __version__

BLOCKS = {page: blocks_of(page) for page in pages()}
READ_FIRST = ("README", "CONTRIBUTING", "start", "own-videos", "own-examine", "extending", "commands")
"""Pages whose blocks run in every test. Those of the others are slow; of them, every command is parsed."""

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the docs' commands are for a POSIX shell"),
    pytest.mark.skipif(not (ROOT / ".git").exists(), reason="the docs run only in a clone"),
]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with open_stage(tmp_path_factory.mktemp("docs")) as stage:
        yield stage


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(
            block, id=str(block),
            marks=[pytest.mark.slow] * (block.slow or block.page.stem not in READ_FIRST),
        )
        for blocks in BLOCKS.values()
        for block in blocks
    ],
)  # fmt: skip
def test_a_block_runs_as_written(block: Block, stage: Stage) -> None:
    if block.why_not:
        pytest.skip(block.why_not)
    stage.run(block, BLOCKS[block.page])


BEFORE_A_COMMAND = ("&&", "||", "|", ";", "-m")


def commands_in(script: str) -> list[list[str]]:
    """The words after each `dsm` of a script that is a command."""
    script = script.replace("\\\n", " ")
    for name, value in re.findall(r"""^(\w+)=["']?([^"'\n$]+)["']?$""", script, re.MULTILINE):
        script = script.replace(f"${name} ", f"{value} ")
    found = []
    for line in script.splitlines():
        words = shlex.split(line, comments=True)
        for place, word in enumerate(words):
            if word == "dsm" and (place == 0 or words[place - 1] in BEFORE_A_COMMAND):
                rest = words[place + 1 :]
                end = next((n for n, one in enumerate(rest) if one in (*BEFORE_A_COMMAND, ">")), None)
                found.append(rest[:end])
    return [words for words in found if words and not words[0].startswith("-")]


def is_understood(words: list[str]) -> bool:
    """Whether `dsm` takes the words of a command, which is not run and whose files need not be there."""
    name, rest = find_verb(words)
    try:
        tyro.cli(VERBS[name].find_config(), args=rest)
    except SystemExit as end:
        return not end.code
    except UserError as error:
        return "no such folder" in str(error) or "is neither a list file nor" in str(error)
    return True


def check_commands(script: str) -> None:
    for words in commands_in(script):
        assert is_understood(words), f"dsm {' '.join(words)}"


def check_names(script: str) -> None:
    """Find what a Python block imports from dsm, and each `dsm.name`."""
    tree = ast.parse(script)
    wanted = [
        f"{node.module}.{one.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "dsm"
        for one in node.names
    ]
    wanted += [
        f"dsm.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "dsm"
    ]
    for name in wanted:
        pkgutil.resolve_name(name)


@pytest.mark.parametrize("page", [pytest.param(page, id=page.name) for page in BLOCKS])
def test_the_commands_and_names_of_a_page_exist(page: Path) -> None:
    """Of the blocks that are slow or cannot run here too."""
    for block in BLOCKS[page]:
        if block.language == "python":
            check_names(block.script)
        else:
            check_commands(block.script)


@pytest.mark.parametrize(
    "script",
    [
        "dsm pretrain --data.train train.txt --nonsense 3 --out runs/new",
        "cd dsm && dsm look --weights runs/mine \\\n    $video --out look.jpg --layer",
        "torchrun -m dsm pretrain --data.train train.txt --data.batch-size many --out runs/large",
    ],
)
def test_a_command_that_does_not_exist_is_found(script: str) -> None:
    with pytest.raises(AssertionError, match=r"^dsm "):
        check_commands(script)
    with pytest.raises(UserError, match="did you mean"):
        check_commands("dsm pretrian --data.train train.txt")


@pytest.mark.parametrize("script", ["import dsm\n\ndsm.no_such_name", "from dsm.disturb import NoSuchName"])
def test_a_name_that_does_not_exist_is_found(script: str) -> None:
    with pytest.raises(AttributeError, match="no attribute"):
        check_names(script)


@pytest.mark.slow
def test_every_page_runs_in_a_fresh_clone_and_environment(tmp_path: Path) -> None:
    """Every command in its own process, in a fresh clone and environment."""
    clone, binaries = tmp_path / "clone", tmp_path / "environment" / "bin"
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    subprocess.run([sys.executable, "-m", "venv", binaries.parent], check=True)
    words = ["install", "--quiet", "--constraint", "requirements.txt", ".[export,faiss,flow,parquet]"]
    subprocess.run([binaries / "pip", *words], cwd=clone, check=True)
    with open_stage(tmp_path / "stage", binaries) as stage:
        for block in (block for blocks in BLOCKS.values() for block in blocks):
            if not block.slow and not block.why_not:
                stage.run(block, BLOCKS[block.page])


@pytest.mark.parametrize("page", [pytest.param(page, id=page.name) for page in pages()])
def test_a_page_is_finished(page: Path) -> None:
    assert unfinished(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("# A\n\nSee:\n\nMOTION\n", ["the bare word MOTION"]),
        ("# A\n\nSee\nMOTION\nbelow.\n", ["the bare word MOTION"]),
        ("# A\n\n<!-- from a.md -->\n\n<!-- end -->\n\nText.\n", ["nothing from a.md"]),
        ("# A\n\nText.\n\n<!-- from a.md -->\n", ["nothing from a.md"]),
        ("# A\n\n## B\n\n## C\n\nText.\n", ["nothing under the heading 'B'"]),
        ("# A\n\n### B\n\n<!-- slow -->\n\n## C\n\nText.\n", ["nothing under the heading 'B'"]),
        ("# A\n\nText.\n\n## B\n", ["nothing under the heading 'B'"]),
        ("# A\n\nMotion is MOTION.\n\n```\nMOTION\n```\n", []),
        ("# A\n\n## B\n\n<!-- from a.md -->\nWith text.\n<!-- end -->\n\n## C\n\n```\ncode\n```\n", []),
    ],
)
def test_unfinished_parts_of_a_page_are_found(text: str, missing: list[str]) -> None:
    assert unfinished(text) == missing


def test_the_citation_names_this_version() -> None:
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def page_with(tmp_path: Path, text: str) -> list[Block]:
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    return [replace(block, page=ROOT / "docs" / f"{tmp_path.name}.md") for block in blocks_of(page)]


def test_console_output_is_not_a_command(tmp_path: Path) -> None:
    (block,) = page_with(tmp_path, "```console\n$ echo one \\\n    two\none two\n$ true # three\n```\n")
    assert block.script == "echo one \\\n    two\ntrue # three\n"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("$ dsm pretrain --data.train no-such-list.txt --out runs/new", "no such list file"),
        ("$ dsm extract --weights runs/mine --data train.txt --nonsense --out new.npz", "nonsense"),
        ("$ false\n$ true", "ended with 1"),
    ],
)
def test_a_failing_block_is_reported(command: str, message: str, tmp_path: Path, stage: Stage) -> None:
    (block,) = blocks = page_with(tmp_path, f"```console\n{command}\n```\n")
    with pytest.raises(AssertionError, match=message):
        stage.run(block, blocks)


def test_a_failing_python_block_is_reported(tmp_path: Path, stage: Stage) -> None:
    (block,) = blocks = page_with(tmp_path, "```python\nimport dsm\n\ndsm.no_such_name\n```\n")
    with pytest.raises(AssertionError, match="no attribute 'no_such_name'"):
        stage.run(block, blocks)


@pytest.mark.parametrize("remark", ["slwo", "needs: a-thing", "not run"])
def test_an_unknown_remark_is_an_error(remark: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no remark"):
        page_with(tmp_path, f"<!-- {remark} -->\n```console\n$ true\n```\n")
