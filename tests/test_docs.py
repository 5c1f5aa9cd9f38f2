"""Every code block of README and the docs runs as written, and the runner reports one that fails."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from docs_blocks import ROOT, Block, blocks_of, pages, unfinished
from docs_stage import Stage, open_stage

from dsm.version import __version__

BLOCKS = {page: blocks_of(page) for page in pages()}

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
        pytest.param(block, id=str(block), marks=[pytest.mark.slow] * block.slow)
        for blocks in BLOCKS.values()
        for block in blocks
    ],
)
def test_a_block_runs_as_written(block: Block, stage: Stage) -> None:
    if block.why_not:
        pytest.skip(block.why_not)
    stage.run(block, BLOCKS[block.page])


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
