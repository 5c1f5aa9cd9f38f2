"""The code blocks of the documentation, and the remarks before them that say when one is not run.

A remark is a comment on the line before a block, which no reader of the page sees::

    <!-- slow -->                             minutes: run with ``pytest -m slow``
    <!-- needs: torchvision -->               one of PACKAGES, or of CONDITIONS
    <!-- not run: wants the official data --> never, for this reason
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[1]
SHELL = ("console", "bash", "sh")
CONDITIONS: dict[str, Callable[[], bool]] = {
    "gpu": torch.cuda.is_available,
    "several machines": lambda: False,
}
PACKAGES = (
    "cv2", "faiss", "lance", "mlflow", "onnx", "onnxruntime", "pyarrow", "torchcodec", "torchvision",
    "trackio", "transformers",
)  # fmt: skip
_REMARK = re.compile(r"<!--\s*(slow|needs|not run)(?::\s*(.+?))?\s*-->")
_FILLED = re.compile(r"<!-- from (\S+) -->(.*?)(?:<!-- end -->|\Z)", re.DOTALL)  # of studies/fill_docs.py
_COMMENT = re.compile(r"\s*<!--.*?-->\s*", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One block of a page, and the remarks about it."""

    page: Path
    line: int
    language: str
    text: str
    slow: bool = False
    needs: tuple[str, ...] = ()
    not_run: str = ""

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def script(self) -> str:
        """What a reader would run: the commands of a console block, without their output."""
        if self.language != "console":
            return self.text
        lines, goes_on = [], False
        for line in self.text.splitlines():
            if line.startswith("$ ") or goes_on:
                lines.append(line if goes_on else line[2:])
                goes_on = line.endswith("\\")
        return "\n".join(lines) + "\n"

    @property
    def why_not(self) -> str:
        """Why it cannot run here; empty if it can."""
        missing = [name for name in self.needs if not can_use(name)]
        return self.not_run or (f"needs {', '.join(missing)}" if missing else "")


def can_use(name: str) -> bool:
    return CONDITIONS[name]() if name in CONDITIONS else importlib.util.find_spec(name) is not None


def pages() -> list[Path]:
    """Every page whose blocks a reader may run."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page in a language that can be run, in order."""
    found: list[Block] = []
    remarks: list[str] = []
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type == "html_block":
            remarks.append(token.content)
            continue
        language = token.info.split()[0] if token.info else ""
        if token.type == "fence" and token.map and language in (*SHELL, "python"):
            try:
                found.append(Block(page, token.map[0] + 1, language, token.content, **read_remarks(remarks)))
            except ValueError as error:
                raise ValueError(f"{page}:{token.map[0]}: {error}") from None
        remarks = []
    return found


def read_remarks(comments: list[str]) -> dict[str, Any]:
    """Parse the comments before a block.

    Raises:
        ValueError: something that is not understood, so that no block is left out by a slip of the pen.
    """
    slow, needs, not_run = False, [], ""
    for text in comments:
        match = _REMARK.fullmatch(text.strip())
        word, what = match.groups() if match else ("", None)
        if word == "slow" and not what:
            slow = True
        elif word == "needs" and what in (*PACKAGES, *CONDITIONS):
            needs.append(what)
        elif word == "not run" and what:
            not_run = what
        else:
            raise ValueError(f"{text.strip()} is no remark: slow, `needs: NAME` or `not run: REASON`")
    return {"slow": slow, "needs": tuple(needs), "not_run": not_run}


def unfinished(text: str) -> list[str]:
    """Unfinished parts of a page: a placeholder word in capitals, an empty generated block, an empty
    section."""
    found = [f"nothing from {name}" for name, block in _FILLED.findall(text) if not block.strip()]
    tokens = MarkdownIt().parse(_FILLED.sub(r"\2", text))
    tokens = [
        token for token in tokens if not (token.type == "html_block" and _COMMENT.fullmatch(token.content))
    ]
    for before, token, after in zip([None, *tokens], tokens, [*tokens[1:], None], strict=False):
        if token.type == "inline" and before and before.type == "paragraph_open":
            words = (line.strip() for line in token.content.splitlines())
            found += [f"the bare word {word}" for word in words if re.fullmatch("[A-Z]{2,}", word)]
        ends = after is None or (after.type == "heading_open" and after.tag <= token.tag)
        if token.type == "heading_close" and before and ends:
            found.append(f"nothing under the heading '{before.content}'")
    return found
