"""The command line: help, and one clear sentence with exit code 2 for every mistake."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import numbered_frames
from rich.console import Console
from rich.table import Table
from rich.text import Text
from warm_dsm import HANG, dsm

from dsm import devices, terminal
from dsm.cli.help import shortened
from dsm.cli.main import main
from dsm.commands import VERBS
from dsm.data.classes import class_names
from dsm.data.lists import read_list
from dsm.errors import UserError
from dsm.evaluate.feature_files import load_features, save_features
from dsm.evaluate.features import Features
from dsm.extras import installed_extras
from dsm.methods.dsm import DsmConfig
from dsm.verbs.doctor import cudnn_note, doctor
from dsm.verbs.settings.weights import DoctorConfig
from dsm.video.decode import probe
from dsm.video.write import write_video


def refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: object) -> str:
    """Run the command in this process (faster), and return its error message."""
    monkeypatch.setattr(sys, "argv", ["dsm", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        main()
    output = capsys.readouterr().err
    assert stop.value.code == 2, output
    assert "Traceback" not in output
    return " ".join(output.split())


def test_overview_names_every_verb() -> None:
    output = dsm()
    assert output.returncode == 0
    assert all(f"dsm {verb}" in output.stdout for verb in VERBS)
    assert dsm("--version").stdout.strip().count(".") == 2


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_has_help_with_an_example(
    verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["dsm", *verb.split(), "--help"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 0
    output = capsys.readouterr().out
    assert "Examples:" in output
    assert VERBS[verb].examples[0] in " ".join(output.replace("│", " ").split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pretrian"], "unknown command 'dsm pretrian'; did you mean 'pretrain'?"),
        (["data", "indexx"], "did you mean 'data index'"),
        (["pretrain", "--data.train", "none.txt", "--out", "OUT"], "none.txt: no such list file"),
        (["probe", "--train", "FULL", "--test", "FULL", "--out", "OUT"], "is a folder, not a features file"),
        (["data", "split", "FULL", "--out", "OUT"], "not a list. `dsm data index"),
        (
            ["pretrain", "--data.train", "LIST", "--out", "OUT", "--backbone", "i3"],
            "unknown backbone 'i3'; did you mean 'i3d'?",
        ),
        (["pretrain", "--data.train", "LIST", "--out", "OUT", "--method", "mocco"], "did you mean 'moco'?"),
        (
            ["pretrain", "--data.train", "LIST", "--out", "OUT", "--data.batch-size", "64"],
            "too few for a batch",
        ),
        (["pretrain", "--data.train", "LIST", "--data.root", "none", "--out", "OUT"], "none: no such folder"),
        (
            ["pretrain", "--data.train", "LIST", "--out", "FULL", "--data.batch-size", "4"],
            "is not a run of dsm",
        ),
        (
            ["pretrain", "--data.train", "LIST", "--out", "OUT", "--resume", "--data.batch-size", "4"],
            "no checkpoint to resume from",
        ),
        (["pretrain", "--data.train", "LIST", "--out", "OUT", "--clip.size", "500"], "must not be smaller"),
        (["data", "index", "none", "--out", "OUT"], "none: no such folder"),
        (["data", "index", "EMPTY", "--out", "OUT"], "contains no video"),
        (["data", "index", "VIDEOS", "--out", "LIST"], "already exists"),
        (["data", "index", "VIDEOS", "--out", "FULL", "--overwrite"], "is a folder, not a file"),
        (["data", "synth", "FULL"], "not empty and does not contain MotionScenes"),
        (["data", "synth", "OUT", "--scene-correlation", "2"], "scene-correlation must be from 0 to 1"),
        (["extract", "--weights", "none.pt", "--data", "LIST", "--out", "f.npz"], "no such checkpoint"),
        (["extract", "--weights", "LIST", "--data", "LIST", "--out", "f.npz"], "not a checkpoint"),
        (["extract", "--weights", "none", "--data", "LIST", "--out", "f.txt"], "written as .npz"),
        (
            ["extract", "--weights", "none", "--backbone", "resnet", "--data", "LIST", "--out", "f.npz"],
            "unknown backbone 'resnet'",
        ),
        (["retrieve", "--gallery", "no.npz", "--queries", "no.npz", "--out", "OUT"], "no such features file"),
        (["pretrain", "--data.train", "LIST", "--out", "OUT", "--seed", "-1"], "seed must be at least 0"),
        (["pretrain", "--data.train", "LIST", "--out", "OUT", "--data.batch-size", "1"], "at least 2"),
        (
            ["pretrain", "--data.train", "LIST", "--out", "OUT", "--optim.warmup", "-5"],
            "warmup must be at least 0",
        ),
        (
            ["pretrain", "--data.train", "LIST", "--out", "OUT", "--moco.queue", "-1"],
            "queue must be at least 0",
        ),
        (["pretrain", "--data.train", "LIST", "--out", "OUT", "--dsm.tld.shift", "-1"], "weights of tld"),
        (["data", "synth", "OUT", "--workers", "-1"], "workers must be at least 1"),
        (["data", "index", "VIDEOS", "--out", "FULL/thesis.tex/x.txt"], "thesis.tex"),
        (["demo", "--out", "OUT", "--videos", "10"], "at least 32 videos"),
        (["demo", "--out", "FULL"], "not empty and is not a demo"),
        (["pretrain", "--out", "OUT", "--no-such-flag", "1"], "no-such-flag"),
    ],
)
def test_mistakes_are_named(
    words: list[str],
    message: str,
    small_list: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("EMPTY", "FULL"):
        (tmp_path / name).mkdir()
    (tmp_path / "FULL" / "thesis.tex").touch()
    places = {
        "LIST": small_list, "VIDEOS": small_list.parent, "OUT": tmp_path / "OUT",
        "EMPTY": tmp_path / "EMPTY", "FULL": tmp_path / "FULL",
    }  # fmt: skip
    monkeypatch.chdir(tmp_path)
    output = refused(capsys, monkeypatch, *(places.get(word, word) for word in words))
    assert message.lower() in output.lower()
    assert not (tmp_path / "OUT").exists()
    assert (tmp_path / "FULL" / "thesis.tex").exists()


def test_a_video_that_is_missing_ends_a_run_with_its_name(small_list: Path, tmp_path: Path) -> None:
    read_list(small_list).file(2).unlink()
    output = dsm(
        "pretrain", "--data.train", small_list, "--out", tmp_path / "run", "--backbone", "tiny",
        "--data.batch-size", 4, "--epochs", 1, "--clip.frames", 4, "--clip.resize", 40, "--clip.size", 32,
    )  # fmt: skip
    assert output.returncode == 2, output.stderr
    assert "no such file" in output.stderr
    assert "Traceback" not in output.stderr


def test_a_setting_of_another_method_is_refused(small_list: Path, tmp_path: Path) -> None:
    output = dsm("pretrain", "--method", "moco", "--dsm.temperature", "0.5", "--data.train", small_list,
               "--out", tmp_path / "run")  # fmt: skip
    assert output.returncode == 2
    assert "a setting of --method dsm and has no effect on moco" in " ".join(output.stderr.split())
    assert not (tmp_path / "run").exists()


def test_index_labels_by_folder_and_names_what_it_leaves_out(folder_of_videos: Path) -> None:
    (folder_of_videos / "wave" / "broken.mp4").write_bytes(b"no video")
    output = dsm("data", "index", folder_of_videos, "--out", folder_of_videos / "all.txt")
    assert output.returncode == 0, output.stderr
    assert "broken.mp4" in output.stderr
    assert "1 file left out" in output.stderr
    videos = read_list(folder_of_videos / "all.txt")
    assert videos.paths == ["walk/clip 0.mp4", "walk/clip 1.mp4", "wave/clip 0.mp4", "wave/clip 1.mp4"]
    assert videos.labels.tolist() == [0, 0, 1, 1]
    assert videos.frames.tolist() == [12, 12, 13, 13]
    assert (folder_of_videos / "classes.txt").read_text() == "walk\nwave\n"


def test_handwritten_class_names_are_read_alike_everywhere(folder_of_videos: Path) -> None:
    """A blank line names no class, and text that is not UTF-8 is no reason to stop."""
    (folder_of_videos / "classes.txt").write_bytes(b"walk\n\nwave\nd\xe9part\n")
    output = dsm("data", "index", folder_of_videos, "--out", folder_of_videos / "all.txt")
    assert output.returncode == 0, output.stderr
    videos = read_list(folder_of_videos / "all.txt")
    assert videos.labels.tolist() == [0, 0, 1, 1]
    assert class_names(folder_of_videos, 2) == ["walk", "wave"]
    assert class_names(folder_of_videos, 4) == ["0", "1", "2", "3"]


def test_index_of_a_plain_folder_is_unlabelled_and_works_from_another_folder(tmp_path: Path) -> None:
    for index in range(3):
        write_video(tmp_path / "footage" / f"{index}.mp4", numbered_frames(6))
    output = dsm(
        "data", "index", tmp_path / "footage", "--out", tmp_path / "lists" / "all.txt", "--unlabelled"
    )
    assert output.returncode == 0, output.stderr
    videos = read_list(tmp_path / "lists" / "all.txt")
    assert not videos.labelled
    assert all(videos.file(index).is_file() for index in range(3))
    with_labels = dsm("data", "index", tmp_path / "footage", "--out", tmp_path / "labels.txt")
    assert with_labels.returncode == 2
    assert "--unlabelled" in with_labels.stderr


@pytest.mark.slow
def test_the_commands_work_together_on_a_folder_of_videos(small_list: Path, tmp_path: Path) -> None:
    shape = ["--clip.frames", 4, "--clip.stride", 2, "--clip.resize", 40, "--clip.size", 32]
    run = tmp_path / "run"
    trained = dsm(
        "pretrain", "--data.train", small_list, "--method", "dsm", "--backbone", "tiny", "--out", run,
        "--data.batch-size", 2, "--epochs", 2, "--log-every", 1, *shape,
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    assert "Next: dsm extract" in trained.stderr
    extracted = dsm("extract", "--weights", run, "--data", small_list, "--out", tmp_path / "f.npz")
    assert extracted.returncode == 0, extracted.stderr
    assert "4 videos x 128 dimensions" in extracted.stderr
    found = dsm(
        "retrieve", "--gallery", tmp_path / "f.npz", "--queries", tmp_path / "f.npz", "--out", tmp_path / "r"
    )
    assert found.returncode == 0, found.stderr
    assert "R@1" in found.stdout
    results = json.loads((tmp_path / "r" / "results.json").read_text())
    assert results["command"].startswith("dsm retrieve")
    rows = {row["metric"]: row for row in results["rows"]}
    assert list(rows) == ["R@1", "R@5", "R@10", "R@20", "R@50", "mAP"]
    assert rows["R@50"]["value"] == 1.0
    assert rows["R@1"]["run"] == "dsm"
    with np.load(tmp_path / "f.npz") as arrays:
        assert arrays["features"].shape == (4, 128)
        assert arrays["paths"].tolist() == [
            "walk/clip 0.mp4",
            "walk/clip 1.mp4",
            "wave/clip 0.mp4",
            "wave/clip 1.mp4",
        ]


def test_two_lists_in_one_folder_share_their_class_numbers(folder_of_videos: Path) -> None:
    first = dsm("data", "index", folder_of_videos, "--out", folder_of_videos / "train.txt")
    assert first.returncode == 0, first.stderr
    write_video(folder_of_videos / "new" / "wave" / "0.mp4", numbered_frames(5))
    second = dsm("data", "index", folder_of_videos / "new", "--out", folder_of_videos / "test.txt")
    assert second.returncode == 0, second.stderr
    assert read_list(folder_of_videos / "test.txt").labels.tolist() == [1]  # wave
    write_video(folder_of_videos / "new" / "jump" / "0.mp4", numbered_frames(5))
    third = dsm("data", "index", folder_of_videos / "new", "--out", folder_of_videos / "third.txt")
    assert third.returncode == 2
    assert "'jump' is not one of the 2 known classes" in third.stderr


def test_unusual_names_and_links_are_indexed_unchanged(tmp_path: Path) -> None:
    videos, elsewhere = tmp_path / "videos", tmp_path / "elsewhere.mp4"
    write_video(elsewhere, numbered_frames(4))
    for name in ("#c/2020-01-01T12:30.mp4", " d/[b].mp4", "e/\u2028.mp4"):
        write_video(videos / name, numbered_frames(4))
    (videos / "f").mkdir()
    (videos / "f" / "link.mp4").symlink_to(elsewhere)
    (videos / "f" / "two\nlines.mp4").symlink_to(elsewhere)
    done = dsm("data", "index", videos, "--out", videos / "out[/b].txt")
    assert done.returncode == 0, done.stderr
    assert "1 file left out" in done.stderr
    found = read_list(videos / "out[/b].txt")
    assert len(found) == 4
    assert all(probe(found.file(i)).frames == 4 for i in range(4))
    assert sorted(found.labels.tolist()) == [0, 1, 2, 3]


def test_a_file_name_with_a_colon_is_read_as_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_video("12:30.mp4", numbered_frames(4))
    assert probe("12:30.mp4").frames == 4


def test_the_same_file_under_another_name_is_the_same_gallery(tmp_path: Path) -> None:
    features = Features(np.eye(4, dtype=np.float32), np.array([0, 0, 1, 1]), list("abcd"), {"run": "[/b]"})
    save_features(tmp_path / "f.npz", features)
    (tmp_path / "g.npz").symlink_to(tmp_path / "f.npz")
    command = (
        "retrieve", "--gallery", tmp_path / "f.npz", "--queries", tmp_path / "g.npz", "--out", tmp_path / "r"
    )  # fmt: skip
    found = dsm(*command)
    assert found.returncode == 0, found.stderr
    rows = json.loads((tmp_path / "r" / "results.json").read_text())["rows"]
    assert rows[0]["value"] < 1  # no video is its own neighbour
    assert "33.3%" in found.stdout  # chance: one other of three
    again = dsm(*command)
    assert again.returncode == 2
    assert "already exists" in again.stderr


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00"])
def test_features_that_cannot_be_read_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f.npz").write_bytes(content)
    with pytest.raises(UserError, match="not a features file"):
        load_features(tmp_path / "f.npz")
    np.save(tmp_path / "bare.npy", np.zeros((2, 2)))
    with pytest.raises(UserError, match="no paths or labels"):
        load_features(tmp_path / "bare.npy")


def test_the_help_of_a_group_shows_its_verbs() -> None:
    shown = set(re.findall(r"dsm ([a-z]+ ?[a-z]*)  ", dsm("data", "--help").stdout))
    assert shown == {name for name in VERBS if name.startswith("data ")}


def test_models_and_doctor_print_their_tables() -> None:
    assert all(name in dsm("models", "--frames", 2, "--size", 16).stdout for name in ("i3d", "tiny"))
    shown = dsm("doctor").stdout
    assert "torch" in shown
    for extra, found in installed_extras().items():
        assert (extra in shown.split("extras not installed")[0]) == found


def test_doctor_counts_the_threads_that_dsm_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container limited to one core, torch begins with a thread for each core of the machine."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(devices, "usable_cores", lambda: 1)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert re.search(r"torch threads *│ 1 ", str(doctor(DoctorConfig())))
    finally:
        torch.set_num_threads(before)


def test_names_with_colons_are_no_emojis() -> None:
    screen = terminal.SafeConsole(file=io.StringIO(), width=80)
    table = Table(":dog:", title=":dog:")
    table.add_row("cam:100:/a.mp4")
    screen.print(table)
    screen.print("cam:100:/a.mp4")
    shown = screen.file.getvalue()
    assert (shown.count(":dog:"), shown.count("cam:100:/a.mp4")) == (2, 2)


def test_a_sign_that_the_terminal_lacks_ends_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, or with `LANG=en_GB.ISO-8859-1`, where the output goes to a file."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    monkeypatch.setattr(sys, "argv", ["dsm", "recipes", "table-ucf101-i3d-dsm"])
    main()
    sys.stdout.flush()
    assert b"pretrain \\u2192 finetune" in written.getvalue()


def test_doctor_names_a_cudnn_that_torch_avoids() -> None:
    assert cudnn_note("2.10.0+cu128", 91002) == "9.10.2"
    assert cudnn_note("2.9.1+cu128", 91500) == "9.15.0"
    assert "use torch 2.10" in cudnn_note("2.9.1+cu128", 91002)
    assert "MISSING" in cudnn_note("2.9.1", None)


def test_help_of_a_verb_with_many_settings_is_two_screens(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for name, verb in VERBS.items():
        texts = []
        for flag in ("--help", "--help-all"):
            monkeypatch.setattr(sys, "argv", ["dsm", *name.split(), flag])
            with pytest.raises(SystemExit) as end:
                main()
            assert not end.value.code
            texts.append(capsys.readouterr().out)
        short, whole = (set(re.findall(r"--[a-z][a-z0-9.-]+", text)) for text in texts)
        assert texts[0].count("\n") <= 90
        assert bool(verb.first) == (texts[0] != texts[1])
        shown = {f"--{setting}" for setting in verb.first} & whole  # a positional one has no dashes
        assert shown <= short
        assert verb.first == () or len(shown) >= len(verb.first) - 1


def test_the_short_help_shows_the_verbs_own_defaults() -> None:
    preview = VERBS["data preview"]
    short = shortened(preview.find_config(), preview.first)
    assert short(videos=Path("l.txt"), out=Path("p.html")).sld.strength == DsmConfig().sld.strength


def test_a_progress_bar_fits_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps and time left stay; the last parts of the note go."""
    screen = Console(force_terminal=True, width=80, file=io.StringIO())
    monkeypatch.setattr(terminal, "console", screen)
    note = "loss 0.658  motion 71%  balance +0.31  64.6 clips/s  waiting 4%  lr 9.8e-04"
    with terminal.progress("dsm on tiny3d", 1500) as bar:
        bar.update(301, note)
    last = Text.from_ansi(screen.file.getvalue().replace("\r", "\n")).plain.rstrip().split("\n")[-1]
    assert "301/1500" in last
    assert last.rstrip().endswith("balance +0.31")


def test_workers_that_cannot_start_end_with_a_sentence(tmp_path: Path) -> None:
    """A pipe that broke between processes is not the reader of our output that has gone."""
    code = (
        "import multiprocessing, sys; from dsm.cli.main import main;"
        "multiprocessing.set_executable('/bin/false');"
        f"sys.argv[1:] = ['data', 'synth', {str(tmp_path / 'out')!r}, '--workers', '2']; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=HANG)
    assert done.returncode == 2, done.stderr
    assert "use fewer workers" in done.stderr or "use fewer --workers" in done.stderr
    # Python's own tracker of resources, which cannot start either, may print one as the process ends.
    assert "dsm/cli/main.py" not in done.stderr


@pytest.mark.parametrize("words", [[], ["retrieve", "--help"]])
def test_a_reader_that_has_gone_is_no_success(words: list[str]) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "dsm", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        process.stdout.close()
        assert process.stderr
        assert process.stderr.read() == ""
    assert process.returncode == 1
