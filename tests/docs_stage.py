"""Runs the docs' blocks: a folder for each page, with small stand-ins under the names that the docs use.

A reader has videos, lists and trained runs; here they are some MotionScenes videos and runs of two steps.
What the blocks of a page write themselves (``--out runs/mine``) is not laid there before.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from warm_dsm import server

if TYPE_CHECKING:
    from docs_blocks import Block

ROOT = Path(__file__).parents[1]
FAST, SLOW = 900, 3600
"""Time limit of a block, in seconds."""

_CLIP = "--clip.frames 4 --clip.resize 40 --clip.size 32"
_SEEN = "--frames 4 --resize 40 --size 32"
_TRAIN = f"--steps 2 --data.workers 0 {_CLIP}"
QUICK = {
    "demo": "--steps 2 --videos 32 --tests 10",
    "pretrain": f"{_TRAIN} --data.batch-size 8 --backbone tiny --precision fp32",
    "finetune": f"{_TRAIN} --data.batch-size 2",
    "extract": _SEEN,
    "bias": f"{_SEEN} --windows 1 --backbone tiny",
    "data preview": "--show 1 --measure 2",
    "models": "--frames 2 --size 16",
    "run": "--backbone tiny "
    + " ".join(
        f"--{part}.steps 2 --{part}.batch-size 4 --{part}.frames 4 --{part}.size 32"
        for part in ("pretrain", "finetune")
    ),
}
"""Words appended to a command so that it takes seconds; everything else runs as written. Of an option given
twice the last counts."""

CLASSES = ("fight", "noFight")
FROM_VIDEOS = ("own-videos",)
"""Pages that start with only folders of videos: `videos`, with one sub-folder per class, and `footage`."""
TOGETHER = (("own-videos", "own-examine"),)
"""Pages that continue each other, in one folder."""
STAND_INS: dict[str, str | Callable[[Path], None]] = {
    "runs/mine": "dsm pretrain --data.train train.txt --backbone tiny --out runs/mine",
    "runs/dsm": "dsm pretrain --data.train train.txt --backbone tiny --out runs/dsm",
    "runs/moco": "dsm pretrain --data.train train.txt --backbone tiny --method moco --out runs/moco",
    "runs/tuned": "dsm finetune --weights runs/mine --data.train train.txt --out runs/tuned",
    "results/moco": "dsm test --weights runs/tuned --data.test test.txt --windows 2 --out results/moco",
    "train.npz": "dsm extract --weights runs/mine --data train.txt --out train.npz",
    "test.npz": "dsm extract --weights runs/mine --data test.txt --out test.npz",
    "moco.npz": "dsm extract --weights runs/moco --data test.txt --out moco.npz",
    "dsm.npz": "dsm extract --weights runs/dsm --data test.txt --out dsm.npz",
    "results/dsm": "dsm test --weights runs/tuned --data.test test.txt --windows 2 --out results/dsm",
    "archive.npz": "dsm extract --weights runs/mine --data archive --per-clip --out archive.npz",
    "encoder.safetensors": "dsm export --weights runs/mine --out encoder.safetensors",
    "r3d_18.pth": lambda folder: write_torchvision_checkpoint(folder / "r3d_18.pth"),
    "theirs.npz": lambda folder: write_others_features(folder / "theirs.npz"),
}
"""Other files that a page may name, and how they are made."""


def with_quick(words: list[str]) -> list[str]:
    """A command with the words that make it quick."""
    if words[0] != "dsm":
        return words
    verb = next((v for v in (" ".join(words[1:3]), " ".join(words[1:2])) if v in QUICK), "")
    return words + (QUICK[verb].split() if verb and "--help" not in words else [])


def write_others_features(file: Path) -> None:
    import numpy as np

    np.savez(file, feats=np.eye(4), label=np.arange(4) % 2, names=np.array(["a", "b", "c", "d"]))


def write_videos(folder: Path) -> None:
    """Videos of two classes, and lists and folders of them under the names that the docs use."""
    import numpy as np

    from dsm.synthetic.motionscenes import write_motionscenes
    from dsm.synthetic.settings import MotionScenesConfig
    from dsm.video.decode import read_clip
    from dsm.video.write import write_video

    config = MotionScenesConfig(motions=2, train=16, test=8, size=48)
    made = write_motionscenes(config, folder / "scenes", workers=1)
    groups = ["path\tgroup\n"]
    for split, source in (("train", "train"), ("test", "test_free")):
        lines = []
        for line in (made / f"{source}.txt").read_text().splitlines():
            path, label, frames = line.split()
            group = int(Path(path).stem) % 4 + (10 if split == "test" else 0)
            name = f"v_{CLASSES[int(label)]}_g{group:02}_c{Path(path).stem}_camera{group}.mp4"
            place = folder / "videos" / split / CLASSES[int(label)] / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(made / path, place)
            relative = place.relative_to(folder)
            lines.append(f"{relative} {label} {frames}\n")
            groups.append(f"{relative}\tcamera{group}\n")
        (folder / f"{split}.txt").write_text("".join(lines))
    shutil.rmtree(made)
    (folder / "groups.tsv").write_text("".join(groups))
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    shutil.copy(folder / "train.txt", folder / "all.txt")
    shutil.copy(folder / "test.txt", folder / "val.txt")
    videos = sorted((folder / "videos" / "train").rglob("*.mp4"))
    shutil.copy(videos[0], folder / "video.mp4")
    shutil.copy(videos[-1], folder / "other.mp4")
    write_video(folder / "clip.mp4", np.tile(read_clip(videos[1], 40, 1), (10, 1, 1, 1)))  # 16 seconds
    shutil.copytree(folder / "videos", folder / "UCF-101")
    for split in ("train", "test"):
        lines = (folder / f"{split}.txt").read_text().replace("videos/", "")
        (folder / f"{split}1.txt").write_text(lines)
    for name in ("footage", "archive"):
        (folder / name).mkdir()
        for video in videos[:12]:
            shutil.copy(video, folder / name)


def write_torchvision_checkpoint(path: Path) -> None:
    """An R3D-18 with torchvision's parameter names."""
    import torch

    from dsm.models.zoo import create_model

    state = {}
    for name, tensor in create_model("r3d18", stem="3x7x7").state_dict().items():
        name = name.removeprefix("stages.")
        name = re.sub(r"shortcut\.conv", "downsample.0", re.sub(r"shortcut\.norm", "downsample.1", name))
        name = re.sub(r"(layer.*)\bconv([12])\.", r"\1conv\2.0.", name)
        name = re.sub(r"(layer.*)\bnorm([12])\.", r"\1conv\2.1.", name)
        name = re.sub(r"^conv1\.", "stem.0.", re.sub(r"^norm1\.", "stem.1.", name))
        state[name] = tensor
    torch.save({**state, "fc.weight": torch.zeros(400, 512), "fc.bias": torch.zeros(400)}, path)


@dataclass
class Stage:
    """Runs blocks; made by :func:`open_stage`."""

    folder: Path
    environment: dict[str, str]
    pages: dict[tuple[Path, bool], list[Block]] = field(default_factory=dict)
    """For each page, with or without its slow blocks: the blocks that ran."""

    def run(self, block: Block, page: list[Block]) -> None:
        """Run a block in its folder, after earlier blocks of its page and of the pages that it continues."""
        from docs_blocks import blocks_of  # not above: the client that reads this file has no torch

        first = block.page
        for stems in TOGETHER:
            if block.page.stem in stems:
                page = [one for stem in stems for one in blocks_of(block.page.with_stem(stem))]
                first = block.page.with_stem(stems[0])
        mine = [one for one in page if not one.why_not and (block.slow or not one.slow)]
        done = self.pages.get((first, block.slow))
        folder = self.folder / f"{first.stem}{'-slow' * block.slow}"
        if done is None:
            done = self.pages[first, block.slow] = []
            self.lay(folder, mine)
        for one in mine[len(done) : mine.index(block) + 1]:
            done.append(one)
            self.execute(one, folder)

    def lay(self, folder: Path, blocks: list[Block]) -> None:
        """A clone of the repository, with the stand-ins in the same folder."""
        self.shell(f"git clone --quiet {ROOT} {folder}", self.folder)
        for name in changed_files():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        # A block may run the tests, which clone again, so stand-ins must not count as the repository's files.
        (folder / ".git" / "info" / "exclude").write_text("*\n", encoding="utf-8")
        (folder / "dsm").symlink_to(".")  # `cd dsm`: your clone of this repository
        activate = folder / ".venv" / "bin" / "activate"
        activate.parent.mkdir(parents=True)
        activate.touch()  # make sets it up; here `dsm` is already on the PATH
        text = "\n".join(block.script for block in blocks)
        written = set(re.findall(r"--out (\S+)", text))
        shelf = self.shelf()
        if blocks[0].page.stem in FROM_VIDEOS:
            copy(shelf / "footage", folder / "footage")
            for split in ("train", "test"):
                shutil.copytree(shelf / "videos" / split, folder / "videos", dirs_exist_ok=True)
            return
        for found in sorted(shelf.iterdir()):
            if found.name not in written | set(STAND_INS) | {"runs", "results"}:
                copy(found, folder / found.name)
        for name in STAND_INS:
            if name not in written and re.search(rf"(?<![\w/.-]){re.escape(name)}(?![\w.-])", text):
                self.make(name)
                copy(shelf / name, folder / name)

    def shelf(self) -> Path:
        """The folder of all stand-ins; its videos are written at the first use."""
        shelf = self.folder / "shelf"
        if not shelf.exists():
            shelf.mkdir()
            write_videos(shelf)
        return shelf

    def make(self, name: str) -> None:
        how, shelf = STAND_INS[name], self.shelf()
        if (shelf / name).exists():
            return
        if callable(how):
            how(shelf)
            return
        for other in STAND_INS:
            if other != name and other in how.split():
                self.make(other)
        self.shell(how, shelf)

    def execute(self, block: Block, folder: Path) -> None:
        """Run one block in its page's folder; it fails if one of its commands fails."""
        limit = SLOW if block.slow else FAST
        if block.language != "python":
            self.shell(block.script, folder, limit)
            return
        file = folder / f"block_{block.line}.py"
        file.write_text(block.script, encoding="utf-8")
        self.shell(f'"$DSM_CLIENT" python {file.name}', folder, limit)

    def shell(self, script: str, folder: Path, limit: float = SLOW) -> None:
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", script], cwd=folder, env=self.environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=limit,
        )  # fmt: skip
        assert done.returncode == 0, f"{script}\nended with {done.returncode}:\n{done.stdout[-3000:]}"


def changed_files() -> list[str]:
    """Files that a fresh clone of this repository would not have."""
    listed = subprocess.run(
        ["git", "ls-files", "--modified", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [name for name in listed.stdout.splitlines() if (ROOT / name).exists()]


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy(source, target)


@contextmanager
def open_stage(folder: Path, installed: Path | None = None) -> Iterator[Stage]:
    """A stage whose commands are run by the warm process of the tests.

    Args:
        installed: the ``bin`` of an environment: its ``dsm`` is run instead, begun anew each time.
    """
    binaries = folder / "bin"
    binaries.mkdir(parents=True)
    client = binaries / "client"
    client.write_text(f'#!/bin/sh\nexec {sys.executable} -SE {ROOT / "tests" / "warm_dsm.py"} "$@"\n')
    program = binaries / "dsm"
    program.write_text(f'#!/bin/sh\nexec {client} dsm "$@"\n')
    for script in (client, program):
        script.chmod(0o755)
    first = (str(binaries), str(installed or Path(sys.executable).parent), os.environ["PATH"])
    environment = {
        **os.environ,
        "PATH": os.pathsep.join(first),
        "DSM_CLIENT": str(client),
        "OMP_NUM_THREADS": "1",
        "TRACKIO_DIR": str(folder / "trackio"),
    }
    if installed:
        environment.pop("PYTHONPATH", None)
        yield Stage(folder, {**environment, "DSM_PROGRAMS": str(installed)})
        return
    environment["DSM_SERVER"] = server()
    yield Stage(folder, environment)
