"""The commands on lists, called from Python: keywords in, results out, nothing printed."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import numbered_frames

import dsm
from dsm.data.lists import VideoList, read_list, write_list
from dsm.errors import UserError
from dsm.evaluate.feature_files import load_features
from dsm.video.decode import read_frames
from dsm.video.write import write_video


@pytest.fixture(autouse=True)
def _prints_nothing(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Calls run as in a notebook; an unexpected warning fails the test."""
    dsm.show_progress(False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield
    dsm.show_progress()
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err == ""


def same(one: VideoList, other: VideoList) -> bool:
    return (
        list(one.paths) == list(other.paths)
        and one.labels.tolist() == other.labels.tolist()
        and one.frames.tolist() == other.frames.tolist()
        and [one.file(place) for place in range(len(one))]
        == [other.file(place) for place in range(len(other))]
    )


def break_video(listed: Path, place: int) -> str:
    """Overwrite a video of a list with rubbish, and return its path."""
    file = read_list(listed).file(place)
    file.write_bytes(b"rubbish")
    return str(file)


@pytest.mark.parametrize("verb", dsm.data.__all__)
def test_help_describes_every_setting(verb: str) -> None:
    function = getattr(dsm.data, verb)
    assert function.__name__ == verb
    settings = list(inspect.signature(function).parameters)[1:]
    assert settings
    for name in settings:
        assert re.search(rf"^    {name}(: |$)", function.__doc__, re.MULTILINE)
    with pytest.raises(UserError, match=f"{verb}: unknown setting 'colour'"):
        function(colour="red")


def test_index_returns_the_list_it_wrote(folder_of_videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "lists" / "all.txt"
    result = dsm.data.index(folder=str(folder_of_videos), out=str(out))
    assert result.files == [out, out.with_name("classes.txt")]
    assert result.videos.labels.tolist() == [0, 0, 1, 1]
    assert result.videos.frames.tolist() == [12, 12, 13, 13]
    assert same(result.videos, read_list(out))
    assert str(result) == f"{out}: 4 videos, 2 classes"
    assert "4 videos, 2 classes" in result._repr_html_()
    with pytest.raises(UserError, match="already exists"):
        dsm.data.index(folder=folder_of_videos, out=out)
    again = dsm.data.index(folder=folder_of_videos, out=out, overwrite=True)
    assert again.lines[0] == f"labels as in {out.with_name('classes.txt')}"
    assert same(again.videos, result.videos)
    bare = dsm.data.index(folder=folder_of_videos, out=tmp_path / "bare.txt", unlabelled=True)
    assert bare.files == [tmp_path / "bare.txt"]
    assert not bare.videos.labelled


def test_index_of_train_and_val_returns_both_lists(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for part in ("train", "val"):
        for name in ("walk", "wave"):
            write_video(root / part / name / "a.mp4", numbered_frames(8))
    result = dsm.data.index(folder=root, out=tmp_path / "all.txt")
    assert [file.name for file in result.files] == ["all_train.txt", "all_val.txt", "classes.txt"]
    assert [len(videos) for videos in result.lists] == [2, 2]
    with pytest.raises(UserError, match="2 lists were written; take one from `lists`"):
        _ = result.videos


def test_index_warns_of_videos_it_leaves_out(folder_of_videos: Path, tmp_path: Path) -> None:
    broken = folder_of_videos / "walk" / "clip 1.mp4"
    broken.write_bytes(b"rubbish")
    with pytest.warns(UserWarning, match=f"left out: {broken}"):
        result = dsm.data.index(folder=folder_of_videos, out=tmp_path / "all.txt")
    assert len(result.videos) == 3


def test_check_returns_verdicts_and_the_usable_videos(small_list: Path, tmp_path: Path) -> None:
    broken = Path(break_video(small_list, 1)).relative_to(small_list.parent)
    long = tmp_path / "a path that is longer than the line of a result " / ("x" * 100)
    long.mkdir(parents=True)
    clean, ledger = long / "clean.txt", tmp_path / "ledger.json"
    result = dsm.data.check(videos=small_list, clean=clean, json=ledger, frames=4, workers=1)
    assert [one.verdict for one in result.verdicts] == ["ok", "undecodable", "ok", "ok"]
    assert [one.path for one in result.verdicts] == list(read_list(small_list).paths)
    assert result.counts() == {"ok": 3, "undecodable": 1}
    assert result.files == [clean, ledger]
    assert same(result.videos, read_list(clean))
    assert result.videos.frames.tolist() == [12, 13, 13]
    shown = str(result)
    assert f"undecodable  {broken}: " in shown
    assert "decoded to the end" in shown
    assert shown.endswith(f"{clean}: 3 usable videos of 4, with frame counts")
    assert len(json.loads(ledger.read_text())["files"]) == 4
    nothing_written = dsm.data.check(videos=small_list.parent / "wave", frames=4, workers=1)
    assert nothing_written.files == []
    assert nothing_written.counts() == {"ok": 2}


def test_check_without_a_usable_video_raises_and_warns_of_each(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    (tmp_path / "list.txt").write_text("a.mp4\nb.mp4\n")
    with (
        pytest.warns(UserWarning, match="mp4") as caught,
        pytest.raises(UserError, match="none of the videos is usable"),
    ):
        dsm.data.check(videos=tmp_path / "list.txt", clean=tmp_path / "clean.txt", workers=1)
    assert [str(one.message).split()[:2] for one in caught] == [["empty", "a.mp4:"], ["missing", "b.mp4:"]]
    assert not (tmp_path / "clean.txt").exists()


def test_convert_returns_the_list_it_made(folder_of_videos: Path, tmp_path: Path) -> None:
    theirs = folder_of_videos / "theirs.csv"
    theirs.write_text("".join(f"walk/clip {i}.mp4,{i}\n" for i in range(2)))
    out = tmp_path / "ours.txt"
    with pytest.warns(UserWarning, match="read as path,label between commas"):
        result = dsm.data.convert(dataset=str(theirs), columns="path,label", out=out)
    assert same(result.videos, read_list(out))
    assert result.videos.labels.tolist() == [0, 1]
    assert result.videos.file(0) == folder_of_videos / "walk" / "clip 0.mp4"
    assert result.lines == [f"{out}: 2 videos, 2 classes"]
    with pytest.raises(UserError, match="'ucf102' is neither a list file nor a known data set; did you mean"):
        dsm.data.convert(dataset="ucf102", out=tmp_path)


def test_convert_returns_the_lists_of_official_files(tmp_path: Path) -> None:
    notes, videos, out = tmp_path / "notes", tmp_path / "k400", tmp_path / "lists"
    notes.mkdir()
    head = "label,youtube_id,time_start,time_end,split\n"
    (notes / "train.csv").write_text(f"{head}zumba,xyz,0,10,train\nzumba,gone,5,15,train\n")
    (notes / "val.csv").write_text(f"{head}zumba,val1,3,13,val\n")
    for name in ("zumba/xyz_000000_000010.mp4", "val1_000003_000013.mp4"):
        (videos / name).parent.mkdir(parents=True, exist_ok=True)
        (videos / name).touch()
    result = dsm.data.convert(dataset="kinetics", annotations=notes, videos=videos, out=out)
    assert [file.name for file in result.files] == ["train.txt", "val.txt", "classes.txt", "absent.txt"]
    assert all(file.is_file() for file in result.files)
    assert [one.file(0).is_file() for one in result.lists] == [True, True]
    assert "train: 2, of which 1 are absent" in result.lines
    assert any("gone_000005_000015.mp4" in line for line in result.lines)


def test_subset_returns_the_part(small_list: Path, tmp_path: Path) -> None:
    out = tmp_path / "half.txt"
    result = dsm.data.subset(videos=small_list, fraction=0.5, out=out, seed=3)
    assert result.files == [out]
    assert result.videos.labels.tolist() == [0, 1]
    assert same(result.videos, read_list(out))
    assert result.lines == [f"{out}: 2 of 4 videos, 2 classes"]


def test_split_returns_both_lists_and_leaks_returns_shared_groups(tmp_path: Path) -> None:
    names, unknown = [f"camera{index % 7}/clip{index}.mp4" for index in range(70)], np.full(70, -1)
    write_list(tmp_path / "all.txt", VideoList(names, unknown, unknown, tmp_path))
    regex = "camera[0-9]+"
    result = dsm.data.split(videos=tmp_path / "all.txt", out=tmp_path / "lists", group_regex=regex)
    assert (result.train, result.test) == (tmp_path / "lists/train.txt", tmp_path / "lists/test.txt")
    assert [len(part) for part in result.lists] == [50, 20]
    assert all(same(part, read_list(file)) for part, file in zip(result.lists, result.files, strict=True))
    none = dsm.data.leaks(one=result.train, two=result.test, group_regex=regex)
    assert str(none) == "no group is in both lists"
    with pytest.raises(UserError, match="2 groups are in both"):
        dsm.data.leaks(one=tmp_path / "all.txt", two=result.test, group_regex=regex)


def test_split_warns_of_what_the_groups_do_not_allow(tmp_path: Path) -> None:
    names = [f"{group}/{index}.mp4" for index, group in enumerate("a" * 18 + "b" * 2)]
    labels = np.array([0] * 18 + [1] * 2)
    write_list(tmp_path / "all.txt", VideoList(names, labels, np.full(20, -1), tmp_path))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dsm.data.split(videos=tmp_path / "all.txt", out=tmp_path / "lists", group_regex="^[ab]")
    messages = [str(one.message) for one in caught]
    assert len(messages) == 3
    assert "the groups allow no closer split" in messages[0]


def test_features_imports_those_of_another_tool(tmp_path: Path) -> None:
    file, out = tmp_path / "theirs.npz", tmp_path / "ours.npz"
    numbers = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    np.savez(file, feats=numbers, label=np.arange(6) % 2, names=[f"{i}.mp4" for i in range(6)])
    result = dsm.data.features(file=file, out=out, features="feats")
    assert result.files == [out]
    assert np.array_equal(load_features(out).features, numbers)
    assert result.lines == [
        f"{out}: 6 rows x 4 dimensions; features from feats, labels from label, paths from names"
    ]
    np.save(tmp_path / "bare.npy", numbers)
    with pytest.warns(UserWarning, match="named by their number; add them with --videos LIST"):
        dsm.data.features(file=tmp_path / "bare.npy", out=out, overwrite=True)


@pytest.mark.parametrize("verb", ["frames", "pack"])
def test_frames_and_pack_return_lists_that_read_like_the_videos(
    verb: str, small_list: Path, tmp_path: Path
) -> None:
    broken, videos, out = break_video(small_list, 2), read_list(small_list), tmp_path / "out"
    with pytest.warns(UserWarning, match="left out") as caught:
        result = getattr(dsm.data, verb)(videos=small_list, out=out, short_side=24, workers=1)
    assert broken in str(caught[0].message)
    assert result.files[0] == out / "list.txt"
    assert all(file.exists() for file in result.files)
    assert same(result.videos, read_list(out / "list.txt"))
    assert result.videos.labels.tolist() == [0, 0, 1]
    assert result.videos.frames.tolist() == [12, 12, 13]
    made, original = (read_frames(one.file(0), [3, 7]) for one in (result.videos, videos))
    assert min(made.shape[1:3]) == 24
    assert np.abs(made.mean((1, 2, 3)) - original.mean((1, 2, 3))).max() < 3


def test_preview_returns_the_changes_of_every_clip(small_list: Path, tmp_path: Path) -> None:
    broken, numbers = break_video(small_list, 3), tmp_path / "numbers.json"
    clip = {"frames": 6, "stride": 1, "resize": 48, "size": 48}
    with pytest.warns(UserWarning, match="left out") as caught:
        result = dsm.data.preview(
            videos=small_list, out=tmp_path / "a.png", json=numbers, clip=clip, show=1, measure=4
        )
    assert broken in str(caught[0].message)
    assert result.files == [tmp_path / "a.png", numbers]
    assert all(file.stat().st_size for file in result.files)
    assert [one.version for one in result.changes] == ["anchor", "positive", "negative"] * 3
    assert json.loads(numbers.read_text())["clips"] == [vars(one) for one in result.changes]
    anchors = [one.scene_change for one in result.changes if one.version == "anchor"]
    assert f"{100 * np.mean(anchors):.1f} ±" in str(result)
    assert result.lines == [f"{tmp_path / 'a.png'}: 1 clip shown, 3 measured"]


def test_a_script_without_a_main_guard_is_not_run_again_by_worker_processes(
    folder_of_videos: Path, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import dsm\n"
        "print('begun')\n"
        f"dsm.data.index(folder={str(folder_of_videos)!r}, out='all.txt', unlabelled=True, workers=2)\n"
        "dsm.data.check(videos='all.txt', workers=2)\n"
        "dsm.data.pack(videos='all.txt', out='pack', short_side=32, workers=2)\n"
        "print('done')\n"
    )
    ended = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert ended.stdout.split() == ["begun", "done"], ended.stderr
    assert "Traceback" not in ended.stderr


def test_synth_returns_its_four_lists(tmp_path: Path) -> None:
    out = tmp_path / "scenes"
    result = dsm.data.synth(out=out, train=8, test=4, frames=8, size=32, workers=1)
    assert [file.name for file in result.files] == [
        "train.txt", "test.txt", "test_conflict.txt", "test_free.txt",
    ]  # fmt: skip
    assert [len(videos) for videos in result.lists] == [8, 4, 4, 4]
    assert result.lists[0].file(0).is_file()
    assert result.lines == [f"8 videos to train and 3 x 4 to test, lists beside: {out}"]
    with pytest.raises(UserError, match="preset must be 'demo' or 'full', not 'dmo'"):
        dsm.data.synth(out=out, preset="dmo")
