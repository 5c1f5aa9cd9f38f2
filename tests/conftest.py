"""Small videos made by the tests themselves, and the folder of real data where there is one."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from runs import runs_to_compare

from dsm.data.lists import VideoList, write_list
from dsm.synthetic.motionscenes import MotionScenesConfig, write_motionscenes
from dsm.terminal import show_progress
from dsm.video.write import write_video

SHARED = Path(os.environ.get("DSM_SHARED", Path(__file__).parents[2] / "shared"))

# A shell has what it begins in the background ignore Ctrl-C, and so would all that the tests begin.
signal.signal(signal.SIGINT, signal.default_int_handler)

# So small a work is done sooner by one thread than by several, and several tests may run at a time. Here and
# in every process that the tests begin; some ask for two.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)

# As the command line does; tests/test_python.py asks that the library prints nothing by itself.
show_progress()

# The same examples in every run, however slow the machine is just now.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")


@pytest.fixture(autouse=True)
def _nothing_left_by_others(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each test draws the same whichever ran before it, and begins where nothing lies."""
    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden files and real videos; tests that need it are skipped without it."""
    if not (SHARED / "golden").is_dir():
        pytest.skip(f"no golden files and real videos at {SHARED} (set DSM_SHARED)")
    return SHARED


def numbered_frames(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Frames that say which they are: frame i is grey of level 4 + 6i, so decoding errors show."""
    levels = (4 + 6 * np.arange(count)).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3)).copy()


def frame_numbers(frames: np.ndarray) -> list[int]:
    """The numbers of decoded :func:`numbered_frames`."""
    return [round((float(frame.mean()) - 4) / 6) for frame in frames]


def judge_after(folder: Path, *lines: str) -> None:
    """Write what makes every process with ``folder`` in PYTHONPATH do this before it judges a ``path``."""
    body = "".join(f"    {line}\n" for line in lines)
    (folder / "sitecustomize.py").write_text(
        "import os, time, dsm.video.ledger as ledger\n"
        "look = ledger._decode_all\n"
        f"def judge(path):\n{body}    return look(path)\n"
        "ledger._decode_all = judge\n"
    )


def moving_square(frames: int = 8, side: int = 48) -> np.ndarray:
    """A bright square of 12 pixels that goes from left to right along the top of a wall with a pattern."""
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
    """A small MotionScenes folder: 40 training videos, 10 a test."""
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


@pytest.fixture(scope="session")
def runs(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pretrainings and a fine-tuning, to be told side by side."""
    out = tmp_path_factory.mktemp("runs")
    runs_to_compare(scenes, out)
    return out
