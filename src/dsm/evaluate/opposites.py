"""Pairs of classes that are each other's reverse or mirror image: from a file, or found by name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from dsm.errors import UserError, did_you_mean
from dsm.inputs import OPPOSITES_INPUT
from dsm.untrusted import read_text

Words = tuple[str, ...]

WORDS = (
    ("left", "right"), ("leftwards", "rightwards"), ("up", "down"), ("upwards", "downwards"), ("in", "out"),
    ("into", "out of"), ("on", "off"), ("onto", "off"), ("closer to", "away from"), ("towards", "away from"),
    ("clockwise", "anticlockwise"), ("clockwise", "counterclockwise"), ("forward", "backward"),
    ("forwards", "backwards"), ("open", "close"), ("opening", "closing"), ("push", "pull"),
    ("pushing", "pulling"), ("enter", "exit"), ("entering", "exiting"), ("enter", "leave"),
    ("entering", "leaving"), ("sit", "stand"), ("sitting", "standing"), ("sit down", "stand up"),
    ("sitting down", "standing up"), ("swell", "shrink"), ("grow", "shrink"), ("rise", "fall"),
    ("rising", "falling"), ("raise", "lower"), ("raising", "lowering"), ("lift", "lower"), ("fold", "unfold"),
    ("folding", "unfolding"), ("tie", "untie"), ("tying", "untying"), ("cover", "uncover"),
    ("covering", "uncovering"), ("approach", "retreat"), ("approaching", "retreating"), ("plug", "unplug"),
    ("plugging", "unplugging"),
)  # fmt: skip
"""Words of opposite motions, or several words."""
REVERSED = ("backwards", "backward", "reversed", "reverse")
"""Words that turn a class into its opposite: `walk` and `walk-backwards`."""
NO_OPPOSITES = (("push", "up"), ("pull", "up"), ("push", "ups"), ("pull", "ups"))
"""Words that name another motion together: a push-up is no pull-up backwards."""


def opposites_by_name(names: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of labels whose names differ in words and their opposites, or in an extra word for backwards.

    Words are separated by anything but letters and digits, or by capitals: ``SwipeLeft`` and ``swipe right``.
    In a name with both words of a pair, they change places: *from left to right* and *from right to left*.
    """
    spelled = [_words(name) for name in names]
    label_of = {words: label for label, words in enumerate(spelled)}
    pairs: set[tuple[int, int]] = set()
    for label, words in enumerate(spelled):
        for other in _opposites_of(words):
            if other in label_of and other != words:
                pairs.add((label, label_of[other]))
    return sorted({(min(pair), max(pair)) for pair in pairs})


def _opposites_of(words: Words) -> Iterator[Words]:
    """What the opposite of a class may be called."""
    for place, word in enumerate(words):
        if word in REVERSED:
            yield words[:place] + words[place + 1 :]
    if any(words[place : place + 2] in NO_OPPOSITES for place in range(len(words))):
        return
    turned = [pair for pair in WORDS if set(pair) <= set(words)]
    for one, two in turned:
        yield tuple({one: two, two: one}.get(word, word) for word in words)
    for pair in WORDS if not turned else ():
        first, second = (tuple(side.split()) for side in pair)
        for here, there in ((first, second), (second, first)):
            for place in _places(words, here):
                yield words[:place] + there + words[place + len(here) :]


def _places(words: Words, part: Words) -> list[int]:
    """Where some words stand among others."""
    last = len(words) - len(part)
    return [place for place in range(last + 1) if words[place : place + len(part)] == part]


def read_opposites(file: Path, names: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of labels from a file: two class names per line, separated by a tab or a comma.

    Raises:
        UserError: the file is missing, or a line is not a pair of class names.
    """
    OPPOSITES_INPUT.check(file)
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


def _words(name: str) -> Words:
    """The words of a class name, in lower case."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return tuple(re.findall(r"[^\W_]+", parted.lower()))
