"""The page of near-duplicates: their groups, with the one to keep first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dsm.evaluate.footage import Footage, best_first
from dsm.pages.gallery import ShownClip, ShownQuery, clips_of, row_text
from dsm.pages.template import PAGE_BYTES, write_page
from dsm.terminal import many

GROUPS, OF_GROUP = 100, 6
"""Number of groups, and of clips per group, that are shown."""


def write_duplicates_page(
    path: Path, footage: Footage, groups: Sequence[Sequence[int]], nearest: Sequence[str], *, threshold: float
) -> None:
    """Write the page.

    Args:
        groups: rows of near-duplicates.
        nearest: for each group, the highest cosine in it.
    """
    ordered = [best_first(group, footage) for group in groups]
    shown = [row for group in ordered[:GROUPS] for row in group[:OF_GROUP]]
    clips = clips_of(footage.features, shown, room=PAGE_BYTES - 1000 * len(shown) - 100_000)
    rows = []
    for number, (group, cosine) in enumerate(zip(ordered[:GROUPS], nearest, strict=False), start=1):
        tiles = []
        for place, row in enumerate(group[:OF_GROUP]):
            width, height = footage.pixels[row]
            size = f"{width} × {height} pixels" if width else ""
            keep = "keep" if place == 0 else ""
            caption = ", ".join(part for part in (keep, size) if part)
            tiles.append(ShownClip(clips.get(row, ""), caption, row_text(footage.features, row, short=True)))
        title = f"Group {number}: {len(group)} clips, cosine up to {cosine}"
        rows.append(ShownQuery(title, tiles[0], [("", tiles[1:])]))
    write_page(
        path, "duplicates.html", rows=rows, count=len(groups),
        title=f"{many(len(groups), 'group')} of near-duplicates" if groups else "No near-duplicates",
        threshold=f"{threshold:g}",
    )  # fmt: skip
