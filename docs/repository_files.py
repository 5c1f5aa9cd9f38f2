"""Make links out of ``docs/``, such as ``../src/dsm/methods``, work on the site.

On a code host such a link works anyway. On the site, each linked file gets a page with its highlighted text
and line numbers, and each folder a list of its files. If a page includes a file of another folder, its links
are relative to that file. Links that lead nowhere are left to Sphinx, which warns.
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
    """What a folder's page lists: no hidden files, and no weights, which are not text."""
    return sorted(
        p
        for p in folder.iterdir()
        if not p.name.startswith((".", "__pycache__")) and p.suffix != ".safetensors"
    )


def resolve_links(app: Sphinx, doctree: nodes.document) -> None:
    """Resolve the links and pictures of one page, relative to the file that contains them."""
    here = Path(app.env.doc2path(app.env.docname))
    for node in list(doctree.findall(addnodes.pending_xref)) + list(
        doctree.findall(addnodes.download_reference)
    ):
        target, _, anchor = node["reftarget"].partition("#")
        if node.get("reftype") != "myst" or target in app.env.found_docs:
            continue
        if (
            node.get("refdomain") == "doc"
        ):  # Markdown in another folder, which MyST takes for a page of the site
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
        elif not path.is_relative_to(here.parent):  # Sphinx copies pictures in docs/
            app.env.repository_files.setdefault(app.env.docname, set()).add(str(path))
            uri = app.builder.get_relative_uri(app.env.docname, page_of(path))
            node.replace_self(nodes.reference("", "", *node.children, refuri=uri, internal=True))
    for node in doctree.findall(nodes.image):
        path = (Path(node.source or here).parent / node["uri"]).resolve()
        if path.is_relative_to(here.parent):
            node["uri"] = path.relative_to(here.parent).as_posix()


def known_page(app: Sphinx, path: Path) -> str | None:
    """The site's page of a file, or of a folder's README; None if it has none."""
    pages: dict[str, str] = app.config.repository_pages
    inside = path.relative_to(ROOT).as_posix()
    name = pages.get(inside) or pages.get(f"{inside}/README.md") or app.env.path2doc(path)
    return name if name in app.env.found_docs else None


def write_file_pages(app: Sphinx, exception: Exception | None) -> None:
    """Write a page for every linked file and folder, and for everything in these folders.

    They are not Sphinx pages with navigation, because these two hundred would then take most of the build.
    """
    if exception or app.builder.name != "html":
        return
    environment = jinja2.Environment(autoescape=True)
    template = environment.from_string((HERE / "file.html").read_text(encoding="utf-8"))
    pending = {Path(name) for names in app.env.repository_files.values() for name in names}
    pending.add(ROOT / "src" / "dsm")  # links of the API lead there
    written: set[Path] = set()
    while pending:
        path = pending.pop()
        written.add(path)
        page = Path(app.outdir, page_of(path) + ".html")
        context: dict[str, Any] = {
            "name": path.relative_to(ROOT).as_posix(),
            "title": app.config.html_title,
            "root": "../" * len(path.relative_to(ROOT).parts),
        }
        if path.is_dir():
            inside = contents(path)
            pending |= set(inside) - written
            context["inside"] = [
                {"name": one.name + "/" * one.is_dir(), "href": f"{path.name}/{one.name}.html"}
                for one in inside
            ]
        else:
            context["text"] = Markup(highlighted(path))
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(template.render(context), encoding="utf-8")


def highlighted(path: Path) -> str:
    """A file's text as HTML, with a link target for each line, such as ``line-7``."""
    lexer = find_lexer_class_for_filename(path.name) or TextLexer
    formatter = HtmlFormatter(linenos="inline", lineanchors=LINE)
    return highlight(path.read_text(encoding="utf-8"), lexer(), formatter)


def source_line(domain: str, info: dict[str, str]) -> str | None:
    """The link from a page in ``api/`` to the source of a documented name."""
    try:
        target: Any = importlib.import_module(info["module"])
        for part in info["fullname"].split("."):
            target = getattr(target, part)
        target = inspect.unwrap(target)
        path = Path(inspect.getsourcefile(target) or "")
        _, line = inspect.getsourcelines(target)
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
    app.connect("doctree-read", resolve_links, priority=100)  # before Sphinx collects pictures
    app.connect("build-finished", write_file_pages)
    return {"parallel_read_safe": False}
