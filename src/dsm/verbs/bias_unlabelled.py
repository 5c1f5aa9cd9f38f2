"""``dsm bias`` on videos without labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from rich.markup import escape
from rich.table import Table
from torch import nn

from dsm.data.lists import VideoList, list_name
from dsm.data.settings import ClipConfig
from dsm.devices import best_device, reading_workers
from dsm.errors import UserError
from dsm.evaluate.balance import BALANCE, InOtherScenes, balances, batch_without_single
from dsm.evaluate.extract import extract_by_all
from dsm.evaluate.unlabelled import NEEDED, OF_SHARED_PLACES, in_shared_places, unlabelled_measures
from dsm.evaluate.variant_features import features_of_variants
from dsm.evaluate.variants import VARIANTS
from dsm.intervals import Interval, mean_interval
from dsm.models.precision import check_precision
from dsm.runs.bad_videos import LEFT_OUT, LeftOut, tell_left_out
from dsm.runs.claims import claim_files
from dsm.runs.results import RESULTS, Row, row_of, seed_of, write_results
from dsm.terminal import progress
from dsm.train.monitor import sampled
from dsm.verbs.result import Result
from dsm.verbs.settings.evaluation import BiasConfig


def without_labels(config: BiasConfig, videos: VideoList, names: Sequence[str]) -> Result:
    """Measure what needs no labels: the balance of motion and scene, which dimensions are static or dynamic,
    the arrow of time and, with groups, places; write ``results.json``.

    Args:
        names: the models' names, in the order of ``config.weights``.

    Raises:
        UserError: a model does not take RGB clips, fewer than two videos can be read, or the device lacks the
            precision.
    """
    check_precision(config.precision, best_device().type)
    file = config.out / RESULTS
    claim_files(file, overwrite=config.overwrite)
    groups = config.grouping.of(videos.paths)
    group_of = dict(zip(videos.paths, groups, strict=True)) if groups is not None else None
    # Lists are often sorted by place. In a random order, a clip gets the scene of another place.
    mixed = sampled(videos, len(videos))
    if mixed is None:
        raise UserError(f"{videos.source}: has only one video; scenes are exchanged between at least two.")
    rows: list[Row] = []
    for name, weights in zip(names, config.weights, strict=True):
        loaded = config.loading.load(weights)
        clip = config.clip.of(loaded.config)
        if clip.modality != "rgb":
            raise UserError(f"{name} takes {clip.modality}; scenes can be exchanged only in RGB clips.")
        encoder = loaded.module.to(best_device())
        found = {BALANCE: _balance(config, name, encoder, clip, mixed, group_of)}
        found |= _measures(config, encoder, clip, videos, groups)
        named = name, seed_of(loaded.config, config.loading.seed), list_name(config.data.test)
        rows += [row_of(*named, metric, value, count) for metric, (value, count) in found.items()]
    write_results(file, rows)
    lines = [
        f"{config.data.test} has no labels, so accuracies, scene reliance, motion gain, order and direction "
        "sensitivity are left out",
        "balance: 1 if the encoder uses only the motion, -1 if only the scene",
        "dimensions: if many lie at the border between two kinds, their intervals are too narrow",
        f"written: {file}",
    ]
    return Result(rows, [file], [_table(rows, list_name(config.data.test))], lines)


def _balance(
    config: BiasConfig,
    name: str,
    encoder: nn.Module,
    clip: ClipConfig,
    videos: VideoList,
    group_of: Mapping[str, str] | None,
) -> tuple[Interval, int]:
    """The balance of motion and scene, and the number of videos measured; notes the videos left out.

    Args:
        videos: in a random order.
    """
    left_out, scenes = LeftOut(videos), InOtherScenes(encoder)
    with progress(f"balance of {name}", len(videos)) as bar:
        (features,) = extract_by_all(
            [scenes], videos, clip, windows=1,
            batch_size=batch_without_single(len(videos), config.batch_size),
            workers=reading_workers(config.data.workers), precision=config.precision,
            on_progress=bar.update, on_bad=left_out.add,
        )  # fmt: skip
    known = np.flatnonzero(scenes.lent)
    if not len(known):
        raise UserError(
            f"{videos.source}: too few videos can be read: scenes are exchanged between at least two."
        )
    values = balances(*torch.from_numpy(features.features[known]).chunk(3, 1)).numpy()
    groups = [group_of[features.paths[row]] for row in known] if group_of is not None else None
    left_out.save(config.out / f"test{LEFT_OUT}")
    tell_left_out(config.out / "test", left_out.verdicts)
    return mean_interval(values, groups=groups), len(known)


def _table(rows: Sequence[Row], test: str) -> Table:
    table = Table(title=f"{escape(test)}: scene or motion, measured without labels")
    for column in ("", "", "", "95 %"):
        table.add_column(column, justify="right")
    for row in rows:
        spread = row.interval("{:.2f} to {:.2f}")
        table.add_row(escape(row.run), row.metric.replace("_", " "), f"{row.value:.2f}", spread)
    return table


def _measures(
    config: BiasConfig, encoder: nn.Module, clip: ClipConfig, videos: VideoList, groups: Sequence[str] | None
) -> dict[str, tuple[Interval, int]]:
    """The measures of an encoder's features, each with the number of videos measured."""
    with progress(f"variants of {list_name(config.data.test)}", len(videos)) as bar:
        found = features_of_variants(
            [encoder], videos, clip, {name: VARIANTS[name] for name in NEEDED}, windows=config.windows,
            batch_size=config.batch_size, workers=reading_workers(config.data.workers),
            seed=config.loading.seed, precision=config.precision,
            on_progress=bar.update, on_bad=lambda _: None,
        )  # fmt: skip
    features = {name: values[:, 0] for name, values in found.features[0].items()}
    of = None if groups is None else [groups[int(place)] for place in found.places]
    fewer = {} if of is None else dict.fromkeys(OF_SHARED_PLACES, in_shared_places(of))
    measures = unlabelled_measures(features, of)
    return {name: (value, fewer.get(name, len(found.places))) for name, value in measures.items()}
