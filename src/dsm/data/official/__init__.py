"""Data sets with official annotation files: what is published about each.

A data set is a declaration in :data:`OFFICIAL`, with the published numbers of videos and classes and the
source that documents them and the format of the files, and a reader of that format in ``reading.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class DataSet:
    """What is published about a data set."""

    source: str
    """The paper or page that documents the format of the files and the counts."""
    published: dict[str, int] = field(default_factory=dict)
    """The published number of videos in each list, and of ``classes``."""
    opposites: tuple[tuple[str, str], ...] = ()
    """Pairs of classes that become each other when videos are played backwards or mirrored."""


def _thrice(train: tuple[int, int, int], test: tuple[int, int, int], classes: int) -> dict[str, int]:
    counts = {"classes": classes}
    for split in (1, 2, 3):
        counts |= {f"train{split}": train[split - 1], f"test{split}": test[split - 1]}
    return counts


_SOMETHING = (
    # Mirrored: those whose labels TSM (Lin et al. 2019) swaps when it flips a video.
    ("Pulling something from left to right", "Pulling something from right to left"),
    ("Pushing something from left to right", "Pushing something from right to left"),
    ("Turning the camera left while filming something", "Turning the camera right while filming something"),
    # Backwards: the labels state opposite changes, as Price and Damen (2019) pair them.
    ("Approaching something with your camera", "Moving away from something with your camera"),
    ("Burying something in something", "Digging something out of something"),
    ("Closing something", "Opening something"),
    ("Covering something with something", "Uncovering something"),
    ("Folding something", "Unfolding something"),
    (
        "Moving something and something away from each other",
        "Moving something and something closer to each other",
    ),
    ("Moving something away from something", "Moving something closer to something"),
    ("Moving something away from the camera", "Moving something towards the camera"),
    ("Moving something down", "Moving something up"),
    ("Putting something into something", "Taking something out of something"),
    (
        "Turning the camera downwards while filming something",
        "Turning the camera upwards while filming something",
    ),
)
_JESTER = (
    ("Swiping Left", "Swiping Right"),
    ("Swiping Down", "Swiping Up"),
    ("Sliding Two Fingers Left", "Sliding Two Fingers Right"),
    ("Sliding Two Fingers Down", "Sliding Two Fingers Up"),
    ("Pushing Hand Away", "Pulling Hand In"),
    ("Pushing Two Fingers Away", "Pulling Two Fingers In"),
    ("Rolling Hand Backward", "Rolling Hand Forward"),
    ("Turning Hand Clockwise", "Turning Hand Counterclockwise"),
    ("Zooming In With Full Hand", "Zooming Out With Full Hand"),
    ("Zooming In With Two Fingers", "Zooming Out With Two Fingers"),
)
_VERBS = (
    ("open", "close"), ("take", "put"), ("insert", "remove"), ("turn-on", "turn-off"), ("screw", "unscrew"),
    ("fill", "empty"), ("fold", "unfold"), ("roll", "unroll"), ("wrap", "unwrap"), ("lift", "lower"),
)  # fmt: skip

_FINEGYM = "Shao et al., CVPR 2020 (arXiv 2004.06704); page sdolivia.github.io/FineGym"
_SEVERE = "Thoker et al., ECCV 2022 (arXiv 2203.14221); repository fmthoker/SEVERE-BENCHMARK"

OFFICIAL: dict[str, DataSet] = {
    "ucf101": DataSet(
        "Soomro, Zamir and Shah 2012 (arXiv 1212.0402); the files themselves",
        _thrice((9537, 9586, 9624), (3783, 3734, 3696), 101),
    ),
    "hmdb51": DataSet(
        "Kuehne et al., ICCV 2011; the files themselves", _thrice((3570, 3570, 3570), (1530, 1530, 1530), 51)
    ),
    "kinetics": DataSet(
        "Kay et al. 2017 (arXiv 1705.06950); Smaira et al. 2020 (arXiv 2010.10864); "
        "repository cvdfoundation/kinetics-dataset"
    ),
    "mimetics": DataSet("Weinzaepfel and Rogez, IJCV 2021 (arXiv 1912.07249)", {"test": 713, "classes": 50}),
    "something-something-v1": DataSet(
        "Goyal et al., ICCV 2017 (arXiv 1706.04261)",
        {"train": 86017, "val": 11522, "test": 10960, "classes": 174},
        _SOMETHING,
    ),
    "something-something-v2": DataSet(
        "Mahdisoltani et al. 2018 (arXiv 1804.09235); page Something-Something v2 of Qualcomm",
        {"train": 168913, "val": 24777, "test": 27157, "classes": 174},
        _SOMETHING,
    ),
    "jester": DataSet(
        "Materzynska et al., ICCV Workshops 2019; page Jester of Qualcomm",
        {"train": 118562, "val": 14787, "test": 14743, "classes": 27},
        _JESTER,
    ),
    "diving48": DataSet(
        "Li, Li and Vasconcelos, ECCV 2018; page RESOUND of UC San Diego",
        {"train": 15027, "test": 1970, "classes": 48},
    ),
    "gym99": DataSet(_FINEGYM, {"train": 20484, "val": 8521, "classes": 99}),
    "gym288": DataSet(_FINEGYM, {"train": 22671, "val": 9646, "classes": 288}),
    "fx-s1": DataSet(_SEVERE, {"classes": 11}),
    "ub-s1": DataSet(_SEVERE, {"classes": 15}),
    "severe-ucf101": DataSet(_SEVERE, {"train": 1010, "test": 3783, "classes": 101}),
    "severe-gym99": DataSet(_SEVERE, {"train": 1089, "val": 8521, "classes": 99}),
    "epic-kitchens-100": DataSet(
        "Damen et al., IJCV 2022 (arXiv 2006.13256); repository epic-kitchens/epic-kitchens-100-annotations",
        {"train": 67217, "val": 9668, "test": 13092, "classes": 97},
        _VERBS,
    ),
    "ucf-crime": DataSet(
        "Sultani, Chen and Shah, CVPR 2018 (arXiv 1801.04264); the videos' ReadMe-Anomaly-Detection.txt",
        {"train": 1610, "test": 290, "classes": 14},
    ),
}
"""Data sets, by name."""


def opposites_of(name: str, classes: list[str]) -> list[tuple[str, str]]:
    """The pairs of opposites of a data set of which ``classes`` has both."""
    return [pair for pair in OFFICIAL[name].opposites if set(pair) <= set(classes)]
