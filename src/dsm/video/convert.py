"""Convert decoded frames to arrays of one size."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from dsm.limits import MAX_PIXELS
from dsm.video.source import video_stream

if TYPE_CHECKING:
    from av.container import InputContainer


def fit_short_side(width: int, height: int, short_side: int | None, square: bool = False) -> tuple[int, int]:
    """(width, height) scaled so that the shorter one is ``short_side``, or unchanged for None.

    ``square``: make both as long as the shorter one, whatever the aspect ratio.
    """
    if square:
        return (short_side or min(width, height),) * 2
    if short_side is None or min(width, height) == short_side:
        return width, height
    scale = short_side / min(width, height)
    return max(round(width * scale), short_side), max(round(height * scale), short_side)


class Converter:
    """Converts frames to RGB; swscale also resizes them, and they are rotated as the file specifies.

    All frames get the same size, even if the file changes size midway: that of ``width`` and ``height``,
    or of the first frame if these are 0.
    """

    def __init__(
        self,
        short_side: int | None,
        width: int = 0,
        height: int = 0,
        form: str = "rgb24",
        *,
        square: bool = False,
    ) -> None:
        self._reformatter = VideoReformatter()
        self._short_side, self._form, self._square = short_side, form, square
        self._size = fit_short_side(width, height, short_side, square) if width and height else None

    def __call__(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """uint8 (H, W, 3), or (H, W) for a format with one plane."""
        self._size = self._size or fit_short_side(frame.width, frame.height, self._short_side, self._square)
        width, height = self._size
        if (
            width * height > MAX_PIXELS
        ):  # a single line of pixels becomes huge when its shorter side is scaled up
            raise ValueError(f"{frame.width} x {frame.height} pixels would become {width} x {height}")
        form = self._form
        if form == "rgb24" and (width, height) != (frame.width, frame.height):
            form = "gbrp"  # the same picture, but swscale is twice as fast with one plane per colour
        # threads=1: otherwise swscale starts a thread pool for every frame, which is six times slower.
        picture = self._reformatter.reformat(
            frame, width=width, height=height, format=form, interpolation="BILINEAR", threads=1
        )
        image = cast("NDArray[np.uint8]", picture.to_ndarray())
        return np.rot90(image, frame.rotation // 90) if frame.rotation % 360 else image


def converter(container: InputContainer, short_side: int | None, *, square: bool = False) -> Converter:
    """A converter for the frames of an open video."""
    codec = video_stream(container).codec_context
    return Converter(short_side, codec.width, codec.height, square=square)
