"""Opening untrusted video files.

A file is read on one thread, so that many loader workers do not compete for the cores. It may be
broken, no video at all, or malicious: only regular files are opened, only as video containers
(FFmpeg would fetch whatever a playlist names), and the size of pictures is limited.
"""

from __future__ import annotations

import io
import os
import stat
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import av
from av.stream import Disposition

from dsm.errors import UserError, refuse_machine_fault
from dsm.limits import MAX_PIXELS
from dsm.storage.client import seconds_waited
from dsm.storage.objects import at_hand
from dsm.urls import shown
from dsm.video.containers import format_of, tables_of

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream


EXTENSIONS = frozenset(
    (".264", ".265", ".3g2", ".3gp", ".asf", ".avi", ".dav", ".divx", ".dv", ".f4v", ".flv", ".gif", ".h264",
     ".h265", ".hevc", ".ivf", ".m2t", ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4",
     ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".ts", ".vob", ".webm",
     ".wmv", ".y4m")
)  # fmt: skip
"""The usual file endings of videos: only a hint. The content decides what a file is."""
# The FFmpeg demuxers that may be tried on a file, whatever its name. Each reads only the file it is given:
# none follows playlists, opens devices or the network, or renders text.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,flv,live_flv,kux,ogg,asf,asf_o,wtv,rm,nut,nuv,nsv,"
    "dv,mxf,swf,pmp,gxf,lxf,lmlm4,pva,ty,vivo,psp,dhav,hxvs,ifv,mtv,r3d,cine,ser,mlv,xmv,yop,rpl,avs"
)
_STREAMS = (
    "mpegvideo,m4v,h261,h263,h264,hevc,vvc,evc,av1,obu,ivf,vc1,vc1test,cavsvideo,avs2,avs3,dirac,dnxhd,mjpeg,"
    "mjpeg_2000,smjpeg,mpjpeg,ingenient,ipu,yuv4mpegpipe,gif,apng,jpegxl_anim"
)
_GAMES = (
    "4xm,bethsoftvid,bfi,bink,c93,cdxl,dfa,dxa,ea,film_cpk,filmstrip,flic,frm,hnm,idcin,ipmovie,iv8,jv,mm,mods,"
    "moflex,msnwctcp,mv,mvi,paf,psxstr,roq,smk,smush,thp,tiertexseq,tmv,usm,vmd,wc3movie,xa,amv,anm,argo_brp"
)
# Audio formats are included so that audio files are recognised rather than reported as broken.
_SOUND = "wav,w64,mp3,flac,aac,ac3,eac3,aiff,amr,au,caf,ape,wv,tta,dts,truehd"
FORMATS = ",".join((_CONTAINERS, _STREAMS, _GAMES, _SOUND))


# After this many tries without a packet, a file is taken to be at its end.
_TRIES = 8

Source = str | Path | bytes
"""The path of a video, or the content of a video file."""


VerdictName = Literal[
    "ok", "short", "truncated", "damaged", "undecodable", "no-video", "missing", "empty", "timeout"
]
"""The possible verdicts on a video."""


class VideoError(UserError):
    """A video is missing or cannot be read; the message names the file."""

    verdict: VerdictName = "undecodable"


@dataclass(frozen=True)
class BadVideo:
    """A video of a list that cannot be read."""

    index: int
    verdict: VerdictName
    reason: str

    def error(self) -> VideoError:
        """The error to raise if the work cannot continue without the video."""
        error = VideoError(self.reason)
        error.verdict = self.verdict
        return error


class MissingVideoError(VideoError):
    """There is no file at this path: a wrong path or root, not a broken video."""

    verdict = "missing"


class EmptyVideoError(VideoError):
    """The file is empty."""

    verdict = "empty"


class NoVideoError(VideoError):
    """The file can be opened, but contains no video."""

    verdict = "no-video"


class SlowVideoError(VideoError):
    """Reading a video exceeded its time limit."""

    verdict = "timeout"


class Deadline:
    """A time limit for a read, checked between frames; waiting for storage does not count."""

    def __init__(self, source: Source, seconds: float | None) -> None:
        self._source, self._seconds = source, seconds
        self._end = time.monotonic() - seconds_waited() + seconds if seconds is not None else None

    def check(self) -> None:
        """Raise SlowVideoError if the time limit is exceeded."""
        if self._end is not None and time.monotonic() - seconds_waited() > self._end:
            raise SlowVideoError(f"{name_of(self._source)}: not read within {self._seconds:g} s.")


def name_of(source: Source) -> str:
    """The name of a video in messages."""
    return "video in memory" if isinstance(source, bytes) else shown(source)


@contextmanager
def open_video(source: Source, *, strict: bool = False, counts: bool = False) -> Iterator[InputContainer]:
    """Open a video; FFmpeg errors inside the block become VideoErrors too.

    Args:
        strict: the decoder reports each fault that it finds. Otherwise it conceals many, filling holes from
            whichever pictures it decoded before.
        counts: the block only counts packets. FFmpeg then decodes nothing on opening, except for files whose
            content it can find out in no other way; this takes a fraction of the time.

    Raises:
        MissingVideoError: the file does not exist. VideoError: it is not a regular file, holds no video
            stream, or cannot be decoded. StorageError: it is a URL that cannot be read.
    """
    if isinstance(source, bytes):
        with _opened(io.BytesIO(source), source, strict, None) as container:
            yield container
        return
    # An absolute path: FFmpeg would take text before a colon for a protocol.
    with video_at_hand(source) as local:
        file = os.path.abspath(_regular(local, source))
        with _opened(file, source, strict, format_of(Path(file)) if counts else None) as container:
            yield container


@contextmanager
def video_at_hand(source: str | Path) -> Iterator[Path]:
    """As ``at_hand`` of ``dsm.storage.objects``, for videos.

    Raises:
        MissingVideoError: there is no such object. StorageError: it cannot be read.
    """
    with ExitStack() as stack:
        try:
            local = stack.enter_context(at_hand(source))
        except FileNotFoundError as error:
            raise MissingVideoError(str(error)) from None
        yield local


@contextmanager
def _opened(
    file: str | io.BytesIO, source: Source, strict: bool, counted_as: str | None
) -> Iterator[InputContainer]:
    """Open a file; ``counted_as``: its format, if its packets are only to be counted."""
    tables = tables_of(Path(file)) if isinstance(file, str) else None
    if tables and tables.too_many:
        raise VideoError(f"{name_of(source)}: lists far more frames than fit into a file of its size.")
    no_decoder = {"codec_whitelist": "none"} if counted_as else {}
    try:
        with av.open(
            file,
            mode="r",
            format=counted_as,
            metadata_errors="replace",  # some avi files have metadata that is not UTF-8
            options={"format_whitelist": FORMATS, "protocol_whitelist": "file"} | no_decoder,
        ) as container:
            if not container.streams.video:
                raise NoVideoError(f"{name_of(source)}: contains no video stream.")
            if all(map(_is_cover, container.streams.video)):
                raise NoVideoError(f"{name_of(source)}: contains no video stream, only a cover picture.")
            codec = video_stream(container).codec_context
            if codec is None:
                raise VideoError(f"{name_of(source)}: FFmpeg does not support its codec.")
            if codec.width * codec.height > MAX_PIXELS:
                raise VideoError(f"{name_of(source)}: {codec.width} x {codec.height} pixels are too many.")
            codec.thread_count = 1
            codec.options = {"max_pixels": str(MAX_PIXELS)} | ({"err_detect": "explode"} if strict else {})
            yield container
    except (av.FFmpegError, EOFError, ValueError) as error:
        refuse_machine_fault(error, reading=name_of(source))
        why = reason_of(error)
        if tables and not tables.indexed:
            why = "its index, the moov box, is missing, as after a power cut while recording"
        raise VideoError(f"{name_of(source)}: cannot be decoded ({why}).") from error


def video_stream(container: InputContainer) -> VideoStream:
    """The video stream to read: the best according to FFmpeg, but never a cover picture."""
    moving = [stream for stream in container.streams.video if not _is_cover(stream)]
    if len(moving) < 2:
        return moving[0]
    known = [stream for stream in moving if stream.codec_context is not None]
    best = container.streams.best("video")
    return next((stream for stream in known if stream is best), (known or moving)[0])


def read_packets(
    container: InputContainer, on_error: Callable[[Exception], None]
) -> Iterator[Packet[VideoStream]]:
    """The non-empty packets of the video stream; reading continues after container errors.

    Args:
        on_error: called with each error.
    """
    stream = video_stream(container)
    tries = 0
    while tries < _TRIES:
        try:
            # Close it, because PyAV leaks a packet otherwise.
            with closing(cast("Generator[Packet[VideoStream]]", container.demux(stream))) as packets:
                for packet in packets:
                    if packet.size:
                        tries = 0
                        yield packet
            return
        except EOFError:
            return
        except av.FFmpegError as error:
            refuse_machine_fault(error, reading=container.name)
            on_error(error)
            tries += 1


def _is_cover(stream: VideoStream) -> bool:
    """Whether a stream is a cover or thumbnail picture that accompanies sound or video."""
    return bool(stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails))


def reason_of(error: Exception) -> str:
    """The error message of FFmpeg, without the path that it repeats."""
    return getattr(error, "strerror", None) or str(error)


def _regular(path: Path, source: str | Path) -> Path:
    name = name_of(source)
    try:
        facts = path.stat()
    except ValueError:
        raise MissingVideoError(f"{name!r}: is not a valid file name.") from None
    except OSError as error:
        if isinstance(error, PermissionError):
            raise VideoError(f"{name}: cannot be read ({error.strerror}).") from None
        raise MissingVideoError(f"{name}: no such file.") from None
    if stat.S_ISDIR(facts.st_mode):
        raise VideoError(f"{name}: is a folder, not a video file.")
    if not stat.S_ISREG(facts.st_mode):  # reading a pipe would block
        raise VideoError(f"{name}: is not a regular file.")
    if facts.st_size == 0:
        raise EmptyVideoError(f"{name}: is empty.")
    return path
