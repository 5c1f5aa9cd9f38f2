"""``dsm extract``: videos -> features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from dsm.commands.loading import LoadSettings
from dsm.datasets.catalog import find_list
from dsm.datasets.classes import names_of
from dsm.datasets.evaluation_clips import MOST_CLIPS
from dsm.datasets.reading import ClipChanges
from dsm.engine.bad_videos import LEFT_OUT, SHOWN, tell_damaged
from dsm.engine.extraction import ExtractSettings, extract_to_file
from dsm.engine.parts import Extracted
from dsm.engine.processes import begun_from_outside, in_processes, is_first
from dsm.engine.progress import console
from dsm.engine.runfolder import claim_file
from dsm.errors import UserError
from dsm.evaluate.feature_files import check_suffix
from dsm.evaluate.results import seed_of
from dsm.models.weights import RANDOM
from dsm.notes import many
from dsm.video.ledger import Verdict


@dataclass(frozen=True)
class ExtractConfig:
    """Settings of `dsm extract`."""

    weights: str
    """A run folder, a checkpoint, or `none` for random weights."""
    data: Path
    """List of videos, a folder of them, or one video."""
    out: Path
    """File to write: .npz or (for big sets) .parquet with labels and paths, or .npy with the bare array."""
    root: Annotated[Path | None, tyro.conf.arg(aliases=["--data.root"])] = None
    """Folder put before relative paths; left out, the list's own."""
    loading: Annotated[LoadSettings, tyro.conf.arg(name="")] = field(default_factory=LoadSettings)
    clip: Annotated[ClipChanges, tyro.conf.arg(name="")] = field(default_factory=ClipChanges)
    settings: Annotated[ExtractSettings, tyro.conf.arg(name="")] = field(default_factory=ExtractSettings)
    devices: int = 1
    """Processes on this machine that share the list; on GPUs one each. torchrun begins them elsewhere too."""
    overwrite: bool = False
    """Replace an existing file, and what an extraction of other settings has begun."""

    def __post_init__(self) -> None:
        if self.devices < 1:
            raise UserError("devices must be at least 1.")


def extract(config: ExtractConfig) -> None:
    """Extract and write; say what came out. The same command goes on where one was stopped."""
    claim_file(config.out, overwrite=config.overwrite)
    check_suffix(config.out)
    if config.devices > 1 and not begun_from_outside():
        in_processes(config.devices, _extract, config)
    else:
        _extract(config)


def _extract(config: ExtractConfig) -> None:
    videos = find_list(config.data, config.root)
    loaded = config.loading.load(config.weights)
    clip = config.clip.of(loaded.config)
    meta = {
        "run": loaded.name,
        "weights": config.weights if config.weights == RANDOM else str(Path(config.weights).absolute()),
        "backbone": config.loading.backbone if config.weights == RANDOM else loaded.config.get("backbone"),
        "list": config.data.name if config.data.is_dir() else config.data.stem,
        "root": str(videos.root.absolute()),
        "seed": config.loading.seed if loaded.report else seed_of(loaded.config, config.loading.seed),
        "init": config.loading.init,
        "clip": asdict(clip),
        "windows": config.settings.windows,
        "crops": config.settings.crops,
        "every": config.settings.every,
    }
    if videos.labelled and (names := names_of(videos)):
        meta["classes"] = names  # two lists with names may number them otherwise
    try:
        extracted = extract_to_file(
            config.out, loaded.module, videos, clip, config.settings, meta, overwrite=config.overwrite
        )
    except KeyboardInterrupt:
        if is_first():
            console.print(f"{config.out}: not done; the same command goes on.")
        raise
    if extracted is None:
        return
    tell_left_out(config.out, extracted.bad)
    tell_damaged({one.path: f"{one.path}: {one.reason}" for one in extracted.damaged})
    if config.settings.every:
        tell_spread(extracted, config.settings.windows)
    what = many(extracted.rows, "clip" if config.settings.per_clip else "video")
    console.print(f"{config.out}: {what} x {many(extracted.dim, 'dimension')}")


def tell_spread(extracted: Extracted, windows: int) -> None:
    """Say where the clips of a video are not as far apart as `--every` asks."""
    if extracted.untimed:
        console.print(
            "videos that do not say when their frames are shown, as folders of frames never do: "
            f"{extracted.untimed}; of each --windows {windows} clips.",
            style="yellow",
        )
    if extracted.cut_short:
        console.print(
            f"videos of which there are {MOST_CLIPS} clips, the most that are taken of one: "
            f"{extracted.cut_short}; cut them into shorter ones if these lie too far apart.",
            style="yellow",
        )


def tell_left_out(out: Path, bad: Sequence[Verdict]) -> None:
    """Say which videos of an extraction could not be read."""
    for video in bad[:SHOWN]:
        console.print(f"left out: {video.path}: {video.reason}", style="yellow")
    if bad:
        console.print(f"{out}{LEFT_OUT}: all {len(bad)} that cannot be read", style="yellow")
