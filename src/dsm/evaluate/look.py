"""Where a network looks in clips: computes its input, output and activation map from frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from dsm.data.clips import EvaluationClips
from dsm.data.lists import VideoList, unlabelled
from dsm.data.loading import load_clips
from dsm.data.reading import Reader, crop
from dsm.data.settings import ClipConfig
from dsm.errors import UserError, did_you_mean, machine_fault
from dsm.evaluate.altered_clips import alter
from dsm.evaluate.cam import (
    Layer,
    Score,
    activation_map,
    class_score,
    find_layer,
    named_layer,
    similarity_score,
    to_unit,
)
from dsm.evaluate.motion_mass import MassMeter, Measured, moving_area
from dsm.evaluate.settings import Alteration, MapKind, MotionKind
from dsm.files import csv_text
from dsm.intervals import mean_interval, share_interval
from dsm.models.zoo import REFUSALS, refusal
from dsm.render import from_frames, to_network
from dsm.runs.results import Row, row_of
from dsm.terminal import progress, warn
from dsm.video.flow import compute_flow
from dsm.video.sampling import clips_from, span, uniform_windows

Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class Answer:
    """A network's maps and outputs for clips."""

    maps: NDArray[np.float32]
    """(N, T, H, W) in [0, 1]: 1 is the maximum of each clip."""
    peaks: NDArray[np.float32]
    """(N,): that maximum before scaling, to compare clips of one network."""
    outputs: Tensor
    """(N, D): logits, or embeddings."""


class Looker:
    """Maps where a network looks, for one kind of clips and one score.

    Args:
        module: (B, C, T, H, W) -> (B, D), on the device to use: logits, or embeddings before any scaling to
            unit length.
        clip: the shape of the clips that the network takes.
        classes: the names of a classifier's classes; None for an encoder.
        layer: a module's name; None finds one.

    Raises:
        UserError: the network does not take such clips, or has no feature map.
    """

    def __init__(
        self,
        module: nn.Module,
        clip: ClipConfig,
        *,
        classes: Sequence[str] | None = None,
        kind: MapKind = "cam",
        layer: str | None = None,
    ) -> None:
        if clip.frames < 2:
            raise UserError("clips of one frame show no motion; give more --frames.")
        self.module, self.clip, self.classes, self.kind = module.eval(), clip, classes, kind
        self.target: Tensor | None = None
        self.label: int | None = None
        self.score: Score = similarity_score() if classes is None else class_score()
        example = self._input(np.zeros((1, clip.frames_to_read, clip.size, clip.size, 3), np.uint8))
        try:
            find = find_layer(module, example) if layer is None else named_layer(module, layer, example)
        except REFUSALS as error:  # transformers accept only one size
            if machine_fault(error) is not None:
                raise
            raise refusal(example.shape[1:], error) from None
        self.layer: Layer = find

    def look(self, frames: Frames) -> Answer:
        """Look at clips (N, ``clip.frames_to_read``, S, S, 3)."""
        x = self._input(frames)
        with torch.no_grad():
            outputs = self.module(x)
        maps = activation_map(self.module, x, self.score, self.layer, self.kind)
        return Answer(
            to_unit(maps).float().cpu().numpy(), maps.amax((1, 2, 3)).float().cpu().numpy(), outputs.float()
        )

    def covered(self, frames: Frames) -> Frames:
        """The frames (T, S, S, 3) of a clip (``clip.frames_to_read``, S, S, 3) that its map covers."""
        return frames[: self.clip.frames]

    def towards(self, target: Tensor) -> None:
        """From now on, map what raises the similarity to an embedding (D,)."""
        self.target = target
        self.score = similarity_score(target)

    def for_class(self, name: str) -> str:
        """From now on, map what raises the logit of a class, given by name or number; return its name.

        Raises:
            UserError: there is no such class.
        """
        if self.classes is None:
            raise UserError(
                "--target-class is for a classifier, but these weights are an encoder without classes: give "
                "--target VIDEO, or train a classifier with `dsm finetune`."
            )
        number = self.classes.index(name) if name in self.classes else -1
        if number < 0 and name.isdecimal():
            number = int(name)
            if number >= len(self.classes):
                raise UserError(
                    f"--target-class {name}: the classes are numbered 0 to {len(self.classes) - 1}."
                )
        if number < 0:
            raise UserError(f"--target-class: no class is named '{name}'{did_you_mean(name, self.classes)}")
        self.label, self.score = number, class_score(number)
        return self.classes[number]

    def _input(self, frames: Frames) -> Tensor:
        """Clips as the network takes them, (N, C, T, S, S), on its device."""
        if self.clip.modality == "flow":
            read = torch.from_numpy(np.stack([compute_flow(one) for one in frames])).transpose(1, 2)
        else:
            read = from_frames(torch.from_numpy(frames))
        return to_network(read.to(_device_of(self.module)), self.clip.modality)


def read_frames_of(path: Path, clip: ClipConfig, start: int | None = None) -> Frames:
    """The frames of one clip of a video, always in colour: (frames to read, S, S, 3).

    Args:
        start: the clip's first frame; by default the clip is in the middle of the video.

    Raises:
        VideoError: it cannot be read. UserError: it has only one frame, or ends before the clip does.
    """
    reader = Reader(unlabelled([str(path)], str(path)), in_colour(clip))
    total = reader.total(0)
    if total < 2:
        raise UserError(f"{path}: has only one frame, so nothing moves; give a longer video.")
    reach = span(clip.frames_to_read, clip.stride)
    if start is None:
        window = uniform_windows(reader.video(0), clip.frames_to_read, clip.stride, 1)[0]
    elif start > max(total - reach, 0):
        raise UserError(
            f"{path}: has {total} frames; a clip that spans {reach} cannot start at --start {start}."
        )
    else:  # a shorter video is looped
        window = clips_from(np.array([start]), reader.video(0), clip.frames_to_read, clip.stride)[0]
    (frames,) = reader.read(0, [window])
    return np.ascontiguousarray(crop(frames, clip.size, (0.5, 0.5)))


def in_colour(clip: ClipConfig) -> ClipConfig:
    """The same clips in colour, with the extra frames that differences and flow need."""
    return replace(clip, modality="rgb", frames=clip.frames_to_read)


def cosine(one: Tensor, two: Tensor) -> float:
    """The cosine of two embeddings (D,)."""
    return float(F.cosine_similarity(one, two, dim=0))


def _device_of(module: Any) -> torch.device:
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))


def mass_of_list(
    looker: Looker,
    videos: VideoList,
    *,
    title: str,
    alteration: Alteration = "clip",
    share: float = 0.5,
    at: tuple[float, float] | None = None,
    windows: int = 1,
    motion: MotionKind = "difference",
    workers: int = 1,
) -> list[Measured]:
    """Measure the share of the map on what moves, per video; unreadable videos are left out.

    A still actor or still frame comes from the previous video (for the first, from itself).

    Args:
        title: title of the progress bar.
        alteration, share, at: see :func:`dsm.evaluate.altered_clips.alter`.
        windows: clips per video, evenly spaced.
    """
    meter, shown = MassMeter(), looker.clip.frames
    previous: NDArray[np.uint8] | None = None  # clips of the last video that could be read
    clips_of_list = EvaluationClips(videos, in_colour(looker.clip), windows, workers=workers)
    with progress(title, len(videos)) as bar:
        for place, sample in enumerate(load_clips(clips_of_list, 1, workers=workers, past_bad=True)):
            path = videos.paths[place]
            if sample["bad"]:
                meter.leave_out(path, sample["bad"][0].reason)
            else:
                clips = sample["clips"].numpy()
                others = clips if previous is None else previous
                frames = np.stack(
                    [
                        alter(alteration, clip, other, share=share, at=at)
                        for clip, other in zip(clips, others, strict=True)
                    ]
                )
                areas = [moving_area(clip, motion)[:shown] for clip in frames]
                still = None
                if alteration == "pasted":
                    pasted = (frames != clips).any(-1).any(1, keepdims=True)  # (clips, 1, S, S)
                    still = [one & ~area for one, area in zip(pasted, areas, strict=True)]
                meter.add(path, list(looker.look(frames).maps), areas, still)
                previous = clips
            if meter.found[-1].reason:
                warn(f"left out: {path}: {meter.found[-1].reason}")
            bar.update(place + 1)
    return meter.finish()


def mass_rows(
    measured: Sequence[Measured], groups: Sequence[str] | None, *, run: str, seed: int, test: str
) -> list[Row]:
    """The mean mass, both kinds of chance, and the paired difference from each.

    Raises:
        UserError: no video could be measured.
    """
    kept = [place for place, one in enumerate(measured) if not one.reason]
    if not kept:
        raise UserError(
            f"none of the {len(measured)} videos could be measured. The first failure: {measured[0].reason}"
        )
    mass, area, other = (
        np.array([getattr(measured[place], name) for place in kept]) for name in ("mass", "area", "other")
    )
    values = {"map_mass_on_motion": mass, "motion_area": area, "map_mass_above_area": mass - area}
    if np.isfinite(other).any():
        values |= {"other_map_mass_on_motion": other, "map_mass_above_other_map": mass - other}
    prefers = np.array([measured[place].prefers for place in kept])
    if np.isfinite(prefers).any():
        values["prefers_motion_to_still"] = prefers
    rows = []
    for metric, numbers in values.items():
        known = np.flatnonzero(np.isfinite(numbers))
        of_known = None if groups is None else [groups[kept[place]] for place in known]
        interval_of = share_interval if metric.startswith("prefers") else mean_interval
        interval = interval_of(numbers[known], groups=of_known)
        rows.append(row_of(run, seed, test, metric, interval, len(known)))
    return rows


def mass_csv(measured: Sequence[Measured]) -> str:
    """One line per video."""
    names = ("map_mass_on_motion", "motion_area", "other_map_mass_on_motion", "prefers_motion_to_still")
    lines = [["path", *names, "left_out"]]
    for one in measured:
        values = one.mass, one.area, one.other, one.prefers
        numbers = ("" if np.isnan(value) else f"{value:.5f}" for value in values)
        lines.append([one.path, *numbers, one.reason])
    return csv_text(lines)
