"""Self-contained HTML pages: clips and figures inside, no external scripts, light and dark mode."""

from __future__ import annotations

import base64
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray

from dsm.files import write_text
from dsm.video.write import mp4_bytes


def clip_uri(frames: NDArray[np.uint8], *, fps: int = 12) -> str:
    """A playing clip as a data URI: uint8 (T, H, W, 3), H and W even."""
    return "data:video/mp4;base64," + base64.b64encode(mp4_bytes(frames, fps=fps)).decode("ascii")


def write_page(path: str | Path, template: str, **content: Any) -> None:
    """Fill a template of ``pages/templates`` and write the page; text is escaped."""
    write_text(path, render_page(template, **content))


def render_page(template: str, **content: Any) -> str:
    """The filled template as text; see :func:`write_page`."""
    source = resources.files("dsm.pages").joinpath("templates")
    loader = jinja2.FunctionLoader(lambda name: source.joinpath(name).read_text(encoding="utf-8"))
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template(template).render(**content)
