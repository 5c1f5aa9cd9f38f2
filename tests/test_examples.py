"""The examples run as their first lines say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run_example(name: str, *words: object) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *map(str, words)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def encoder(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("example") / "run"
    told = run_example(
        "pretrain_folder.py", scenes / "videos" / "train", out, "--steps", 2, "--batch-size", 4
    )
    assert "load_encoder" in told
    return out


def test_classify_labels_every_video(encoder: Path, scenes: Path) -> None:
    told = run_example("classify.py", encoder, scenes / "train.txt", scenes / "videos" / "test_free")
    lines = told.splitlines()
    assert len(lines) == 10
    assert all(0 <= int(line.split("\t")[1]) < 10 for line in lines)


def test_search_finds_the_video_itself(encoder: Path, scenes: Path) -> None:
    video = sorted((scenes / "videos" / "train").rglob("*.mp4"))[3]
    told = run_example("search.py", encoder, scenes / "videos" / "train", video, "--k", 2)
    assert told.splitlines()[0].startswith("1.000")
    assert video.name in told.splitlines()[0]


def test_a_loop_of_ones_own_learns(scenes: Path) -> None:
    told = run_example("own_loop.py", scenes / "videos" / "train", "--steps", 21, "--batch-size", 4)
    losses = [float(line.split("loss ")[1].split(",")[0]) for line in told.splitlines()]
    assert len(losses) == 3
    assert losses[-1] < losses[0]
