"""A query clip as the rows of an index were made: by the same weights, from clips of the same shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dsm.datasets.reading import ClipConfig, crop
from dsm.engine.device import best_device
from dsm.engine.extraction import digest
from dsm.errors import UserError
from dsm.evaluate.extract import encode, to_input
from dsm.evaluate.features import Features
from dsm.modality import MODALITIES
from dsm.models.precision import channels_last
from dsm.models.weights import RANDOM, load_weights
from dsm.video.decode import frame_times, probe, read_frames
from dsm.video.flow import compute_flow
from dsm.video.sampling import span, uniform_windows
from dsm.video.source import Source, name_of

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
        self.clip, self.windows = ClipConfig(**meta["clip"]), int(meta.get("windows", 1))
        self._encoder = channels_last(loaded.module.to(best_device()).eval())

    def __call__(self, source: Source, seconds: float | None = None) -> NDArray[np.float32]:
        """The feature (d,) of a video, the mean over its windows; or of the clip around a moment.

        Raises:
            UserError: the video cannot be read, or ends before that moment.
        """
        clip, total = self.clip, probe(source).frames
        frames = clip.frames + MODALITIES[clip.modality].more_frames
        if seconds is None:
            windows = uniform_windows(total, frames, clip.stride, self.windows)
        else:
            times = frame_times(source)
            if not 0 <= seconds <= times[-1]:
                raise UserError(f"{name_of(source)}: has no second {seconds:g}; it lasts {times[-1]:.1f}.")
            length = span(frames, clip.stride)
            middle = int(np.searchsorted(times, seconds))
            start = min(max(middle - length // 2, 0), max(total - length, 0))
            windows = (start + clip.stride * np.arange(frames))[None] % total
        wanted, back = np.unique(windows, return_inverse=True)
        read = read_frames(source, wanted, clip.resize, TIMEOUT)[back.reshape(windows.shape)]
        if clip.modality == "flow":
            read = np.stack([compute_flow(one).transpose(0, 2, 3, 1) for one in read])
        clips = torch.from_numpy(np.stack([crop(one, clip.size, (0.5, 0.5)) for one in read]))
        device = next(self._encoder.parameters()).device
        return encode(self._encoder, to_input(clips, clip.modality, device)).mean(0)


def as_source(path: Path) -> Source:
    """A video that a user named."""
    if not path.exists():
        raise UserError(f"{path}: no such video (--query).")
    return path
