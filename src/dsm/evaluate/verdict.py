"""The verdict on an encoder: which measures the footage allows, five of them, and a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from dsm.evaluate.field import CUT_BY_MOTION
from dsm.intervals import Interval

Numbers = Mapping[str, Interval | float | None]
"""Measures by name; a number without an interval, or None where one cannot be measured."""

STEADY_ENOUGH = 0.5
"""Share of the picture that must show the still scene; with less, the camera moves."""
DRIFTING = 0.03
"""Sides of the picture from frame to frame of a clip, by which even its calmest parts move where the camera
does. Means over lists of clips of 32 to 64 pixels with every third frame: 0.035 to 0.041 under MotionScenes'
flying camera, 0.002 to 0.025 before still and shaking ones, where part of it is the noise of the flow."""
LITTLE, MUCH = 0.2, 0.5
"""Scene reliance below which the motion decides, and above which the scene does."""
NEARLY_STILL, CLEARLY_MOVING = 0.3, 0.6
"""Motion gain below which single frames are nearly enough, and above which they are not."""


@dataclass(frozen=True)
class Footage:
    """What a list of videos allows to be measured, and why."""

    still: bool
    """Whether what moves can be cut out: the camera stands still, or masks are given."""
    why: str


def footage(steady: float, masked: bool, drift: float = float("nan")) -> Footage:
    """Which measures count.

    Args:
        steady: share of the picture that shows the still scene, in [0, 1].
        drift: how fast its calmest parts move, in sides from frame to frame; NaN if unknown.
        masked: whether the actors' masks were given.
    """
    if masked:
        why = "The actors' masks were given: scenes are exchanged, and numbers compare with published ones."
        return Footage(True, why)
    share = f"{100 * steady:.0f}% of the picture shows a still scene"
    moving = (
        "so scenes cannot be exchanged: single frames, their order and what the features keep decide. Clips "
        "without appearance, which need no still camera, are among all numbers."
    )
    if drift > DRIFTING:
        return Footage(
            False,
            f"Even the calmest parts of the picture move, by {100 * drift:.0f}% of its side from frame to "
            f"frame (the camera moves), {moving}",
        )
    if steady >= STEADY_ENOUGH:
        return Footage(True, f"{share}, so what moves can be cut out, and scenes are exchanged.")
    return Footage(False, f"Only {share} (does the camera move?), {moving}")


@dataclass(frozen=True)
class Chosen:
    """A measure as the card shows it."""

    title: str
    meaning: str
    """What 0 and 1 mean, and chance."""
    motion_is_high: bool
    """Whether a classifier that goes by the motion has a high value."""


STILL: dict[str, Chosen] = {
    "scene_reliance": Chosen(
        "Scene reliance", "when motion and scene disagree: 0, the motion decides; 1, the scene", False
    ),
    "hat_scene_error_random": Chosen(
        "Fooled by the scene",
        "share of clips in front of another class's scene that are taken for that class",
        False,
    ),
    "contrasted_scenes": Chosen(
        "Contrasted accuracy", "right in front of other scenes, and not right on one frame of that clip", True
    ),
    "motion_gain": Chosen("Motion gain", "share of its skill that single frames cannot give", True),
    "hat_swap_random_ratio": Chosen(
        "Right in front of other scenes",
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
        "Static dimensions", "share of its features that keep the picture and not the motion", False
    ),
    "dimensions_dynamic": Chosen(
        "Dynamic dimensions",
        "share of its features that keep the motion and not the picture",
        True,
    ),
    "direction_sensitivity": Chosen("Direction sensitivity", "share of its skill lost backwards", True),
}
"""The card's five for a camera that moves."""
MORE: dict[str, Chosen] = {
    name: MOVING[name] for name in ("order_sensitivity", "dimensions_static", "dimensions_dynamic")
}
"""Shown where one of the five cannot be measured."""


def five(found: Footage, numbers: list[Numbers]) -> dict[str, Chosen]:
    """The card's measures, at most five, by their full names: those that some encoder has."""
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
    """What an encoder goes by."""

    by: Literal["motion", "both", "scene", "unknown"]
    sentence: str
    short: str
    """A few words, for a badge."""


def verdict(found: Footage, numbers: Numbers) -> Verdict:
    """The verdict from scene reliance if scenes can be exchanged, otherwise from the motion gain.

    A bound is passed only where the whole interval passes it.
    """
    reliance, gain = numbers.get("scene_reliance"), numbers.get("motion_gain")
    if not isinstance(gain, Interval):
        sentence = "It is not clearly better than chance here, so what its answers go by cannot be told"
        if found.still and isinstance(reliance, Interval):
            sentence += f"; scene reliance, which needs no skill, is {_words(reliance)}"
        return Verdict("unknown", f"{sentence}.", "no skill")
    if found.still and isinstance(reliance, Interval):
        text = f"{_percent(reliance)} scene"
        share = f"scene reliance {_words(reliance)}"
        if _high(reliance) < LITTLE:
            return Verdict("motion", f"It goes by the motion ({share}).", text)
        if _low(reliance) > MUCH:
            return Verdict(
                "scene", f"It goes by the scene ({share}): expect worse results in another place.", text
            )
        return Verdict("both", f"It goes by both, or the videos are too few to tell ({share}).", text)
    text = f"{_percent(gain)} motion gain"
    share = f"motion gain {_words(gain)}"
    if _low(gain) > CLEARLY_MOVING:
        return Verdict("motion", f"It goes by the motion: single frames lose its skill ({share}).", text)
    if _high(gain) < NEARLY_STILL:
        return Verdict("scene", f"It goes by the picture: single frames nearly do ({share}).", text)
    return Verdict("both", f"It goes by both, or the videos are too few to tell ({share}).", text)


def _low(value: Interval) -> float:
    return value.low if value.low == value.low else value.value


def _high(value: Interval) -> float:
    return value.high if value.high == value.high else value.value


def _percent(value: Interval) -> str:
    return f"{100 * value.value:.0f}%"


def _words(value: Interval) -> str:
    if value.low != value.low:
        return _percent(value)
    return f"{_percent(value)}, 95% interval {100 * value.low:.0f} to {100 * value.high:.0f}"
