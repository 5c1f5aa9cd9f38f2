"""Files are recognised by content: raw streams, recorders, covers, and formats that are never opened."""

from __future__ import annotations

import io
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import numbered_frames
from test_data_verbs import output_of
from test_decode import check_against_everything, encode, moving_frames
from warm_dsm import dsm

from dsm.data.folders import find_list, find_videos
from dsm.data.lists import read_list
from dsm.video.decode import probe, read_frames
from dsm.video.ledger import judge
from dsm.video.source import FORMATS, NoVideoError, VideoError, open_video
from dsm.video.write import write_video


@pytest.mark.parametrize("name", ["a.h264", "a.264", "a", "a.bin", "a.mp4"])
def test_a_raw_stream_is_read_under_any_name(name: str, tmp_path: Path) -> None:
    encode(tmp_path / "raw.h264", "libx264", moving_frames()).rename(tmp_path / name)
    assert check_against_everything(tmp_path / name, trials=4) == 50
    assert judge(tmp_path / name).verdict == "ok"
    assert list(find_list(tmp_path / name).paths) == [name]


def y4m(path: Path, count: int = 8) -> Path:
    planes = bytes([128]) * (32 * 32 * 3 // 2)
    path.write_bytes(b"YUV4MPEG2 W32 H32 F25:1 C420\n" + (b"FRAME\n" + planes) * count)
    return path


def test_index_finds_videos_by_content(tmp_path: Path) -> None:
    folder = tmp_path / "camera"
    folder.mkdir()
    for name in ("cam1.h264", "cam2.264", "cam3.mp4"):
        encode(folder / name, "libx264", moving_frames())
    shutil.copy(folder / "cam3.mp4", folder / "cam4.dat")
    shutil.copy(folder / "cam3.mp4", folder / "cam5")
    shutil.copy(folder / "cam1.h264", folder / "cam6.dav")
    y4m(folder / "cam7.y4m")
    (folder / "README").write_text("of these videos")
    (folder / "x.dat").write_bytes(bytes(1000))
    result = dsm("data", "index", folder, "--unlabelled", "--out", folder / "list.txt")
    assert result.returncode == 0, output_of(result)
    assert [name.partition(".")[0] for name in read_list(folder / "list.txt").paths] == [
        f"cam{i}" for i in range(1, 8)
    ]


def test_files_of_common_recorders_are_read(shared: Path) -> None:
    folder = shared / "cases" / "06_recorder"
    if not folder.is_dir():
        pytest.skip("the shared cases are missing")
    found = find_videos(folder)
    assert [path.name for path in found] == ["cam1.h264", "cam2.264", "cam3.mp4", "cam4.dav"]
    assert [judge(path).frames for path in found] == [50] * 4


def test_demuxers_that_open_other_files_are_disabled() -> None:
    known = {name for names in av.formats_available for name in names.split(",")}
    allowed = set(FORMATS.split(","))
    assert allowed <= known, "this FFmpeg lacks one of the allowed names"
    never = {
        "hls", "dash", "concat", "sdp", "rtsp", "rtp", "sap", "image2", "image2pipe", "lavfi", "tee", "tty",
        "bin", "webm_dash_manifest", "vobsub", "fbdev", "alsa", "x11grab", "kmsgrab", "video4linux2",
        "ffmetadata", "rawvideo", "imf", "smoothstreaming", "segment", "txd",
    }  # fmt: skip
    assert not allowed & never
    assert not [name for name in allowed if name.endswith("_pipe")]


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n",
    "ffconcat": "ffconcat version 1.0\nfile '{}'\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
    "<AdaptationSet><Representation><BaseURL>{}</BaseURL></Representation></AdaptationSet></Period></MPD>",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
@pytest.mark.parametrize("ending", ["mp4", "m3u8", "sdp", "ffconcat", "mpd", "x"])
def test_playlists_are_refused(kind: str, ending: str, tmp_path: Path) -> None:
    write_video(tmp_path / "good.mp4", numbered_frames(8))
    path = tmp_path / f"list.{ending}"
    path.write_text(PLAYLISTS[kind].format("good.mp4"))
    with pytest.raises(VideoError):
        read_frames(path, [0])
    assert path not in [one for one in find_videos(tmp_path) if one.suffix != ".mp4"]


def test_a_file_name_pattern_opens_no_pictures(tmp_path: Path) -> None:
    for name in ("img_%03d.jpg", "img_*.jpg", "concat:a.mp4|b.mp4"):
        with pytest.raises(VideoError):
            read_frames(tmp_path / name, [0])


def with_cover(path: Path, cover_first: bool, film: bool = True) -> Path:
    """A video, or only sound, with a cover picture."""
    from PIL import Image

    picture = io.BytesIO()
    Image.fromarray(np.full((200, 200, 3), 255, np.uint8)).save(picture, "PNG")
    source = path.with_name("film.mp4")
    write_video(source, numbered_frames(10))
    with av.open(str(path), "w") as target, av.open(str(source)) as given:
        add = {}
        for kind in ("cover", "film") if cover_first else ("film", "cover"):
            if kind == "film" and film:
                add[kind] = target.add_stream_from_template(given.streams.video[0])
            elif kind == "cover":
                stream = target.add_stream("png", rate=1)
                stream.width = stream.height = 200
                stream.pix_fmt = "rgb24"
                stream.disposition = av.stream.Disposition.attached_pic
                add[kind] = stream
        if not film:
            sound = target.add_stream("aac", rate=8000)
        cover = av.Packet(picture.getvalue())
        cover.stream, cover.pts, cover.dts, cover.time_base = add["cover"], 0, 0, Fraction(1, 1000)
        target.mux(cover)
        if film:
            for packet in given.demux(video=0):
                if packet.size:
                    packet.stream = add["film"]
                    target.mux(packet)
        else:
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            samples.sample_rate = 8000
            target.mux(sound.encode(samples))
            target.mux(sound.encode(None))
    return path


@pytest.mark.parametrize("cover_first", [True, False])
def test_a_cover_picture_is_never_the_video(cover_first: bool, tmp_path: Path) -> None:
    path = with_cover(tmp_path / "a.mp4", cover_first)
    with av.open(str(path)) as container:
        covers = [bool(s.disposition & av.stream.Disposition.attached_pic) for s in container.streams.video]
    assert sorted(covers) == [False, True]
    assert (probe(path).frames, probe(path).width) == (10, 64)
    assert judge(path).frames == 10
    assert np.allclose(read_frames(path, [3]).mean(), 4 + 6 * 3, atol=2)


def test_audio_with_a_cover_picture_is_not_a_video(tmp_path: Path) -> None:
    path = with_cover(tmp_path / "sound.mp4", True, film=False)
    with pytest.raises(NoVideoError, match="cover picture"), open_video(path):
        pass
    assert judge(path).verdict == "no-video"
