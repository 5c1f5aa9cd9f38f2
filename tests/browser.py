"""A real browser, for the tests that open pages in it."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def opened(page: Path, *, width: int = 1200) -> tuple[str, list[str]]:
    """The document after its scripts ran, and its console errors; skips without a browser."""
    browser = next((found for name in NAMES if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"none of {', '.join(NAMES)} is on the PATH")
    with tempfile.TemporaryDirectory() as profile:
        done = subprocess.run(
            [browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0",
             f"--user-data-dir={profile}", f"--window-size={width},1500", "--virtual-time-budget=4000",
             "--dump-dom", page.absolute().as_uri()],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
    return done.stdout, [line for line in done.stderr.splitlines() if ":CONSOLE" in line]


def fits(page: Path, folder: Path, *, width: int = 390) -> None:
    """Assert that nothing of a page reaches beyond a phone's width, and that it is named for screen readers.

    A browser's window cannot be as narrow as a phone, so the page is put into a frame.
    """
    probe = """<script>
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
    inner = html.escape(page.read_text(encoding="utf-8").replace("</body>", probe + "</body>"))
    outer = folder / "frame.html"
    frame = f'<iframe width="{width}" height="800" style="border: 0" srcdoc="{inner}"></iframe>'
    outer.write_text(f'<meta charset="utf-8"><body>{frame}', encoding="utf-8")
    document, errors = opened(outer)
    found = re.search(r'data-found="([^"]*)"', document)
    assert found, errors
    told = json.loads(html.unescape(found[1]))
    assert told == {"fits": True, "wide": [], "mute": 0, "heads": 1}, told
