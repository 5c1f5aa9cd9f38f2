"""A real browser, for the tests that open pages in it."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest
from chromium import headless

from dsm.errors import UserError


def opened(page: Path, *, width: int = 1200) -> tuple[str, list[str]]:
    """The document after its scripts ran, and its console errors; skips without a browser."""
    try:
        done = headless(page, "--enable-logging=stderr", "--v=0", "--dump-dom", width=width, height=1500)
    except UserError as error:
        pytest.skip(str(error))
    return done.stdout, [line for line in done.stderr.splitlines() if ":CONSOLE" in line]


def fits(page: Path, folder: Path, *, width: int = 390) -> None:
    """Assert that nothing of a page reaches beyond a phone's width, and that it is named for screen readers.

    A browser's window cannot be as narrow as a phone, so the page is put into a frame.
    """
    script = """<script>
    const every = (what) => [...document.querySelectorAll(what)];
    const beyond = (one) => one.getBoundingClientRect().right > innerWidth + 1
      && !one.closest(".scroll, .broad, svg");
    const named = (one) => one.getAttribute("aria-label") || one.getAttribute("aria-labelledby");
    const report = () => parent.document.body.dataset.found = JSON.stringify({
      fits: document.documentElement.scrollWidth <= innerWidth,
      wide: every("main *").filter(beyond).map((one) => one.tagName + "." + one.className).slice(0, 5),
      mute: every("video, [role=img], [tabindex='0'][role]").filter((one) => !named(one)).length,
      heads: every("header + main h1").length,
    });
    setTimeout(report, 500);</script>"""
    inner = html.escape(page.read_text(encoding="utf-8").replace("</body>", script + "</body>"))
    outer = folder / "frame.html"
    frame = f'<iframe width="{width}" height="800" style="border: 0" srcdoc="{inner}"></iframe>'
    outer.write_text(f'<meta charset="utf-8"><body>{frame}', encoding="utf-8")
    document, errors = opened(outer)
    found = re.search(r'data-found="([^"]*)"', document)
    assert found, errors
    told = json.loads(html.unescape(found[1]))
    assert told == {"fits": True, "wide": [], "mute": 0, "heads": 1}, told
