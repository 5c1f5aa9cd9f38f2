"""The metrics of ``results.json``: what each means, and how its numbers are written."""

from __future__ import annotations

from typing import Literal, NamedTuple

SHARE, SCORE, RANK, COUNT = "{:.1%}", "{:.2f}", "{:.1f}", "{:,.0f}"
"""Forms of a number: a share in [0, 1], a score or loss, a number of dimensions, a count."""

ACCURACY = "acc_"
"""Prefix of the accuracy on a variant of `dsm bias`; the variant's name follows."""
CUT_BY_MOTION = "_by_motion"
"""Suffix of the field's measures if actors were cut out by their motion; such numbers are not comparable with
published ones."""
CHANCE = "_chance"
"""Suffix of a number that is expected by chance."""

Subject = Literal["quality", "looks", "scene"]
"""The features' quality, where the network looks, or its reliance on the scene."""


class Metric(NamedTuple):
    """What is known of a metric."""

    meaning: str = ""
    """For people who see the number in a report."""
    form: str = SHARE
    """How the number is written: one of :data:`SHARE`, :data:`SCORE`, :data:`RANK`, :data:`COUNT`."""
    subject: Subject = "quality"
    best: bool = False
    """Whether the highest number of several runs is marked as the best."""


def _looks(meaning: str) -> Metric:
    return Metric(meaning, subject="looks")


def _scene(meaning: str, *, form: str = SHARE) -> Metric:
    return Metric(meaning, form, "scene")


_BALANCE = "1: relies on motion; -1: on the scene"

METRICS = {
    # Retrieval, probes and classifiers
    "mAP": Metric("mean average precision", best=True),
    "same_group": Metric("the nearest video is of the same group"),
    "linear_probe": Metric("a linear classifier on frozen features", best=True),
    "linear_probe_mean_class": Metric("linear_probe, averaged over classes", best=True),
    "attentive_probe": Metric("a classifier that attends to frozen tokens", best=True),
    "attentive_probe_mean_class": Metric("attentive_probe, averaged over classes", best=True),
    "knn": Metric("a vote of the nearest training videos", best=True),
    "knn_mean_class": Metric("knn, averaged over classes", best=True),
    "top1": Metric("the classifier's answer is right", best=True),
    "top5": Metric("one of its first five answers is right", best=True),
    "mean_class_top1": Metric("top1, averaged over classes", best=True),
    # Training
    "train/loss": Metric("at the last logged step", SCORE),
    "train/motion": Metric("positive nearer than negative, at the last step"),
    "train/top1": Metric("right on the last training batches"),
    "monitor/top1": Metric("top1 on the test list, while training"),
    "monitor/top5": Metric("top5 on the test list, while training"),
    "monitor/knn": Metric("knn on the monitored list, while training"),
    "monitor/retention": Metric("neighbours that are the same as before adapting"),
    "monitor/balance": Metric(_BALANCE, SCORE),
    "monitor/unread": Metric("videos of the monitored list that cannot be read", COUNT),
    "balance": Metric(_BALANCE, SCORE),
    # The embedding and its clusters
    "effective_rank": Metric("number of dimensions that the features use", RANK),
    "clusters": Metric("number of clusters", COUNT),
    "in_clusters": Metric("clips that belong to a cluster"),
    "near_duplicates": Metric("clips that nearly repeat another"),
    "same_camera": Metric("a clip's nearest neighbours that are of the same camera"),
    # Where the network looks
    "map_mass_on_motion": _looks("share of the map where things move"),
    "motion_area": _looks("share of the picture that moves"),
    "map_mass_above_area": _looks("map_mass_on_motion minus motion_area"),
    "other_map_mass_on_motion": _looks("share of another video's map where things move in this one"),
    "map_mass_above_other_map": _looks("map_mass_on_motion minus other_map_mass_on_motion"),
    "prefers_motion_to_still": _looks("the map is on what moves rather than on what stands still"),
    # Reliance on the scene
    "scene_reliance": _scene("0: the motion decides; 100: the scene"),
    "motion_gain": _scene("share of the skill that single frames cannot give"),
    "order_sensitivity": _scene("share of the skill lost with shuffled frames"),
    "direction_sensitivity": _scene("share of the skill lost when played backwards"),
    "contrasted_scenes": _scene("correct in front of another scene, but wrong on one frame of that clip"),
    "contrasted_stripes": _scene("correct in front of stripes, but wrong on one frame of that clip"),
    "conflfg_error": _scene("classified as the pasted still actor's class"),
    "conflfg_motion_preferred": _scene("the clip's class is more probable than the pasted still actor's"),
    "hat_background_only_ratio": _scene("accuracy on the scene alone / on the clip"),
    "hat_human_only_ratio": _scene("accuracy on the actor alone / on the clip"),
    "hat_swap_random_ratio": _scene("accuracy in front of another class's scene / on the clip"),
    "hat_swap_same_ratio": _scene("accuracy in front of another scene of its class / on the clip"),
    "hat_swap_near_ratio": _scene("accuracy in front of a similar scene / on the clip"),
    "hat_swap_far_ratio": _scene("accuracy in front of a dissimilar scene / on the clip"),
    "hat_scene_error_random": _scene("classified as the class of the scene behind it"),
    "hat_scene_error_near": _scene("classified as the class of a similar scene behind it"),
    "hat_scene_error_far": _scene("classified as the class of a dissimilar scene behind it"),
    "appearance_free_skill": _scene("share of the skill kept on noise that moves like the clip"),
    "appearance_free_probe": _scene("a probe on noise that moves like the clip"),
    "arrow_of_time": _scene("a probe distinguishes forwards from backwards; chance 50%"),
    "dimensions_static": _scene("feature dimensions that encode static appearance, not motion"),
    "dimensions_dynamic": _scene("feature dimensions that encode motion, not static appearance"),
    "dimensions_both": _scene("feature dimensions that encode both"),
    "dimensions_neither": _scene("feature dimensions that encode neither"),
    "place_neighbour": _scene("the nearest other video is from the same place"),
    "place_probe": _scene("a linear probe tells the place"),
    "actor_left": _scene("share of the actor that is still visible in the scene alone"),
    "opposites": _scene("picks the correct one of two opposite classes; chance 50%"),
    "opposites_before_scenes": _scene(
        "picks the correct one of two opposite classes in front of other scenes"
    ),
    "acc_clip": Metric("accuracy, averaged over classes", SHARE, "scene", best=True),
    "acc_static": _scene("accuracy on single frames"),
    "acc_shuffled": _scene("frames in random order"),
    "acc_reversed": _scene("frames backwards"),
    "acc_background": _scene("in front of the scene of another class"),
    "acc_stripes": _scene("in front of stripes"),
    "acc_sld": _scene("scene broken as in training"),
    "acc_tld": _scene("motion broken as in training"),
    "acc_appearance_free": _scene("noise that moves like the clip"),
    "acc_no_foreground": _scene("accuracy on the scene alone"),
}
"""By the name in ``results.json``."""
_OF_NAMES = {
    "_agreement": Metric("share of videos whose nearest other video has the same name"),
    "_silhouette": Metric("how clearly groups are apart: from -1 to 1, 0 if they overlap", SCORE),
    "_scatter": Metric("share of the features' variance that lies between groups"),
}
"""By the end of the name; it begins with what names the videos, such as ``label`` or ``scene``."""


def metric_of(name: str) -> Metric:
    """What is known of a metric; an unknown one is a share of the quality."""
    if name.endswith(CHANCE):
        return metric_of(name.removesuffix(CHANCE))._replace(meaning="expected by chance", best=False)
    name = name.removesuffix(CUT_BY_MOTION)
    if name in METRICS:
        return METRICS[name]
    kind, _, count = name.partition("@")
    if kind == "R" and count.isdecimal():
        nearest = "the nearest" if count == "1" else f"one of the {count} nearest"
        return Metric(f"{nearest} training video{'s' * (count != '1')} is of the same class", best=True)
    if name.startswith(ACCURACY):
        return _scene("")
    return next((metric for end, metric in _OF_NAMES.items() if name.endswith(end)), Metric())
