"""The verdict on an encoder: which measures the footage allows, five of them, and a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from dsm.intervals import Interval, percent
from dsm.runs.metrics import CUT_BY_MOTION

Numbers = Mapping[str, Interval | None]
"""Measures by name; None if it cannot be measured."""

STEADY_ENOUGH = 0.5
"""The camera counts as still if at least this share of the picture shows the still scene."""
DRIFTING = 0.06
"""The camera counts as moving if even the calmest parts of the picture move more than this, in longer sides,
over the frames from which its scene is taken, in half of the videos. Medians over MotionScenes' clips of 48
pixels: 0.28 where it pans, 0.09 under the flying camera, 0.035 or less with still and shaking ones."""
LITTLE, MUCH = 0.2, 0.5
"""Below the first, the motion decides; above the second, the scene does."""
NEARLY_STILL, CLEARLY_MOVING = 0.3, 0.6
"""Below the first, single frames are nearly enough; above the second, they are not."""


@dataclass(frozen=True)
class Allowed:
    """What can be measured on a list of videos, and why."""

    still: bool
    """Whether what moves can be cut out: the camera stands still, or masks are given."""
    why: str


def allowed(steady: float, masked: bool, drift: float = float("nan")) -> Allowed:
    """Decide which measures count.

    Args:
        steady: share of the picture that shows the still scene, in [0, 1].
        drift: how far its calmest parts move, in longer sides of the picture; NaN if unknown.
        masked: whether the actors' masks were given.
    """
    share = f"{100 * steady:.0f}% of the picture shows a still scene"
    moves = ""
    if drift > DRIFTING:
        moves = (
            f"The camera moves: even the calmest parts of the picture shift by {100 * drift:.0f}% of its "
            "longer side"
        )
    elif steady < STEADY_ENOUGH:
        moves = f"Only {share} (the camera may move)"
    if masked:
        why = "Masks of the actors were given, so the actors can be put into other scenes."
        if moves:
            why += (
                f" But {moves[0].lower()}{moves[1:]}, so these scenes are blurred: the scene counts for less "
                "than it would in a sharp picture."
            )
        return Allowed(True, why)
    if moves:
        return Allowed(
            False,
            f"{moves}, so scenes cannot be exchanged: the verdict uses single frames, their order and what "
            "the features encode.",
        )
    return Allowed(True, f"{share}, so what moves can be cut out, and scenes are exchanged.")


def strictest(each: Iterable[Allowed]) -> Allowed:
    """What all of several kinds of clips allow, whatever their order: the camera moves if any says so."""
    return min(each, key=lambda one: (one.still, one.why))


@dataclass(frozen=True)
class Chosen:
    """A measure as the card shows it."""

    title: str
    meaning: str
    """What 0 and 1 mean, and chance."""
    motion_is_high: bool
    """Whether a high value means that the classifier relies on motion."""


STILL: dict[str, Chosen] = {
    "scene_reliance": Chosen(
        "Scene reliance",
        "what decides when motion and scene disagree: 0%, the motion; 100%, the scene",
        False,
    ),
    "hat_scene_error_random": Chosen(
        "Fooled by the scene",
        "share of clips in front of another class's scene that are taken for that class",
        False,
    ),
    "contrasted_scenes": Chosen(
        "Contrasted accuracy",
        "share of clips classified correctly in front of another scene, but not from one frame of it",
        True,
    ),
    "motion_gain": Chosen(
        "Motion gain", "share of its skill, the accuracy above chance, that single frames cannot give", True
    ),
    "hat_swap_random_ratio": Chosen(
        "Accuracy kept in other scenes",
        "accuracy in front of other classes' scenes, divided by that on the clip",
        True,
    ),
}
"""The card's five for a still camera or given masks."""
MOVING: dict[str, Chosen] = {
    "motion_gain": STILL["motion_gain"],
    "order_sensitivity": Chosen(
        "Order sensitivity", "share of its skill lost when frames are shuffled", True
    ),
    "dimensions_static": Chosen(
        "Static dimensions",
        "share of its feature dimensions that encode static appearance but not motion; if many dimensions "
        "lie at the border, the interval is too narrow",
        False,
    ),
    "dimensions_dynamic": Chosen(
        "Dynamic dimensions",
        "share of its feature dimensions that encode motion but not static appearance; if many dimensions "
        "lie at the border, the interval is too narrow",
        True,
    ),
    "direction_sensitivity": Chosen(
        "Direction sensitivity", "share of its skill lost when played backwards", True
    ),
}
"""The card's five for a camera that moves."""
MORE: dict[str, Chosen] = {
    name: MOVING[name] for name in ("order_sensitivity", "dimensions_static", "dimensions_dynamic")
}
"""Shown if one of the five cannot be measured."""


def five(found: Allowed, numbers: list[Numbers]) -> dict[str, Chosen]:
    """The card's measures, at most five, by full name: those measured for at least one encoder."""
    known = {name for each in numbers for name, value in each.items() if value is not None}
    wanted = {**(STILL if found.still else MOVING), **MORE}
    chosen: dict[str, Chosen] = {}
    for name, measure in wanted.items():
        full = next((each for each in (name, name + CUT_BY_MOTION) if each in known), None)
        if full is not None and len(chosen) < len(STILL):
            chosen[full] = measure
    return chosen


@dataclass(frozen=True)
class Verdict:
    """What an encoder relies on."""

    by: Literal["motion", "both", "scene", "unknown"]
    sentence: str
    short: str
    """A short form, for a badge."""


def verdict(found: Allowed, numbers: Numbers) -> Verdict:
    """The verdict from scene reliance if scenes can be exchanged, otherwise from motion gain.

    A threshold is passed only if the whole interval passes it; without an interval there is no verdict.
    """
    reliance, gain = numbers.get("scene_reliance"), numbers.get("motion_gain")
    by_scenes = found.still and reliance is not None
    number, name = (reliance, "scene reliance") if by_scenes else (gain, "motion gain")
    told = f"{name} {_words(number)}" if number is not None else ""
    if gain is None:
        sentence = "It is not clearly better than chance on these videos, so there is no verdict"
        return Verdict("unknown", f"{sentence} ({told})." if told else f"{sentence}.", "unclear, near chance")
    assert number is not None
    value = percent(number.value)
    text = f"{value} scene" if by_scenes else f"{value} motion gain"
    if not number.known:
        sentence = f"There is no interval, so there is no verdict ({told}): all videos are of one group."
        return Verdict("unknown", sentence, f"unclear, {text}")
    low, high = (LITTLE, MUCH) if by_scenes else (NEARLY_STILL, CLEARLY_MOVING)
    below, above = number.high < low, number.low > high
    if by_scenes and below:
        return Verdict("motion", f"It relies on motion ({told}).", f"relies on motion, {text}")
    if by_scenes and above:
        sentence = f"It relies on the scene ({told}): expect worse results in other places."
        return Verdict("scene", sentence, f"relies on scene, {text}")
    if above:
        sentence = f"It relies on motion: it loses its skill on single frames ({told})."
        return Verdict("motion", sentence, f"relies on motion, {text}")
    if below:
        sentence = f"It relies on static appearance: single frames are nearly enough ({told})."
        return Verdict("scene", sentence, f"relies on scene, {text}")
    if low <= number.low and number.high <= high:
        return Verdict("both", f"It relies on both ({told}).", f"relies on both, {text}")
    sentence = f"It relies on both, or there are too few videos to tell ({told})."
    return Verdict("both", sentence, f"both or too few videos, {text}")


def _words(value: Interval) -> str:
    ends = f", 95% interval {percent(value.low)} to {percent(value.high)}" if value.known else ""
    return f"{percent(value.value)}{ends}"
