"""Maps of embeddings: a picture of several encoders, and a page where the clip under a dot plays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from dsm.evaluate.embedding import Embedded
from dsm.evaluate.settings import MapName
from dsm.intervals import chance_text
from dsm.pages.figures import TONES, literal, save_figure
from dsm.pages.tables import Bar, Cell, bar_of
from dsm.pages.template import render_page, write_page
from dsm.runs.metrics import CHANCE, metric_of
from dsm.runs.results import Row
from dsm.terminal import many

MARKS = "osD^vPX*"
LOOKS = tuple(
    (colour, MARKS[2 * turn + (place >= 4)])  # the last two tones resemble some of the first four
    for turn in range(len(MARKS) // 2)
    for place, colour in enumerate(TONES)
)
"""Colours and marks for 24 names, distinguishable by colour-blind people too, on white and on black."""
MOST_NAMES = 24
RIGHT, WRONG = "right", "wrong"
RIGHT_WRONG = {RIGHT: ("#009e73", "o"), WRONG: ("#d55e00", "^")}


def look_of(place: int, name: str) -> tuple[str, str]:
    """Colour and mark of the name at a position; right and wrong have fixed ones."""
    return RIGHT_WRONG.get(name) or LOOKS[place % len(LOOKS)]


def draw_embeddings(embedded: Sequence[Embedded], file: Path, *, which: MapName) -> None:
    """Draw the map ``which`` of all encoders, in every colouring; the suffix of ``file`` sets the format."""
    ways = list(embedded[0].colourings)
    shown = max(len(set(embedded[-1].colourings[way])) for way in ways)
    legend = 0.3 + 0.17 * (-(-min(shown, MOST_NAMES) // 2))  # in two columns
    figure = Figure(figsize=(3.4 * len(ways), 3.1 * len(embedded) + legend), layout="constrained")
    panels = figure.subplots(len(embedded), len(ways), squeeze=False)
    for one, line in zip(embedded, panels, strict=True):
        for way, panel in zip(ways, line, strict=True):
            names = sorted(set(one.colourings[way]))
            for place, name in enumerate(names):
                rows = [row for row, its in enumerate(one.colourings[way]) if its == name]
                colour, mark = look_of(place, name)
                label = literal(name) if place < MOST_NAMES else "_"  # without a line in the legend
                x, y = one.maps[which][rows].T
                panel.plot(x, y, mark, color=colour, markersize=4, alpha=0.8, markeredgewidth=0, label=label)
            panel.set_xticks([])
            panel.set_yticks([])
            panel.set_title(literal(f"{one.run}, by {way}"), fontsize=10)
            if one is embedded[-1]:
                more = len(names) - MOST_NAMES
                title = f"first {MOST_NAMES} names; the other {more} reuse these colours and marks"
                panel.legend(
                    loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=2, fontsize=7, frameon=False,
                    title=title if more > 0 else None,
                    title_fontsize=7,
                )  # fmt: skip
    save_figure(figure, file)


TITLES = {"tsne": "t-SNE", "umap": "UMAP"}


def embedding_section(embedded: Sequence[Embedded], clips: Mapping[int, str], *, name: str = "map") -> Markup:
    """Escaped style, markup and script of one or more encoders' maps of the same videos.

    Args:
        clips: row -> clip as a data URI; a row without a clip shows only its text.
        name: the section's id, unique on its page.
    """
    first = embedded[0]
    data = {
        "runs": [one.run for one in embedded],
        "maps": {
            which: [np.round(one.maps[which].astype(float), 4).tolist() for one in embedded]
            for which in first.maps
        },
        "colourings": {how: [one.colourings[how] for one in embedded] for how in first.colourings},
        "near": [one.neighbours.tolist() for one in embedded],
        "paths": first.paths,
        "clips": {str(row): uri for row, uri in clips.items()},
        "looks": LOOKS,
        "judged": RIGHT_WRONG,
    }
    maps = [(which, TITLES[which]) for which in first.maps]
    return Markup(
        render_page(
            "_embedding.html", name=name, data=data, maps=maps, colourings=list(first.colourings),
            runs=data["runs"], count=len(first.paths),
        )
    )  # fmt: skip


def write_embedding_page(
    path: Path, embedded: Sequence[Embedded], clips: Mapping[int, str], rows: Sequence[Row]
) -> None:
    """Write a page with the section and a table of the numbers."""
    agreement = _agreement(rows)
    write_page(
        path, "embedding.html", title=_title(embedded), agreement=agreement, message=_message(agreement),
        section=embedding_section(embedded, clips),
        lines=number_lines(rows, [one.run for one in embedded]), runs=[one.run for one in embedded],
    )  # fmt: skip


def _title(embedded: Sequence[Embedded]) -> str:
    *others, last = [one.run for one in embedded]
    runs = f"{', '.join(others)} and {last}" if others else last
    return f"{many(len(embedded[0].paths), 'video')} as {runs} {'see' if others else 'sees'} them"


def _message(agreement: tuple[str, list[Bar], float | None]) -> str:
    """The numbers of the bars as a sentence, the highest first; empty if nothing was measured."""
    name, bars, chance = agreement
    if not bars:
        return ""
    first, *others = sorted(bars, key=lambda bar: -(bar.at or 0))
    text = f"With {first.name}, the nearest other video has the same {name} for {first.at:.0f}% of the videos"
    text += "".join(f", with {bar.name} for {bar.at:.0f}%" for bar in others)
    return f"{text}{'' if chance is None else f'; by chance it would for {chance_text(chance / 100)}'}."


def _agreement(rows: Sequence[Row]) -> tuple[str, list[Bar], float | None]:
    """The name that neighbours agree on, the bars of all runs, and chance in %; empty if not measured."""
    found = [row for row in rows if row.metric.endswith("_agreement")]
    if not found:
        return "", [], None
    metric = found[0].metric
    of_runs = [row for row in found if row.metric == metric]
    bars = [bar_of(row.run, row.measured) for row in of_runs]
    chances = [row.value for row in rows if row.metric == f"{metric}_chance"]
    return metric.removesuffix("_agreement"), bars, 100 * chances[0] if chances else None


class NumberLine(NamedTuple):
    """The numbers of one metric."""

    metric: str
    cells: dict[str, Cell]
    """One for each run: its value, and its interval and the value of chance."""

    @property
    def title(self) -> str:
        """Its metric in words."""
        return self.metric.replace("_", " ")


def number_table(rows: Sequence[Row]) -> list[NumberLine]:
    """One line per metric."""
    chances = {
        (row.run, row.metric.removesuffix(CHANCE)): row.value for row in rows if row.metric.endswith(CHANCE)
    }
    lines: dict[str, NumberLine] = {}
    for row in rows:
        if row.metric.endswith(CHANCE):
            continue
        line = lines.setdefault(row.metric, NumberLine(row.metric, {}))
        value, interval = row.texts
        chance = chances.get((row.run, row.metric))
        words = (interval, "" if chance is None else f"chance {chance_text(chance)}")
        line.cells[row.run] = Cell(value, ", ".join(filter(None, words)), False)
    return list(lines.values())


def number_lines(rows: Sequence[Row], runs: Sequence[str]) -> list[tuple[str, str, list[Cell | None]]]:
    """The lines of :func:`number_table` in the form that a page's table needs."""
    return [
        (line.title, metric_of(line.metric).meaning, [line.cells.get(run) for run in runs])
        for line in number_table(rows)
    ]
