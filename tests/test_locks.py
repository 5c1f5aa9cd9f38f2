"""One writes, another is told so at once; what a killed process left is swept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dsm.data.folders import find_videos
from dsm.errors import UserError
from dsm.files import ABANDONED, PART, empty_folder, sweep, write_text, written_aside
from dsm.locks import hold, sweep_locks, work
from dsm.runs.claims import claim_by_settings, claim_files

HOLDS = """
import sys, time
from pathlib import Path
from dsm.files import written_aside, written_aside_folder
from dsm.locks import hold, work
out = Path(sys.argv[1])
with work():
    hold(out)
    with written_aside(out / "file") as file, written_aside_folder(out / "frames") as folder:
        file.write_text("half")
        (folder / "img_00001.jpg").write_text("half")
        print("held", flush=True)
        time.sleep(600)
"""


def holder(out: Path) -> subprocess.Popen[str]:
    """A process that holds a lock, and has written half of a file and of a folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLDS, str(out)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_what_another_process_writes_is_refused_with_its_number_until_it_is_dead(tmp_path: Path) -> None:
    out, other_name = tmp_path / "out", tmp_path / "link"
    process = holder(out)
    other_name.symlink_to(out)
    try:
        for name in (out, other_name):
            with (
                work(),
                pytest.raises(UserError, match=f"another command is writing it .process {process.pid}"),
            ):
                hold(name)
        write_text(out / "another", "")  # sweeps the folder, but nothing of a living process
        assert len(list(out.glob(f".*{PART}"))) == 2
    finally:
        kill(process)
    assert (tmp_path / ".out.dsm-lock").exists()
    with work():
        assert hold(out) is None
    assert not (tmp_path / ".out.dsm-lock").exists()


def test_what_a_killed_process_left_is_swept_when_its_place_is_claimed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    claim_by_settings(out, "frames.json", {}, what="frames", overwrite=False, needed=())
    kill(holder(out))
    assert len(list(out.glob(f".*{PART}"))) == 2
    with work():
        claim_by_settings(out, "frames.json", {}, what="frames", overwrite=False, needed=())
    assert [path.name for path in out.iterdir()] == ["frames.json"]
    assert list(tmp_path.iterdir()) == [out]


def test_a_half_written_folder_of_frames_is_no_video(tmp_path: Path) -> None:
    kill(holder(tmp_path / "out"))
    (half,) = (tmp_path / "out").glob(f".frames.*{PART}")
    whole = tmp_path / "out" / "whole"
    whole.mkdir()
    for folder in (half, whole):
        for number in (1, 2, 3):
            (folder / f"img_{number:05d}.jpg").write_text("")
    assert find_videos(tmp_path) == [whole]


def test_parts_of_another_machine_are_swept_when_they_are_old(tmp_path: Path) -> None:
    new, old, mine = (tmp_path / f".f.{name}.1{PART}" for name in ("there-1", "there-2", "mine"))
    for path in (new, old, mine):
        path.mkdir()
    age = old.stat().st_mtime - ABANDONED - 1
    os.utime(old, (age, age))
    sweep(tmp_path)
    assert set(tmp_path.iterdir()) == {new, mine}
    with written_aside(tmp_path / ("x" * 250)) as aside:  # as long as names may be
        aside.write_text("")


def test_a_verb_holds_what_the_verbs_it_calls_hold_and_a_thread_beside_it_does_not(tmp_path: Path) -> None:
    refused: list[str] = []

    def beside() -> None:
        try:
            with work():
                hold(tmp_path / "out")
        except UserError as error:
            refused.append(str(error))

    with work():
        hold(tmp_path / "out")
        with work():
            hold(tmp_path / "out")
        thread = threading.Thread(target=beside)
        thread.start()
        thread.join()
        sweep_locks(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [".out.dsm-lock"]
    assert len(refused) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_worker_that_outlives_its_parent_holds_nothing(tmp_path: Path) -> None:
    code = f"""
import os, signal, time
from pathlib import Path
from dsm.locks import hold, work
with work():
    hold(Path({str(tmp_path / "out")!r}))
    child = os.fork()
    if not child:
        os.close(1)
        time.sleep(60)
    print(child, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    parent = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, timeout=100)
    try:
        with work():
            assert hold(tmp_path / "out") is None
            assert (tmp_path / ".out.dsm-lock").read_text().startswith(f"{os.getpid()}\n")
    finally:
        os.kill(int(parent.stdout), signal.SIGKILL)


def test_a_disk_without_locks_is_told_and_the_work_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("dsm.locks.fcntl.flock", refuse)
    with work():
        claim_files(tmp_path / "f.npz", overwrite=False)
    assert "cannot be locked (No locks available)" in " ".join(capfd.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_emptied_whole_folders_first_and_its_marker_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the middle, no folder of frames has lost some of its frames, and the marker is there."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "img_00001.jpg").write_text("")
    for name in ("frames.json", "list.txt"):
        (tmp_path / name).write_text("")

    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dsm.files.shutil.rmtree", lambda path, **_: None if _ else killed(path))
    with pytest.raises(KeyboardInterrupt):
        empty_folder(tmp_path, "frames.json")
    whole = [path for path in tmp_path.iterdir() if not path.name.startswith(".")]
    assert all(list(path.iterdir()) for path in whole if path.is_dir())
    assert (tmp_path / "frames.json").exists()
    monkeypatch.undo()
    empty_folder(tmp_path, "frames.json")
