"""The card of a bias report: a page, a figure for a talk, and badges."""

from __future__ import annotations

import itertools
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dsm.evaluate.bias import Judged
from dsm.evaluate.verdict import Allowed, Chosen, Numbers, Verdict, five, verdict
from dsm.files import json_text, write_text
from dsm.intervals import Interval, chance_text, remark_on
from dsm.pages.figures import literal, looks_of, save_figure
from dsm.pages.gallery import end_of
from dsm.pages.tables import Bar, bar_of
from dsm.pages.template import clip_uri, write_page
from dsm.terminal import many

VERDICTS = "verdicts.json"
"""The file of the verdicts, and of whether scenes could be exchanged, and why."""
CLASSES_SHOWN = 3
"""Number of classes per encoder whose mistakes are shown."""
TONES = {"motion": "#00734f", "both": "#8a6100", "scene": "#b03a00", "unknown": "#5b6670"}
"""Colours of the verdicts, dark enough for white letters (contrast above 4.5)."""


@dataclass(frozen=True)
class OnCard:
    """An encoder on the card."""

    name: str
    judged: Judged
    paths: Sequence[str]
    numbers: Numbers


@dataclass(frozen=True)
class Mistake:
    """A class that an encoder gets wrong in a variant, with a clip that shows it."""

    name: str
    right: float
    """Share of its clips classified correctly in the variant."""
    taken_for: str
    whole: str
    changed: str
    """Data URIs of the clip, unchanged and in the variant."""
    caption: str


Render = Callable[[str, int, int], tuple[NDArray[np.uint8], NDArray[np.uint8]]]
"""An encoder's name, a video and a part -> its clip, unchanged and in the variant: uint8 (T, H, W, 3)."""


def worst(judged: Judged, variant: str, shown: int = CLASSES_SHOWN) -> list[tuple[int, int, int]]:
    """The classes with the lowest accuracy in a variant: (label, video, part) of a typical mistake of each.

    A typical mistake is the wrong class most often predicted; of those clips, the most confident one is
    shown.
    """
    predicted = judged.predicted(variant)
    order = sorted(
        (float((predicted[judged.labels == label] == label).mean()), int(label))
        for label in np.unique(judged.labels)
    )
    found = []
    for right, label in order[:shown]:
        if right == 1:
            break
        rows = np.flatnonzero(judged.labels == label)
        other, _ = Counter(predicted[rows][predicted[rows] != label].tolist()).most_common(1)[0]
        surest = judged.probabilities[variant][rows].max(-1) * (predicted[rows] == other)
        row, part = np.unravel_index(int(surest.argmax()), surest.shape)
        found.append((label, int(rows[row]), int(part)))
    return found


def mistakes_of(subject: OnCard, variant: str, names: Sequence[str], render: Render) -> list[Mistake]:
    """The worst classes of an encoder, with clips."""
    judged = subject.judged
    found = []
    for label, video, part in worst(judged, variant):
        own = judged.predicted(variant)[judged.labels == label]
        other = int(judged.predicted(variant)[video, part])
        whole, changed = render(subject.name, video, part)
        if variant in judged.partners:
            lender = int(judged.partners[variant][video, part])
            scene = (
                f"in front of the scene of {end_of(subject.paths[lender])} ({names[judged.labels[lender]]})"
            )
        else:
            scene = "as noise that moves like it"
        found.append(
            Mistake(
                names[label], float((own == label).mean()), names[other], clip_uri(whole), clip_uri(changed),
                f"{end_of(subject.paths[video])}, {scene}",
            )
        )  # fmt: skip
    return found


def write_card(
    out: Path,
    subjects: Sequence[OnCard],
    found: Allowed,
    names: Sequence[str],
    render: Render,
    *,
    test: str,
    masked: bool,
    pairs: int,
    left: Interval | None,
) -> list[Path]:
    """Write ``card.html``, ``card.png``, ``verdicts.json`` and a badge for each encoder into ``out``; returns
    their paths.

    Args:
        subjects: at least one; all of the same test.
        masked: whether masks of the actors were given.
        pairs: number of pairs of opposite classes.
        left: how much of the actor is left in scenes made without masks, if it was measured.
    """
    chosen = five(found, [one.numbers for one in subjects])
    verdicts = {one.name: verdict(found, one.numbers) for one in subjects}
    variant = "background" if found.still else "appearance_free"
    mistakes = [
        (one.name, mistakes_of(one, variant, names, render)) for one in subjects
        if variant in one.judged.probabilities
    ]  # fmt: skip
    first = subjects[0].judged
    files = [out / "card.html", out / "card.png", out / VERDICTS]
    write_page(
        files[0], "bias_card.html",
        title=_heading(verdicts), test=test, videos=len(first.labels),
        classes=len(np.unique(first.labels)), chance=chance_text(first.chance), footage=found.why,
        verdicts=[(name, one, TONES[one.by]) for name, one in verdicts.items()],
        numbers=[_row(name, measure, subjects) for name, measure in chosen.items()],
        every=_every(subjects), names=[one.name for one in subjects],
        mistakes=mistakes, variant=variant, left=left and left.text(),
        remark=remark_on(first.groups), masked=masked, pairs=many(pairs, "pair") if pairs else "",
        free=not found.still and any("appearance_free" in one.judged.probabilities for one in subjects),
    )  # fmt: skip
    draw_card(files[1], subjects, chosen, verdicts, test)
    record = {
        "still": found.still, "why": found.why,
        "verdicts": {name: {"by": one.by, "sentence": one.sentence} for name, one in verdicts.items()},
    }  # fmt: skip
    write_text(files[2], json_text(record, indent=2) + "\n")
    taken: set[str] = set()
    for one in subjects:
        slug = re.sub(r"[^\w.-]+", "-", one.name).strip("-") or "encoder"
        numbered = (f"{slug}-{number}" for number in itertools.count(2))
        slug = next(name for name in itertools.chain([slug], numbered) if name not in taken)
        taken.add(slug)
        file = out / ("badge.svg" if len(subjects) == 1 else f"badge-{slug}.svg")
        write_text(file, badge(verdicts[one.name]))
        files.append(file)
    return files


def _heading(verdicts: Mapping[str, Verdict]) -> str:
    """What all encoders rely on; a question if they differ or it is not clear."""
    words = {"motion": "motion", "scene": "the scene"}
    kinds = {one.by for one in verdicts.values()}
    if len(kinds) == 1 and (by := words.get(next(iter(kinds)))):
        *others, last = verdicts
        return f"{', '.join(others)} and {last} rely on {by}" if others else f"{last} relies on {by}"
    return "Motion or scene: what decides?"


@dataclass(frozen=True)
class Line:
    """A measure with its bars."""

    title: str
    meaning: str
    better: str
    """`higher` or `lower`: where the encoder relies on motion."""
    bars: list[Bar]


def _row(metric: str, measure: Chosen, subjects: Sequence[OnCard]) -> Line:
    bars = []
    for one in subjects:
        value = one.numbers.get(metric)
        if value is None:
            bars.append(Bar(one.name, "not measurable", None, 0, 0))
        else:
            bars.append(bar_of(one.name, value))
    return Line(measure.title, measure.meaning, "higher" if measure.motion_is_high else "lower", bars)


def _every(subjects: Sequence[OnCard]) -> list[tuple[str, list[str]]]:
    metrics = dict.fromkeys(name for one in subjects for name in one.numbers)
    cells = {name: [one.numbers.get(name) for one in subjects] for name in metrics}
    return [(name, ["–" if one is None else one.text() for one in row]) for name, row in cells.items()]


BEGIN, END, ARROW = -0.04, 1.04, 0.05
"""Ends of the axis of a panel, a little beyond 0 and 100 %, and how far beyond them an arrow stands."""
LETTERS, TITLE, NAME = 125, 20, 24
"""Letters of a line above the panels, of a panel's title, and of an encoder's name."""


def draw_card(
    path: Path,
    subjects: Sequence[OnCard],
    chosen: Mapping[str, Chosen],
    verdicts: Mapping[str, Verdict],
    test: str,
) -> None:
    """The figure for a talk: a panel per number, with a dot and its interval per encoder; verdicts above."""
    rows = len(subjects)
    sentences = [f"{name}: {one.sentence}" for name, one in verdicts.items()]
    sentences.append(f"Tested on {test}; lines are 95% intervals, with an arrow where they go on.")
    lines = [literal(line) for each in sentences for line in textwrap.wrap(each, LETTERS)]
    names = [textwrap.fill(literal(one.name), NAME) for one in subjects]
    most = max(name.count("\n") + 1 for name in names)
    height = 2.4 + max(0.42, 0.2 * most) * rows + 0.2 * len(lines)
    figure = Figure(figsize=(13.3, height), layout="constrained", facecolor="white")
    axes = figure.subplots(1, max(len(chosen), 1), squeeze=False, sharey=True)[0]
    looks = looks_of([one.name for one in subjects])
    for axis, (metric, measure) in zip(axes, chosen.items(), strict=False):
        for place, (one, look) in enumerate(zip(subjects, looks, strict=True)):
            value = one.numbers.get(metric)
            if value is None:
                axis.text(0.5, place, "–", ha="center", va="center", color="#777777")
                continue
            at = min(max(value.value, BEGIN), END)  # ratios may be above 1
            if value.known:
                low, high = (min(max(end, BEGIN), END) for end in value.ends)
                axis.plot([low, high], [place, place], color=look.colour, linewidth=3, alpha=0.5)
                for end, edge, marker in ((value.low, BEGIN - ARROW, "<"), (value.high, END + ARROW, ">")):
                    if min(max(end, BEGIN), END) != end:  # the interval goes on
                        axis.plot(edge, place, marker, color=look.colour, markersize=7, clip_on=False)
            axis.plot(at, place, "o", color=look.colour, markersize=8, clip_on=False)
            axis.annotate(
                f"{100 * value.value:.0f}%", (at, place), xytext=(0, 8), textcoords="offset points",
                ha="center", fontsize=10,
            )  # fmt: skip
        axis.set_xlim(BEGIN - 0.02, END + 0.02)
        axis.set_ylim(rows - 0.5, -0.7)
        axis.set_xticks([0, 0.5, 1], ["0", "50%", "100%"])
        axis.set_yticks(range(rows), names, fontsize=11)
        axis.set_title(textwrap.fill(measure.title, TITLE), loc="left", fontsize=12)
        axis.set_xlabel(f"{'high' if measure.motion_is_high else 'low'}: relies on motion", fontsize=9)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(axis="y", length=0)
        axis.grid(axis="x", color="#dddddd", linewidth=0.6)
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=11)
    save_figure(figure, path)


WIDE = 7
"""Width of a letter on a badge in pixels; most letters are narrower."""


def badge(one: Verdict) -> str:
    """An SVG, 20 pixels high: what the encoder relies on, in the verdict's colour."""
    left, right = "scene bias", one.short
    widths = [WIDE * len(text) + 12 for text in (left, right)]
    total = sum(widths)
    label = escape(f"{left} {right}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{total}" height="20" role="img" '
        f'aria-label="{label}">'
        f"<title>{label}</title>"
        f'<rect width="{total}" height="20" rx="3" fill="{TONES[one.by]}"/>'
        f'<path d="M3 0h{widths[0] - 3}v20h-{widths[0] - 3}a3 3 0 0 1-3-3v-14a3 3 0 0 1 3-3z" fill="#444"/>'
        '<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">'
        f'<text x="{widths[0] / 2:g}" y="14">{escape(left)}</text>'
        f'<text x="{widths[0] + widths[1] / 2:g}" y="14">{escape(right)}</text></g></svg>\n'
    )
