"""How much a classifier relies on the scene: four numbers, and accuracies per class.

All are statistics of a classifier's predictions for the same videos in several variants
(``evaluate.variants``), so their intervals are paired. Accuracies are means over classes: a rare class counts
as much as a common one, and a classifier that always predicts one class scores 1/K, chance, on any list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dsm.intervals import (
    Drawn,
    Interval,
    bootstrap,
    correlation,
    ratio_interval,
    share_interval,
    widest_interval,
)

SKILLS = {"motion_gain": "static", "order_sensitivity": "shuffled", "direction_sensitivity": "reversed"}
"""Numbers that are a share of skill lost, and the variant in which it is lost."""
NUMBERS = ("scene_reliance", *SKILLS)
NOTHING = 1e-6
"""Weights of scene and motion that together are below this are rounding errors of the probabilities."""


@dataclass(frozen=True)
class Judged:
    """A classifier's predictions for a list of videos."""

    probabilities: dict[str, NDArray[np.float32]]
    """By variant: (n, parts, K); ``clip`` is the unchanged video, the parts of ``background`` are scenes."""
    known: NDArray[np.int64]
    """(K,): the labels that the classifier can predict."""
    labels: NDArray[np.int64]
    """(n,)."""
    partners: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    """By variant: (n, parts), the videos that supplied each video's scene or still actor."""
    groups: Sequence[str] | None = None
    """The group of each video; intervals resample whole groups."""

    @property
    def chance(self) -> float:
        """Accuracy of predicting one class of the list for every video."""
        return 1 / len(np.unique(self.labels))

    def predicted(self, variant: str) -> NDArray[np.int64]:
        """(n, parts): the most probable labels."""
        return self.known[self.probabilities[variant].argmax(-1)]

    def hits(self, variant: str) -> NDArray[np.float64]:
        """(n,): the share of a video's parts that are classified correctly."""
        return np.asarray((self.predicted(variant) == self.labels[:, None]).mean(1))


def accuracy(judged: Judged, variant: str) -> Interval:
    """The share of videos classified correctly in a variant, averaged over classes."""
    return share_interval(judged.hits(variant), labels=judged.labels, groups=judged.groups)


def skilled(judged: Judged) -> bool:
    """Whether the classifier is clearly better than chance on whole clips; otherwise it has no skill to lose.

    Compares the interval's lower end with chance or, without an interval (a single group), the value itself.
    """
    return accuracy(judged, "clip").ends[0] > judged.chance


def skill_lost(judged: Judged, variant: str) -> Interval:
    """The share of the skill that a variant takes away: (acc_clip - acc_variant) / (acc_clip - 1/K).

    0 if nothing is lost, 1 if only chance is left. It may be below 0, and above 1: a reversed motion may
    always be taken for another one, which is worse than chance. Depending on the variant, it is called

    - ``static``: the *motion gain*, the skill that needs more than one frame;
    - ``shuffled``: the *order sensitivity*;
    - ``reversed``: the *direction sensitivity*.
    """
    whole, left = (
        Interval(*(end - judged.chance for end in accuracy(judged, name))) for name in ("clip", variant)
    )
    alike = correlation(judged.hits("clip"), judged.hits(variant), labels=judged.labels, groups=judged.groups)
    value, low, high = ratio_interval(left, whole, alike)
    return Interval(1 - value, 1 - high, 1 - low)


def scene_reliance(judged: Judged) -> Interval | None:
    """Whether motion or scene decides when the motion of one video is shown in front of another's scene.

    Let p(v) be the K probabilities of an unchanged video, and p(v, u) those of the mixture of what moves in v
    and the scene of u. Least squares over all mixtures and classes, each about its mean, give m and s of ::

        p(v, u) = m p(v) + s p(u)          scene reliance = max(s, 0) / (max(m, 0) + max(s, 0))

    1 if the scene decides, 0 if the motion does. Effects common to all mixtures, such as one class that is
    predicted because they look odd, count for neither. Labels are not used, so the number does not depend on
    how good or how confident the classifier is. If scene and motion of a video suggest different classes,
    p(v) contains both, and the weaker side is underestimated: use a test list like the training list.

    The interval is a bootstrap of the same number with s and m as they are, which may lie below 0 or above 1,
    cut at 0 and 1. If it reaches 0 or 1, it is at least as wide as if each video went by one side only
    (Wilson's): so few videos may contain none that goes by the other.

    None if neither side has any weight.
    """
    own = judged.probabilities["clip"][:, 0].astype(float)  # (n, K)
    mixed = judged.probabilities["background"].astype(float)  # (n, parts, K)
    # Centred first, so that rounding errors are small even if all probabilities are nearly the same.
    own, mixed = own - own.mean(0), mixed - mixed.mean((0, 1))
    scene = own[judged.partners["background"]]  # (n, parts, K)
    mean_mixed, mean_scene = mixed.mean(1), scene.mean(1)
    products = {
        "mm": (own**2).sum(-1),
        "ss": (scene**2).sum(-1).mean(1),
        "ms": (own * mean_scene).sum(-1),
        "my": (own * mean_mixed).sum(-1),
        "sy": (scene * mixed).sum(-1).mean(1),
    }

    def weights_of(drawn: Drawn) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """m and s, both multiplied by the determinant of the normal equations, which is not negative; NaN
        where neither has any weight."""
        drawn = drawn / drawn.sum(1, keepdims=True)
        means = {"m": drawn @ own, "s": drawn @ mean_scene, "y": drawn @ mean_mixed}
        moment = {
            name: drawn @ each - (means[name[0]] * means[name[1]]).sum(-1) for name, each in products.items()
        }
        by_motion = moment["ss"] * moment["my"] - moment["ms"] * moment["sy"]
        by_scene = moment["mm"] * moment["sy"] - moment["ms"] * moment["my"]
        some = np.maximum(by_motion, 0) + np.maximum(by_scene, 0)
        known = some > NOTHING * moment["mm"] * moment["ss"]
        return np.where(known, by_motion, np.nan), np.where(known, by_scene, np.nan)

    def signed(drawn: Drawn) -> NDArray[np.float64]:
        by_motion, by_scene = weights_of(drawn)
        # Where one is below 0, the sum of both could be near 0; the share then goes on beyond its end.
        total = np.maximum(by_motion, 0) + np.maximum(by_scene, 0)
        return np.asarray(np.where(by_scene < by_motion, by_scene / total, 1 - by_motion / total))

    if np.isnan(signed(np.ones((1, len(own))))[0]):
        return None
    found = bootstrap(signed, len(own), groups=judged.groups)
    value = min(max(found.value, 0.0), 1.0)
    if not found.known:
        return Interval(value)
    low, high = (min(max(end, 0.0), 1.0) for end in found[1:])
    if low == 0 or high == 1:
        wide = widest_interval(value, len(own), judged.groups)
        low, high = (low, max(high, wide.high)) if low == 0 else (min(low, wide.low), high)
    return Interval(value, min(low, value), max(high, value))


def four_numbers(judged: Judged) -> dict[str, Interval | None]:
    """Scene reliance, motion gain, order and direction sensitivity; None for those that cannot be measured.

    The last three need a classifier with skill (:func:`skilled`).
    """
    able = skilled(judged)
    return {
        "scene_reliance": scene_reliance(judged),
        **{name: skill_lost(judged, variant) if able else None for name, variant in SKILLS.items()},
    }


@dataclass(frozen=True)
class ClassShare:
    """The results of one class."""

    label: int
    videos: int
    accuracy: dict[str, float]
    """By variant."""
    gain: float
    """Relative gain of the clip over single frames: acc_clip / acc_static - 1, each accuracy with half a hit
    and half a miss added, so that a class that no single frame identifies has a finite gain."""


def class_shares(judged: Judged) -> list[ClassShare]:
    """The results of each class that has videos, in the order of labels."""
    shares = []
    for label in np.unique(judged.labels):
        its = judged.labels == label
        hits = {name: float(judged.hits(name)[its].sum()) for name in judged.probabilities}
        count = int(its.sum())
        gain = (hits["clip"] + 0.5) / (hits["static"] + 0.5) - 1
        shares.append(ClassShare(int(label), count, {name: hit / count for name, hit in hits.items()}, gain))
    return shares
