"""How long does `dsm bias` take? python benchmarks/bias.py [--videos 200] [--threads 2] [--test LIST]

Tests four encoders in one command: random weights, `moco`, `dsm`, and a small transformer that is saved and
read like a published one, whose clips are larger. All are made here and hardly trained, which costs the same
time. The videos are those of MotionScenes, or of a labelled list. Prints minutes: of the whole command, from
its start to the card, with the probe's training.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import transformers
import tyro

from dsm.data.lists import read_list, write_list
from dsm.data.settings import ClipConfig
from dsm.demo import CLIP
from dsm.models.export import save_safetensors
from dsm.models.zoo import create_model
from dsm.synthetic.motionscenes import write_motionscenes
from dsm.synthetic.settings import MotionScenesConfig
from dsm.train.config import DataConfig, MonitorConfig, PretrainConfig
from dsm.train.pretrain import pretrain

BACKBONE = "tiny3d"


@dataclass(frozen=True)
class Options:
    videos: int = 200
    """Videos to test on; as many train the probes."""
    threads: int = 2
    windows: int = 3
    """Clips per video."""
    test: Path | None = None
    """A list with labels to test and train the probes on, in place of MotionScenes."""
    quick: bool = False
    """Measure only the four numbers: `dsm bias --quick`."""


def lists(folder: Path, options: Options) -> tuple[Path, Path]:
    """The lists to train the probes on and to test."""
    if options.test is not None:
        videos = read_list(options.test)
        wanted = torch.linspace(0, len(videos) - 1, min(options.videos, len(videos))).long().numpy()
        write_list(folder / "test.txt", videos.part(wanted, folder))
        return folder / "test.txt", folder / "test.txt"
    scenes = MotionScenesConfig(train=options.videos, test=options.videos)
    write_motionscenes(scenes, folder / "scenes", workers=options.threads)
    return folder / "scenes" / "train.txt", folder / "scenes" / "test.txt"


def encoders(folder: Path, train: Path) -> list[str]:
    """The weights of the four."""
    about = {"backbone": BACKBONE, "model": {}, "head": None, "clip": asdict(CLIP), "method": "random"}
    save_safetensors(folder / "random.safetensors", create_model(BACKBONE), about)
    made = [str(folder / "random.safetensors")]
    for method in ("moco", "dsm"):
        run = pretrain(
            PretrainConfig(
                data=DataConfig(train, batch_size=8, workers=0), out=folder / method, method=method,
                backbone=BACKBONE, clip=CLIP, steps=1, monitor=MonitorConfig(videos=0),
            )
        )  # fmt: skip
        made.append(str(run))
    clip = ClipConfig(frames=16, size=112)
    config = transformers.VideoMAEConfig(
        hidden_size=192, num_hidden_layers=6, num_attention_heads=3, intermediate_size=768,
        image_size=clip.size, num_frames=clip.frames, use_mean_pooling=False,
    )  # fmt: skip
    transformers.VideoMAEModel(config).save_pretrained(folder / "videomae")
    return [*made, f"hf:{folder / 'videomae'}"]


def main(options: Options) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train, test = lists(folder, options)
        weights = encoders(folder, train)
        line = [
            sys.executable, "-m", "dsm", "bias", "--weights", *weights,
            "--names", "random", "moco", "dsm", "videomae",
            "--data.train", str(train), "--data.test", str(test), "--windows", str(options.windows),
            "--data.workers", str(options.threads - 1), "--out", str(folder / "report"),
            *(["--quick"] * options.quick),
        ]  # fmt: skip
        begun = time.monotonic()
        subprocess.run(line, check=True, env={**os.environ, "OMP_NUM_THREADS": str(options.threads)})
        minutes = (time.monotonic() - begun) / 60
    what = f"{options.videos} videos, {options.windows} clips each, four encoders, {options.threads} threads"
    print(f"{what}: {minutes:.1f} minutes")


if __name__ == "__main__":
    main(tyro.cli(Options))
