"""A query clip as the rows of an index were made: by the same weights, from clips of the same shape."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from dsm.datasets.evaluation_clips import CORNERS, EvaluationClips
from dsm.datasets.lists import only_video
from dsm.datasets.reading import clip_of
from dsm.engine.device import best_device
from dsm.engine.extraction import digest
from dsm.errors import UserError
from dsm.evaluate.extract import encode, to_input
from dsm.evaluate.features import Features
from dsm.models.precision import channels_last
from dsm.models.weights import RANDOM, load_weights
from dsm.video.pack import in_pack

MOST = 2**32
Number = TypeVar("Number", int, float)


class QueryEncoder:
    """Turns videos into features like those of an index.

    Args:
        weights: where they lie now; None for where they lay.

    Raises:
        UserError: the index does not say what made it, or the weights have changed since.
    """

    def __init__(self, index: Features, weights: str | None = None) -> None:
        meta = index.meta
        if "weights" not in meta or "clip" not in meta:
            raise UserError("the index does not say by what weights it was made; extract it again.")
        chosen = weights or str(meta["weights"])
        torch.manual_seed(_number(meta, "seed", 0))
        # Part of a file, or xavier's weights: whatever it was, the digest says whether it is the same.
        loaded = load_weights(
            chosen, backbone=str(meta.get("backbone") or "tiny"), partial=True,
            init="xavier" if meta.get("init") == "xavier" else "own",
        )  # fmt: skip
        if meta.get("encoder") != digest(loaded.module):
            other = " (random weights of another seed, or drawn another way)" if chosen == RANDOM else ""
            raise UserError(
                f"{chosen}: are not the weights that the index was extracted with{other}; "
                "extract it again, or name the checkpoint with --weights."
            )
        self.clip = clip_of(meta["clip"])
        self.windows, self.crops = _number(meta, "windows", 1), _number(meta, "crops", 1)
        # Where a row is a clip, those of its windows are enough of a whole video.
        self.every = _number(meta, "every", 0.0) if index.times is None else 0.0
        if self.crops not in CORNERS:
            raise UserError(f"the index speaks of {self.crops} crops, which this dsm does not know.")
        self._encoder = channels_last(loaded.module.to(best_device()).eval())

    def __call__(self, video: Path, seconds: float | None = None) -> NDArray[np.float32]:
        """The feature (d,) of a video, the mean over its windows; or of the clip around a moment.

        Raises:
            UserError: the video cannot be read, or ends before that moment.
        """
        if not video.exists() and not in_pack(video):
            raise UserError(f"{video}: no such video (--query).")
        reader = EvaluationClips(only_video(video), self.clip, self.windows, self.crops, every=self.every)
        clips = reader.sample(0)["clips"] if seconds is None else reader.around(0, seconds)
        device = next(self._encoder.parameters()).device
        at_once = self.windows * self.crops
        rows = [
            encode(self._encoder, to_input(some, self.clip.modality, device)) for some in clips.split(at_once)
        ]
        return np.concatenate(rows).mean(0)


def _number(meta: Mapping[str, Any], name: str, default: Number) -> Number:
    """What an index, which may be a stranger's, says of itself: like the default, and not below it."""
    value = meta.get(name, default)
    kinds = int if isinstance(default, int) else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not default <= value < MOST:
        raise UserError(f"the index speaks of {name} {value!r}, which this dsm does not know.")
    return type(default)(value)
