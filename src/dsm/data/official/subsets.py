"""The two small training lists of the SEVERE benchmark (Thoker et al., ECCV 2022): about 1000 videos each.

The benchmark draws equally many videos of each class, ``ceil(1000 / classes)``, from the training list of
UCF101 or Gym99 with a fixed seed, and tests on the whole test list.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from dsm.data.official.classic import ucf101
from dsm.data.official.files import Entry, Official
from dsm.data.official.long_videos import gym99

SEVERE_VIDEOS = 1000
SEVERE_SEED = 19
"""Seed of NumPy's legacy generator, from the benchmark's function ``get_subset_data``."""


def severe_ucf101(folder: Path) -> Official:
    """SEVERE's 1000 training videos of UCF101's split 1, and the split's test."""
    found = ucf101(folder)
    lists = {"train": _drawn(found.lists.get("train1", [])), "test": found.lists.get("test1", [])}
    return replace(found, lists={name: entries for name, entries in lists.items() if entries})


def severe_gym99(folder: Path) -> Official:
    """SEVERE's 1000 training videos of Gym99, drawn from version 1.0, and the validation list."""
    found = gym99(folder)
    return replace(found, lists=found.lists | {"train": _drawn(found.lists.get("train", []))})


def _drawn(entries: list[Entry]) -> list[Entry]:
    """Equally many videos of each class, in the order of the classes; all of a class that has fewer."""
    labels = np.array([entry.label for entry in entries])
    generator = np.random.RandomState(SEVERE_SEED)
    drawn: list[Entry] = []
    classes = np.unique(labels)
    for label in classes:
        members = np.flatnonzero(labels == label)
        count = min(math.ceil(SEVERE_VIDEOS / len(classes)), len(members))
        drawn += [entries[members[place]] for place in generator.choice(len(members), count, replace=False)]
    return drawn
