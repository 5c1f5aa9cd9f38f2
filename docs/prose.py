"""Is the documentation in plain English? Part of `make docs`: python docs/prose.py

Reads the prose of README.md, CONTRIBUTING.md and docs/*.md: paragraphs and lists, without code and tables.
Prints the words, the share of long sentences and the longest sentence of each page. Ends with 1 if a page has
too many long sentences, one far too long, American spelling, or a fault of style that proselint knows.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from markdown_it import MarkdownIt
from proselint.checks import __register__ as all_checks
from proselint.config import DEFAULT
from proselint.registry import CheckRegistry
from proselint.tools import LintFile

ROOT = Path(__file__).parent.parent
LONG, LONGEST = 25, 36
"""Words: more make a sentence long; more are never allowed."""
MOST = 0.15
"""Share of long sentences that a page may have."""
AMERICAN = re.compile(
    r"\b(colors?|colored|neighbors?|neighboring|behaviors?|labeled|unlabeled|labeling|centers?|centered|gray|"
    r"favor\w*|(normal|initial|recogn|organ|optim|summar|real|regular|minim|maxim)iz(e|es|ed|ing|ation))\b"
)
CHECKS = {
    name: on and not name.startswith(("typography", "lexical_illusions", "spelling", "dates_times"))
    for name, on in DEFAULT["checks"].items()
}
"""Typography is the theme's; the others take code words, such as a.m. in a name, for English."""
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[A-Z(\"\d])")
_CODE = "Code"  # stands for code within a sentence, and counts as one word


def paragraphs(text: str) -> list[str]:
    """The paragraphs, headings and list items of a Markdown page as plain text."""
    found, in_table = [], False
    for token in MarkdownIt().enable("table").parse(text):
        if token.type in ("table_open", "table_close"):
            in_table = token.type == "table_open"
        if token.type == "inline" and not in_table:
            words = {"code_inline": _CODE, "softbreak": " ", "hardbreak": " "}
            parts = [words.get(part.type, part.content) for part in token.children or ()]
            found.append("".join(parts).strip())
    return [paragraph for paragraph in found if paragraph]


def comments(text: str) -> list[str]:
    """Lines of prose that the site's parser, MyST, takes for comments; code hosts show them."""
    prose = [token.content for token in MarkdownIt().parse(text) if token.type == "inline"]
    return [line for content in prose for line in content.splitlines() if line.lstrip().startswith("%")]


def faults(page: Path) -> list[str]:
    """What an editor would change on a page; prints its figures."""
    source = page.read_text(encoding="utf-8")
    parts = paragraphs(source)
    sentences = [sentence for part in parts for sentence in _SENTENCE_END.split(part)]
    lengths = [len(sentence.split()) for sentence in sentences]
    share = sum(length > LONG for length in lengths) / len(lengths)
    print(f"{page.name:20} {sum(lengths):5} words  {share:4.0%} long sentences  longest {max(lengths)}")
    found = [f"{len(one.split())} words: {one}" for one in sentences if len(one.split()) > LONGEST]
    found += [f"the site leaves out a line that begins with %: {line}" for line in comments(source)]
    if share > MOST:
        found.append(f"{share:.0%} of its sentences have more than {LONG} words; at most {MOST:.0%} should")
    text = "\n\n".join(parts)
    found += [f"American spelling: {match[0]}" for match in AMERICAN.finditer(text)]
    for result in LintFile(page.name, text).lint({**DEFAULT, "checks": CHECKS}):
        found.append(f"{result.check_result.message} ({result.check_result.check_path})")
    return found


def main() -> int:
    CheckRegistry().register_many(all_checks)
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    found = [f"{page.name}: {fault}" for page in pages for fault in faults(page)]
    print("\n".join(found))
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
