"""The field's measures of reliance on the scene, as statistics of a classifier's predictions.

Published measures use masks of people. Without given masks, dsm cuts out what moves, and the names end in
``CUT_BY_MOTION``: such numbers are not comparable with published ones. With masks, the actors are cut out as
in the papers; what else differs is in ``docs/bias-measures.md``. Accuracies are means over classes
(:mod:`dsm.evaluate.bias`), where the papers take means over videos.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from dsm.evaluate.bias import Judged, accuracy, skill_lost, skilled
from dsm.evaluate.unlabelled import FOLDS, probe_hits
from dsm.intervals import Interval, correlation, ratio_interval, share_interval
from dsm.runs.metrics import CUT_BY_MOTION

SWAPS = {"random": "background", "same": "same_scene", "near": "near_scene", "far": "far_scene"}
"""HAT's action swaps, with the variant of each."""


def contrasted_accuracy(judged: Judged, variant: str) -> Interval:
    """The share of videos that are right in a scene-swapped variant and wrong on its frozen frame.

    Li et al., Mitigating and Evaluating Static Bias of Action Representations in the Background and the
    Foreground (ICCV 2023), section 4: accuracy on SCUBA (other backgrounds) may come from a still foreground,
    as accuracy on SCUFO (one frame of SCUBA, repeated) does; only what is right on the first and wrong on the
    second was recognised by its motion.

    Args:
        variant: ``background`` or ``stripes``; each part is compared with its own frozen frame.
    """
    moving, still = (
        judged.predicted(name) == judged.labels[:, None] for name in (variant, f"{variant}_frozen")
    )
    return _share(judged, (moving & ~still).mean(1))


def taken_for_the_lender(judged: Judged, variant: str) -> Interval:
    """The share of clips predicted as the class of the video that supplied the scene or the still actor.

    HAT's error by the background of action swaps (Chung et al., Enabling Detailed Action Recognition
    Evaluation Through Video Dataset Augmentation, NeurIPS 2022), and for ``stripes_actor`` the error that
    ConflFG provokes (Li et al., ICCV 2023). By chance, a wrong prediction is the lender's class once in
    K - 1.
    """
    lent = judged.labels[judged.partners[variant]]
    return _share(judged, (judged.predicted(variant) == lent).mean(1))


def preferred_to_the_lender(judged: Judged, variant: str) -> Interval:
    """How often a clip's own class is more probable than that of the lender of its scene or still actor.

    The third number of ConflFG (Li et al., ICCV 2023), for ``stripes_actor``; chance is a half. Equal
    probabilities count as a half.
    """
    columns = np.searchsorted(judged.known, judged.labels)
    probabilities = judged.probabilities[variant]  # (n, parts, K)
    rows, parts = np.ogrid[: len(columns), : probabilities.shape[1]]
    own = probabilities[rows, parts, columns[:, None]]
    theirs = probabilities[rows, parts, columns[judged.partners[variant]]]
    return _share(judged, ((own > theirs) + 0.5 * (own == theirs)).mean(1))


def ratio_to_whole(judged: Judged, variant: str) -> Interval | None:
    """The accuracy in a variant, divided by that on unchanged clips.

    HAT's ratios of the background-only (``no_foreground``) and human-only clips (``flat``). None without
    skill: the ratio of two chance accuracies says nothing.
    """
    if not skilled(judged):
        return None
    whole = accuracy(judged, "clip")
    alike = correlation(judged.hits(variant), judged.hits("clip"), labels=judged.labels, groups=judged.groups)
    return ratio_interval(accuracy(judged, variant), whole, alike)


def skill_kept(judged: Judged, variant: str) -> Interval | None:
    """The share of the accuracy above chance that is left in a variant; None without skill."""
    if not skilled(judged):
        return None
    value, low, high = skill_lost(judged, variant)
    return Interval(1 - value, 1 - high, 1 - low)


def probe_accuracy(judged: Judged, features: NDArray[np.float32]) -> Interval | None:
    """The accuracy of a linear probe trained on features of the same variant.

    A probe trained on unchanged clips may fail on noise only because it never saw any. So this one is trained
    on the test's own clips without appearance, by cross-validation over videos or groups, as Ilic et al.
    train on such clips. Chance is 1/K.

    Args:
        features: (n, D), of the judged videos.

    Returns:
        None if a fold would lack a class.
    """
    labels = judged.labels
    counts = np.unique(labels, return_counts=True)[1]
    folds = min(FOLDS, int(counts.min()), len(labels) if judged.groups is None else len(set(judged.groups)))
    if folds < 2 or len(counts) < 2:
        return None
    if judged.groups is None:
        splits = list(StratifiedKFold(folds, shuffle=True, random_state=0).split(features, labels))
    else:
        splits = list(StratifiedGroupKFold(folds).split(features, labels, judged.groups))
    if any(len(np.unique(labels[training])) < len(counts) for training, _ in splits):
        return None
    return _share(judged, probe_hits(features, labels, splits))


def within_pairs(judged: Judged, pairs: list[tuple[int, int]], variant: str = "clip") -> Interval | None:
    """How often the right one of two opposite classes is the more probable; chance is a half.

    Opposites are each other's reverse or mirror image, so single frames look the same in both, and a
    classifier of single frames can only guess (like the temporal classes of Sevilla-Lara et al., Only Time
    Can Tell, WACV 2021). But if the two are filmed in different places, the place gives them away; in front
    of other scenes (``background``) it does not.

    Args:
        pairs: pairs of labels. A class with several opposites is compared with each of them.

    Returns:
        None if no video has such a class, or the classifier lacks these classes.
    """
    place = {int(label): column for column, label in enumerate(judged.known)}
    others = opposites_of(judged, pairs)
    used = np.flatnonzero(np.isin(judged.labels, list(others)))
    if not len(used):
        return None
    labels = judged.labels[used]
    hits = np.empty(len(used))
    for row, (label, parts) in enumerate(zip(labels, judged.probabilities[variant][used], strict=True)):
        own = parts[:, [place[int(label)]]]  # (parts, 1)
        opposite = parts[:, [place[other] for other in sorted(others[int(label)])]]  # (parts, its opposites)
        hits[row] = ((own > opposite) + 0.5 * (own == opposite)).mean()
    groups = None if judged.groups is None else [judged.groups[int(row)] for row in used]
    return share_interval(hits, labels=labels, groups=groups)


def opposites_of(judged: Judged, pairs: list[tuple[int, int]]) -> dict[int, set[int]]:
    """The opposites of each label that has any, of pairs that the classifier knows."""
    known = set(judged.known.tolist())
    others: dict[int, set[int]] = {}
    for one, two in pairs:
        if {one, two} <= known:
            others.setdefault(one, set()).add(two)
            others.setdefault(two, set()).add(one)
    return others


def field_measures(
    judged: Judged, *, masked: bool, pairs: list[tuple[int, int]]
) -> dict[str, Interval | None]:
    """All measures whose variants were made, by name; None for those that cannot be measured.

    Args:
        masked: whether the actors' masks were given.
        pairs: labels of opposite classes.
    """
    cut = "" if masked else CUT_BY_MOTION
    made = judged.probabilities
    found: dict[str, Interval | None] = {}
    for name, variant in (("scenes", "background"), ("stripes", "stripes")):
        if f"{variant}_frozen" in made:
            found[f"contrasted_{name}{cut}"] = contrasted_accuracy(judged, variant)
    if "stripes_actor" in made:
        found[f"conflfg_error{cut}"] = taken_for_the_lender(judged, "stripes_actor")
        found[f"conflfg_motion_preferred{cut}"] = preferred_to_the_lender(judged, "stripes_actor")
    for name, variant in (("background_only", "no_foreground"), ("human_only", "flat")):
        if variant in made:
            found[f"hat_{name}_ratio{cut}"] = ratio_to_whole(judged, variant)
    for name, variant in SWAPS.items():
        if variant in made and "same_scene" in made:
            found[f"hat_swap_{name}_ratio{cut}"] = ratio_to_whole(judged, variant)
            if name != "same":
                found[f"hat_scene_error_{name}{cut}"] = taken_for_the_lender(judged, variant)
    if "appearance_free" in made:
        found["appearance_free_skill"] = skill_kept(judged, "appearance_free")
    if pairs:
        found["opposites"] = within_pairs(judged, pairs)
        if "background" in made:
            found[f"opposites_before_scenes{cut}"] = within_pairs(judged, pairs, "background")
    return found


def _share(judged: Judged, values: NDArray[Any]) -> Interval:
    return share_interval(values, labels=judged.labels, groups=judged.groups)
