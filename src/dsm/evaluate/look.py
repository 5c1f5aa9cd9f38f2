"""Where a network looks in clips of videos: from frames to its input, to its answer and its map."""

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

from dsm.data.lists import only_video
from dsm.data.reading import ClipConfig, Reader, crop
from dsm.errors import UserError, nearest
from dsm.evaluate.cam import (
    Layer,
    MapKind,
    Score,
    activation_map,
    class_score,
    find_layer,
    named_layer,
    similarity_score,
    to_unit,
)
from dsm.models.zoo import REFUSALS, refusal
from dsm.video.flow import compute_flow
from dsm.video.sampling import clips_from, span, uniform_windows
from dsm.views import to_network

Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class Answer:
    """What a network makes of clips."""

    maps: NDArray[np.float32]
    """(N, T, H, W) in [0, 1]: 1 is the strongest place of each clip."""
    peaks: NDArray[np.float32]
    """(N,): how strong that is, to compare clips of one network by."""
    outputs: Tensor
    """(N, D): logits, or embeddings."""


class Looker:
    """A network, and the clips and the score it is looked at with.

    Args:
        module: (B, C, T, H, W) -> (B, D), where it is to compute: logits, or embeddings before any scaling
            to unit length.
        clip: what it takes.
        classes: the names of what it classifies; None for an encoder.
        layer: a module's name; None finds one.

    Raises:
        UserError: it does not take such clips, or has no map of features.
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
            raise UserError("where things move is not to be seen in clips of one frame; give more --frames.")
        self.module, self.clip, self.classes, self.kind = module.eval(), clip, classes, kind
        self.target: Tensor | None = None
        self.label: int | None = None
        self.score: Score = similarity_score() if classes is None else class_score()
        example = self._input(np.zeros((1, clip.frames_to_read, clip.size, clip.size, 3), np.uint8))
        try:
            find = find_layer(module, example) if layer is None else named_layer(module, layer, example)
        except REFUSALS as error:  # transformers take but one size
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

    def shown(self, frames: Frames) -> Frames:
        """Of a clip (``clip.frames_to_read``, S, S, 3) the frames that its map belongs to: (T, S, S, 3)."""
        return frames[: self.clip.frames]

    def towards(self, target: Tensor) -> None:
        """From now on: what raises the similarity to an embedding (D,)."""
        self.target = target
        self.score = similarity_score(target)

    def for_class(self, name: str) -> str:
        """From now on: what raises the logit of a class, by its name or its number; its name is returned.

        Raises:
            UserError: there is no such class.
        """
        if self.classes is None:
            raise UserError(
                "--target-class is for a classifier, and these weights are an encoder without labels: "
                "give --target VIDEO, or train a classifier with `dsm finetune`."
            )
        number = self.classes.index(name) if name in self.classes else -1
        if number < 0 and name.isdecimal():
            number = int(name)
            if number >= len(self.classes):
                raise UserError(
                    f"--target-class {name}: the classes are numbered 0 to {len(self.classes) - 1}."
                )
        if number < 0:
            raise UserError(f"--target-class: no class is called '{name}'{nearest(name, self.classes)}")
        self.label, self.score = number, class_score(number)
        return self.classes[number]

    def _input(self, frames: Frames) -> Tensor:
        """Clips as the network takes them, (N, C, T, S, S), where it lies."""
        if self.clip.modality == "flow":
            read = torch.from_numpy(np.stack([compute_flow(one) for one in frames])).transpose(1, 2)
        else:
            read = torch.from_numpy(frames).permute(0, 4, 1, 2, 3).float() / 255
        return to_network(read.to(_device_of(self.module)), self.clip.modality)


def read_frames_of(path: Path, clip: ClipConfig, start: int | None = None) -> Frames:
    """The frames of one clip of a video, in colour whatever the network takes: (frames to read, S, S, 3).

    Args:
        start: its first frame; left out, the clip is in the middle of the video.

    Raises:
        VideoError: it cannot be read. UserError: it has one frame, or none where the clip begins.
    """
    reader = Reader(only_video(path), in_colour(clip))
    total = reader.total(0)
    if total < 2:
        raise UserError(f"{path}: has one frame; nothing can move in it. Give a video.")
    reach = span(clip.frames_to_read, clip.stride)
    if start is None:
        window = uniform_windows(reader.video(0), clip.frames_to_read, clip.stride, 1)[0]
    elif start > max(total - reach, 0):
        raise UserError(
            f"{path}: has {total} frames; a clip that reaches over {reach} cannot begin at --start {start}."
        )
    else:  # a video that is shorter is looped
        window = clips_from(np.array([start]), reader.video(0), clip.frames_to_read, clip.stride)[0]
    (frames,) = reader.read(0, [window])
    return np.ascontiguousarray(crop(frames, clip.size, (0.5, 0.5)))


def in_colour(clip: ClipConfig) -> ClipConfig:
    """The same clips as pictures, with the frames more that changes and flow need."""
    return replace(clip, modality="rgb", frames=clip.frames_to_read)


def cosine(one: Tensor, two: Tensor) -> float:
    """Of two embeddings (D,)."""
    return float(F.cosine_similarity(one, two, dim=0))


def _device_of(module: Any) -> torch.device:
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
