"""Run `dsm` on the command line, as users do."""

from __future__ import annotations

import shlex
import subprocess
import sys


def dsm_command(line: str) -> None:
    """Print a command line of dsm and run it."""
    print("$ dsm", line, flush=True)
    subprocess.run([sys.executable, "-m", "dsm", *shlex.split(line)], check=True)
