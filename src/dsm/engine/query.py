"""A query clip as the rows of an index were made: by the same weights, from clips of the same shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dsm.datasets.evaluation_clips import EvaluationClips
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

TIMEOUT = 60.0


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
        torch.manual_seed(int(meta.get("seed", 0)))
        loaded = load_weights(chosen, backbone=str(meta.get("backbone") or "tiny"))
        if meta.get("encoder") != digest(loaded.module):
            other = " (random weights of another seed, or drawn another way)" if chosen == RANDOM else ""
            raise UserError(
                f"{chosen}: are not the weights that the index was extracted with{other}; "
                "extract it again, or name the checkpoint with --weights."
            )
        self.clip = clip_of(meta["clip"])
        self.windows, self.crops = int(meta.get("windows", 1)), int(meta.get("crops", 1))
        # Where a row is a clip, those of its windows are enough of a whole video.
        self.every = float(meta.get("every", 0)) if index.times is None else 0.0
        self._encoder = channels_last(loaded.module.to(best_device()).eval())

    def __call__(self, video: Path, seconds: float | None = None) -> NDArray[np.float32]:
        """The feature (d,) of a video, the mean over its windows; or of the clip around a moment.

        Raises:
            UserError: the video cannot be read, or ends before that moment.
        """
        if not video.exists() and not in_pack(video):
            raise UserError(f"{video}: no such video (--query).")
        reader = EvaluationClips(
            only_video(video), self.clip, self.windows, self.crops, every=self.every, seconds=TIMEOUT
        )
        clips = reader.sample(0)["clips"] if seconds is None else reader.around(0, seconds)
        device = next(self._encoder.parameters()).device
        at_once = self.windows * self.crops
        rows = [
            encode(self._encoder, to_input(some, self.clip.modality, device)) for some in clips.split(at_once)
        ]
        return np.concatenate(rows).mean(0)
