"""Pairs of classes that are each other's reverse or mirror image: from a file, or found by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from dsm.errors import UserError, did_you_mean
from dsm.inputs import OPPOSITES
from dsm.untrusted import read_text

WORDS = (
    ("left", "right"), ("leftwards", "rightwards"), ("up", "down"), ("upwards", "downwards"), ("in", "out"),
    ("clockwise", "anticlockwise"), ("clockwise", "counterclockwise"), ("forward", "backward"),
    ("forwards", "backwards"), ("open", "close"), ("opening", "closing"), ("push", "pull"),
    ("pushing", "pulling"), ("enter", "exit"), ("entering", "exiting"), ("enter", "leave"),
    ("entering", "leaving"), ("swell", "shrink"), ("grow", "shrink"), ("rise", "fall"), ("rising", "falling"),
    ("raise", "lower"), ("raising", "lowering"), ("lift", "lower"), ("fold", "unfold"),
    ("folding", "unfolding"), ("tie", "untie"), ("cover", "uncover"), ("covering", "uncovering"),
    ("approach", "retreat"), ("approaching", "leaving"), ("plug", "unplug"), ("plugging", "unplugging"),
)  # fmt: skip
"""Words of opposite motions."""
REVERSED = ("backwards", "backward", "reversed", "reverse")
"""Words that turn a class into its opposite: `walk` and `walk-backwards`."""


def opposites_by_name(names: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of labels whose names differ in a word and its opposite, or in an extra word for backwards.

    Words are separated by anything but letters and digits, or by capitals: ``SwipeLeft`` and ``swipe right``.
    """
    spelled = [_words(name) for name in names]
    label_of = {words: label for label, words in enumerate(spelled)}
    opposite: dict[str, set[str]] = {}
    for one, two in WORDS:
        opposite.setdefault(one, set()).add(two)
        opposite.setdefault(two, set()).add(one)
    pairs: set[tuple[int, int]] = set()
    for label, words in enumerate(spelled):
        for place, word in enumerate(words):
            others = [(*words[:place], other, *words[place + 1 :]) for other in opposite.get(word, ())]
            others += [words[:place] + words[place + 1 :]] if word in REVERSED else []
            pairs |= {(label, label_of[other]) for other in others if other in label_of}
    return sorted({(min(pair), max(pair)) for pair in pairs})


def read_opposites(file: Path, names: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of labels from a file: two class names per line, separated by a tab or a comma.

    Raises:
        UserError: the file is missing, or a line is not a pair of class names.
    """
    OPPOSITES.check(file)
    label_of = {name: label for label, name in enumerate(names)}
    pairs = []
    try:
        text = read_text(file, encoding="utf-8-sig", errors="replace")
    except ValueError as error:
        raise UserError(f"{file}: {error}; it must have two class names per line.") from None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        pair = [part.strip() for part in line.split("\t" if "\t" in line else ",")]
        if len(pair) != 2 or pair[0] == pair[1]:
            raise UserError(f"{file}: line {number} must be two class names, separated by a tab or a comma.")
        for name in pair:
            if name not in label_of:
                raise UserError(
                    f"{file}: line {number}: no class is named '{name}'{did_you_mean(name, label_of)}"
                )
        pairs.append((label_of[pair[0]], label_of[pair[1]]))
    return pairs


def _words(name: str) -> tuple[str, ...]:
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return tuple(re.findall(r"[^\W_]+", parted.lower()))
