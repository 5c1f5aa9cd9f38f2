"""The page that ``dsm demo`` writes: numbers, views, curves, neighbours."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import default_collate

from dsm.data.clips import TrainingClips
from dsm.data.lists import read_list
from dsm.evaluate.features import Features
from dsm.evaluate.retrieval import retrieve
from dsm.intervals import spread_of
from dsm.methods.registry import create_method
from dsm.models.zoo import create_model
from dsm.pages import figures
from dsm.pages.film import write_named_strips
from dsm.pages.gallery import ShownClip, ShownQuery, neighbours
from dsm.pages.tables import cell_of
from dsm.pages.template import clip_uri, write_page
from dsm.render import disturb_view, to_frames
from dsm.runs.folder import plain, versions_text
from dsm.runs.logs import read_metrics
from dsm.runs.results import Row
from dsm.synthetic.motionscenes import motion_names
from dsm.synthetic.settings import MotionScenesConfig
from dsm.train.config import PretrainConfig
from dsm.video.decode import read_frames

NEIGHBOURS = 4
QUERIES = (("test_free", 3), ("test_conflict", 3))
SAMPLES = 3
"""Number of videos whose training views the page shows."""
SEEN = 16
"""Number of videos from which the picture shows the clearest example."""


@dataclass(frozen=True)
class Evidence:
    """The demo's results and settings, as shown in the report."""

    rows: list[Row]
    runs: tuple[str, ...]
    trained: tuple[str, ...]
    tests: tuple[str, ...]
    seeds: tuple[int, ...]
    scenes: MotionScenesConfig
    scenes_folder: Path
    run_folders: dict[tuple[str, int], Path]
    configs: dict[str, PretrainConfig]
    features: dict[tuple[str, int, str], Features]

    def rows_of(self, run: str, test: str, metric: str) -> list[Row]:
        return [row for row in self.rows if (row.run, row.test, row.metric) == (run, test, metric)]

    def values(self, run: str, test: str, metric: str) -> list[float]:
        """One share in [0, 1] per seed."""
        return [row.value for row in self.rows_of(run, test, metric)]

    def mean(self, run: str, test: str, metric: str) -> float:
        return float(np.mean(self.values(run, test, metric)))


def write_report(path: Path, evidence: Evidence) -> None:
    """Write the self-contained page and, beside it, a picture of training views."""
    samples = training_views(evidence, SEEN)
    write_named_strips(
        path.parent / "figures" / "views.png", [(view.name, view.frames) for view in _clearest(samples)]
    )
    write_page(
        path,
        "demo.html",
        title=_heading(evidence),
        heading=_heading(evidence),
        headline=_headline(evidence),
        steps=evidence.configs["dsm"].steps,
        correlation=f"{evidence.scenes.scene_correlation:.0%}",
        seeds_text=_seeds_text(evidence),
        chance=f"{1 / evidence.scenes.motions:.0%}",
        tests=evidence.tests,
        tables=[
            _table(evidence, "R@1", "R@1"),
            _table(evidence, "linear_probe", "Linear probe"),
        ],
        charts=[
            _chart(evidence, "R@1", "R@1: the nearest training video shows the same motion"),
            _chart(evidence, "linear_probe", "Linear probe: a linear classifier names the motion"),
        ],
        samples=samples[:SAMPLES],
        curves=_curves(evidence),
        first_seed=evidence.seeds[0],
        gallery=_gallery(evidence),
        made=f"{versions_text()}; {torch.get_num_threads()} threads.",
        settings=json.dumps(plain(evidence.configs["dsm"]), indent=2),
    )


def _clearest(samples: list[list[ShownView]]) -> list[ShownView]:
    """The sample whose anchor and negatives differ most; some motions look the same reversed."""

    def least(row: list[ShownView]) -> float:
        clips = [view.frames.astype(int) for view in row if view.name in ("anchor", "negative")]
        return float(min(np.abs(one - two).mean() for one, two in combinations(clips, 2)))

    return max(samples, key=least)


def _gain(evidence: Evidence, test: str) -> float:
    """R@1 of dsm minus that of moco, in points, to one decimal."""
    return round(100 * (evidence.mean("dsm", test, "R@1") - evidence.mean("moco", test, "R@1")), 1)


def _heading(evidence: Evidence) -> str:
    gain = _gain(evidence, "test_free")
    compared = "more motions than" if gain > 0 else "fewer motions than" if gain else "as many motions as"
    return f"In new scenes, dsm recognises {compared} moco"


def _headline(evidence: Evidence) -> str:
    points = []
    for gain in (_gain(evidence, test) for test in ("test_free", "test_conflict")):
        points.append(f"{abs(gain)} points {'more' if gain > 0 else 'fewer'} than" if gain else "the same as")
    return (
        f"On scenes never seen in training, the nearest neighbour shows the right motion for "
        f"{evidence.mean('dsm', 'test_free', 'R@1'):.0%} of the videos with dsm, "
        f"{evidence.mean('moco', 'test_free', 'R@1'):.0%} with moco and "
        f"{evidence.mean('random', 'test_free', 'R@1'):.0%} with random weights: "
        f"dsm scores {points[0]} moco. Where the scene is misleading, dsm scores {points[1]} moco."
    )


def _seeds_text(evidence: Evidence) -> str:
    if len(evidence.seeds) > 1:
        return (
            f"Mean ± standard deviation over the seeds {', '.join(map(str, evidence.seeds))}, in %; "
            "each dot in the figures is one seed."
        )
    n = evidence.rows[0].n
    return (
        f"One seed ({evidence.seeds[0]}), in %, with 95% intervals over {n} videos per test. "
        "Results vary by several points between seeds: dsm demo with --seeds 0 1 2 and the same --out adds "
        "two seeds and reports mean and standard deviation."
    )


def _table(evidence: Evidence, metric: str, title: str) -> dict[str, Any]:
    best = {t: max(evidence.mean(run, t, metric) for run in evidence.runs) for t in evidence.tests}
    lines = []
    for run in evidence.runs:
        cells = [
            cell_of(evidence.rows_of(run, test, metric), evidence.mean(run, test, metric) == best[test])
            for test in evidence.tests
        ]
        lines.append((run, "", cells))
    return {"title": title, "lines": lines}


def _chart(evidence: Evidence, metric: str, title: str) -> str:
    values = {
        (run, test): evidence.values(run, test, metric) for run in evidence.runs for test in evidence.tests
    }
    numbers = "; ".join(
        f"{run} on {test}: {spread_of(values[run, test])}" for run in evidence.runs for test in evidence.tests
    )
    intervals = {(row.run, row.test): row.measured.ends for row in evidence.rows if row.metric == metric}
    return figures.bar_chart(
        evidence.tests, evidence.runs, values, intervals if len(evidence.seeds) == 1 else {},
        title=title, y_label="% of test videos", chance=1 / evidence.scenes.motions,
        description=f"{title}. {numbers}.",
    )  # fmt: skip


def _smooth(lines: Sequence[Mapping[str, float]], name: str, factor: float = 1) -> list[float]:
    return [float(one) for one in figures.smooth([factor * line[name] for line in lines])]


def _curves(evidence: Evidence) -> list[str]:
    metrics = {(m, s): read_metrics(folder) for (m, s), folder in evidence.run_folders.items()}
    loss, cosine, motion = [], [], []
    for (method, seed), lines in metrics.items():
        first = seed == evidence.seeds[0]
        if not first:
            continue
        colour = figures.COLOURS[method]
        steps = [line["step"] for line in lines]
        loss.append((method, colour, steps, _smooth(lines, "loss")))
        cosine.append((f"{method}: positive", colour, steps, _smooth(lines, "positive")))
        if "motion" in lines[0]:
            far = _smooth(lines, "negative")
            cosine.append((f"{method}: negative", figures.COLOURS["dsm-triplet"], steps, far))
            share = _smooth(lines, "motion", 100)
            motion.append((method, colour, steps, share))
    return [
        figures.line_chart(
            loss, title="Loss", y_label="InfoNCE loss", description="Loss of each method over training."
        ),
        figures.line_chart(
            motion, title="Anchor nearer to its positive than to its negative", y_label="% of clips",
            y_range=(0, 102),
            description="Share of clips whose positive is nearer than their motion-broken negative.",
        ),
        figures.line_chart(
            cosine, title="Similarity to the anchor", y_label="cosine",
            description="Cosine of anchor and positive, and of anchor and negative, over training.",
        ),
    ]  # fmt: skip


@dataclass(frozen=True)
class ShownView:
    """One view of a sample, as the network receives it in training."""

    name: str
    text: str
    frames: NDArray[np.uint8]

    @property
    def uri(self) -> str:
        return clip_uri(self.frames)


def training_views(evidence: Evidence, count: int) -> list[list[ShownView]]:
    """Random training videos, each with its anchor, positive and negatives of the first epoch."""
    config = evidence.configs["dsm"]
    videos = read_list(config.data.train, config.data.root)
    method = create_method("dsm", create_model(config.backbone), config.settings)
    dataset = TrainingClips(videos, config.clip, config.augment, method.views, config.seed)
    names = motion_names(evidence.scenes)
    texts = {
        "anchor": "scene broken, motion kept",
        "positive": "scene broken differently, motion kept",
        "negative": "the positive's scene, motion broken",
    }
    chosen = np.random.default_rng(0).choice(len(videos), min(count, len(videos)), replace=False)
    # One batch, as in training, because clips exchange scenes within a batch.
    batch = default_collate(
        [dataset.sample(int(index), dataset.generator(0, int(index))) for index in chosen]
    )
    clips = [
        (view.name.rstrip("0123456789"), disturb_view(view, batch["clips"], batch["parameters"][view.name]))
        for view in method.views
    ]
    rows = []
    for place, index in enumerate(chosen):
        original = read_frames(videos.file(index), config.clip.stride * np.arange(config.clip.frames))
        row = [ShownView("video", names[videos.labels[index]], original)]
        row += [ShownView(name, texts[name], to_frames(view[place])) for name, view in clips]
        rows.append(row)
    return rows


def _gallery(evidence: Evidence) -> list[ShownQuery]:
    seed = evidence.seeds[0]
    names = motion_names(evidence.scenes)
    rng = np.random.default_rng(0)
    shown = []
    clips: dict[str, str] = {}

    def uri(relative: str) -> str:
        if relative not in clips:
            stride = evidence.configs["dsm"].clip.stride
            count = evidence.scenes.frames // stride
            clips[relative] = clip_uri(
                read_frames(evidence.scenes_folder / relative, stride * np.arange(count))
            )
        return clips[relative]

    gallery = evidence.features[evidence.trained[0], seed, "train"]
    for test, count in QUERIES:
        queries = evidence.features[evidence.trained[0], seed, test]
        found = {
            run: retrieve(
                evidence.features[run, seed, "train"], evidence.features[run, seed, test], NEIGHBOURS
            )
            for run in evidence.trained
        }
        for place in rng.choice(len(queries), min(count, len(queries)), replace=False):
            motion = names[queries.labels[place]]
            runs = [
                (
                    run,
                    neighbours(
                        found[run], int(place), lambda near: uri(gallery.paths[near]),
                        lambda near, _: names[gallery.labels[near]], most=NEIGHBOURS,
                    ),
                )
                for run in evidence.trained
            ]  # fmt: skip
            query = ShownClip(uri(queries.paths[place]), f"query: {motion}")
            shown.append(ShownQuery(f"{test}: {motion}", query, runs))
    return shown
