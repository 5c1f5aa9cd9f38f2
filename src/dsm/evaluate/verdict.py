"""The verdict on an encoder: which measures the footage allows, five of them, and a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from dsm.evaluate.field_measures import CUT_BY_MOTION
from dsm.intervals import Interval, percent

Numbers = Mapping[str, Interval | None]
"""Measures by name; None if it cannot be measured."""

STEADY_ENOUGH = 0.5
"""The camera counts as still if at least this share of the picture shows the still scene."""
DRIFTING = 0.03
"""The camera counts as moving if even the calmest parts move more than this, in sides of the picture per
frame of a clip. Means over lists of clips of 32 to 64 pixels with every third frame: 0.035 to 0.041 under
MotionScenes' flying camera, 0.002 to 0.025 with still and shaking ones, in part from noise of the flow."""
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
        drift: how fast its calmest parts move, in sides of the picture per frame; NaN if unknown.
        masked: whether the actors' masks were given.
    """
    if masked:
        why = "With masks of the actors given, scenes are exchanged, and numbers compare with published ones."
        return Allowed(True, why)
    share = f"{100 * steady:.0f}% of the picture shows a still scene"
    moving = (
        "so scenes cannot be exchanged: the verdict uses single frames, their order and what the features "
        "encode. Clips without appearance, which need no still camera, are among all numbers."
    )
    if drift > DRIFTING:
        return Allowed(
            False,
            f"Even the calmest parts of the picture move by {100 * drift:.0f}% of its side from frame to "
            f"frame (the camera moves), {moving}",
        )
    if steady >= STEADY_ENOUGH:
        return Allowed(True, f"{share}, so what moves can be cut out, and scenes are exchanged.")
    return Allowed(False, f"Only {share} (the camera may move), {moving}")


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
        "share of its feature dimensions that encode static appearance but not motion",
        False,
    ),
    "dimensions_dynamic": Chosen(
        "Dynamic dimensions",
        "share of its feature dimensions that encode motion but not static appearance",
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

    A threshold is passed only if the whole interval passes it.
    """
    reliance, gain = numbers.get("scene_reliance"), numbers.get("motion_gain")
    if gain is None:
        sentence = "It is not clearly better than chance here, so what it relies on cannot be measured"
        if found.still and reliance is not None:
            sentence += f"; scene reliance, which can be measured even so, is {_words(reliance)}"
        return Verdict("unknown", f"{sentence}.", "near chance")
    if found.still and reliance is not None:
        text = f"{percent(reliance.value)} scene"
        share = f"scene reliance {_words(reliance)}"
        if reliance.ends[1] < LITTLE:
            return Verdict("motion", f"It relies on motion ({share}).", text)
        if reliance.ends[0] > MUCH:
            return Verdict(
                "scene", f"It relies on the scene ({share}): expect worse results in other places.", text
            )
        return Verdict("both", f"It relies on both, or there are too few videos to tell ({share}).", text)
    text = f"{percent(gain.value)} motion gain"
    share = f"motion gain {_words(gain)}"
    if gain.ends[0] > CLEARLY_MOVING:
        return Verdict("motion", f"It relies on motion: it loses its skill on single frames ({share}).", text)
    if gain.ends[1] < NEARLY_STILL:
        sentence = f"It relies on static appearance: single frames are nearly enough ({share})."
        return Verdict("scene", sentence, text)
    return Verdict("both", f"It relies on both, or there are too few videos to tell ({share}).", text)


def _words(value: Interval) -> str:
    ends = f", 95% interval {percent(value.low)} to {percent(value.high)}" if value.known else ""
    return f"{percent(value.value)}{ends}"
