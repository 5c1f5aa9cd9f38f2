"""Maps of encoders side by side, as a picture: a row an encoder, a column a colouring."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from dsm.analyse.embedding import Embedded, MapName
from dsm.analyse.figures import TONES, literal, save_figure

MARKS = "osD^vPX*"
LOOKS = tuple(
    (colour, MARKS[2 * turn + (place >= 4)])  # the last two tones are near to some of the first four
    for turn in range(len(MARKS) // 2)
    for place, colour in enumerate(TONES)
)
"""Colours and marks of 24 names; whoever is colour-blind can tell them apart too, on white and on black."""
MOST_NAMES = 24
RIGHT, WRONG = "right", "wrong"
RIGHT_WRONG = {RIGHT: ("#009e73", "o"), WRONG: ("#d55e00", "^")}


def look_of(place: int, name: str) -> tuple[str, str]:
    """Colour and mark of the so manieth name; right and wrong always have theirs."""
    return RIGHT_WRONG.get(name) or LOOKS[place % len(LOOKS)]


def draw_embeddings(embedded: Sequence[Embedded], file: Path, *, which: MapName) -> None:
    """Draw the map ``which`` of all, coloured in every way there is; the suffix says the format."""
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
                panel.legend(
                    loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=2, fontsize=7, frameon=False,
                    title=f"the first {MOST_NAMES} names; {more} more look like them" if more > 0 else None,
                    title_fontsize=7,
                )  # fmt: skip
    save_figure(figure, file)
