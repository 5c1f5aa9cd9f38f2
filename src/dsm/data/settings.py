"""Settings of clips, their shape and changes to it; and of groups of videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from dsm.errors import UserError, check_range
from dsm.inputs import GroupsTable
from dsm.limits import CLIP_PIXELS, CLIP_RATE, CLIP_SIDE
from dsm.views import MODALITIES, ModalityName


@dataclass(frozen=True)
class ClipConfig:
    """The shape of a clip."""

    frames: int = 16
    """Frames per clip."""
    stride: int = 4
    """Step between the frames of a clip, in frames of the video; 1 takes every frame."""
    fps: float = 0.0
    """Resample videos to this many frames per second, by their frame times; 0 keeps all frames."""
    resize: int = 128
    """Pixels of the video's shorter side after resizing."""
    size: int = 112
    """Side of the square crop that the network sees, in pixels."""
    modality: ModalityName = "rgb"
    """RGB, its change from frame to frame, or optical flow (computed, or saved as pictures)."""

    def __post_init__(self) -> None:
        check_range(self, "frames", "stride", "size", least=1)
        if not 0 <= self.fps < float("inf"):
            raise UserError(f"fps of a clip must be above 0, or 0 for the video's own rate, not {self.fps}.")
        if self.resize < self.size:
            raise UserError(
                f"resize ({self.resize}) must not be smaller than size ({self.size}); set it to "
                f"{self.size} or more."
            )

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Shape of a network's input: (C, T, S, S)."""
        return MODALITIES[self.modality].channels, self.frames, self.size, self.size

    @property
    def frames_to_read(self) -> int:
        return self.frames + MODALITIES[self.modality].more_frames


def clip_of(settings: Any) -> ClipConfig:
    """The clip settings stored in a file, which is not trusted.

    Raises:
        UserError: they are not valid clip settings, or beyond the limits for files.
    """
    numbers: dict[str, Any] = {"frames": int, "stride": int, "resize": int, "size": int, "fps": (int, float)}
    if not isinstance(settings, Mapping):
        raise UserError("the file's clip settings are not in dsm's format.")
    for name, value in settings.items():
        if name == "modality":
            good = isinstance(value, str) and value in MODALITIES
        else:
            good = isinstance(value, numbers.get(name, ())) and value < CLIP_SIDE
            good = good and not isinstance(value, bool) and (name != "fps" or value <= CLIP_RATE)
        if not good:
            raise UserError(f"the file has clips of {name} {value!r}, which this dsm does not support.")
    clip = ClipConfig(**settings)
    if clip.frames_to_read * clip.resize**2 > CLIP_PIXELS:
        raise UserError(
            f"the file has clips of {clip.frames} frames of {clip.resize} x {clip.resize} pixels, more than "
            f"the limit of {CLIP_PIXELS} pixels for clips from files."
        )
    return clip


@dataclass(frozen=True)
class Grouping:
    """Which videos belong together, such as those of one source, camera or person."""

    groups: GroupsTable | None = None
    """Table (.tsv or .csv with a header; path first, group last) of videos that belong together: confidence
    intervals resample whole groups, no group is split between folds or lists, and of an archive (`dsm explore
    --against`) whole groups are set aside. By default the clips or segments of a video are a group (for `dsm
    data leaks`, UCF101's groups)."""
    group_regex: str = ""
    """Regular expression that finds the group in a path, instead of a table."""

    @property
    def given(self) -> bool:
        return self.groups is not None or bool(self.group_regex)

    def of(self, paths: Sequence[str], *, intervals: bool = True) -> list[str] | None:
        """See :func:`dsm.data.groups.find_groups`."""
        from dsm.data.groups import find_groups

        return find_groups(paths, file=self.groups, regex=self.group_regex, intervals=intervals)


@dataclass(frozen=True)
class ClipChanges:
    """Changes to the clips that weights were trained on."""

    frames: int | None = None
    """Frames per clip; by default as in training."""
    stride: int | None = None
    """Step between the frames of a clip, in frames of the video; by default as in training."""
    resize: int | None = None
    """Pixels of the video's shorter side after resizing; by default as in training."""
    size: int | None = None
    """Side of the square crop, in pixels; by default as in training."""

    def of(self, about: Mapping[str, Any]) -> ClipConfig:
        """The clips for some weights: those of their checkpoint, with these changes.

        Raises:
            UserError: the clip settings are invalid.
        """
        changed = {name: value for name, value in asdict(self).items() if value is not None}
        return replace(clip_of(about.get("clip", {})), **changed)
