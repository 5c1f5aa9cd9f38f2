"""The words of a list of videos: its endings, its columns, and the numbers with a meaning."""

from __future__ import annotations

UNLABELLED = -1
"""The label of a video without one."""
UNKNOWN = -1
"""The number of frames of a video whose frames have not been counted."""
MAX_NUMBER = 2**31 - 1
"""The largest number that a list may contain."""
LIST_ENDINGS = (".txt", ".csv", ".tsv", ".lst", ".list", ".json", ".jsonl")
"""File endings of lists; anything else after a dot is part of the name."""
COLUMNS = ("path", "label", "label1", "class", "frames", "start", "end")
"""Meanings that ``--columns`` accepts; ``label1`` counts from 1, ``class`` is a name."""
