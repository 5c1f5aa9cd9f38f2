"""Chromium without a window, for pictures and tests of pages."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from dsm.errors import UserError

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def headless(page: Path, *options: str, width: int, height: int) -> subprocess.CompletedProcess[str]:
    """Open a page in a window of so many pixels, and let its scripts run.

    Args:
        options: of Chromium, such as ``--screenshot=FILE``.

    Raises:
        UserError: there is no browser.
    """
    browser = next((found for name in NAMES if (found := shutil.which(name))), None)
    if browser is None:
        raise UserError(f"none of {', '.join(NAMES)} is on the PATH; install Chromium.")
    with tempfile.TemporaryDirectory() as profile:
        return subprocess.run(
            [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}",
             f"--window-size={width},{height}", "--virtual-time-budget=6000", *options,
             page.absolute().as_uri()],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
