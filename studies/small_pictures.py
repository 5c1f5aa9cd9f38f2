"""Write a picture again in a small file, for the docs."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

QUALITY = 80


def save_jpeg(source: Path, target: Path) -> None:
    with Image.open(source) as opened:
        opened.convert("RGB").save(target, quality=QUALITY, optimize=True)


def save_png(source: Path, target: Path, colours: int) -> None:
    """With at most so many colours, up to 256."""
    with Image.open(source) as opened:
        opened.convert("RGB").quantize(colours).save(target, optimize=True)
