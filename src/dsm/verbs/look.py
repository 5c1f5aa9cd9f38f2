"""``dsm look``: where a network looks, as a picture of one video or as a number over a list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, get_args

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from rich.console import Console
from torch import nn

from dsm.data.clips import EvaluationClips
from dsm.data.groups import find_groups
from dsm.data.lists import ENDINGS, needed, read_list
from dsm.data.loading import load_clips
from dsm.data.reading import ClipChanges
from dsm.distributed import best_device
from dsm.errors import UserError
from dsm.evaluate.cam import MapKind
from dsm.evaluate.extraction import digest
from dsm.evaluate.look import Looker, cosine, in_colour, read_frames_of
from dsm.evaluate.motion_mass import (
    PROBES,
    MassMeter,
    Measured,
    MotionKind,
    ProbeName,
    make_probe,
    moving_area,
)
from dsm.files import csv_text, write_text
from dsm.intervals import mean_interval
from dsm.models.heads import Embedder
from dsm.models.weights import LoadSettings, load_weights
from dsm.pages.film import FORMATS, Colours, Looked, write_look
from dsm.runs.folder import claim_by_settings, claim_file, git_revision, lasting
from dsm.runs.results import RESULTS, Row, row_of, rows_table, seed_of, write_results
from dsm.terminal import console, many, progress, warn


def score_list(config: LookConfig, looker: Looker, *, run: str, seed: int) -> list[Row]:
    """Measure every video of the list; write results.json and look.csv into ``config.out``.

    The still actor or still frame of a probe comes from the video before (of the first, from itself).

    Raises:
        UserError: the list or the groups are wrong, or not one video could be measured.
    """
    videos = read_list(config.video, config.root)
    groups = find_groups(videos.paths, file=config.groups, regex=config.group_regex)
    made_by = {"list_digest": videos.digest(rooted=False), "weights_digest": digest(looker.module)}
    settings = lasting(config) | made_by
    claim_by_settings(
        config.out, "look.json", settings, what="a look",
        overwrite=config.overwrite, needed=needed(videos, Path(config.weights), config.groups),
    )  # fmt: skip
    meter, shown = MassMeter(), looker.clip.frames
    probe = config.probes[0]
    before: NDArray[np.uint8] | None = None  # the clips of the last video that could be read
    in_list = EvaluationClips(videos, in_colour(looker.clip), config.windows, workers=config.workers)
    with progress(f"maps of {run}", len(videos)) as bar:
        for place, read in enumerate(load_clips(in_list, 1, workers=config.workers, past_bad=True)):
            path = videos.paths[place]
            if not read["bad"]:
                clips = read["clips"].numpy()
                others = clips if before is None else before
                frames = np.stack(
                    [
                        make_probe(probe, one, two, share=config.mix, at=config.paste_at)
                        for one, two in zip(clips, others, strict=True)
                    ]
                )
                areas = [moving_area(clip, config.motion)[:shown] for clip in frames]
                still = None
                if probe == "pasted":
                    put = (frames != clips).any(-1).any(1, keepdims=True)  # (clips, 1, S, S)
                    still = [one & ~area for one, area in zip(put, areas, strict=True)]
                meter.add(path, list(looker.look(frames).maps), areas, still)
                before = clips
            else:
                meter.leave_out(path, read["bad"][0].reason)
            if meter.found[-1].reason:
                warn(f"left out: {path}: {meter.found[-1].reason}")
            bar.update(place + 1)
    found = meter.finish()
    rows = rows_of(found, groups, run=run, seed=seed, test=config.video.stem)
    write_results(config.out / RESULTS, rows, revision=git_revision())
    write_text(config.out / "look.csv", to_csv(found))
    Console().print(rows_table(rows))
    left = sum(1 for one in found if one.reason)
    console.print(
        f"{config.out}: results.json and look.csv; {many(len(found) - left, 'video')}, {left} left out"
    )
    return rows


def rows_of(
    found: Sequence[Measured], groups: Sequence[str] | None, *, run: str, seed: int, test: str
) -> list[Row]:
    """The mass, both kinds of chance, and how much more it is than each, in pairs of the same videos.

    Raises:
        UserError: there is not one measured video.
    """
    kept = [place for place, one in enumerate(found) if not one.reason]
    if not kept:
        raise UserError(f"not one of the {len(found)} videos could be measured; the first: {found[0].reason}")
    mass, area, other = (
        np.array([getattr(found[place], name) for place in kept]) for name in ("mass", "area", "other")
    )
    values = {"map_mass_on_motion": mass, "motion_area": area, "map_mass_above_area": mass - area}
    if np.isfinite(other).any():
        values |= {"other_map_mass_on_motion": other, "map_mass_above_other_map": mass - other}
    prefers = np.array([found[place].prefers for place in kept])
    if np.isfinite(prefers).any():
        values["prefers_motion_to_still"] = prefers
    rows = []
    for metric, numbers in values.items():
        known = np.flatnonzero(np.isfinite(numbers))
        of = None if groups is None else [groups[kept[place]] for place in known]
        rows.append(row_of(run, seed, test, metric, mean_interval(numbers[known], groups=of), len(known)))
    return rows


def to_csv(found: Sequence[Measured]) -> str:
    """A line a video."""
    names = ("map_mass_on_motion", "motion_area", "other_map_mass_on_motion", "prefers_motion_to_still")
    lines = [["path", *names, "left_out"]]
    for one in found:
        values = one.mass, one.area, one.other, one.prefers
        numbers = ("" if np.isnan(value) else f"{value:.5f}" for value in values)
        lines.append([one.path, *numbers, one.reason])
    return csv_text(lines)


@dataclass(frozen=True)
class LookConfig:
    """Settings of `dsm look`."""

    video: tyro.conf.Positional[Path]
    """A video; with --score a list of videos."""
    weights: str
    """A run folder of `dsm pretrain` or `dsm finetune`, a checkpoint, or `none` for random weights."""
    out: Path
    """Picture to write: .gif, .mp4, or .png or .jpg for a film strip; with --score a folder."""
    score: bool = False
    """Over a list: how much of the map's mass lies where things move, against chance."""
    probe: tuple[Literal[ProbeName, "all"], ...] = ("clip",)
    """The clip as it is; `frozen` to a frame; a still actor `pasted` in; a still frame `mixed` on; `all`."""
    target_class: str | None = None
    """Of a classifier, the class whose logit is raised, by name or number; left out, the one it predicts."""
    target: Path | None = None
    """Of an encoder, a video: what raises the similarity to it; left out, to the clip itself."""
    map: MapKind = "cam"
    """`cam`: what each place adds to the score; `grad-cam`: channels weighed by their mean gradient."""
    layer: str | None = None
    """Module whose map of features is taken; left out, the last that has one."""
    head: Literal["features", "projection"] = "features"
    """Which embedding of an encoder is compared: pooled features, or that of its projection head."""
    start: int | None = None
    """First frame of the clip; left out, the clip is in the middle of the video."""
    other: Path | None = None
    """Video from which the still actor and the still frame come; left out, the beginning of the same one."""
    paste_at: tuple[float, float] | None = None
    """Where the still actor comes, as shares of width and height; left out, where least moves."""
    mix: float = 0.5
    """Share of the still frame that is mixed over."""
    colours: Colours = "inferno"
    """Colour map; the colour-blind can read all of them."""
    root: Annotated[Path | None, tyro.conf.arg(aliases=["--data.root"])] = None
    """With --score: folder put before relative paths; left out, the list's own."""
    windows: int = 1
    """With --score: clips a video, evenly spread."""
    motion: MotionKind = "difference"
    """With --score: what moves, by frame `difference` or by optical `flow` (which needs OpenCV)."""
    groups: Path | None = None
    """With --score: table of the group of each video; intervals then draw whole groups."""
    group_regex: str = ""
    """The same by a regular expression on the path."""
    workers: int = 1
    """With --score: processes that decode."""
    loading: Annotated[LoadSettings, tyro.conf.arg(name="")] = field(default_factory=LoadSettings)
    clip: Annotated[ClipChanges, tyro.conf.arg(name="")] = field(default_factory=ClipChanges)
    overwrite: bool = False
    """Replace existing files."""

    def __post_init__(self) -> None:
        if self.windows < 1 or min(self.workers, self.start or 0) < 0:
            raise UserError("windows must be at least 1; workers and start must not be below 0.")
        if not 0 <= self.mix <= 1 or not all(0 <= share <= 1 for share in self.paste_at or ()):
            raise UserError("mix and paste-at are shares, from 0 to 1.")
        if self.score:
            if self.out.suffix in FORMATS:
                raise UserError(f"{self.out}: with --score, --out is a folder, not a picture.")
            if len(self.probes) != 1 or self.probes == ("frozen",) or self.other or self.start is not None:
                raise UserError(
                    "--score takes one --probe in which something moves (clip, pasted, mixed), and neither "
                    "--other nor --start."
                )
        elif self.out.suffix not in FORMATS:
            raise UserError(f"{self.out}: --out must end in one of {', '.join(FORMATS)}.")
        elif self.video.suffix.lower() in ENDINGS:
            raise UserError(f"{self.video}: is a list; give --score to measure it, or one of its videos.")

    @property
    def probes(self) -> tuple[ProbeName, ...]:
        if "all" in self.probe:
            return PROBES
        return tuple(name for name in get_args(ProbeName) if name in self.probe)


def look(config: LookConfig) -> None:
    """Draw one video's map, or measure a list's."""
    if not config.score:
        claim_file(config.out, overwrite=config.overwrite)
    looker, name, seed = build_looker(config)
    aim = take_aim(config, looker)
    console.print(f"{name}: {config.map} at {looker.layer}")
    if config.score:
        score_list(config, looker, run=name, seed=seed)
    else:
        draw(config, looker, name=name, aim=aim)


def build_looker(config: LookConfig) -> tuple[Looker, str, int]:
    """The network, what tables call it, and the seed of its weights."""
    loaded = config.loading.load(config.weights, "classifier")
    module = loaded.module
    if loaded.classes is None and config.head == "projection":
        embedder = load_weights(config.weights, head="projection", partial=config.loading.partial).module
        # Before it is scaled to unit length, which would leave no gradient towards itself.
        module = (
            nn.Sequential(embedder.encoder, embedder.head) if isinstance(embedder, Embedder) else embedder
        )
    clip = config.clip.of(loaded.config)
    looker = Looker(
        module.to(best_device()), clip, classes=loaded.classes, kind=config.map, layer=config.layer
    )
    return looker, loaded.name, seed_of(loaded.config, config.loading.seed)


def take_aim(config: LookConfig, looker: Looker) -> str:
    """Set what is raised; say it in words."""
    if config.target_class is not None:
        return f"the class {looker.for_class(config.target_class)}"
    if config.target is None:
        return "the similarity to the clip itself" if looker.classes is None else "the predicted class"
    if looker.classes is not None:
        raise UserError("--target is for an encoder; a classifier is asked for a --target-class.")
    frames = read_frames_of(config.target, looker.clip)
    looker.towards(looker.look(frames[None]).outputs[0])
    return f"the similarity to {config.target.name}"


def draw(config: LookConfig, looker: Looker, *, name: str, aim: str) -> None:
    """Write the picture, and say how the network answers to each probe."""
    frames = read_frames_of(config.video, looker.clip, config.start)
    other = frames
    if {"pasted", "mixed"} & set(config.probes):
        other = read_frames_of(config.other or config.video, looker.clip, None if config.other else 0)
    clips = {
        probe: make_probe(probe, frames, other, share=config.mix, at=config.paste_at)
        for probe in ("clip", *config.probes)  # the first is what the others are compared with
    }
    answer = looker.look(np.stack(list(clips.values())))
    looks = []
    for place, (probe, changed) in enumerate(clips.items()):
        if probe not in config.probes:
            continue
        note = _note(looker, answer.outputs[place], answer.outputs[0] if place else None)
        if probe != "clip" and answer.peaks[0] > 0:
            note += f", strongest place x{answer.peaks[place] / answer.peaks[0]:.2f}"
        looks.append(Looked(probe, looker.shown(changed), answer.maps[place], note))
        if note:
            console.print(f"{probe}: {note}")
    write_look(
        config.out, looks,
        title=f"{name}: what raises {aim}", scale=f"{config.map}, {looker.layer}", colours=config.colours,
    )  # fmt: skip
    console.print(f"{config.out}: {', '.join(one.name for one in looks)} of {config.video}")


def _note(looker: Looker, output: torch.Tensor, clip: torch.Tensor | None) -> str:
    """How the network answers; ``clip`` is its answer to the clip as it is, None where this is that."""
    if looker.classes is not None:
        shares = output.softmax(0)
        best = int(shares.argmax())
        asked = best if looker.label is None else looker.label
        first = f"{looker.classes[asked]} {float(shares[asked]):.0%}"
        return first if asked == best else f"{first} (held to be {looker.classes[best]}, {shares[best]:.0%})"
    if looker.target is not None:
        return f"similarity {cosine(output, looker.target):.2f}"
    return "" if clip is None else f"similarity to the clip {cosine(output, clip):.2f}"
