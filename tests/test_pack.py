"""A pack gives the frames of its videos, continues after a stop, and is not trusted blindly."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from test_data_verbs import output_of
from test_decode import encode, moving_frames
from warm_dsm import dsm

from dsm.data.clips import EvaluationClips
from dsm.data.lists import VideoList, read_list, write_list
from dsm.data.settings import ClipConfig
from dsm.video import ledger
from dsm.video.decode import probe, read_frames
from dsm.video.ledger import judge
from dsm.video.pack import find_member, in_pack
from dsm.video.source import MissingVideoError, VideoError
from dsm.video.times import frame_times
from dsm.video.write import write_frames, write_shard
from dsm.views import LUMA


@pytest.fixture
def five(tmp_path: Path) -> Path:
    """A list of five videos, the fourth of them broken."""
    names = [f"class {i % 2}/v{i}.mp4" for i in range(5)]
    for i, name in enumerate(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        encode(tmp_path / name, "libx264", moving_frames(20 + i))
    (tmp_path / names[3]).write_bytes(b"rubbish")
    labels = np.arange(5) % 2
    write_list(tmp_path / "list.txt", VideoList(names, labels, np.arange(20, 25), tmp_path))
    return tmp_path / "list.txt"


def pack(five: Path, out: Path, *words: object) -> VideoList:
    result = dsm("data", "pack", five, "--out", out, "--short-side", "48", "--shard-videos", "2", *words)
    assert result.returncode == 0, output_of(result)
    return read_list(out / "list.txt")


def test_folders_of_frames_are_packed_too(five: Path, tmp_path: Path) -> None:
    result = dsm("data", "frames", five, "--out", tmp_path / "frames", "--workers", "1")
    assert result.returncode == 0, output_of(result)
    folders = read_list(tmp_path / "frames" / "list.txt")
    packed = pack(tmp_path / "frames" / "list.txt", tmp_path / "pack")
    assert packed.frames.tolist() == folders.frames.tolist() == [20, 21, 22, 24]
    for place in range(4):
        one, two = (read_frames(videos.file(place), [3, 17], 48) for videos in (packed, folders))
        assert np.abs((one.astype(float) - two) @ LUMA).mean() < 3


def test_a_video_whose_pictures_are_all_lost_is_left_out(tmp_path: Path) -> None:
    whole, lost = tmp_path / "whole.mp4", tmp_path / "lost.mp4"
    encode(whole, "libx264", moving_frames(20))
    content = bytearray(whole.read_bytes())
    with av.open(str(whole)) as container:
        for packet in container.demux(video=0):
            if packet.size and packet.pos is not None:
                content[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    lost.write_bytes(content)
    left_out = write_shard(tmp_path / "shard.tar", [("lost", lost), ("whole", whole)], 48)
    assert left_out == {"lost": f"{lost}: no frame can be decoded."}
    assert find_member(tmp_path / "shard.tar", "whole").frames == 20


def test_a_folder_of_flow_is_not_packed_as_pictures(tmp_path: Path) -> None:
    for axis in "xy":
        Image.fromarray(np.zeros((48, 48), np.uint8)).save(tmp_path / f"flow_{axis}_00001.jpg")
    left_out = write_shard(tmp_path / "shard.tar", [("flow", tmp_path)], 48)
    assert "contains optical flow, which a pack cannot store" in left_out["flow"]


def test_a_pack_is_read_like_its_videos(five: Path, tmp_path: Path) -> None:
    packed, videos = pack(five, tmp_path / "pack"), read_list(five)
    assert list(packed.paths) == [
        "shard-00000.tar/class 0/v0", "shard-00000.tar/class 1/v1", "shard-00001.tar/class 0/v2",
        "shard-00002.tar/class 0/v4",
    ]  # fmt: skip
    assert packed.labels.tolist() == [0, 1, 0, 0]
    assert packed.frames.tolist() == [20, 21, 22, 24]
    for place, original in enumerate((0, 1, 2, 4)):
        file = packed.file(place)
        numbers = [17, 3, 3, packed.frames[place] + 1]
        found, expected = read_frames(file, numbers, 48), read_frames(videos.file(original), numbers, 48)
        assert found.shape == expected.shape == (4, 48, 72, 3)
        # Colours are stored at half the size; lightness is unchanged.
        assert np.abs(found @ LUMA - expected @ LUMA).mean() < 4
        assert probe(file).frames == packed.frames[place]
        assert np.allclose(frame_times(file), np.arange(packed.frames[place]) / 25)
        assert judge(file).verdict == "ok"
    clip = ClipConfig(frames=4, stride=2, resize=32, size=32)
    assert EvaluationClips(packed, clip, 2)[3]["clips"].shape == (2, 4, 32, 32, 3)  # type: ignore[index]


def test_a_pack_cannot_be_packed_or_written_as_frames(five: Path, tmp_path: Path) -> None:
    file = pack(five, tmp_path / "pack").file(0)
    left_out = write_shard(tmp_path / "again.tar", [("v", file)], 48)
    assert left_out["v"].endswith("is in a pack; use the list of the videos that were packed.")
    with pytest.raises(VideoError, match="is in a pack"):
        write_frames(file, tmp_path / "frames", None, 90)


def test_a_long_packed_video_is_checked_in_parts(five: Path, tmp_path: Path) -> None:
    file = pack(five, tmp_path / "pack").file(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger, "_AT_ONCE", 8)
        patch.setattr(ledger, "read_frames", lambda _, some: parts.append(list(some)))
        parts: list[list[int]] = []
        assert judge(file).frames == 20
    assert [len(part) for part in parts] == [8, 8, 4]
    assert [number for part in parts for number in part] == list(range(20))


def test_squeezing_to_a_square_cuts_nothing_off(five: Path, tmp_path: Path) -> None:
    packed, videos = pack(five, tmp_path / "pack", "--square"), read_list(five)
    found, wide = read_frames(packed.file(0), [3], 48)[0], read_frames(videos.file(0), [3], 48)[0]
    assert found.shape == (48, 48, 3)
    columns = np.linspace(0, wide.shape[1] - 1, 48).round().astype(int)
    assert np.abs(found @ LUMA - wide[:, columns] @ LUMA).mean() < 12
    other = dsm("data", "pack", five, "--out", tmp_path / "pack", "--short-side", "48", "--shard-videos", "2")
    assert other.returncode == 2  # the same pack, not squeezed
    assert "with other settings" in other.stderr
    result = dsm("data", "frames", five, "--out", tmp_path / "frames", "--short-side", "48", "--square")
    assert result.returncode == 0, output_of(result)
    assert read_frames(read_list(tmp_path / "frames" / "list.txt").file(0), [3]).shape == (1, 48, 48, 3)


def test_a_shard_is_a_plain_tar_file(five: Path, tmp_path: Path) -> None:
    pack(five, tmp_path / "pack")
    with tarfile.open(tmp_path / "pack" / "shard-00000.tar") as tar:
        names = tar.getnames()
        member = tar.extractfile("000001.npy")
        assert member is not None
        array = np.load(io.BytesIO(member.read()), allow_pickle=False)
    assert names == ["000000.npy", "000000.crc32", "000001.npy", "000001.crc32"]
    assert array.shape == (21, 72, 72)


def test_a_stopped_pack_continues_and_another_is_refused(five: Path, tmp_path: Path) -> None:
    out = tmp_path / "pack"
    pack(five, out)
    shards = sorted(out.glob("*.tar"))
    kept = shards[0].stat().st_mtime_ns
    shards[1].with_suffix(".json").unlink()
    shards[1].unlink()
    pack(five, out)
    assert shards[0].stat().st_mtime_ns == kept
    assert shards[1].exists()
    other = dsm("data", "pack", five, "--out", out, "--short-side", "32")
    assert other.returncode == 2
    assert "with other settings" in output_of(other)


def test_paths_out_of_a_shard_are_refused(five: Path, tmp_path: Path) -> None:
    packed = pack(five, tmp_path / "pack")
    index = tmp_path / "pack" / "shard-00000.json"
    good = json.loads(index.read_text())
    name = "class 0/v0"
    offset, frames, height, width, fps, *_ = good["members"][name]
    del good["crc32"]  # what is wrong in these was wrong when they were written
    wrong = [
        [offset, 10**9, height, width, fps], [-1, frames, height, width, fps],
        [offset, 0, height, width, fps], [offset, frames, height + 1, width, fps],
        [offset, frames, 2**40, 2**40, fps], ["x", 1, 2, 2, 1], [offset, frames], None,
    ]  # fmt: skip
    for row in wrong:
        good["members"][name] = row
        index.write_text(json.dumps(good))
        with pytest.raises(VideoError, match="is not the index of a pack"):
            read_frames(packed.file(0), [0])
    with pytest.raises(MissingVideoError, match="contains no video"):
        find_member(tmp_path / "pack" / "shard-00001.tar", "none")
    with pytest.raises(MissingVideoError, match="no such shard"):
        read_frames(tmp_path / "none.tar" / "a", [0])


def test_only_a_path_into_a_tar_is_a_pack_path() -> None:
    assert in_pack("a/b.tar/c d/e") == (Path("a/b.tar"), "c d/e")
    assert in_pack("a/b.tar") is None
    assert in_pack(b"a/b.tar/c") is None


def test_a_pack_of_another_list_of_as_many_videos_is_refused(five: Path, tmp_path: Path) -> None:
    pack(five, tmp_path / "pack")
    videos = read_list(five)
    write_list(five, videos.part(np.array([4, 0, 1, 2, 3]), tmp_path))
    other = dsm("data", "pack", five, "--out", tmp_path / "pack", "--short-side", "48", "--shard-videos", "2")
    assert other.returncode == 2
    assert "with other settings" in output_of(other)


def test_a_folder_named_like_a_shard_is_not_one(five: Path, tmp_path: Path) -> None:
    videos = read_list(five)
    inside = tmp_path / "unpacked.tar" / "v0.mp4"
    inside.parent.mkdir()
    inside.write_bytes(videos.file(0).read_bytes())
    assert in_pack(inside) is None
    assert probe(inside).frames == 20
    assert judge(inside).verdict == "ok"
    packed = pack(five, tmp_path / "more.tar" / "pack.tar")  # a pack inside a folder named like a tar file
    assert [probe(packed.file(place)).frames for place in range(4)] == [20, 21, 22, 24]
    assert in_pack("nowhere/shard.tar/x.tar/name") == (Path("nowhere/shard.tar"), "x.tar/name")
