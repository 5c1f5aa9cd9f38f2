"""Fixtures: small generated videos, and the folder of real data if there is one."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from made_footage import write_footage
from runs import runs_to_compare

from dsm.data.lists import VideoList, write_list
from dsm.synthetic.motionscenes import write_motionscenes
from dsm.synthetic.settings import MotionScenesConfig
from dsm.terminal import show_progress
from dsm.video.write import write_video

SHARED = Path(os.environ.get("DSM_SHARED", Path(__file__).parents[2] / "shared"))

# A shell makes background commands ignore Ctrl-C, and processes started by the tests would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Small work is faster on one thread, and several tests may run at a time. This holds for every process that
# the tests start; some ask for two.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)

# As on the command line; tests/test_python.py checks that the library itself prints nothing.
show_progress()

# The same examples in every run, even on a slow machine.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")


@pytest.fixture(autouse=True)
def _isolated(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has the same random numbers, whatever ran before, and starts in an empty folder."""
    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden files and real videos; tests that need it are skipped without it."""
    if not (SHARED / "golden").is_dir():
        pytest.skip(f"no golden files and real videos at {SHARED} (set DSM_SHARED)")
    return SHARED


def numbered_frames(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Frames that identify themselves: frame i is grey of level 4 + 6i, so decoding errors show."""
    levels = (4 + 6 * np.arange(count)).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3)).copy()


def frame_numbers(frames: np.ndarray) -> list[int]:
    """The numbers of decoded :func:`numbered_frames`."""
    return [round((float(frame.mean()) - 4) / 6) for frame in frames]


def judge_after(folder: Path, *lines: str) -> None:
    """Make every process with ``folder`` in PYTHONPATH do this before it checks a video named ``path``."""
    body = "".join(f"    {line}\n" for line in lines)
    (folder / "sitecustomize.py").write_text(
        "import os, time, dsm.video.ledger as ledger\n"
        "look = ledger._decode_all\n"
        f"def judge(path):\n{body}    return look(path)\n"
        "ledger._decode_all = judge\n"
    )


def moving_square(frames: int = 8, side: int = 48) -> np.ndarray:
    """A bright square of 12 pixels that moves from left to right along the top of a patterned wall."""
    rng = np.random.default_rng(0)
    wall, coat = (np.kron(rng.integers(0, 60, (n, n, 1)), np.ones((3, 3, 3))) for n in (-(-side // 3), 4))
    clip = np.repeat(wall[None, :side, :side].astype(np.uint8), frames, axis=0)
    for t in range(frames):
        clip[t, 4:16, 2 + 3 * t : 14 + 3 * t] = 180 + coat
    return clip


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """30 numbered frames of 64 x 48."""
    path = tmp_path / "numbered.mp4"
    write_video(path, numbered_frames(30))
    return path


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small MotionScenes folder: 40 training videos, 10 per test."""
    out = tmp_path_factory.mktemp("scenes")
    write_motionscenes(MotionScenesConfig(train=40, test=10), out)
    return out


@pytest.fixture
def folder_of_videos(tmp_path: Path) -> Path:
    """Two classes of two short videos each, one with a space in its name."""
    root = tmp_path / "videos"
    for label, name in enumerate(("walk", "wave")):
        for index in range(2):
            frames = numbered_frames(12 + label)
            write_video(root / name / f"clip {index}.mp4", frames)
    return root


@pytest.fixture
def small_list(folder_of_videos: Path) -> Path:
    names = sorted(str(p.relative_to(folder_of_videos)) for p in folder_of_videos.rglob("*.mp4"))
    path = folder_of_videos / "list.txt"
    write_list(
        path,
        VideoList(names, np.array([0, 0, 1, 1]), np.array([12, 12, 13, 13]), folder_of_videos),
    )
    return path


@pytest.fixture
def blank_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs get empty figures: to draw them takes a second, and tests/test_monitor.py does."""

    def draw(run: Path) -> list[Path]:
        drawn = [run / "figures" / f"{name}.png" for name in ("health", "gradients")]
        for path in drawn:
            path.parent.mkdir(exist_ok=True)
            path.touch()
        return drawn

    monkeypatch.setattr("dsm.verbs.train.draw_run", draw)


@pytest.fixture(scope="session")
def runs(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pretraining runs and a fine-tuning run, for comparison."""
    out = tmp_path_factory.mktemp("runs")
    runs_to_compare(scenes, out)
    return out


@pytest.fixture(scope="session")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of made footage, ``made.npz``, and some of its ``videos``."""
    out = tmp_path_factory.mktemp("footage")
    write_footage(out)
    return out
