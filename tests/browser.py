"""A real browser, for the tests that open pages in it."""

from __future__ import annotations

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
