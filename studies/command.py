"""Studies that go the way users go: by the command line."""

from __future__ import annotations

import shlex
import subprocess
import sys


def dsm_command(line: str) -> None:
    """Run a command line of dsm, and say it."""
    print("$ dsm", line, flush=True)
    subprocess.run([sys.executable, "-m", "dsm", *shlex.split(line)], check=True)
