"""Write a picture as a small JPEG, for the docs."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

QUALITY = 80


def save_jpeg(source: Path, target: Path) -> None:
    with Image.open(source) as opened:
        opened.convert("RGB").save(target, quality=QUALITY, optimize=True)
