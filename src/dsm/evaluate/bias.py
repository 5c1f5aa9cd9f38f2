"""How much of a classifier is scene: four numbers, and shares for each class.

All are statistics of what the classifier says of the same videos in several variants
(``evaluate.variants``), so that their intervals are paired. Accuracies are means over classes: a rare class
counts as much as a common one, and who says one class whatever comes scores 1/K, chance, on any list.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from dsm.intervals import Interval, Weights, bootstrap, mean_of_classes

SKILLS = {"motion_gain": "static", "order_sensitivity": "shuffled", "direction_sensitivity": "reversed"}
"""Numbers that are the share of the skill lost in a variant, and in which."""
NUMBERS = ("scene_reliance", *SKILLS)
# Products of variances below this are rounding errors.
NOTHING = 1e-12


@dataclass(frozen=True)
class Judged:
    """What a classifier says of a list of videos."""

    probabilities: dict[str, NDArray[np.float32]]
    """By variant: (n, parts, K); ``clip`` is the video as it is, the parts of ``background`` are scenes."""
    known: NDArray[np.int64]
    """(K,): the labels among which the classifier chooses."""
    labels: NDArray[np.int64]
    """(n,)."""
    others: NDArray[np.int64]
    """(n, parts of ``background``): the videos whose scenes each one was put before."""
    groups: Sequence[str] | None = None
    """Of each video; intervals draw whole groups."""

    @property
    def chance(self) -> float:
        """What says the same class of every video: one of the classes that there are in the list."""
        return 1 / len(np.unique(self.labels))

    def said(self, variant: str) -> NDArray[np.int64]:
        """(n, parts): the most probable labels."""
        return self.known[self.probabilities[variant].argmax(-1)]

    def hits(self, variant: str) -> NDArray[np.float64]:
        """(n,): the share of a video's parts whose label is found."""
        return np.asarray((self.said(variant) == self.labels[:, None]).mean(1))


def accuracy(judged: Judged, variant: str) -> Interval:
    """Mean over classes of the share of their videos that is found, in a variant."""
    return _interval(judged, _accuracy(judged, variant))


def skilled(judged: Judged) -> bool:
    """Is the classifier clearly better than chance on whole clips? Else there is no skill to share out.

    Where there is no interval, as of a single group, the number alone has to do.
    """
    found = accuracy(judged, "clip")
    return (found.value if np.isnan(found.low) else found.low) > judged.chance


def skill_lost(judged: Judged, variant: str) -> Interval:
    """The share of the skill that a variant takes away: (acc_clip - acc_variant) / (acc_clip - 1/K).

    0 if it does not matter, 1 if what is left is chance. It may be below 0, and above 1: backwards, a motion
    may be taken for another every time, which is worse than chance. Of

    - ``static``: the *motion gain*, what more than one frame brings;
    - ``shuffled``: the *order sensitivity*;
    - ``reversed``: the *direction sensitivity*.
    """
    whole, broken = _accuracy(judged, "clip"), _accuracy(judged, variant)

    def share(weights: Weights) -> NDArray[np.float64]:
        all_of_it = whole(weights)
        skill = np.where(all_of_it > judged.chance, all_of_it - judged.chance, np.nan)
        return np.asarray((all_of_it - broken(weights)) / skill)

    return _interval(judged, share)


def scene_reliance(judged: Judged) -> Interval | None:
    """Which side decides when the motion of one video stands before the scene of another.

    Let p(v) be the K probabilities of a video as it is, and p(v, u) those of the mixture of what moves in v
    and the scene of u. Least squares over all mixtures and classes, each about its mean, give m and s of ::

        p(v, u) = m p(v) + s p(u)          scene reliance = max(s, 0) / (max(m, 0) + max(s, 0))

    1 if the scene decides, 0 if the motion does. What the mixtures have in common, such as being taken for
    one class since they look odd, is in neither. Labels have no say in it, so it does not hang on how good or
    how sure the classifier is. Where scene and motion of a video speak for different classes, p(v) holds
    both, and the weaker side comes out weaker than it is: ask on a test like the training list.

    None where neither side has any weight.
    """
    own = judged.probabilities["clip"][:, 0].astype(float)  # (n, K)
    mixed, scene = judged.probabilities["background"].astype(float), own[judged.others]  # (n, parts, K)
    mean_mixed, mean_scene = mixed.mean(1), scene.mean(1)
    products = {
        "mm": (own**2).sum(-1),
        "ss": (scene**2).sum(-1).mean(1),
        "ms": (own * mean_scene).sum(-1),
        "my": (own * mean_mixed).sum(-1),
        "sy": (scene * mixed).sum(-1).mean(1),
    }

    def share(weights: Weights) -> NDArray[np.float64]:
        weights = weights / weights.sum(1, keepdims=True)
        means = {"m": weights @ own, "s": weights @ mean_scene, "y": weights @ mean_mixed}
        moment = {
            name: weights @ each - (means[name[0]] * means[name[1]]).sum(-1)
            for name, each in products.items()
        }
        # The two equations of least squares, both times their determinant, which is not below 0.
        by_motion = moment["ss"] * moment["my"] - moment["ms"] * moment["sy"]
        by_scene = moment["mm"] * moment["sy"] - moment["ms"] * moment["my"]
        by_motion, by_scene = np.maximum(by_motion, 0), np.maximum(by_scene, 0)
        total = by_motion + by_scene
        return np.asarray(by_scene / np.where(total > NOTHING, total, np.nan))

    return None if np.isnan(share(np.ones((1, len(own))))[0]) else _interval(judged, share)


def four_numbers(judged: Judged) -> dict[str, Interval | None]:
    """Scene reliance, motion gain, order and direction sensitivity; None where there is nothing to measure.

    Without skill (:func:`skilled`) no share of it can be lost.
    """
    able = skilled(judged)
    return {
        "scene_reliance": scene_reliance(judged),
        **{name: skill_lost(judged, variant) if able else None for name, variant in SKILLS.items()},
    }


def _accuracy(judged: Judged, variant: str) -> Callable[[Weights], NDArray[np.float64]]:
    return mean_of_classes(judged.hits(variant), judged.labels)


def _interval(judged: Judged, statistic: Callable[[Weights], NDArray[np.float64]]) -> Interval:
    return bootstrap(statistic, len(judged.labels), groups=judged.groups)


@dataclass(frozen=True)
class ClassShare:
    """How a class fares."""

    label: int
    videos: int
    accuracy: dict[str, float]
    """By variant."""
    gain: float
    """Relative gain of the clip over single frames: acc_clip / acc_static - 1, each accuracy with half a hit
    and half a miss added, lest a class that no single frame tells have an infinite one."""


def class_shares(judged: Judged) -> list[ClassShare]:
    """Of each class that has videos, in the order of labels."""
    found = []
    for label in np.unique(judged.labels):
        its = judged.labels == label
        hits = {name: float(judged.hits(name)[its].sum()) for name in judged.probabilities}
        count = int(its.sum())
        gain = (hits["clip"] + 0.5) / (hits["static"] + 0.5) - 1
        found.append(ClassShare(int(label), count, {name: hit / count for name, hit in hits.items()}, gain))
    return found


@dataclass(frozen=True)
class Line:
    """A straight line fitted by least squares."""

    slope: float
    intercept: float
    mean_x: float
    spread_x: float
    """Sum of squared deviations of x from its mean."""
    error: float
    """Standard deviation of the residuals, by n - 2."""
    n: int

    def at(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return self.intercept + self.slope * x

    def half_band(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Half the height of the 95 % confidence band of the line at x: t s sqrt(1/n + (x - mean)²/Sxx).

        (Draper & Smith, Applied Regression Analysis, section 1.4; t of n - 2 degrees of freedom.)
        """
        t = float(stats.t.ppf(0.975, self.n - 2))
        return np.asarray(t * self.error * np.sqrt(1 / self.n + (x - self.mean_x) ** 2 / self.spread_x))


def fit_line(x: NDArray[np.float64], y: NDArray[np.float64]) -> Line | None:
    """Fit y (n,) on x (n,); None for fewer than three points, or if all x are equal."""
    spread = float(((x - x.mean()) ** 2).sum())
    if len(x) < 3 or spread < 1e-12:
        return None
    slope = float(((x - x.mean()) * (y - y.mean())).sum()) / spread
    intercept = float(y.mean() - slope * x.mean())
    residuals = y - intercept - slope * x
    error = float(np.sqrt((residuals**2).sum() / (len(x) - 2)))
    return Line(slope, intercept, float(x.mean()), spread, error, len(x))
