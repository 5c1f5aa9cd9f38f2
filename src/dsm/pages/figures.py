"""Figures as SVG in the page's text colour, readable in light and dark mode.

Names of points are placed so that no name covers another name or a point.
"""

from __future__ import annotations

import io
import itertools
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.text import Text
from numpy.typing import NDArray

from dsm.files import write_bytes
from dsm.terminal import note

Box = tuple[float, float, float, float]
"""Left, bottom, right, top."""

# Directions to try at each distance: beside first, then above and below.
_ANGLES = np.radians([0, 180, 90, 270, 45, 135, 315, 225, 22, 158, 338, 202, 68, 112, 292, 248])
_DISTANCES = (1.0, 2.0, 3.5, 5.0, 7.0, 10.0, 14.0, 19.0, 25.0)
"""From the point to the name, in gaps."""


def place_labels(
    points: NDArray[np.float64], sizes: NDArray[np.float64], frame: Box, gap: float
) -> list[Box | None]:
    """Place each name in the nearest free box: inside the frame, and over no other name or point.

    Args:
        points: (n, 2), in the same unit as all other lengths.
        sizes: (n, 2), width and height of each name.
        gap: least distance from a point to its name, and side of the square kept free around every point.

    Returns:
        The box of each name, or None if there is no free place nearby.
    """
    taken = np.empty((2 * len(points), 4))
    taken[: len(points)] = np.concatenate([points - gap / 2, points + gap / 2], axis=1)
    used = len(points)
    boxes: list[Box | None] = [None] * len(points)
    # Points in crowded places have the fewest free boxes, so they are placed first.
    near = np.linalg.norm(points[:, None] - points[None], axis=-1)
    for place in np.argsort(np.sort(near, axis=1)[:, 1 : min(4, len(points))].sum(1), kind="stable"):
        (x, y), (width, height) = points[place], sizes[place]
        for distance in _DISTANCES:
            box = next(
                (
                    box
                    for angle in _ANGLES
                    if _within(box := _beside(x, y, width, height, angle, distance * gap), frame)
                    and not overlaps(box, taken[:used])
                ),
                None,
            )
            if box is not None:
                boxes[place] = box
                taken[used] = box
                used += 1
                break
    return boxes


def overlaps(box: Box, others: NDArray[np.float64]) -> bool:
    """Whether a box overlaps any of others (n, 4)."""
    left, bottom, right, top = others.T
    return bool(((box[0] < right) & (left < box[2]) & (box[1] < top) & (bottom < box[3])).any())


def _beside(x: float, y: float, width: float, height: float, angle: float, distance: float) -> Box:
    """The box whose nearest edge or corner is ``distance`` from a point in direction ``angle``."""
    right, up = float(np.cos(angle)), float(np.sin(angle))
    centre = x + right * (distance + width / 2), y + up * (distance + height / 2)
    return (
        centre[0] - width / 2, centre[1] - height / 2, centre[0] + width / 2, centre[1] + height / 2
    )  # fmt: skip


def _within(box: Box, frame: Box) -> bool:
    return box[0] >= frame[0] and box[1] >= frame[1] and box[2] <= frame[2] and box[3] <= frame[3]


# Drawn in this colour, then replaced by the page's own.
_INK = "#010203"
_BLUE, _VERMILLION, _PURPLE, _SKY = "#0072b2", "#d55e00", "#cc79a7", "#56b4e9"
_GREEN, _ORANGE, _GREY = "#009e73", "#e69f00", "#8c8c8c"
TONES = (_BLUE, _VERMILLION, _PURPLE, _SKY, _GREEN, _ORANGE)
"""The palette of Okabe & Ito (2008) without yellow and black, which hardly show on white or on black."""
NEAR = frozenset(
    map(frozenset, (
        (_BLUE, _GREEN), (_VERMILLION, _ORANGE), (_GREEN, _PURPLE), (_GREEN, _SKY), (_PURPLE, _ORANGE),
        (_GREY, _GREEN), (_GREY, _PURPLE),
    ))
)  # fmt: skip
"""Pairs that some colour-blind people see closer than a distance of 20 in CIELAB; lines and points in such
colours also differ in dashes or marks."""
COLOURS = {"random": _GREY, "moco": _VERMILLION, "dsm": _BLUE, "dsm-triplet": _GREEN}
"""Colours of the methods, the same in every figure."""
FEW_POINTS = 10
"""The points of lines with at most this many are marked; a line of one point would be invisible."""
POINTS_OF_AN_INCH = 72
DOTS = 110
"""Pixels per inch of figures written as PNG."""

_DASHES = ("", "6 3", "2 2", "8 2 2 2", "12 4", "5 2 1 2 1 2")
# For bars, which have no line to dash.
_HATCHES = ("", "//", "..", "xx", "--", "oo")

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "dsm",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Look:
    """The colour and dashes of a run's line."""

    colour: str
    dashes: str
    """Lengths of strokes and gaps in SVG's notation; empty for a solid line."""

    @property
    def line_style(self) -> Any:
        """The dashes as a line style of matplotlib."""
        return (0, [float(length) for length in self.dashes.split()]) if self.dashes else "-"

    @property
    def hatch(self) -> str:
        """The hatch of matplotlib that bars use instead of dashes."""
        return _HATCHES[_DASHES.index(self.dashes)]


def looks_of(names: Sequence[str]) -> list[Look]:
    """Looks for runs of these names; up to 18 can be distinguished, also by colour-blind people.

    A name that begins with a method of :data:`COLOURS` gets that method's colour.
    """
    methods = [method_in(name) for name in names]
    taken = {COLOURS[method] for method in methods if method}
    free = [tone for tone in TONES if tone not in taken] or list(TONES)
    looks: list[Look] = []
    others = itertools.count()
    for method in methods:
        colour = COLOURS[method] if method else free[next(others) % len(free)]
        # For each dash pattern, the number of earlier lines that could be confused with this one.
        alike = {
            dashes: sum(
                look.dashes == dashes and (look.colour == colour or {look.colour, colour} in NEAR)
                for look in looks
            )
            for dashes in _DASHES
        }
        looks.append(Look(colour, min(_DASHES, key=lambda dashes: alike[dashes])))
    return looks


def method_in(name: str) -> str | None:
    """The method that a run's name starts with: ``dsm-triplet`` for ``dsm-triplet-seed0``."""
    methods = [method for method in COLOURS if re.match(rf"{re.escape(method)}(?![a-z0-9])", name)]
    return max(methods, key=len, default=None)


def literal(text: str) -> str:
    """Escape a name for matplotlib: no formula between dollars, and a legend despite a leading ``_``."""
    return ("\N{THIN SPACE}" if text.startswith("_") else "") + text.replace("$", r"\$")


_FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Droid Sans Fallback",
    "PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo", "Microsoft YaHei", "Malgun Gothic",
    "Arial Unicode MS", "Noto Sans Arabic", "Noto Sans Devanagari", "Noto Emoji",
)  # fmt: skip
"""Fonts that have the letters of names that matplotlib's own font lacks, where they are installed."""


def font_families() -> list[str]:
    """The font of figures, and installed fonts that have the letters which it lacks."""
    installed = set(font_manager.get_font_names())
    return [*mpl.rcParams["font.family"], *(name for name in _FONTS if name in installed)]


@contextmanager
def drawing() -> Iterator[None]:
    """Say once that letters are missing from all fonts; matplotlib would warn of each letter."""
    with warnings.catch_warnings(record=True) as told:
        yield
    for one in told:
        if not str(one.message).startswith("Glyph"):
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
        else:
            note(
                "figures show boxes for some letters of names, because no installed font has them; install "
                "one that has, such as Noto Sans CJK.",
                about="letters of figures",
            )


def picture_of(figure: Figure, kind: str) -> bytes:
    """A figure as a file of this kind: png, pdf or svg."""
    families, content = font_families(), io.BytesIO()
    for text in figure.findobj(Text):
        text.set_fontfamily(families)
    with drawing():
        figure.savefig(content, dpi=DOTS, format=kind)
    return content.getvalue()


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure, whole or not at all; the suffix sets the format: .png, .pdf or .svg."""
    write_bytes(path, picture_of(figure, path.suffix[1:]))


def to_svg(figure: Figure, description: str) -> str:
    """An SVG element for a page, with a description for screen readers."""
    buffer = io.StringIO()
    with drawing():
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor")
    label = description.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


def bar_chart(
    groups: Sequence[str],
    runs: Sequence[str],
    values: Mapping[tuple[str, str], Sequence[float]],
    intervals: Mapping[tuple[str, str], tuple[float, float]],
    *,
    title: str,
    chance: float | None,
    description: str,
    y_label: str = "%",
    width: float = 4.9,
) -> str:
    """Bars by group and run: the mean over seeds, a dot for each seed, a line at chance if it is known.

    A run without a value in a group has no bar there.

    Args:
        width: of the figure, in inches.
        values: (run, group) -> one share in [0, 1] per seed.
        intervals: (run, group) -> the bounds of a share, drawn as a line; may be empty.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, 3.1), layout="constrained")
        axes: Axes = figure.subplots()
        thick, looks = 0.8 / len(runs), looks_of(runs)
        for place, run in enumerate(runs):
            for spot, group in enumerate(groups):
                shares = [100 * value for value in values.get((run, group), ())]
                if not shares:
                    continue
                mean = sum(shares) / len(shares)
                x = spot + (place - (len(runs) - 1) / 2) * thick
                axes.bar(
                    x, mean, thick * 0.92, color=looks[place].colour, hatch=looks[place].hatch,
                    edgecolor="white", linewidth=0,
                )  # fmt: skip
                low, high = (100 * bound for bound in intervals.get((run, group), (mean / 100, mean / 100)))
                if high > low:
                    axes.plot([x, x], [low, high], color=_INK, linewidth=1.2)
                axes.annotate(
                    f"{mean:.0f}", (x, max([mean, high, *shares])), xytext=(0, 3), textcoords="offset points",
                    ha="center", fontsize=9 if len(groups) * len(runs) <= 24 else 6.5,
                )  # fmt: skip
                if len(shares) > 1:
                    axes.plot([x] * len(shares), shares, ".", color=_INK, markersize=4, alpha=0.7)
        axes.set_xlim(-0.5, len(groups) - (0.5 if chance is None else 0.15))
        if chance is not None:
            axes.axhline(100 * chance, color=_INK, linewidth=0.8, linestyle=":")
            axes.annotate("chance", (len(groups) - 0.16, 100 * chance + 1), ha="right", fontsize=9)
        if len(groups) <= 9:
            axes.set_xticks(range(len(groups)), list(map(literal, groups)))
        else:
            axes.set_xticks(
                range(len(groups)), list(map(literal, groups)), rotation=40, ha="right",
                rotation_mode="anchor", fontsize=9,
            )  # fmt: skip
        axes.set_ylabel(y_label)
        axes.set_ylim(0, 108)  # leaves room for the number above a full bar
        axes.set_yticks(range(0, 101, 20))
        handles = [
            Patch(facecolor=look.colour, hatch=look.hatch, edgecolor="white", linewidth=0) for look in looks
        ]
        longest = max(map(len, runs))
        columns = min(max(int(width * POINTS_OF_AN_INCH / (6 * longest + 48)), 1), len(runs))
        lines = -(-len(runs) // columns)
        axes.legend(
            handles, list(map(literal, runs)), ncols=columns, fontsize=9, loc="lower left",
            bbox_to_anchor=(0, 1), borderaxespad=0.2, borderpad=0.2,
        )  # fmt: skip
        pad = 10 + 14 * lines  # above the legend
        axes.set_title(title, fontsize=11, loc="left", pad=pad, parse_math=False)
        return to_svg(figure, description)


def line_chart(
    lines: Sequence[tuple[str, str | Look, Sequence[float], Sequence[float]]],
    *,
    title: str,
    y_label: str,
    description: str,
    hint: str = "",
    y_range: tuple[float, float] | None = None,
) -> str:
    """Curves over training steps.

    Args:
        lines: (label, colour or look, xs, ys); a label that begins with ``_`` is not in the legend.
        hint: how to read the values, in a few words.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(4.5, 2.7), layout="constrained")
        axes: Axes = figure.subplots()
        for label, colour, xs, ys in lines:
            look = colour if isinstance(colour, Look) else Look(colour, "")
            axes.plot(
                xs, ys, color=look.colour or _INK, linestyle=look.line_style, label=label, linewidth=1.6,
                marker=mark_of(xs), markersize=5,
            )  # fmt: skip
        if y_range:
            axes.set_ylim(*y_range)
        axes.set_xlabel(f"step\n{hint}" if hint else "step")
        axes.set_ylabel(y_label)
        axes.set_title(title, fontsize=11, loc="left", parse_math=False)
        if any(not label.startswith("_") for label, *_ in lines):
            axes.legend(fontsize=9)
        return to_svg(figure, description)


def mark_of(xs: Sequence[float]) -> str:
    """The mark of a line's points: dots if there are so few that a line alone may be invisible."""
    return "o" if len(xs) <= FEW_POINTS else ""


def smooth(values: Sequence[float]) -> NDArray[np.float64]:
    """A running mean over a twentieth of the points."""
    width = max(len(values) // 20, 1)
    padded = np.pad(values, (width // 2, width - 1 - width // 2), mode="edge")
    return np.convolve(padded, np.full(width, 1 / width), mode="valid")
