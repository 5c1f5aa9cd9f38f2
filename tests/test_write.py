"""Written videos: read back, and the same bytes for the same frames."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest

from dsm.video.write import mp4_bytes, write_video


def moving_blocks(frames: int = 24, size: int = 40) -> np.ndarray:
    """Coloured blocks that slide to the right by three pixels per frame: (T, H, W, 3)."""
    blocks = np.random.default_rng(0).integers(0, 256, (size // 8, size // 8, 3)).astype(np.uint8)
    picture = blocks.repeat(8, axis=0).repeat(8, axis=1)
    return np.stack([np.roll(picture, 3 * t, axis=1) for t in range(frames)])


def test_a_written_video_is_read_back_nearly_unchanged(tmp_path: Path) -> None:
    frames = moving_blocks()
    write_video(tmp_path / "new" / "a.mp4", frames, fps=12)
    with av.open(str(tmp_path / "new" / "a.mp4")) as container:
        assert container.streams.video[0].average_rate == 12
        read = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert read.shape == frames.shape
    # Colours are stored at half the resolution, which smears the edges of the blocks.
    assert np.abs(read[:, 4::8, 4::8].astype(int) - frames[:, 4::8, 4::8]).mean() < 12


def test_a_video_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Unexpected numpy array shape"):
        write_video(tmp_path / "a.mp4", np.zeros((4, 40, 40, 2), np.uint8))
    assert not list(tmp_path.iterdir())


def test_x264_runs_without_its_macroblock_tree() -> None:
    # With its macroblock tree, x264 reads memory there that nobody wrote, on processors with AVX-512:
    # one encoding of some thousands came out otherwise, too seldom for a test to wait for it. So this
    # asks the file, in which x264 notes its settings.
    assert b"mbtree=0" in mp4_bytes(moving_blocks())


def test_a_video_is_encoded_in_memory() -> None:
    with av.open(io.BytesIO(mp4_bytes(moving_blocks()))) as container:
        assert sum(1 for _ in container.decode(video=0)) == 24
