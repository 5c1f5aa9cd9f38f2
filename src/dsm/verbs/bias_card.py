"""What ``dsm bias`` measures beyond the four numbers, and its card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsm.data.classes import write_opposites
from dsm.data.lists import VideoList, list_name
from dsm.data.settings import ClipConfig
from dsm.evaluate.bias import Judged, four_numbers
from dsm.evaluate.bias_subject import Subject
from dsm.evaluate.field_measures import field_measures, opposites_of, probe_accuracy
from dsm.evaluate.masks import Masks
from dsm.evaluate.unlabelled import OF_SHARED_PLACES, in_shared_places, unlabelled_measures
from dsm.evaluate.variant_features import VariantFeatures, clip_and_variant, windows_to_read
from dsm.evaluate.variants import FOUR_NUMBERS, VARIANTS
from dsm.evaluate.verdict import Allowed, Numbers, allowed, strictest
from dsm.intervals import Interval, share_interval
from dsm.pages.bias_card import OnCard, write_card
from dsm.runs.metrics import CUT_BY_MOTION
from dsm.terminal import note
from dsm.verbs.settings.evaluation import BiasConfig


def masks_for(config: BiasConfig, tests: VideoList, clip: ClipConfig) -> Masks | None:
    """The given masks of a list's videos, for its clips; None if no masks are given."""
    if config.masks is None:
        return None
    return Masks(config.masks, tests, clip, windows_to_read(config.windows, clip))


def kinds_of(config: BiasConfig) -> tuple[str, ...]:
    """The variants to measure; without OpenCV, only those that need no optical flow."""
    if config.quick:
        return tuple(FOUR_NUMBERS)
    if find_spec("cv2") is None:
        note("appearance-free clips are left out: they need OpenCV (pip install 'dsm-video[flow]').")
        return tuple(name for name in VARIANTS if name != "appearance_free")
    return tuple(VARIANTS)


def measures_of(
    config: BiasConfig,
    subject: Subject,
    judged: Judged,
    outputs: Mapping[str, NDArray[np.float32]],
    pairs: list[tuple[int, int]],
) -> dict[str, Interval | None]:
    """The field's measures, and those without labels."""
    found = field_measures(judged, masked=config.masks is not None, pairs=pairs)
    features = {name: subject.features(values) for name, values in outputs.items()}
    if "appearance_free" in features:
        found["appearance_free_probe"] = probe_accuracy(judged, features["appearance_free"])
    found |= unlabelled_measures(features, judged.groups, judged.labels)
    return found


def actor_left(variants: VariantFeatures, judged: Judged) -> Interval | None:
    """How much of the actor is left in scenes made without masks; None with given masks."""
    known = np.flatnonzero(np.isfinite(variants.left))
    groups = None if judged.groups is None else [judged.groups[int(row)] for row in known]
    return share_interval(variants.left[known], groups=groups) if len(known) else None


def videos_measured(
    variants: VariantFeatures, judged: Judged, pairs: list[tuple[int, int]]
) -> dict[str, int]:
    """The number of videos of the measures that use only some of them, by name."""
    with_opposite = int(np.isin(judged.labels, list(opposites_of(judged, pairs))).sum())
    counts = {"actor_left": int(np.isfinite(variants.left).sum()), "opposites": with_opposite}
    counts |= {f"opposites_before_scenes{cut}": with_opposite for cut in ("", CUT_BY_MOTION)}
    if judged.groups is not None:
        counts |= dict.fromkeys(OF_SHARED_PLACES, in_shared_places(judged.groups))
    return counts


@dataclass(frozen=True)
class Tested:
    """A model's answers to the variants of the test, and what follows from them."""

    clip: ClipConfig
    masks: Masks | None
    judged: Judged
    variants: VariantFeatures
    """Shared by all models that take the same clips."""
    measures: Numbers
    """The field's measures and those without labels; empty with ``--quick``."""
    counts: Mapping[str, int]
    """The number of videos of the measures that use only some of them."""
    on_conflict: Judged | None = None
    """Its answers to the unchanged clips of the conflict list."""


def allowed_by(tested: Mapping[str, Tested], *, masked: bool) -> Allowed:
    """Which measures the videos allow, by the clips of all models.

    Of the videos' drifts the median counts: where the flow fails in some videos, it tells large motions.
    """
    return strictest(
        allowed(float(one.variants.steady.mean()), masked, float(np.median(one.variants.drift)))
        for one in tested.values()
    )


def card_of(
    config: BiasConfig,
    tested: Mapping[str, Tested],
    tests: VideoList,
    labels: Sequence[str],
    pairs: Sequence[tuple[int, int]],
) -> list[Path]:
    """Write the card and, if there are any, the pairs of opposites; returns the files."""
    masked = config.masks is not None
    found = allowed_by(tested, masked=masked)
    variant = "background" if found.still else "appearance_free"

    def render(name: str, video: int, part: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        one = tested[name]
        places, lenders = one.variants.places, one.variants.partners["background"]
        lender = int(places[lenders[video, part]])
        return clip_and_variant(
            tests, one.clip, variant, VARIANTS[variant], int(places[video]), lender,
            windows=config.windows, masks=one.masks, seed=config.loading.seed,
        )  # fmt: skip

    cards = [
        OnCard(
            name, one.judged, [tests.paths[place] for place in one.variants.places],
            {**four_numbers(one.judged), **one.measures},
        )
        for name, one in tested.items()
    ]  # fmt: skip
    # Clips of other sizes may be cut out worse; the card warns of the worst.
    left = [value for one in tested.values() if (value := one.measures["actor_left"]) is not None]
    files = write_card(
        config.out, cards, found, labels, render,
        test=list_name(config.data.test), masked=masked, pairs=len(pairs),
        left=max(left, key=lambda one: one.value, default=None),
    )  # fmt: skip
    if pairs:
        files.append(write_opposites(config.out, [(labels[one], labels[other]) for one, other in pairs]))
    return files
