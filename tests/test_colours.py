"""Colours of lines, bars and dots, as colour-blind people see them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from dsm.pages.embedding import LOOKS, MOST_NAMES, RIGHT_WRONG, look_of
from dsm.pages.figures import COLOURS, NEAR, TONES, looks_of

# Machado, Oliveira & Fernandes, A Physiologically-based Model for Simulation of Color Vision Deficiency,
# 2009, at severity 1: linear RGB to linear RGB.
SEEN_BY = {
    "all": np.eye(3),
    "protanopes": np.array([
        [0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998],
    ]),
    "deuteranopes": np.array([
        [0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881],
    ]),
    "tritanopes": np.array([
        [1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900],
    ]),
}  # fmt: skip
LEAST = 20
"""Minimum distance of two colours in CIELAB (CIE 1976); 2.3 is just noticeable side by side."""


def linear(colour: str) -> NDArray[np.float64]:
    """#rrggbb as linear RGB in [0, 1] (IEC 61966-2-1)."""
    values = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear RGB in CIELAB, under D65."""
    to_xyz = np.array([
        [0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041],
    ])  # fmt: skip
    share = to_xyz @ rgb.clip(0, 1) / [0.95047, 1, 1.08883]
    low = 6 / 29
    x, y, z = np.where(share > low**3, np.cbrt(share), share / (3 * low**2) + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def apart(one: str, two: str) -> float:
    """The smallest distance of two colours over all kinds of colour vision."""
    return min(
        float(np.linalg.norm(lab(vision @ linear(one)) - lab(vision @ linear(two))))
        for vision in SEEN_BY.values()
    )


def least(looks: Sequence[tuple[str, str]]) -> float:
    """The smallest distance of two colours with the same dashes or mark."""
    return min(apart(one[0], two[0]) for one, two in itertools.combinations(looks, 2) if one[1] == two[1])


def test_the_simulation_agrees_with_known_confusions() -> None:
    np.testing.assert_allclose(lab(np.ones(3)), [100, 0, 0], atol=0.02)
    np.testing.assert_allclose(lab(linear("#ff0000")), [53.24, 80.09, 67.2], atol=0.05)
    for vision in SEEN_BY.values():  # grey is grey to everyone
        np.testing.assert_allclose(vision.sum(1), 1, atol=1e-5)
    assert apart("#1f8fd6", "#7a6fd0") < 10  # a blue and a violet of one lightness
    assert apart("#009e73", "#8c8c8c") < 10  # a green and a grey


def test_only_colours_that_someone_confuses_count_as_near() -> None:
    every = {*TONES, *COLOURS.values()}
    assert {frozenset(pair) for pair in itertools.combinations(every, 2) if apart(*pair) < LEAST} == NEAR


@pytest.mark.parametrize(
    "names",
    [
        [f"run {number}" for number in range(18)],
        [f"{method}-seed{seed}" for seed in range(3) for method in COLOURS],
        ["mine", "dsm-triplet", "random", "dsm", "ours", "moco", "moco-2", "theirs"],
        ["random", "other", "dsm-triplet-0", "dsm-triplet-1", *(f"run {number}" for number in range(8))],
    ],
)
def test_lines_with_the_same_dashes_have_distinguishable_colours(names: list[str]) -> None:
    looks = [(look.colour, look.dashes) for look in looks_of(names)]
    assert len(set(looks)) == len(names)
    assert least(looks) >= LEAST
    assert least([(look.colour, look.hatch) for look in looks_of(names)]) >= LEAST


def test_dots_with_the_same_mark_have_distinguishable_colours() -> None:
    looks = [look_of(place, str(place)) for place in range(MOST_NAMES)]
    assert len(set(looks)) == MOST_NAMES == len(LOOKS)
    assert least(looks) >= LEAST
    (right, a), (wrong, b) = RIGHT_WRONG.values()
    assert a != b
    assert apart(right, wrong) >= LEAST


def test_bars_of_the_demo_have_distinguishable_colours() -> None:
    bars = [COLOURS[run] for run in ("random", "moco", "dsm")]
    assert min(apart(*pair) for pair in itertools.combinations(bars, 2)) >= LEAST
