"""Maps of encoders side by side, as a picture: a row an encoder, a column a colouring."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from dsm.analyse.embedding import Embedded, MapName

COLOURS = ("#d55e00", "#1f8fd6", "#009e73", "#cc79a7", "#e69f00", "#7f7f7f", "#56b4e9", "#8c6bb1")
"""After Okabe & Ito; colour-blind people can tell them apart, on white and on black."""
MARKS = ("o", "s", "^", "D")
"""A name's mark; with eight colours they tell 32 names apart."""
MOST_NAMES = 16
RIGHT, WRONG = "right", "wrong"


def look_of(place: int, name: str) -> tuple[str, str]:
    """Colour and mark of the so manieth name; right and wrong always have theirs."""
    if name in (RIGHT, WRONG):
        return (COLOURS[2], MARKS[0]) if name == RIGHT else (COLOURS[0], MARKS[2])
    turn = place + place // len(COLOURS)
    return COLOURS[place % len(COLOURS)], MARKS[turn % len(MARKS)]


def draw_embeddings(embedded: Sequence[Embedded], file: Path, *, which: MapName) -> None:
    """Draw the map ``which`` of all, coloured in every way there is; the suffix says the format."""
    ways = list(embedded[0].colourings)
    figure = Figure(figsize=(3.4 * len(ways), 3.1 * len(embedded) + 0.9), layout="constrained")
    panels = figure.subplots(len(embedded), len(ways), squeeze=False)
    for one, line in zip(embedded, panels, strict=True):
        for way, panel in zip(ways, line, strict=True):
            names = sorted(set(one.colourings[way]))
            for place, name in enumerate(names):
                rows = [row for row, its in enumerate(one.colourings[way]) if its == name]
                colour, mark = look_of(place, name)
                x, y = one.maps[which][rows].T
                panel.plot(x, y, mark, color=colour, markersize=3, alpha=0.8, markeredgewidth=0, label=name)
            panel.set_xticks([])
            panel.set_yticks([])
            panel.set_title(f"{one.run}, by {way}", fontsize=10)
            if one is embedded[-1] and len(names) <= MOST_NAMES:
                panel.legend(
                    loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=2, fontsize=7, frameon=False
                )
    figure.savefig(file, dpi=90)
