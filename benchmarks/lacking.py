"""Prints the lines of a requirements file whose packages this Python lacks, in whatever version.

python benchmarks/lacking.py requirements-gpu-bare.txt
"""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path


def is_lacking(requirement: str) -> bool:
    try:
        metadata.version(requirement.split("==")[0])
    except metadata.PackageNotFoundError:
        return True
    return False


if __name__ == "__main__":
    for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#") and is_lacking(line):
            print(line)
