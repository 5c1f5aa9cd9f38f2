"""``dsm look``: where a network looks, as a picture of one video or as a number over a list."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, get_args

import numpy as np
import torch
import tyro
from torch import nn

from dsm.analyse.cam import MapKind
from dsm.analyse.look import Looker, cosine, read_frames_of
from dsm.analyse.motion_mass import MotionKind
from dsm.analyse.overlay import FORMATS, Colours, Looked, write_look
from dsm.analyse.probes import PROBES, ProbeName, make_probe
from dsm.commands.loading import LoadSettings
from dsm.commands.look_score import score_list
from dsm.datasets.lists import ENDINGS
from dsm.datasets.reading import ClipChanges
from dsm.engine.device import best_device
from dsm.engine.progress import console
from dsm.engine.runfolder import claim_file
from dsm.errors import UserError
from dsm.evaluate.results import seed_of
from dsm.models.heads import Embedder
from dsm.models.weights import load_weights


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
