"""Insert the results of studies into the docs: python studies/fill_docs.py runs/ranking runs/real

In README.md and docs/*.md, the text between ``<!-- from NAME -->`` and ``<!-- end -->`` is replaced by the
file NAME of one of the folders. Pictures that the docs show are copied if a folder holds them.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import tyro
from begin import begin

from dsm.errors import UserError
from dsm.files import write_text

BLOCK = re.compile(r"(<!-- from (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
PICTURE = re.compile(r"!\[[^\]]*\]\((?:docs/)?([^)/]+\.(?:png|jpg|webp))\)")
ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Options:
    folders: tyro.conf.Positional[tuple[Path, ...]]
    """Output folders of studies."""
    pages: tuple[Path, ...] = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))


def fill(text: str, folders: tuple[Path, ...]) -> tuple[str, list[str]]:
    """The page with its blocks filled, and the names of the files that no folder holds."""
    missing = []

    def block(match: re.Match[str]) -> str:
        files = [folder / match[2] for folder in folders if (folder / match[2]).is_file()]
        if not files:
            missing.append(match[2])
            return match[0]
        return f"{match[1]}\n{files[0].read_text(encoding='utf-8').strip()}\n\n{match[3]}"

    return BLOCK.sub(block, text), missing


def main(options: Options) -> None:
    for folder in options.folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; give the output folders of studies.")
    for page in options.pages:
        text = page.read_text(encoding="utf-8")
        filled, missing = fill(text, options.folders)
        if filled != text:
            write_text(page, filled)
            print(f"{page.name}: filled")
        for name in missing:
            print(f"{page.name}: {name} is in none of the folders; left unchanged")
    pictures = {name for page in options.pages for name in PICTURE.findall(page.read_text(encoding="utf-8"))}
    for folder in options.folders:
        for name in sorted(pictures):
            if (folder / name).is_file():
                shutil.copyfile(folder / name, ROOT / "docs" / name)
                print(f"docs/{name}: copied")


if __name__ == "__main__":
    begin(main, Options, __doc__)
