"""Links out of ``docs/``, as ``../src/dsm/methods``: the site shows the file or the folder they lead to.

On a code host such a link works by itself; on the site each file that is linked gets a page, of its
highlighted text, with line numbers, and each folder a list of its files. Where a page includes a file of
another folder, the links in it are read from where the file lies. What leads nowhere is left to Sphinx,
which warns.
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import jinja2
from docutils import nodes
from markupsafe import Markup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, find_lexer_class_for_filename
from sphinx import addnodes
from sphinx.application import Sphinx

HERE = Path(__file__).parent
ROOT = HERE.parent
PAGES = "files"
LINE = "line"


def page_of(path: Path) -> str:
    """The page that shows a file or folder of the repository."""
    return f"{PAGES}/{path.relative_to(ROOT).as_posix()}"


def contents(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if not p.name.startswith((".", "__pycache__")))


def settle_links(app: Sphinx, doctree: nodes.document) -> None:
    """Lead the links of one page, and find its pictures, from the file that they are written in."""
    here = Path(app.env.doc2path(app.env.docname))
    for node in list(doctree.findall(addnodes.pending_xref)) + list(
        doctree.findall(addnodes.download_reference)
    ):
        target, _, anchor = node["reftarget"].partition("#")
        if node.get("reftype") != "myst" or target in app.env.found_docs:
            continue
        if node.get("refdomain") == "doc":  # Markdown elsewhere, which MyST takes for a page of the site
            target, anchor = f"{target}.md", node["reftargetid"] or ""
        path = (Path(node.source or here).parent / target).resolve()
        if not target or not path.exists() or not path.is_relative_to(ROOT):
            continue
        if page := known_page(app, path):
            node.replace_self(
                addnodes.pending_xref(
                    "", *node.children, reftype="myst", refdomain="doc", reftarget=page,
                    reftargetid=anchor or None, refdoc=app.env.docname, refexplicit=True,
                )
            )  # fmt: skip
        elif not path.is_relative_to(here.parent):  # a picture in docs/ is copied, as any site's
            app.env.repository_files.setdefault(app.env.docname, set()).add(str(path))
            uri = app.builder.get_relative_uri(app.env.docname, page_of(path))
            node.replace_self(nodes.reference("", "", *node.children, refuri=uri, internal=True))
    for node in doctree.findall(nodes.image):
        path = (Path(node.source or here).parent / node["uri"]).resolve()
        if path.is_relative_to(here.parent):
            node["uri"] = path.relative_to(here.parent).as_posix()


def known_page(app: Sphinx, path: Path) -> str | None:
    """The page of the site that a file, or a folder's README, is."""
    pages: dict[str, str] = app.config.repository_pages
    inside = path.relative_to(ROOT).as_posix()
    name = pages.get(inside) or pages.get(f"{inside}/README.md") or app.env.path2doc(path)
    return name if name in app.env.found_docs else None


def write_file_pages(app: Sphinx, exception: Exception | None) -> None:
    """A page for every file and folder that is linked, and for what is in the folders.

    They have no part in the navigation: with it, these two hundred took most of the time of a build.
    """
    if exception or app.builder.name != "html":
        return
    environment = jinja2.Environment(autoescape=True)
    template = environment.from_string((HERE / "file.html").read_text(encoding="utf-8"))
    wanted = {Path(name) for names in app.env.repository_files.values() for name in names}
    wanted.add(ROOT / "src" / "dsm")  # the API's links lead there
    shown: set[Path] = set()
    while wanted:
        path = wanted.pop()
        shown.add(path)
        page = Path(app.outdir, page_of(path) + ".html")
        told: dict[str, Any] = {
            "name": path.relative_to(ROOT).as_posix(),
            "title": app.config.html_title,
            "root": "../" * len(path.relative_to(ROOT).parts),
        }
        if path.is_dir():
            inside = contents(path)
            wanted |= set(inside) - shown
            told["inside"] = [
                {"name": one.name + "/" * one.is_dir(), "href": f"{path.name}/{one.name}.html"}
                for one in inside
            ]
        else:
            told["text"] = Markup(highlighted(path))
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(template.render(told), encoding="utf-8")


def highlighted(path: Path) -> str:
    """A file's text as HTML; each line is a target, ``line-7``."""
    lexer = find_lexer_class_for_filename(path.name) or TextLexer
    look = HtmlFormatter(linenos="inline", lineanchors=LINE)
    return highlight(path.read_text(encoding="utf-8"), lexer(), look)


def source_line(domain: str, info: dict[str, str]) -> str | None:
    """Where the source of a name in the API stands, seen from a page in ``api/``."""
    try:
        found: Any = importlib.import_module(info["module"])
        for part in info["fullname"].split("."):
            found = getattr(found, part)
        found = inspect.unwrap(found)
        path = Path(inspect.getsourcefile(found) or "")
        _, line = inspect.getsourcelines(found)
    except (AttributeError, OSError, TypeError):
        return None  # a constant or a field has no source of its own
    return f"../{page_of(path)}.html#{LINE}-{line}" if path.is_relative_to(ROOT) else None


def forget(app: Sphinx, env: Any, docname: str) -> None:
    env.repository_files.pop(docname, None)


def begin(app: Sphinx) -> None:
    if not hasattr(app.env, "repository_files"):
        app.env.repository_files = {}


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_config_value("repository_pages", {}, "env")
    app.connect("builder-inited", begin)
    app.connect("env-purge-doc", forget)
    app.connect("doctree-read", settle_links, priority=100)  # before Sphinx collects pictures
    app.connect("build-finished", write_file_pages)
    return {"parallel_read_safe": False}
