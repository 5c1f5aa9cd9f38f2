"""Extraction: resumed, shared among processes, past bad files, in every format the same."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import numbered_frames
from PIL import Image

from dsm.cli import main
from dsm.data import clips as clips_module
from dsm.data.catalog import find_list
from dsm.data.clip_settings import ClipChanges, ClipConfig
from dsm.data.clips import EvaluationClips
from dsm.data.lists import only_video, read_list, write_list
from dsm.errors import UserError
from dsm.evaluate import extraction
from dsm.evaluate.extract import extract_features
from dsm.evaluate.extraction import ExtractSettings
from dsm.evaluate.features import load_features
from dsm.models.settings import LoadSettings
from dsm.models.zoo import create_model
from dsm.runs.results import read_results
from dsm.verbs.extract import ExtractConfig, extract

CLIP = ("--frames", "4", "--stride", "3", "--resize", "40", "--size", "32")


def command(source: Path, out: Path, *more: str, batch: int = 2) -> list[str]:
    words = ("extract", "--weights", "none", "--backbone", "tiny", "--data", str(source), "--out", str(out))
    return [sys.executable, "-m", "dsm", *words, *CLIP, "--batch-size", str(batch), *more]


def config(source: Path, out: Path, *, overwrite: bool = False, **settings: object) -> ExtractConfig:
    chosen = {"batch_size": 2, "workers": 0, **settings}
    return ExtractConfig(
        "none", source, out, loading=LoadSettings("tiny"),
        clip=ClipChanges(frames=4, stride=3, resize=40, size=32),
        settings=ExtractSettings(**chosen), overwrite=overwrite,  # type: ignore[arg-type]
    )  # fmt: skip


def test_a_file_of_features_is_what_the_encoder_gives(scenes: Path, tmp_path: Path) -> None:
    extract(config(scenes / "train.txt", tmp_path / "f.npz"))
    found = load_features(tmp_path / "f.npz")
    torch.manual_seed(0)
    clip = ClipConfig(frames=4, stride=3, resize=40, size=32)
    expected = extract_features(create_model("tiny"), read_list(scenes / "train.txt"), clip, batch_size=2)
    assert np.array_equal(found.features, expected.features)
    assert found.paths == expected.paths
    assert found.labels.tolist() == expected.labels.tolist()
    assert not (tmp_path / "f.npz.parts").exists()


def test_numbers_made_of_features_have_the_seed_of_the_run_that_trained(scenes: Path, tmp_path: Path) -> None:
    about = {
        "method": "moco", "backbone": "tiny", "model": {}, "settings": {"seed": 3},
        "clip": {"frames": 4, "stride": 3, "resize": 40, "size": 32},
    }  # fmt: skip
    state = {f"query.encoder.{name}": one for name, one in create_model("tiny").state_dict().items()}
    torch.save({"format": 1, "config": json.dumps(about), "method": state}, tmp_path / "moco.pt")
    drawn, trained = tmp_path / "drawn.npz", tmp_path / "trained.npz"
    loading = LoadSettings("tiny", seed=5)
    extract(replace(config(scenes / "train.txt", drawn), loading=loading))
    extract(
        replace(config(scenes / "train.txt", trained), weights=str(tmp_path / "moco.pt"), loading=loading)
    )
    for file, run, seed in ((drawn, "random", 5), (trained, "moco", 3)):
        pair = ["--gallery", str(file), "--queries", str(file)]
        for name, words in (
            ("retrieve", pair),
            ("probe", ["--train", str(file), "--test", str(file)]),
            ("embed", [str(file), "--clips", "0"]),
        ):
            out = tmp_path / run / name
            main.run([name, *words, "--out", str(out)])
            assert {(row.run, row.seed) for row in read_results(out / "results.json")} == {(run, seed)}


@pytest.mark.parametrize("signals", [signal.SIGKILL, signal.SIGINT])
def test_stopped_in_the_middle_it_goes_on_to_the_same_file(
    scenes: Path, tmp_path: Path, signals: signal.Signals
) -> None:
    out, parts = tmp_path / "f.npz", tmp_path / "f.npz.parts"
    subprocess.run(command(scenes / "train.txt", tmp_path / "whole.npz"), check=True, capture_output=True)
    process = subprocess.Popen(command(scenes / "train.txt", out), stderr=subprocess.PIPE, text=True)
    while not list(parts.glob("0*.npz")):
        assert process.poll() is None, "ended before it could be stopped"
        time.sleep(0.005)
    process.send_signal(signals)
    _, told = process.communicate()
    if process.returncode == 0:
        pytest.skip("was done before the signal came")
    assert not out.exists()
    if signals == signal.SIGINT:
        assert process.returncode == 130
        assert "the same command goes on" in told
        assert "Traceback" not in told
    assert (parts / "000000.npz").is_file()
    subprocess.run(command(scenes / "train.txt", out, "--workers", "2"), check=True, capture_output=True)
    assert out.read_bytes() == (tmp_path / "whole.npz").read_bytes()


def test_processes_share_a_list_and_write_one_file(scenes: Path, tmp_path: Path) -> None:
    alone, together = tmp_path / "alone.npz", tmp_path / "together.npz"
    subprocess.run(command(scenes / "train.txt", alone), check=True, capture_output=True)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(
        command(scenes / "train.txt", together, "--devices", "2"),
        check=True, capture_output=True, env=environment, timeout=120,
    )  # fmt: skip
    one, two = load_features(alone), load_features(together)
    assert np.allclose(one.features, two.features, atol=1e-5)
    assert one.paths == two.paths


def test_bad_files_are_left_out_and_told(scenes: Path, tmp_path: Path) -> None:
    videos = read_list(scenes / "train.txt")
    part = videos.part(np.arange(6), tmp_path)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    part.paths[2] = "broken.mp4"  # type: ignore[index]
    write_list(tmp_path / "list.txt", part)
    extract(config(tmp_path / "list.txt", tmp_path / "f.npz"))
    found = load_features(tmp_path / "f.npz")
    assert found.paths == [*part.paths[:2], *part.paths[3:]]
    told = json.loads((tmp_path / "f.npz.bad.json").read_text())["files"]
    assert [entry["path"] for entry in told] == ["broken.mp4"]
    extract(config(tmp_path / "list.txt", tmp_path / "f.npy"))
    rows = np.load(tmp_path / "f.npy")
    assert np.isnan(rows).all(axis=1).tolist() == [False, False, True, False, False, False]
    assert np.array_equal(np.delete(rows, 2, 0), found.features)

    write_list(tmp_path / "none.txt", part.part(np.array([2]), tmp_path))
    with pytest.raises(UserError, match="not one video can be read"):
        extract(config(tmp_path / "none.txt", tmp_path / "none.npz"))


def test_every_clip_can_have_a_row_with_its_times(video: Path, tmp_path: Path) -> None:
    """30 frames at 24 a second; clips of 10 frames begin at 0, 10 and 20."""
    extract(config(video, tmp_path / "f.npz", per_clip=True, windows=3))
    found = load_features(tmp_path / "f.npz")
    assert found.times is not None
    assert np.allclose(24 * found.times, [[0, 9], [10, 19], [20, 29]], atol=0.02)
    assert found.paths == [video.name] * 3
    assert found.labels.tolist() == [-1] * 3
    extract(config(video, tmp_path / "mean.npz", windows=3))
    mean = load_features(tmp_path / "mean.npz")
    assert np.allclose(mean.features[0], found.features.mean(0), atol=1e-5)
    extract(config(video, tmp_path / "every.npz", per_clip=True, every=0.25))
    every = load_features(tmp_path / "every.npz")
    assert every.times is not None
    assert len(every) == 5  # 1.21 s, one in each quarter that is begun
    # The last would end after the video, and ends with it: 10 frames in 30.
    assert np.allclose(24 * every.times[:, 0], [0, 6, 12, 18, 20], atol=0.02)


def test_many_clips_of_a_video_are_read_some_at_a_time(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the time that reading may take, and the memory, are those of some, however long the video."""
    clips = EvaluationClips(only_video(video), ClipConfig(frames=4, stride=1, resize=40, size=32), 7, 3)
    at_once = clips.sample(0)["clips"]
    monkeypatch.setattr(clips_module, "CLIPS_A_PASS", 3)
    passes, read = [], clips.reader.read
    monkeypatch.setattr(
        clips.reader, "read", lambda index, some: passes.append(len(some)) or read(index, some)
    )
    assert torch.equal(clips.sample(0)["clips"], at_once)
    assert passes == [3, 3, 1]


def test_clips_further_apart_than_asked_are_told(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (clips_module, extraction):
        monkeypatch.setattr(module, "MOST_CLIPS", 5)
    folder = tmp_path / "frames"
    folder.mkdir()
    for number, picture in enumerate(numbered_frames(4)):
        Image.fromarray(picture).save(folder / f"{number:05d}.png")
    for source, every, told in (
        (folder, 0.25, "frames never do: 1; of each --windows 3 clips"),
        (video, 0.4, ""),
        (video, 0.2, "the most that are taken of one: 1"),
    ):
        extract(config(source, tmp_path / f"{source.stem}{every}.npz", per_clip=True, every=every))
        said = capsys.readouterr().err
        assert told in said
        assert ("never do" in said, "the most" in said) == ("never do" in told, "the most" in told)


def test_parquet_holds_what_npz_holds(scenes: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    for name in ("f.npz", "f.parquet"):
        extract(config(scenes / "test.txt", tmp_path / name, per_clip=True))
    one, two = load_features(tmp_path / "f.npz"), load_features(tmp_path / "f.parquet")
    assert np.array_equal(one.features, two.features)
    assert one.times is not None
    assert two.times is not None
    assert np.array_equal(one.times, two.times)
    assert (one.paths, one.labels.tolist(), one.meta) == (two.paths, two.labels.tolist(), two.meta)


def test_settings_that_changed_do_not_mix(scenes: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.npz"
    (tmp_path / "f.npz.parts").mkdir()
    (tmp_path / "f.npz.parts" / "extraction.json").write_text('{"made_by": "dsm"}')
    with pytest.raises(UserError, match="an extraction with other settings"):
        extract(config(scenes / "test.txt", out))
    extract(config(scenes / "test.txt", out, overwrite=True))
    with pytest.raises(UserError, match="already exists"):
        extract(config(scenes / "test.txt", out))


def test_a_folder_or_a_single_video_is_a_list_too(folder_of_videos: Path) -> None:
    found = find_list(folder_of_videos)
    assert found.paths == [f"{name}/clip {index}.mp4" for name in ("walk", "wave") for index in (0, 1)]
    one = find_list(folder_of_videos / "walk" / "clip 1.mp4")
    assert one.paths == ["clip 1.mp4"]
    assert one.file(0).is_file()
    clips = EvaluationClips(one, ClipConfig(frames=4, stride=1, resize=40, size=32), 2)
    sample = clips[0]
    assert isinstance(sample, dict)
    (folder_of_videos / "a\x92b.mp4").write_bytes(b"")
    with pytest.raises(UserError, match="control character; rename the file"):
        find_list(folder_of_videos)
    (folder_of_videos / "a\x92b.mp4").unlink()
    assert sample["clips"].shape == (2, 4, 32, 32, 3)


def test_an_extraction_that_found_nothing_looks_anew(scenes: Path, tmp_path: Path) -> None:
    videos = read_list(scenes / "train.txt")
    disk = tmp_path / "disk"
    write_list(tmp_path / "list.txt", replace(videos.part(np.arange(4), scenes), root=disk))
    given = replace(config(tmp_path / "list.txt", tmp_path / "f.npz"), root=disk)
    with pytest.raises(UserError):
        extract(given)
    disk.symlink_to(scenes)
    extract(given)
    assert len(load_features(tmp_path / "f.npz").paths) == 4


def test_an_extraction_that_replaces_a_file_goes_on_too(scenes: Path, tmp_path: Path) -> None:
    out, parts = tmp_path / "f.npz", tmp_path / "f.npz.parts"
    out.write_bytes(b"an older one")
    process = subprocess.Popen(command(scenes / "train.txt", out, "--overwrite"), stderr=subprocess.DEVNULL)
    while not list(parts.glob("0*.npz")):
        assert process.poll() is None, "ended before it could be stopped"
        time.sleep(0.005)
    process.kill()
    process.wait()
    first = (parts / "000000.npz").stat().st_mtime_ns
    seen = []
    again = subprocess.Popen(command(scenes / "train.txt", out, "--overwrite"), stderr=subprocess.DEVNULL)
    while again.poll() is None:
        with contextlib.suppress(FileNotFoundError):
            seen.append((parts / "000000.npz").stat().st_mtime_ns)
        time.sleep(0.005)
    assert again.returncode == 0
    assert set(seen) == {first}
    assert len(load_features(out).paths) == len(read_list(scenes / "train.txt"))
