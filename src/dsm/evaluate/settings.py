"""Settings of evaluation, and the names that flags choose between."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from dsm.errors import UserError, check_range
from dsm.models.settings import Precision
from dsm.video.settings import READING_TIME

MOST_TOKENS = 4096
"""Most tokens kept per video; for 1,000 videos and ViT-B they take 12 GB."""
LEAST_SIDE = 11
"""Smallest side of a clip in a preview, in pixels: the window of SSIM."""
NEAR_DUPLICATE = 0.95
"""Cosine of near-duplicates after the mean feature is subtracted; measured in docs/searching.md."""
MapKind = Literal["cam", "grad-cam"]
MotionKind = Literal["difference", "flow"]
Alteration = Literal["clip", "frozen", "pasted", "mixed"]
ALTERATIONS: tuple[Alteration, ...] = get_args(Alteration)
EngineName = Literal["exact", "faiss"]
MapName = Literal["tsne", "umap"]
Colours = Literal["inferno", "magma", "viridis", "cividis"]
"""Matplotlib colour maps with uniformly increasing lightness: readable in grey and by colour-blind people."""
FILM_FORMATS = (".png", ".jpg", ".gif", ".mp4")
"""File endings for a film of maps."""
PREVIEW_FORMATS = (".png", ".gif", ".mp4", ".html")
"""File endings for a preview."""


@dataclass(frozen=True)
class ExtractSettings:
    """How to turn videos into rows of features."""

    windows: int = 3
    """Clips per video, evenly spread; their features are averaged, unless `per-clip`."""
    per_clip: bool = False
    """Write one row per clip, with its times, instead of one per video."""
    every: float = 0
    """Seconds between the starts of clips; 0: take `windows` clips per video. Best with `per-clip`."""
    crops: int = 1
    """Crops of each clip: 1 in the middle, or 3 along its longer side."""
    batch_size: int = 8
    """Videos per batch."""
    workers: int | None = None
    """Processes that decode videos; by default 1, or up to 12 with a GPU."""
    tokens: int = 0
    """Write this many token vectors per video instead of one feature, for the attentive probe of `dsm probe`.
    If the encoder has more, neighbouring ones are averaged."""
    precision: Precision = "fp32"
    """Number format of the encoder's computation: bf16 is about twice as fast where the processor has
    instructions for it, fp16 is for GPUs."""
    half: bool = False
    """Write float16 (.npz only): half the size, for searching very many clips."""
    cache_folder: Path | None = None
    """Local cache of files read by URL; by default $DSM_CACHE_FOLDER, or ~/.cache/dsm/objects."""
    cache_gb: float | None = None
    """Size of that cache in GB; by default $DSM_CACHE_GB, or 20."""
    timeout: float = READING_TIME
    """Time limit for reading a video, in seconds; for a long video, per 128 clips."""

    def __post_init__(self) -> None:
        check_range(self, "windows", "batch_size", least=1)
        check_range(self, "workers", "every", least=0)
        check_range(self, "tokens", least=0, most=MOST_TOKENS)
        if self.crops not in (1, 3):
            raise UserError(f"crops must be 1 or 3, not {self.crops}.")
        check_range(self, "timeout", above=0, finite=False)
