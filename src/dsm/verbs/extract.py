"""``dsm extract``: videos -> features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from dsm.data.classes import names_of
from dsm.data.clips import MOST_CLIPS
from dsm.data.folders import find_list
from dsm.data.lists import VideoList, list_name, unlabelled
from dsm.data.settings import ClipChanges, ClipConfig
from dsm.devices import best_device
from dsm.distributed import begun_from_outside, is_first
from dsm.errors import UserError
from dsm.evaluate.attentive import Tokens
from dsm.evaluate.extract import extract_features
from dsm.evaluate.extract_to_file import (
    Extracted,
    differences,
    extract_to_file,
    extraction_of,
    parts_of,
    replaced_since,
)
from dsm.evaluate.feature_files import check_suffix, load_features
from dsm.evaluate.features import places_of
from dsm.launch import in_processes
from dsm.models.settings import RANDOM, LoadSettings
from dsm.models.weights import LoadedEncoder
from dsm.runs.bad_videos import tell_damaged, tell_left_out
from dsm.runs.claims import claim_files
from dsm.runs.copies import checked_url, send_files
from dsm.runs.results import seed_of
from dsm.settings import takes_settings
from dsm.storage.cache import set_cache
from dsm.terminal import console, many, some, warn
from dsm.urls import absolute
from dsm.verbs.result import Result
from dsm.verbs.settings.evaluation import ExtractConfig
from dsm.weights_names import absolute_name


@takes_settings(ExtractConfig)
def extract(config: ExtractConfig) -> Result:
    """Write the features of a list's videos; a stopped extraction continues."""
    # Parts beside the file are from an extraction that was stopped, perhaps at its very end.
    claim_files(config.out, overwrite=config.overwrite or parts_of(config.out).is_dir())
    check_suffix(config.out)
    if config.copy_to:
        checked_url(config.copy_to)
    if config.devices > 1 and not begun_from_outside():
        in_processes(config.devices, _extract, config)
    else:
        _extract(config)
    if not is_first():
        return Result()
    if config.out.suffix == ".npy":  # a bare array: without paths it is not a features file
        count, dim = np.load(config.out, mmap_mode="r", allow_pickle=False).shape
    else:
        count, dim = load_features(config.out).features.shape
    if config.copy_to:
        send_files([config.out], config.out.parent, config.copy_to)
    rows = many(count, "clip" if config.settings.per_clip else "video")
    return Result(files=[config.out], lines=[f"{config.out}: {rows} x {many(dim, 'dimension')}"])


def extract_once(config: ExtractConfig) -> None:
    """Extract, unless the file already holds these features.

    With ``overwrite`` it extracts unless the marks of the files show that all are those that were extracted.

    Raises:
        UserError: the file holds other features, or of files that were replaced since, and ``overwrite`` is
            off.
    """
    if config.out.exists():
        videos, loaded, clip = _inputs(config)
        wanted = extraction_of(_rows_of(config, loaded), videos, clip, config.settings)
        meta: dict[str, Any] = {}
        try:
            meta = load_features(config.out).meta
        except UserError:  # damaged
            if not config.overwrite:
                raise
        other = differences(meta.get("extraction", {}), wanted)
        changed = None if other else replaced_since(meta, videos)
        if changed:
            other = [f"versions of {some(changed)}"]
        if not other and not (config.overwrite and changed is None):
            return
        if not config.overwrite:
            raise UserError(
                f"{config.out}: its features were extracted with other {', '.join(other)}; use --overwrite "
                f"to extract them again, choose another --out, or explore {config.out} as it is."
            )
    extract(config)


def _inputs(config: ExtractConfig) -> tuple[VideoList, LoadedEncoder, ClipConfig]:
    set_cache(config.settings.cache_folder, config.settings.cache_gb)
    videos = find_list(config.data, config.root)
    loaded = config.loading.load(config.weights)
    return videos, loaded, config.clip.of(loaded.config)


def _rows_of(config: ExtractConfig, loaded: LoadedEncoder) -> nn.Module:
    """The network whose outputs are the rows."""
    tokens = config.settings.tokens
    return Tokens(loaded.module, tokens) if tokens else loaded.module


def _extract(config: ExtractConfig) -> None:
    videos, loaded, clip = _inputs(config)
    meta = {
        "run": loaded.name,
        "weights": absolute_name(config.weights),
        "backbone": config.loading.backbone if config.weights == RANDOM else loaded.config.get("backbone"),
        "list": list_name(config.data),
        **places_of(videos),
        "seed": config.loading.seed if loaded.report else seed_of(loaded.config, config.loading.seed),
        "pooling": config.loading.pooling if config.weights == RANDOM else None,
        "init": config.loading.init,
        "clip": asdict(clip),
        "windows": config.settings.windows,
        "crops": config.settings.crops,
        "every": config.settings.every,
    }
    if config.settings.tokens:
        meta["tokens"] = config.settings.tokens
    if videos.labelled and (names := names_of(videos)):
        meta["classes"] = names  # two lists may number the same names differently
    try:
        extracted = extract_to_file(
            config.out, _rows_of(config, loaded), videos, clip, config.settings, meta,
            overwrite=config.overwrite,
        )  # fmt: skip
    except KeyboardInterrupt:
        if is_first():
            console.print(f"{config.out}: not finished; run the same command to continue.")
        raise
    if extracted is None:
        return
    tell_left_out(config.out, extracted.bad)
    tell_damaged({one.path: f"{one.path}: {one.reason}" for one in extracted.damaged})
    if config.settings.every:
        tell_spread(extracted, config.settings.windows)


def encode(
    videos: str | Path | Sequence[str | Path],
    weights: str | Path,
    *,
    windows: int = 3,
    batch_size: int = 8,
    workers: int = 0,
) -> NDArray[np.float32]:
    """Features of videos, as an array (n, d): :func:`extract` for a few videos, without files.

    Clips have the shape that the encoder was trained on. A video's feature is the mean over its clips.

    Args:
        videos: a video, a folder, a list, or a sequence of videos.
        weights: a run folder, a checkpoint, or the name of a published model.
        windows: clips per video, evenly spread over its length.
        batch_size: videos per batch.
        workers: processes that decode videos.

    Raises:
        UserError: a video or the weights cannot be read.
    """
    if isinstance(videos, (str, Path)):
        listed = find_list(videos)
    else:
        listed = unlabelled([absolute(video) for video in videos], "the videos")
    loaded = LoadSettings().load(str(weights))
    clip, encoder = ClipChanges().of(loaded.config), loaded.module.to(best_device())
    features = extract_features(
        encoder, listed, clip, windows=windows, batch_size=batch_size, workers=workers
    )
    return features.features


def tell_spread(extracted: Extracted, windows: int) -> None:
    """Say which videos have clips that are not as far apart as `--every` asks."""
    if extracted.untimed:
        warn(
            f"{many(extracted.untimed, 'video has', 'videos have')} no frame times (folders of frames never "
            f"do), so --every has no effect; --windows {windows} clips are taken of each."
        )
    if extracted.cut_short:
        warn(
            f"{many(extracted.cut_short, 'video reaches', 'videos reach')} the limit of {MOST_CLIPS} clips "
            "per video, so clips are farther apart than --every asks; cut such videos into shorter ones."
        )
