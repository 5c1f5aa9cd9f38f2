"""Reading by URL, from a server on the loopback: the same bytes as from files, whatever the network does."""

from __future__ import annotations

import math
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import numbered_frames
from stores import DRIP, Fault, Store, http_store

from dsm.data.clips import EvaluationClips
from dsm.data.folders import find_list
from dsm.data.lists import VideoList, read_list, write_list
from dsm.data.reading_state import ReadingState
from dsm.data.settings import ClipConfig
from dsm.errors import UserError
from dsm.evaluate.features import Features
from dsm.evaluate.footage import footage_of
from dsm.files import written_aside
from dsm.pages.gallery import clip_frames
from dsm.storage import cache, client, objects
from dsm.storage.client import StorageError
from dsm.urls import absolute, is_url, joined, shown
from dsm.verbs.pack import pack
from dsm.video.decode import probe, read_frames
from dsm.video.ledger import judge_all
from dsm.video.pack import read_packed
from dsm.video.source import Deadline, MissingVideoError, VideoError
from dsm.video.times import frame_times
from dsm.video.write import write_video

CLIP = ClipConfig(frames=4, stride=2, resize=48, size=40)


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of the test's own, and faults that cost no time."""
    monkeypatch.setenv(cache.FOLDER, str(tmp_path / "cache"))
    monkeypatch.delenv(cache.GB, raising=False)
    monkeypatch.setattr(client, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(client, "SILENCE", 0.5)
    objects.forget_all()
    client._answered.clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "served"
    folder.mkdir()
    return folder


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    with http_store(folder) as store:
        yield store


@pytest.fixture
def blob(folder: Path) -> bytes:
    """An object of three blocks."""
    content = np.random.default_rng(0).bytes(2 * objects.BLOCK + 12345)
    (folder / "blob").write_bytes(content)
    return content


@pytest.fixture
def packed(folder_of_videos: Path, small_list: Path, folder: Path) -> Path:
    pack(videos=small_list, out=folder / "pack", short_side=48, workers=1)
    return folder / "pack"


def cached() -> list[Path]:
    return sorted(cache.cache_folder().iterdir())


def test_names() -> None:
    assert [is_url(name) for name in ("s3://b/k", "s3:/b/k", "C:/videos", "a/b.mp4", "hf:owner/model")] == [
        True, True, False, False, False,
    ]  # fmt: skip
    root = Path("s3://bucket/lists")
    assert shown(root) == "s3://bucket/lists" == absolute(root)
    assert shown(joined(root, "a/b.mp4#1-2")) == "s3://bucket/lists/a/b.mp4#1-2"
    assert shown(joined(root, "../videos/./a.mp4")) == "s3://bucket/videos/a.mp4"
    assert shown(joined(Path("local"), "https://host/a.mp4")) == "https://host/a.mp4"
    assert joined(Path("local"), "../a.mp4") == Path("local/../a.mp4")
    for name in ("/etc/passwd", "~/a.mp4", "../../a.mp4", "../../../etc/passwd"):
        with pytest.raises(UserError, match="names"):
            joined(root, name)


def test_videos_by_url_are_as_their_files(store: Store, folder: Path) -> None:
    write_video(folder / "clip 1.mp4", numbered_frames(30), gop=5)
    url, local = Path(f"{store.url}/clip 1.mp4"), folder / "clip 1.mp4"
    for path in (url, Path(f"{url}#0.25-1")):
        same = local if path == url else Path(f"{local}#0.25-1")
        assert np.array_equal(read_frames(path, [3, 9, 40, 3], 32), read_frames(same, [3, 9, 40, 3], 32))
        assert probe(path) == probe(same)
        assert np.array_equal(frame_times(path), frame_times(same))
    signed = find_list(f"{url}?signed=by%2Fme")
    assert np.array_equal(read_frames(signed.file(0), [3]), read_frames(local, [3]))
    assert [one.verdict for one in judge_all([url, f"{url}x"], workers=1)] == ["ok", "missing"]
    with pytest.raises(MissingVideoError, match=r"clip 2\.mp4: no such object"):
        read_frames(Path(f"{store.url}/clip 2.mp4"), [0])


def test_features_are_shown_by_the_url_that_their_owner_gives(store: Store, folder: Path) -> None:
    write_video(folder / "a.mp4", numbered_frames(12))
    features = Features(np.zeros((2, 2), np.float32), np.zeros(2, np.int64), ["a.mp4", "../a.mp4"])
    here, there = (features.rooted(root) for root in (folder, Path(f"{store.url}/")))
    assert np.array_equal(clip_frames(there, 0), clip_frames(here, 0))
    with pytest.raises(VideoError, match="leads out"):
        clip_frames(there, 1)
    assert footage_of(there).pixels == [(64, 48), (0, 0)]
    objects.forget(f"{store.url}/a.mp4")
    store.faults = [("GET", "a.mp4", "403")]
    with pytest.raises(StorageError):  # the size that decides which duplicate is kept is not unknown
        footage_of(there)


def test_a_list_by_url_is_as_its_file(store: Store, small_list: Path, folder: Path) -> None:
    folder_of = small_list.parent
    folder_of.rename(folder / "videos")
    (folder / "videos/classes.txt").write_text("walk\nwave\n")
    local, far = (read_list(path) for path in (folder / "videos/list.txt", f"{store.url}/videos/list.txt"))
    assert list(far.paths) == list(local.paths)
    assert far.digest(rooted=False) == local.digest(rooted=False)
    for place in range(len(local)):
        assert np.array_equal(read_frames(far.file(place), [5]), read_frames(local.file(place), [5]))
    part = far.part(np.array([2]), Path("elsewhere"))
    assert part.paths == [f"{store.url}/videos/{local.paths[2]}"]
    assert shown(part.file(0)) == part.paths[0]
    # A list of this machine may name URLs; a list from elsewhere may not name files of this machine.
    written = write_list(folder.parent / "mixed.txt", VideoList(
        [*part.paths, str(local.file(0))], np.array([0, 1]), np.array([13, 12]), folder.parent
    ))  # fmt: skip
    mixed = read_list(written.source)
    assert np.array_equal(read_frames(mixed.file(0), [5]), read_frames(local.file(2), [5]))
    (folder / "mixed.txt").write_text((folder.parent / "mixed.txt").read_text())
    with pytest.raises(UserError, match="a file on this machine"):
        read_list(f"{store.url}/mixed.txt").file(1)
    with pytest.raises(UserError, match=r"none\.txt: no such list file"):
        read_list(f"{store.url}/none.txt")


def test_packs_are_read_by_range(store: Store, packed: Path) -> None:
    url = f"{store.url}/pack/list.txt"
    local, far = read_list(packed / "list.txt"), read_list(url)
    assert list(far.paths) == list(local.paths)
    rooted = read_list(packed / "list.txt", f"{store.url}/pack")
    assert [shown(rooted.file(place)) for place in range(len(far))] == [
        f"{store.url}/pack/{path}" for path in local.paths
    ]
    store.asked.clear()
    for place in range(len(local)):
        for numbers in ([0, 4, 8], [11, 3, 30]):
            assert np.array_equal(
                read_frames(far.file(place), numbers, 40), read_frames(local.file(place), numbers, 40)
            )
        assert np.array_equal(frame_times(far.file(place)), frame_times(local.file(place)))
    shard = (packed / "shard-00000.tar").stat().st_size
    asked = [(path, part) for _, path, part in store.asked if path.endswith(".tar") and part != "bytes=0-0"]
    assert asked == [("/pack/shard-00000.tar", f"bytes=0-{shard - 1}")]  # one block, once


def test_only_the_blocks_of_the_frames_are_fetched(
    store: Store, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "BLOCK", 2**12)
    local, far = read_list(packed / "list.txt"), read_list(f"{store.url}/pack/list.txt")
    store.asked.clear()
    assert np.array_equal(read_frames(far.file(3), [7]), read_frames(local.file(3), [7]))
    parts = [part for _, path, part in store.asked if path.endswith(".tar") and part != "bytes=0-0"]
    assert 2 <= len(parts) <= 4  # a frame takes 4608 bytes, and its checksum lies elsewhere
    assert len(set(parts)) == len(parts)


@pytest.mark.parametrize("fault", ["503", "cut", "closed", "short", "stall"])
@pytest.mark.parametrize("request_number", [0, 1, 3])
def test_a_fault_is_survived(store: Store, blob: bytes, fault: Fault, request_number: int) -> None:
    """The first request asks for size and version, the others for a block each."""
    pattern = ["blob"] * request_number
    store.faults = [("GET", "never", fault)]
    before = iter([*pattern, None])
    take = store.fault

    def one(method: str, path: str) -> Fault | None:
        return fault if next(before, "later") is None else take(method, path)

    store.fault = one  # type: ignore[method-assign]
    assert objects.read_bytes(f"{store.url}/blob") == blob
    assert len(store.asked) == 4 + (not (fault in ("cut", "short") and request_number == 0))


def test_a_server_that_sends_a_byte_now_and_then_is_given_up(store: Store, folder: Path) -> None:
    """It is never silent for long, but no piece of the content would ever be whole."""
    content = bytes(range(100))
    (folder / "blob").write_bytes(content)
    objects.facts_of(f"{store.url}/blob")
    store.faults = [("GET", "blob", "drip")]
    begun = time.monotonic()
    assert objects.read_bytes(f"{store.url}/blob") == content
    assert time.monotonic() - begun < len(content) * DRIP / 2
    assert not store.faults


def test_a_lasting_fault_is_told_and_is_no_fault_of_the_video(store: Store, folder: Path) -> None:
    write_video(folder / "a.mp4", numbered_frames(12))
    write_list(folder / "list.txt", VideoList(["a.mp4"], np.array([0]), np.array([12]), folder))
    videos = read_list(f"{store.url}/list.txt")
    objects.read_bytes(f"{store.url}/a.mp4")
    objects.forget(f"{store.url}/a.mp4")
    for fault in ("503", "closed", "cut"):
        store.faults = [("GET", "a.mp4", fault)] * 40
        (answer,) = [EvaluationClips(videos, CLIP, 1)[0]]
        assert isinstance(answer, StorageError)
        assert not isinstance(answer, VideoError)
        assert f"{store.url}/a.mp4: the storage failed {client.ATTEMPTS} times" in str(answer)
        assert 40 - len(store.faults) <= client.ATTEMPTS + (fault == "cut")
    # In a process of its own, as `dsm data check` reads, it ends the check and is no verdict.
    store.faults = []
    objects.facts_of(videos.file(0))
    store.faults = [("GET", "a.mp4", "403")]
    with pytest.raises(StorageError, match=r"a\.mp4: access denied"):
        judge_all([videos.file(0)], workers=1)
    store.faults = []
    clips = EvaluationClips(videos, CLIP, 1)[0]
    assert isinstance(clips, dict)
    assert not clips["bad"]


def test_an_object_that_changes_while_it_is_read_is_read_anew(
    store: Store, folder: Path, blob: bytes
) -> None:
    """Its bytes are all of one version."""
    other = bytes(255 - value for value in blob[:1000]) * (len(blob) // 1000)
    store.change = lambda: (folder / "blob").write_bytes(other) and None  # type: ignore[func-returns-value]
    url = f"{store.url}/blob"
    objects.facts_of(url)
    store.faults = [("GET", "never", "503")]
    objects.facts_of(url)
    seen = []

    def third(method: str, path: str) -> Fault | None:
        seen.append(path)
        return "late change" if len(seen) == 2 else None

    store.fault = third  # type: ignore[method-assign]
    assert objects.read_bytes(url) == other


def test_a_pack_that_is_written_anew_is_read_anew(store: Store, packed: Path, small_list: Path) -> None:
    url = Path(f"{store.url}/pack/shard-00000.tar")
    name = read_list(packed / "list.txt").paths[0].partition("/")[2]
    numbers = np.array([2, 5])
    before = read_packed(url, name, numbers, None)
    for file in small_list.parent.rglob("*.mp4"):
        write_video(file, 255 - numbered_frames(12))
    pack(videos=small_list, out=packed, short_side=32, workers=1, overwrite=True)
    local = read_packed(packed / url.name, name, numbers, None)
    for block in cached():
        block.unlink()
    assert np.array_equal(read_packed(url, name, numbers, None), local)
    assert before.shape != local.shape


def test_a_damaged_cache_is_fetched_again(store: Store, packed: Path, folder: Path, blob: bytes) -> None:
    url = Path(f"{store.url}/pack/shard-00000.tar")
    name = read_list(packed / "list.txt").paths[0].partition("/")[2]
    right = read_packed(url, name, np.arange(12), None)
    (block,) = (file for file in cached() if ".00000000." in file.name)
    content = bytearray(block.read_bytes())
    content[5000:5100] = bytes(100)
    block.write_bytes(content)
    assert np.array_equal(read_packed(url, name, np.arange(12), None), right)
    block.write_bytes(content[:5000])
    assert np.array_equal(read_packed(url, name, np.arange(12), None), right)
    assert objects.read_bytes(f"{store.url}/blob") == blob
    largest = max(cached(), key=lambda file: file.stat().st_size)
    largest.write_bytes(blob[:-1])
    assert objects.read_bytes(f"{store.url}/blob") == blob
    # What is damaged in the storage itself is the fault of that video, and of no other.
    shard = packed / url.name
    content = bytearray(shard.read_bytes())
    content[3000] ^= 1
    with written_aside(shard) as aside:
        aside.write_bytes(content)
    objects.forget(url)
    with pytest.raises(VideoError, match="frame 0 has changed since it was packed"):
        read_packed(url, name, np.arange(12), None)


def test_the_cache_keeps_to_its_size(store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.GB, "0.001")
    for number in range(30):
        (folder / f"{number}").write_bytes(bytes([number]) * 100_000)
    with objects.at_hand(f"{store.url}/0") as kept:
        for number in range(1, 30):
            assert objects.read_bytes(f"{store.url}/{number}") == bytes([number]) * 100_000
            assert sum(file.stat().st_size for file in cached()) <= 1_000_000
            os.utime(kept, (1, 1))  # by far the oldest, but in use
        assert kept.read_bytes() == bytes(100_000)
    assert len(cached()) >= 8
    store.asked.clear()
    objects.read_bytes(f"{store.url}/29")  # the newest is there
    assert not store.asked
    objects.read_bytes(f"{store.url}/1")  # the oldest is not
    assert store.asked
    (folder / "large").write_bytes(bytes(1_000_001))
    with pytest.raises(StorageError, match="does not fit into the cache"):
        objects.read_bytes(f"{store.url}/large")
    monkeypatch.setenv(cache.GB, "none")
    with pytest.raises(UserError, match="must be the size"):
        objects.read_bytes(f"{store.url}/2")


def _read_often(url: str, faults: multiprocessing.Queue[str]) -> None:
    try:
        for turn in range(60):
            number = (turn * 7) % 20
            content = objects.read_bytes(f"{url}/{number}")
            if content != bytes([number]) * 100_000:
                faults.put(f"{number}: {len(content)} bytes, {set(content)}")
    except BaseException as error:
        faults.put(repr(error))
    faults.put("")


def test_processes_share_a_cache_that_is_too_small(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each removes what others read, and none ever sees a part of an object."""
    monkeypatch.setenv(cache.GB, "0.0005")
    for number in range(20):
        (folder / f"{number}").write_bytes(bytes([number]) * 100_000)
    forks = multiprocessing.get_context("fork")
    faults: multiprocessing.Queue[str] = forks.Queue()
    children = [forks.Process(target=_read_often, args=(store.url, faults)) for _ in range(4)]
    for child in children:
        child.start()
    assert [faults.get(timeout=60) for _ in children] == [""] * 4
    for child in children:
        child.join()
    assert {file.suffix for file in cached()} == {cache.ENDING}  # nothing half written is left


def test_redirects_lead_to_http_only(store: Store, folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    (folder / "a.txt").write_text("hello")
    (folder / "to-a").write_text(f"{store.url}/a.txt")
    assert objects.read_bytes(f"{store.url}/to-a") == b"hello"
    for number, target in enumerate((f"file://{secret}", "ftp://127.0.0.1/x", f"data:,x{secret}", "//")):
        (folder / f"to-{number}").write_text(target)
        with pytest.raises(StorageError):
            objects.read_bytes(f"{store.url}/to-{number}")
    (folder / "to-itself").write_text(f"{store.url}/to-itself")
    with pytest.raises(StorageError):
        objects.read_bytes(f"{store.url}/to-itself")
    assert not any(b"secret" in file.read_bytes() for file in cached())


def test_other_urls_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(StorageError, match=f"failed {client.ATTEMPTS_AT_FIRST} times"):  # nobody listens
        objects.read_bytes("http://127.0.0.1:9/a")
    for url in (
        f"file://{tmp_path}/a.txt",
        "memory://a",
        "ftp://h/a",
        "zip://a::http://h/b",
        "s3://b/a::http://h",
    ):
        with pytest.raises(UserError, match="dsm reads only URLs with http"):
            objects.read_bytes(url)


def test_a_playlist_by_url_leads_nowhere(store: Store, folder: Path) -> None:
    write_video(folder / "a.ts.mp4", numbered_frames(12))
    (folder / "list.m3u8").write_text(f"#EXTM3U\n#EXTINF:1,\n{store.url}/a.ts.mp4\n#EXT-X-ENDLIST\n")
    (folder / "list.ffconcat").write_text(f"ffconcat version 1.0\nfile '{store.url}/a.ts.mp4'\n")
    for name in ("list.m3u8", "list.ffconcat"):
        with pytest.raises(VideoError, match="cannot be decoded"):
            read_frames(Path(f"{store.url}/{name}"), [0])
    assert not any("a.ts" in path for _, path, _ in store.asked)


def test_a_server_without_ranges_will_do_for_small_files(folder: Path, blob: bytes) -> None:
    with http_store(folder, ranges=False) as store:
        assert objects.read_bytes(f"{store.url}/blob") == blob


def test_an_empty_object(store: Store, folder: Path) -> None:
    (folder / "empty.mp4").touch()
    assert objects.read_bytes(f"{store.url}/empty.mp4") == b""
    with pytest.raises(VideoError, match=r"empty\.mp4: is empty"):
        read_frames(Path(f"{store.url}/empty.mp4"), [0])


def test_a_url_leads_nowhere_outside_the_cache(store: Store, folder: Path, tmp_path: Path) -> None:
    (folder / "a").write_text("x")
    for name in ("a?../../../../x", "a?%2e%2e%2f", "a?" + "b" * 2000):
        assert objects.read_bytes(f"{store.url}/{name}") == b"x"
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "served"}
    assert all(file.is_file() and len(file.name) < 100 for file in cached())
    assert cache.cache_folder().stat().st_mode & 0o077 == 0


def test_a_cache_that_cannot_be_written_is_no_fault_of_the_video(
    store: Store, packed: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    videos = read_list(packed / "list.txt", f"{store.url}/pack")
    write_video(folder / "a.mp4", numbered_frames(12))
    monkeypatch.setenv(cache.FOLDER, str(tmp_path / "file" / "cache"))
    for file in (videos.file(0), Path(f"{store.url}/a.mp4")):
        with pytest.raises(StorageError, match="cannot be used"):
            read_frames(file, [0])


def test_waiting_for_storage_is_no_hang(store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the time limit of a video nor that of its worker counts it."""
    (folder / "a").write_text("x")
    store.latency = 0.2
    deadline = Deadline("a", 0.1)
    worker = type("Worker", (), {"id": 0})
    monkeypatch.setattr("dsm.data.reading_state.get_worker_info", lambda: worker)
    state, seen = ReadingState(1, 1), []
    monkeypatch.setattr(store, "change", lambda: seen.append(state.reading[0, 1].item()))
    store.faults = [("GET", "a", "late change")]
    with state.noted(0):
        objects.read_bytes(f"{store.url}/a")
        assert state.reading[0, 1].item() <= time.monotonic()
    assert seen == [math.inf]
    deadline.check()
    time.sleep(0.15)
    with pytest.raises(VideoError, match="not read within"):
        deadline.check()


def test_other_tools_read_the_shards(packed: Path) -> None:
    """WebDataset groups the files of a tar by name: an array, and its checksums."""
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed")
    samples = list(webdataset.WebDataset(str(packed / "shard-00000.tar"), shardshuffle=False).decode())
    listed = read_list(packed / "list.txt")
    assert [sample["__key__"] for sample in samples] == [f"{number:06d}" for number in range(len(listed))]
    for place, sample in enumerate(samples):
        planes = sample["npy"]
        assert planes.dtype == np.uint8
        assert planes.shape == (listed.frames[place], 48 * 3 // 2, 64)
        # Grey frames: their brightness is that of the planes' first rows.
        grey = read_frames(listed.file(place), range(len(planes)))[:, 0, 0, 0]
        luma = planes[:, 0, 0].astype(float)
        assert np.abs((luma - 16) * 255 / 219 - grey).max() <= 2


def test_an_object_without_a_version_is_fetched_again_by_the_next_process(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its size alone does not tell that it is the same."""
    monkeypatch.setattr("dsm.storage.http._version", lambda headers: "")
    url, file = f"{store.url}/a.bin", folder / "a.bin"
    file.write_bytes(b"A" * 1000)
    assert objects.read_bytes(url) == b"A" * 1000
    file.write_bytes(b"B" * 1000)
    assert objects.read_bytes(url) == b"A" * 1000, "a process, and its children, read one version"
    line = (
        "import sys; from dsm.storage import http, objects; http._version = lambda headers: ''; "
        "print(objects.read_bytes(sys.argv[1])[:1])"
    )
    own = {name: value for name, value in os.environ.items() if name != cache.OWN}
    for environment, letter in ((dict(os.environ), "A"), (own, "B")):
        done = subprocess.run(
            [sys.executable, "-c", line, url], env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == f"b'{letter}'"
