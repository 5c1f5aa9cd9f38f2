"""Extraction: resumed, in several processes, with bad files, the same in every format."""

from __future__ import annotations

import json
import os
import shutil
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
from warm_dsm import dsm, run_line

from dsm.cli import main
from dsm.data import clips as clips_module
from dsm.data.clips import EvaluationClips
from dsm.data.file_marks import marks_of, replaced
from dsm.data.folders import find_list
from dsm.data.lists import read_list, unlabelled, write_list
from dsm.data.settings import ClipChanges, ClipConfig
from dsm.errors import UserError
from dsm.evaluate import extract_to_file
from dsm.evaluate.extract import extract_features
from dsm.evaluate.extract_to_file import ExtractSettings
from dsm.evaluate.feature_files import load_features
from dsm.models.settings import LoadSettings
from dsm.models.zoo import create_model
from dsm.runs.results import read_results
from dsm.verbs.extract import ExtractConfig, extract

CLIP = ("--frames", "4", "--stride", "3", "--resize", "40", "--size", "32")


def words(source: Path, out: Path, *more: str) -> list[str]:
    what = ("extract", "--weights", "none", "--backbone", "tiny", "--data", str(source), "--out", str(out))
    return [*what, *CLIP, "--batch-size", "2", *more]


def command(source: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "dsm", *words(source, out, *more)]


def config(source: Path, out: Path, *, overwrite: bool = False, **settings: object) -> ExtractConfig:
    chosen = {"batch_size": 2, "workers": 0, **settings}
    return ExtractConfig(
        "none", source, out, loading=LoadSettings("tiny"),
        clip=ClipChanges(frames=4, stride=3, resize=40, size=32),
        settings=ExtractSettings(**chosen), overwrite=overwrite,  # type: ignore[arg-type]
    )  # fmt: skip


def test_a_features_file_holds_the_encoders_outputs(scenes: Path, tmp_path: Path) -> None:
    extract(config(scenes / "train.txt", tmp_path / "f.npz"))
    found = load_features(tmp_path / "f.npz")
    torch.manual_seed(0)
    clip = ClipConfig(frames=4, stride=3, resize=40, size=32)
    expected = extract_features(create_model("tiny"), read_list(scenes / "train.txt"), clip, batch_size=2)
    assert np.array_equal(found.features, expected.features)
    assert found.paths == expected.paths
    assert found.labels.tolist() == expected.labels.tolist()
    assert not (tmp_path / "f.npz.parts").exists()


def test_results_from_features_have_the_seed_of_the_training_run(scenes: Path, tmp_path: Path) -> None:
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
        for name, given in (
            ("retrieve", pair),
            ("probe", ["--train", str(file), "--test", str(file)]),
            ("embed", [str(file), "--clips", "0"]),
        ):
            out = tmp_path / run / name
            main.run([name, *given, "--out", str(out)])
            assert {(row.run, row.seed) for row in read_results(out / "results.json")} == {(run, seed)}


@pytest.fixture(scope="module")
def whole(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The features of an uninterrupted extraction."""
    out = tmp_path_factory.mktemp("whole") / "whole.npz"
    done = dsm(*words(scenes / "train.txt", out))
    assert done.returncode == 0, done.stderr
    return out


# An extraction that gets a signal after its second part.
SIGNALLED = """
import os, sys
from dsm.cli.main import main
from dsm.evaluate import extract_to_file
save, saved = extract_to_file.save_part, []
def signalled(file, part):
    save(file, part)
    saved.append(file)
    if len(saved) == 2:
        os.kill(os.getpid(), {number})
if __name__ == "__main__":
    extract_to_file.save_part = signalled
    main()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_extraction_continues_to_the_same_file(
    scenes: Path, whole: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out, parts, script = tmp_path / "f.npz", tmp_path / "f.npz.parts", tmp_path / "signalled.py"
    script.write_text(SIGNALLED.format(number=int(number)))
    stopped = run_line("python", script, *words(scenes / "train.txt", out))
    assert stopped.returncode == 128 + number
    assert not out.exists()
    assert ("run the same command to continue" in stopped.stderr) == (number == signal.SIGINT)
    assert "Traceback" not in stopped.stderr
    assert len(list(parts.glob("0*.npz"))) == 2
    done = dsm(*words(scenes / "train.txt", out, "--workers", "2"))
    assert done.returncode == 0, done.stderr
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("signals", [signal.SIGKILL, signal.SIGINT])
def test_an_extraction_that_is_sent_a_signal_continues_to_the_same_file(
    scenes: Path, whole: Path, tmp_path: Path, signals: signal.Signals
) -> None:
    out, parts = tmp_path / "f.npz", tmp_path / "f.npz.parts"
    process = subprocess.Popen(command(scenes / "train.txt", out), stderr=subprocess.PIPE, text=True)
    while not list(parts.glob("0*.npz")):
        assert process.poll() is None, "finished before it could be stopped"
        time.sleep(0.005)
    process.send_signal(signals)
    _, output = process.communicate()
    if process.returncode == 0:
        pytest.skip("finished before the signal")
    assert not out.exists()
    if signals == signal.SIGINT:
        assert process.returncode == 130
        assert "run the same command to continue" in output
        assert "Traceback" not in output
    assert (parts / "000000.npz").is_file()
    done = dsm(*words(scenes / "train.txt", out, "--workers", "2"))
    assert done.returncode == 0, done.stderr
    assert out.read_bytes() == whole.read_bytes()


def test_processes_share_a_list_and_write_one_file(scenes: Path, whole: Path, tmp_path: Path) -> None:
    together = tmp_path / "together.npz"
    done = dsm(*words(scenes / "train.txt", together, "--devices", "2"))
    assert done.returncode == 0, done.stderr
    one, two = load_features(whole), load_features(together)
    assert np.allclose(one.features, two.features, atol=1e-5)
    assert one.paths == two.paths


def test_bad_files_are_left_out_and_reported(scenes: Path, tmp_path: Path) -> None:
    videos = read_list(scenes / "train.txt")
    part = videos.part(np.arange(6), tmp_path)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    part.paths[2] = "broken.mp4"  # type: ignore[index]
    write_list(tmp_path / "list.txt", part)
    extract(config(tmp_path / "list.txt", tmp_path / "f.npz"))
    found = load_features(tmp_path / "f.npz")
    assert found.paths == [*part.paths[:2], *part.paths[3:]]
    entries = json.loads((tmp_path / "f.npz.bad.json").read_text())["files"]
    assert [entry["path"] for entry in entries] == ["broken.mp4"]
    extract(config(tmp_path / "list.txt", tmp_path / "f.npy"))
    rows = np.load(tmp_path / "f.npy")
    assert np.isnan(rows).all(axis=1).tolist() == [False, False, True, False, False, False]
    assert np.array_equal(np.delete(rows, 2, 0), found.features)

    write_list(tmp_path / "none.txt", part.part(np.array([2]), tmp_path))
    with pytest.raises(UserError, match="none of the videos can be read"):
        extract(config(tmp_path / "none.txt", tmp_path / "none.npz"))


def test_every_clip_can_have_a_row_with_its_times(video: Path, tmp_path: Path) -> None:
    """30 frames at 24 per second; clips of 10 frames begin at 0, 10 and 20."""
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
    assert len(every) == 5  # 1.21 s: one clip per quarter of a second
    # The last clip would run over the end of the video, so it ends with it.
    assert np.allclose(24 * every.times[:, 0], [0, 6, 12, 18, 20], atol=0.02)


def test_no_clip_of_a_video_is_read_twice(video: Path, tmp_path: Path) -> None:
    """The last clips would all be moved to the same place, where the video ends."""
    extract(config(video, tmp_path / "f.npz", per_clip=True, every=0.02))
    found = load_features(tmp_path / "f.npz")
    assert found.times is not None
    starts = np.rint(24 * found.times[:, 0]).astype(int).tolist()
    assert starts == list(range(21)), "clips of 10 frames begin at each of 30, up to the twentieth"
    assert not np.allclose(found.features[-1], found.features[-2])


def test_many_clips_of_a_video_are_read_in_parts(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So time limit and memory are those of one part, however long the video is."""
    clips = EvaluationClips(
        unlabelled([str(video)], str(video)), ClipConfig(frames=4, stride=1, resize=40, size=32), 7, 3
    )
    at_once = clips.sample(0)["clips"]
    monkeypatch.setattr(clips_module, "CLIPS_A_PASS", 3)
    passes, read = [], clips.reader.read
    monkeypatch.setattr(
        clips.reader, "read", lambda index, some: passes.append(len(some)) or read(index, some)
    )
    assert torch.equal(clips.sample(0)["clips"], at_once)
    assert passes == [3, 3, 1]


def test_missing_clip_times_and_a_capped_number_of_clips_are_reported(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(clips_module, "MOST_CLIPS", 5)
    folder = tmp_path / "frames"
    folder.mkdir()
    for number, picture in enumerate(numbered_frames(4)):
        Image.fromarray(picture).save(folder / f"{number:05d}.png")
    for source, every, per_clip, expected in (
        (folder, 0.25, True, "no effect; --windows 3 clips are taken of each"),
        (folder, 0.25, False, "no effect; --windows 3 clips are taken of each"),
        (video, 0.4, True, ""),
        (video, 0.2, True, "1 video reaches the limit of"),
        (video, 0.2, False, "1 video reaches the limit of"),
    ):
        out = tmp_path / f"{source.stem}{every}{per_clip}.npz"
        extract(config(source, out, per_clip=per_clip, every=every))
        output = capsys.readouterr().err
        assert expected in output
        assert ("has no effect" in output, "reaches the limit" in output) == (
            "no effect" in expected,
            "reaches the limit" in expected,
        )


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


def test_parquet_rows_of_different_lengths_are_refused(scenes: Path, tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    extract(config(scenes / "test.txt", tmp_path / "f.parquet"))
    table = parquet.read_table(tmp_path / "f.parquet")
    rows = table["feature"].to_pylist()
    for odd in ([*rows[:-2], rows[-2][:-1], [*rows[-1], 0.0]], [*rows[:-1], None]):
        column = arrow.array(odd, arrow.list_(arrow.float32()))
        parquet.write_table(table.set_column(table.column_names.index("feature"), "feature", column),
                            tmp_path / "odd.parquet")  # fmt: skip
        with pytest.raises(UserError):
            load_features(tmp_path / "odd.parquet")


def test_parts_of_other_settings_are_not_mixed_in(scenes: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.npz"
    (tmp_path / "f.npz.parts").mkdir()
    (tmp_path / "f.npz.parts" / "extraction.json").write_text('{"made_by": "dsm"}')
    with pytest.raises(UserError, match="an extraction with other settings"):
        extract(config(scenes / "test.txt", out))
    extract(config(scenes / "test.txt", out, overwrite=True))
    with pytest.raises(UserError, match="already exists"):
        extract(config(scenes / "test.txt", out))


def test_a_folder_or_a_single_video_works_as_a_list(folder_of_videos: Path) -> None:
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


def test_an_extraction_that_read_nothing_is_tried_again(scenes: Path, tmp_path: Path) -> None:
    videos = read_list(scenes / "train.txt")
    disk = tmp_path / "disk"
    write_list(tmp_path / "list.txt", replace(videos.part(np.arange(4), scenes), root=disk))
    given = replace(config(tmp_path / "list.txt", tmp_path / "f.npz"), root=disk)
    with pytest.raises(UserError):
        extract(given)
    disk.symlink_to(scenes)
    extract(given)
    assert len(load_features(tmp_path / "f.npz").paths) == 4


def test_an_extraction_with_overwrite_continues_too(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, save, written = tmp_path / "f.npz", extract_to_file.save_part, list[str]()
    out.write_bytes(b"an older one")

    def stopped_after_the_first(file: Path, part: extract_to_file.Part) -> None:
        if written == ["000000.npz"]:
            raise KeyboardInterrupt
        save(file, part)
        written.append(file.name)

    given = config(scenes / "train.txt", out, overwrite=True)
    monkeypatch.setattr(extract_to_file, "save_part", stopped_after_the_first)
    with pytest.raises(KeyboardInterrupt):
        extract(given)
    assert written == ["000000.npz"]
    monkeypatch.setattr(
        extract_to_file, "save_part", lambda file, part: (save(file, part), written.append(file.name))
    )
    extract(given)
    assert written == [f"{part:06d}.npz" for part in range(len(written))], "the first is not computed again"
    assert len(written) > 2
    assert len(load_features(out).paths) == len(read_list(scenes / "train.txt"))


def test_a_part_is_computed_again_if_one_of_its_files_was_replaced(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos, out, save = tmp_path / "videos", tmp_path / "f.npz", extract_to_file.save_part
    videos.mkdir()
    names = [line.split()[0] for line in (scenes / "train.txt").read_text().splitlines()]
    for place in range(20):
        shutil.copy(scenes / names[place], videos / f"{place:02d}.mp4")
    written: list[str] = []

    def stopped_after_the_first(file: Path, part: extract_to_file.Part) -> None:
        if written:
            raise KeyboardInterrupt
        save(file, part)
        written.append(file.name)

    with monkeypatch.context() as patched:
        patched.setattr(extract_to_file, "save_part", stopped_after_the_first)
        with pytest.raises(KeyboardInterrupt):
            extract(config(videos, out))
    shutil.copy(scenes / names[30], videos / "05.mp4")
    before = marks_of(find_list(videos))
    os.utime(videos / "02.mp4", (1, 1))  # as in a copy on another machine
    assert replaced(before, marks_of(find_list(videos))) == [2]
    assert replaced(before, marks_of(find_list(videos)), by_size=True) == []
    extract(config(videos, out))
    extract(config(videos, tmp_path / "fresh.npz"))
    found, fresh = load_features(out), load_features(tmp_path / "fresh.npz")
    np.testing.assert_array_equal(found.features, fresh.features)
    assert found.meta["files"] == fresh.meta["files"]
