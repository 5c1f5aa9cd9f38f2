"""From an open video to arrays of one size."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from dsm.video.source import MAX_PIXELS, video_stream

if TYPE_CHECKING:
    from av.container import InputContainer


def fit_short_side(width: int, height: int, short_side: int | None, square: bool = False) -> tuple[int, int]:
    """(width, height) scaled so that the shorter one is ``short_side``, or unchanged for None.

    ``square``: both are as the shorter one then, whatever becomes of shapes.
    """
    if square:
        return (short_side or min(width, height),) * 2
    if short_side is None or min(width, height) == short_side:
        return width, height
    scale = short_side / min(width, height)
    return max(round(width * scale), short_side), max(round(height * scale), short_side)


class Converter:
    """Frames to RGB, resized on the way inside swscale, and turned as the file asks for.

    All get one size, whatever sizes a file changes to on its way: that of ``width`` and ``height``,
    or of the first frame where these are 0.
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
        """uint8 (H, W, 3), or (H, W) where the format is of one plane."""
        self._size = self._size or fit_short_side(frame.width, frame.height, self._short_side, self._square)
        width, height = self._size
        if width * height > MAX_PIXELS:  # a line of pixels, brought to a shorter side of many, is huge
            raise ValueError(f"{frame.width} x {frame.height} pixels would become {width} x {height}")
        form = self._form
        if form == "rgb24" and (width, height) != (frame.width, frame.height):
            form = "gbrp"  # the same picture, but in one plane a colour swscale is twice as fast
        # threads=1: swscale would otherwise start a thread pool for every frame, six times as slow.
        picture = self._reformatter.reformat(
            frame, width=width, height=height, format=form, interpolation="BILINEAR", threads=1
        )
        image = cast("NDArray[np.uint8]", picture.to_ndarray())
        return np.rot90(image, frame.rotation // 90) if frame.rotation % 360 else image


def converter(container: InputContainer, short_side: int | None, *, square: bool = False) -> Converter:
    """What turns the frames of an open video to RGB of one size."""
    codec = video_stream(container).codec_context
    return Converter(short_side, codec.width, codec.height, square=square)
