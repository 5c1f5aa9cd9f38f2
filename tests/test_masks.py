"""Given masks of actors: where they are found, which frames they belong to, and what counts as an actor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from test_decode import encode

from dsm.data.clips import EvaluationClips
from dsm.data.lists import VideoList
from dsm.data.settings import ClipConfig
from dsm.errors import UserError
from dsm.evaluate.masks import Masks
from dsm.video.write import write_video

CLIP = ClipConfig(frames=4, stride=3, resize=40, size=32)
COUNT, SIDE = 40, 64
Frames = NDArray[np.uint8]


def growing(count: int = COUNT) -> Frames:
    """A white bar from the left edge; its width tells the frame: (T, H, W, 3)."""
    frames = np.zeros((count, SIDE, SIDE, 3), np.uint8)
    for number, frame in enumerate(frames):
        frame[:, : SIDE * (number + 1) // count] = 255
    return frames


def listed(root: Path, *paths: str, frames: int = COUNT) -> VideoList:
    return VideoList(
        list(paths), np.arange(len(paths)) % 2, np.full(len(paths), frames), root, source="list.txt"
    )


def write_pictures(folder: Path, frames: Frames, mode: str = "RGB", palette: list[int] | None = None) -> None:
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames):
        picture = Image.fromarray(frame[..., 0] if mode in ("L", "P") else frame)
        if palette is not None:
            picture = picture.convert("P")
            picture.putdata(frame[..., 0].ravel().tolist())
            picture.putpalette(palette)
        picture.save(folder / f"{number:03d}.png")


def bright(videos: VideoList, clip: ClipConfig, windows: int, index: int = 0) -> torch.Tensor:
    """Where the clips themselves are bright: (W, 1, T, S, S)."""
    clips = EvaluationClips(videos, clip, windows).sample(index)["clips"]
    return (clips.float().mean(-1) / 255 >= 0.5).float()[:, None]


def alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two masks agree but for the edge of the bar."""
    return one.shape == other.shape and float((one != other).float().mean()) <= 2 / CLIP.size


def test_a_mask_is_looked_for_inside_its_folder_only(tmp_path: Path) -> None:
    for folder in ("lists", "videos", "masks"):
        (tmp_path / folder).mkdir()
    write_video(tmp_path / "videos" / "a.mp4", growing())
    with pytest.raises(UserError, match=r"\.\./videos/a\.mp4: leads out of the list's folder"):
        Masks(tmp_path / "masks", listed(tmp_path / "lists", "../videos/a.mp4"), CLIP, 1)
    with pytest.raises(UserError, match="is the video itself"):
        Masks(tmp_path / "videos", listed(tmp_path / "videos", "a.mp4"), CLIP, 1)
    write_video(tmp_path / "masks" / "videos" / "a.mp4", growing())
    inner = Masks(tmp_path / "masks", listed(tmp_path, "lists/../videos/a.mp4"), CLIP, 1)
    assert inner.files == [tmp_path / "masks/videos/a.mp4"]


def test_only_the_ending_of_a_video_is_left_out(tmp_path: Path) -> None:
    for name in ("v.1", "v.2"):
        write_pictures(tmp_path / name, growing())
        write_pictures(tmp_path / "masks" / name, growing())
    write_video(tmp_path / "b.mp4", growing())
    write_video(tmp_path / "masks" / "b.mp4", growing())
    masks = Masks(tmp_path / "masks", listed(tmp_path, "v.1", "v.2", "b.mp4"), CLIP, 1)
    assert [file.name for file in masks.files] == ["v.1", "v.2", "b.mp4"]


def test_a_segment_has_the_masks_of_its_seconds(tmp_path: Path) -> None:
    write_video(tmp_path / "b.mp4", growing(), fps=10)
    write_video(tmp_path / "masks" / "b.mp4", growing(), fps=10)
    videos = listed(tmp_path, "b.mp4#0-1.5", "b.mp4#2-3.5", frames=15)
    masks = Masks(tmp_path / "masks", videos, CLIP, 2)
    found = [masks.of(index) for index in range(2)]
    assert all(alike(found[index], bright(videos, CLIP, 2, index)) for index in range(2))
    assert found[0].mean() < found[1].mean() - 0.2


def test_masks_are_of_the_frames_that_a_clip_shows(tmp_path: Path) -> None:
    """Also where the video has a gap in time or is resampled, and its masks have no times."""
    times = [40 * number + 7200_000 * (number >= COUNT // 3) for number in range(COUNT)]
    encode(tmp_path / "gap.mp4", "libx264", growing(), times, gop="10")
    write_pictures(tmp_path / "masks" / "gap", growing())
    videos = listed(tmp_path, "gap.mp4")
    masks = Masks(tmp_path / "masks", videos, CLIP, 3)
    assert alike(masks.of(0), bright(videos, CLIP, 3))
    slow = replace(CLIP, fps=5.0, stride=1)
    assert alike(Masks(tmp_path / "masks", videos, slow, 3).of(0), bright(videos, slow, 3))
    # The list says one frame too many; the file has as many as there are masks.
    wrong = listed(tmp_path, "gap.mp4", frames=COUNT + 1)
    assert alike(Masks(tmp_path / "masks", wrong, CLIP, 3).of(0), bright(wrong, CLIP, 3))


@pytest.mark.parametrize("kind", ["zero and one", "palette"])
def test_all_that_is_not_black_is_an_actor(tmp_path: Path, kind: str) -> None:
    write_video(tmp_path / "a.mp4", growing())
    numbers = (growing() > 0).astype(np.uint8)  # actors are 1
    if kind == "palette":  # as DAVIS has it
        write_pictures(tmp_path / "masks" / "a", numbers, "P", [0, 0, 0, 128, 0, 0])
    else:
        write_pictures(tmp_path / "masks" / "a", numbers, "L")
    videos = listed(tmp_path, "a.mp4")
    assert alike(Masks(tmp_path / "masks", videos, CLIP, 2).of(0), bright(videos, CLIP, 2))


def test_masks_without_an_actor_or_of_another_shape_are_refused(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", growing())
    write_pictures(tmp_path / "black" / "a", growing() * 0)
    with pytest.raises(UserError, match="no mask shows an actor"):
        Masks(tmp_path / "black", listed(tmp_path, "a.mp4"), CLIP, 1)
    write_pictures(tmp_path / "wide" / "a", growing()[:, : SIDE // 2])
    with pytest.raises(UserError, match=r"64 x 32 pixels, another shape than the video's"):
        Masks(tmp_path / "wide", listed(tmp_path, "a.mp4"), CLIP, 1)
    # Masks of half the size are of the same picture.
    write_pictures(tmp_path / "small" / "a", growing()[:, ::2, ::2])
    videos = listed(tmp_path, "a.mp4")
    assert alike(Masks(tmp_path / "small", videos, CLIP, 1).of(0), bright(videos, CLIP, 1))
