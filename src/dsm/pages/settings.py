"""What flags of pictures choose between."""

from __future__ import annotations

from typing import Literal

Colours = Literal["inferno", "magma", "viridis", "cividis"]
"""Colour maps of matplotlib with evenly rising lightness: readable in grey and by colour-blind people."""
FILM_FORMATS = (".png", ".jpg", ".gif", ".mp4")
"""Endings of a film of maps."""
PREVIEW_FORMATS = (".png", ".gif", ".mp4", ".html")
"""Endings of a preview."""
