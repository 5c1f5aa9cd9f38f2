"""Broken videos: each gets a verdict, and training continues without them."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from conftest import frame_numbers, judge_after, numbered_frames
from warm_dsm import run_line

from dsm.data import loading, reading
from dsm.data.clips import EpochBatches, EvaluationClips, TrainingClips
from dsm.data.lists import VideoList, read_list, write_list
from dsm.data.loading import Batches, load_clips
from dsm.data.reading_state import ReadingState
from dsm.data.settings import ClipConfig
from dsm.errors import MachineError, UserError
from dsm.runs.bad_videos import LEDGER, BadVideos
from dsm.train.config import DataConfig
from dsm.train.pretrain import PretrainConfig, pretrain
from dsm.video.damage import noted
from dsm.video.decode import probe, read_frames
from dsm.video.ledger import judge, judge_all, read_ledger
from dsm.video.pack import damaged_in
from dsm.video.source import BadVideo, VideoError
from dsm.video.times import frame_times
from dsm.video.write import write_shard, write_video
from dsm.views import Augment, View

CLIP = ClipConfig(frames=4, stride=2, resize=32, size=32)


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that tests wait less for what a look at the workers finds."""
    monkeypatch.setattr(loading, "LOOK_EVERY", 0.5)


def test_each_kind_of_file_gets_its_verdict(tmp_path: Path) -> None:
    write_video(tmp_path / "good.mp4", numbered_frames(30))
    content = (tmp_path / "good.mp4").read_bytes()
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "rubbish.mp4").write_bytes(b"no video at all" * 100)
    (tmp_path / "list.mp4").write_text("#EXTM3U\n#EXTINF:1,\ngood.mp4\n")  # FFmpeg would open it
    os.mkfifo(tmp_path / "pipe.mp4")
    write_video(tmp_path / "brief.mp4", numbered_frames(3))
    found = {path.name: judge(path, clip_frames=8) for path in (*tmp_path.iterdir(), tmp_path / "none.mp4")}
    verdicts = {name: one.verdict for name, one in found.items()}
    assert verdicts == {
        "good.mp4": "ok", "empty.mp4": "empty", "rubbish.mp4": "undecodable", "list.mp4": "undecodable",
        "pipe.mp4": "undecodable", "brief.mp4": "short", "none.mp4": "missing",
    }  # fmt: skip
    assert (found["good.mp4"].frames, found["good.mp4"].header_frames, found["good.mp4"].fps) == (30, 30, 24)
    assert content == (tmp_path / "good.mp4").read_bytes()


def folder_of_frames(folder: Path, broken: Sequence[int]) -> Path:
    from matplotlib.image import imsave

    folder.mkdir()
    for number, frame in enumerate(numbered_frames(6)):
        imsave(folder / f"img_{number:05}.png", frame)
    for number in broken:
        file = folder / f"img_{number:05}.png"
        file.write_bytes(file.read_bytes()[:30] if number % 2 else b"")
    return folder


def test_a_broken_picture_in_a_frame_folder_does_not_stop_reading(tmp_path: Path) -> None:
    folder = folder_of_frames(tmp_path / "frames", [0, 3])
    found = judge(folder)
    facts = (found.verdict, found.frames, found.header_frames, found.numbers)
    assert facts == ("damaged", 4, 6, 6)
    assert found.reason == "2 pictures lost, the first img_00000.png"
    # A broken picture is replaced by the previous one, and the first by the next one.
    assert frame_numbers(read_frames(folder, range(6))) == [1, 1, 2, 2, 4, 5]
    assert noted(folder) == "2 pictures lost, the first img_00000.png"
    write_shard(tmp_path / "a.tar", [("frames", folder)], 32)
    assert frame_numbers(read_frames(tmp_path / "a.tar/frames", range(4))) == [1, 2, 4, 5]
    assert "2 pictures lost" in damaged_in(tmp_path / "a.tar")["frames"]


def test_a_frame_folder_with_a_broken_end_is_truncated(tmp_path: Path) -> None:
    found = judge(folder_of_frames(tmp_path / "frames", [4, 5]))
    assert (found.verdict, found.frames, found.header_frames, found.numbers) == ("truncated", 4, 6, 0)
    nothing = judge(folder_of_frames(tmp_path / "nothing", range(6)))
    assert nothing.verdict == "undecodable"


def test_a_decoder_that_hangs_or_crashes_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # No known file hangs FFmpeg; an unresponsive mount would look like this.
    judge_after(
        tmp_path,
        "if path.name == 'hangs.mp4': time.sleep(600)",
        "if path.name == 'crashes.mp4': os.kill(os.getpid(), 11)",
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    names = ["good.mp4", "hangs.mp4", "crashes.mp4", "fine.mp4"]
    for name in names:
        write_video(tmp_path / name, numbered_frames(8))
    begun = time.monotonic()
    found = judge_all([tmp_path / name for name in names], seconds=3, workers=2)
    assert [one.verdict for one in found] == ["ok", "timeout", "undecodable", "ok"]
    assert "crashes the decoder" in found[2].reason
    assert time.monotonic() - begun < 60


def test_a_long_video_gets_more_time_in_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """40 MB give it 20 seconds more than the short one, and both take 6."""
    judge_after(tmp_path, "time.sleep(6)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for name, size in (("short.mp4", 0), ("long.mp4", 40_000_000)):
        write_video(tmp_path / name, numbered_frames(8))
        with (tmp_path / name).open("ab") as file:
            file.write(bytes(size))
    found = judge_all([tmp_path / "short.mp4", tmp_path / "long.mp4"], seconds=3, workers=2)
    assert [one.verdict for one in found] == ["timeout", "ok"]


def broken_among(scenes: Path, folder: Path, share: float) -> tuple[Path, list[str]]:
    """A list of 100 videos of which a share is broken, and the names of the broken ones."""
    videos = read_list(scenes / "train.txt")
    names = [str(videos.file(index).absolute()) for index in range(len(videos))]
    broken = [str(folder / f"{number}.mp4") for number in range(round(100 * share))]
    for number, name in enumerate(broken):
        content = Path(names[number]).read_bytes()
        Path(name).write_bytes([b"", b"rubbish" * 50, content[: len(content) // 3]][number % 3])
    paths = [*broken, *(names[number % len(names)] for number in range(100 - len(broken)))]
    unknown = np.full(100, -1)
    write_list(folder / "list.txt", VideoList(paths, unknown, unknown, folder))
    return folder / "list.txt", broken


def run_config(train: Path, out: Path, **settings: Any) -> PretrainConfig:
    data = DataConfig(train, batch_size=10, workers=settings.pop("workers", 2))
    return PretrainConfig(data, out, method="moco", backbone="tiny", clip=CLIP, epochs=1, **settings)


@pytest.mark.parametrize("devices", [1, 2])
def test_a_run_finishes_despite_a_few_broken_videos_and_names_them(
    scenes: Path, tmp_path: Path, devices: int
) -> None:
    train, broken = broken_among(scenes, tmp_path, 0.03)
    handler = signal.getsignal(signal.SIGINT)
    out = pretrain(run_config(train, tmp_path / "run", devices=devices, workers=2 * (devices == 1)))
    assert signal.getsignal(signal.SIGINT) == handler
    ledger = read_ledger(out / "ledger.json")
    assert {entry.path for entry in ledger} == set(broken)
    assert {entry.verdict for entry in ledger} == {"empty", "undecodable"}
    last = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["step"] == 10


def test_a_run_stops_at_too_many_broken_videos(scenes: Path, tmp_path: Path) -> None:
    train, broken = broken_among(scenes, tmp_path, 0.1)
    with pytest.raises(UserError, match=r"6 of 100 videos cannot be read .*more than --data.max-bad 0.05"):
        pretrain(run_config(train, tmp_path / "run", workers=0))
    assert {entry.path for entry in read_ledger(tmp_path / "run" / "ledger.json")} <= set(broken)


def test_a_wrong_root_is_reported_at_once(scenes: Path, tmp_path: Path) -> None:
    names = [f"{number}.mp4" for number in range(100)]
    write_list(tmp_path / "list.txt", VideoList(names, np.full(100, -1), np.full(100, -1), tmp_path))
    for _ in range(2):  # a run without a step does not block the next
        with pytest.raises(UserError, match=r"none of its first videos .*no such file.*--data.root"):
            pretrain(run_config(tmp_path / "list.txt", tmp_path / "run", workers=1))
    assert not (tmp_path / "run").exists()


def test_many_missing_videos_are_reported_at_once(scenes: Path, tmp_path: Path) -> None:
    one = str(read_list(scenes / "train.txt").file(0).absolute())
    names = [one, *(f"{number}.mp4" for number in range(1, 100))]
    write_list(tmp_path / "list.txt", VideoList(names, np.full(100, -1), np.full(100, -1), tmp_path))
    for _ in range(2):  # a run without a step does not block the next
        with pytest.raises(UserError, match=r"10 videos in a row cannot be read.*no such file.*--data.root"):
            pretrain(run_config(tmp_path / "list.txt", tmp_path / "run", workers=1))


class Harmful(TrainingClips):
    """Harms its worker process when it reads one of the videos."""

    harm: tuple[int, Callable[[], object]]

    def sample(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        if index == self.harm[0]:
            self.harm[1]()
        return super().sample(index, rng)


def kill_this_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang() -> None:
    time.sleep(600)


def batches(scenes: Path, workers: int, clips_class: type[TrainingClips] = TrainingClips) -> Batches:
    videos = read_list(scenes / "train.txt")
    clips = clips_class(videos, CLIP, Augment(), (View("anchor"),), seed=1, workers=workers)
    order = EpochBatches(len(videos), 8, seed=1, start=0, stop=5)
    return Batches(clips, order, workers, 1.0, pin_memory=False)


@pytest.mark.parametrize(("harm", "verdict"), [(kill_this_process, "undecodable"), (hang, "timeout")])
def test_a_worker_that_crashes_or_hangs_is_replaced(
    scenes: Path, harm: Callable[[], object], verdict: str
) -> None:
    expected = batches(scenes, 0)
    expected.clips.state.bad[7] = BadVideo(7, "undecodable", "")
    loaded = batches(scenes, 2, Harmful)
    loaded.clips.harm = (7, harm)
    found = []
    for batch in loaded:
        found.append(batch)
        time.sleep(0.3)  # a worker may also die while this process is busy
    for one, two in zip(found, expected, strict=True):
        assert torch.equal(one["clips"]["anchor"], two["clips"]["anchor"])
        assert [video.index for video in one["bad"]] == [video.index for video in two["bad"]]
    bad = [video for batch in found for video in batch["bad"]]
    assert [(video.index, video.verdict) for video in bad] == [(7, verdict)]


def test_a_known_bad_video_is_not_read_again_even_after_resuming(scenes: Path, tmp_path: Path) -> None:
    loaded = batches(scenes, 2, Harmful)
    loaded.clips.harm = (7, kill_this_process)
    videos, state = loaded.clips.videos, loaded.clips.state
    BadVideos(tmp_path, videos, 0.5, ReadingState(0, len(videos))).add([BadVideo(7, "undecodable", "broken")])
    resumed = BadVideos(tmp_path, videos, 0.5, state)
    for batch in loaded:
        resumed.add(batch["bad"])
    assert not state.bad, "no worker was lost"
    assert [entry.reason for entry in read_ledger(tmp_path / LEDGER)] == ["broken"]


def test_a_resumed_run_retries_missing_and_slow_videos(tmp_path: Path) -> None:
    videos = VideoList([f"{i}.mp4" for i in range(3)], np.zeros(3, int), np.full(3, 9), tmp_path)
    bad = [BadVideo(0, "missing", ""), BadVideo(1, "timeout", ""), BadVideo(2, "undecodable", "")]
    BadVideos(tmp_path, videos, 1, ReadingState(0, 3)).add(bad)
    resumed = ReadingState(0, 3)
    BadVideos(tmp_path, videos, 1, resumed)
    assert [resumed.find(place) is None for place in range(3)] == [True, True, False]


def test_one_worker_counts_a_videos_frames_for_all(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    videos = read_list(scenes / "train.txt")
    uncounted = replace(videos, frames=np.full(len(videos), -1))
    clips = EvaluationClips(uncounted, CLIP, 1, workers=2)
    assert len(list(load_clips(clips, 4, workers=2))) == len(videos) // 4
    monkeypatch.setattr(reading, "frame_count", lambda file: pytest.fail("is counted again"))
    assert clips[3]["clips"] is not None


def kill_the_first(folder: Path, times: int) -> None:
    """Kill this process by SIGKILL, as the kernel does when memory runs out, but only so many times."""
    for number in range(times):
        try:
            (folder / str(number)).touch(exist_ok=False)
        except FileExistsError:
            continue
        kill_this_process()


@pytest.mark.parametrize("times", [1, 2])
def test_a_video_whose_worker_is_killed_from_outside_is_tried_again(
    scenes: Path, tmp_path: Path, times: int
) -> None:
    loaded = batches(scenes, 2, Harmful)
    loaded.clips.harm = (7, partial(kill_the_first, tmp_path, times))
    found = list(loaded)
    assert len(list(tmp_path.iterdir())) == times, "the worker was killed"
    for one, two in zip(found, batches(scenes, 0), strict=True):
        assert torch.equal(one["clips"]["anchor"], two["clips"]["anchor"])
        assert not one["bad"]


@pytest.mark.parametrize(
    "error", [ConnectionResetError(104, "reset"), EOFError(), FileNotFoundError(2, "gone")]
)
def test_a_worker_killed_while_it_sends_a_batch_costs_no_batch(
    scenes: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Torch raises what its connection does, if the worker does not count as ended yet."""
    begin, broken = loading._iterate, list[Any]()

    def breaking(loader: Any) -> Any:
        received = begin(loader)
        yield next(received)
        if not broken:
            broken.extend(multiprocessing.active_children())
            broken[0].kill()
            raise error
        yield from received

    monkeypatch.setattr(loading, "_iterate", breaking)
    found = list(batches(scenes, 1))
    expected = list(batches(scenes, 0))
    assert len(found) == len(expected)
    for one, two in zip(found, expected, strict=True):
        assert torch.equal(one["clips"]["anchor"], two["clips"]["anchor"])
        assert not one["bad"]


class Doomed(TrainingClips):
    """Every worker is killed at once, as where memory is too small for any."""

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any] | UserError:
        kill_this_process()
        return super().__getitem__(key)


def test_loading_ends_where_all_workers_are_killed(scenes: Path) -> None:
    with pytest.raises(UserError, match=r"killed again and again.*fewer --data.workers"):
        list(batches(scenes, 2, Doomed))


@pytest.mark.parametrize("times", [2, 100])
def test_a_process_killed_while_it_starts_spoils_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """It has no file yet, and the pool of processes ends with it."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        f"mark = {str(tmp_path / 'killed')!r}\n"
        "if '--multiprocessing-fork' in sys.orig_argv:\n"
        "    with open(mark, 'a+') as file:\n"
        "        file.write('x')\n"
        "        file.flush()\n"
        f"        if file.tell() <= {times}: os.kill(os.getpid(), 9)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    for name in "abc":
        write_video(tmp_path / f"{name}.mp4", numbered_frames(8))
    files = sorted(tmp_path.glob("*.mp4"))
    if times == 100:
        with pytest.raises(MachineError, match="killed again and again"):
            judge_all(files, seconds=60, workers=1)
        return
    assert [one.verdict for one in judge_all(files, seconds=60, workers=1)] == ["ok"] * 3
    assert (tmp_path / "killed").stat().st_size > times


def test_a_file_whose_process_is_killed_from_outside_is_judged_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge_after(
        tmp_path,
        "mark = path.with_suffix('.killed')",
        "if path.name == 'once.mp4' and not mark.exists(): mark.touch(); os.kill(os.getpid(), 9)",
        "if path.name == 'always.mp4': os.kill(os.getpid(), 9)",
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    names = ["good.mp4", "once.mp4", "always.mp4"]
    for name in names:
        write_video(tmp_path / name, numbered_frames(8))
    found = judge_all([tmp_path / name for name in names], seconds=60, workers=1)
    assert [one.verdict for one in found] == ["ok", "ok", "undecodable"]
    assert "was killed; it may need too much memory" in found[2].reason


def test_too_few_file_handles_make_no_video_bad(tmp_path: Path) -> None:
    write_video(tmp_path / "good.mp4", numbered_frames(8))
    script = tmp_path / "few_handles.py"
    script.write_text(f"""
import resource
from pathlib import Path
from dsm.data.clips import EvaluationClips
from dsm.data.folders import find_list
from dsm.data.reading import ClipConfig
from dsm.errors import MachineError
from dsm.video.decode import probe, read_frames
from dsm.video.kept_open import close_kept
from dsm.video.ledger import judge
good = Path({str(tmp_path / "good.mp4")!r})
clips = EvaluationClips(find_list(good), ClipConfig(4, 1, resize=32, size=32), 1)
clips.sample(0)  # imports what is imported late
close_kept()
resource.setrlimit(resource.RLIMIT_NOFILE, (0, 1024))
for use in (judge, probe, lambda file: read_frames(file, [3])):
    try:
        use(good)
    except MachineError as error:
        print(error)
print(type(clips[0]).__name__, clips.state.bad)
""")
    done = run_line("python", script)
    lines = done.stdout.splitlines()
    assert len(lines) == 4, done.stderr
    assert all(f"{tmp_path / 'good.mp4'}: too many open files" in line for line in lines[:3])
    assert lines[3] == "MachineError {}"


class HarmfulLook(EvaluationClips):
    """The same, for evaluation."""

    harm: Callable[[], object]

    def sample(self, index: int) -> dict[str, Any]:
        if index == 7:
            self.harm()
        return super().sample(index)


@pytest.mark.parametrize(("harm", "verdict"), [(kill_this_process, "undecodable"), (hang, "timeout")])
def test_evaluation_continues_after_a_worker_crashes_or_hangs(
    scenes: Path, harm: Callable[[], object], verdict: str
) -> None:
    videos = read_list(scenes / "train.txt")
    clips = HarmfulLook(videos, CLIP, 1, seconds=1.0, workers=2)
    clips.harm = harm
    found = list(load_clips(clips, 4, workers=2, past_bad=True))
    assert [place for batch in found for place in batch["index"]] == [n for n in range(len(videos)) if n != 7]
    bad = [video for batch in found for video in batch["bad"]]
    assert [(video.index, video.verdict) for video in bad] == [(7, verdict)]


def test_a_video_without_frames_and_an_overlong_name_are_bad_videos(tmp_path: Path) -> None:
    whole = tmp_path / "whole.mp4"
    with av.open(str(whole), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=12)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for _ in range(4):
            container.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        container.mux(stream.encode(None))
    content = whole.read_bytes()
    header = tmp_path / "header.mp4"
    header.write_bytes(content[: content.index(b"mdat") - 4])
    with pytest.raises(VideoError):
        frame_times(header)
    long = tmp_path / f"{'n' * 300}.mp4"
    for read in (probe, frame_times):
        with pytest.raises(VideoError):
            read(long)
    assert judge(long).verdict == "missing"
