"""Self-contained HTML pages: clips and figures inside, no external scripts, light and dark mode."""

from __future__ import annotations

import base64
import shlex
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray

from dsm.files import write_text
from dsm.intervals import chance_text
from dsm.runs.results import command_line
from dsm.terminal import many
from dsm.video.write import mp4_bytes

FPS = 8
"""Pictures per second of the clips on pages."""
PAGE_BYTES = 25_000_000
"""Largest size of a page: the usual limit of e-mail."""


def data_uri(kind: str, content: bytes) -> str:
    """A file of this MIME type within a page."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def clip_uri(frames: NDArray[np.uint8]) -> str:
    """A playing clip as a data URI: uint8 (T, H, W, 3), cut to even sides."""
    return data_uri("video/mp4", mp4_bytes(frames, fps=FPS))


def write_page(path: str | Path, template: str, **content: Any) -> None:
    """Fill a template of ``pages/templates`` and write the page; text is escaped. The command that makes it
    is given to every template."""
    write_text(path, render_page(template, command=command_line(), **content))


def render_page(template: str, **content: Any) -> str:
    """The filled template as text; see :func:`write_page`."""
    source = resources.files("dsm.pages").joinpath("templates")
    loader = jinja2.FunctionLoader(lambda name: source.joinpath(name).read_text(encoding="utf-8"))
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {
        "many": many,
        "quoted": shlex.quote,
        "chance": lambda position: chance_text(position / 100),
    }
    return environment.get_template(template).render(**content)
