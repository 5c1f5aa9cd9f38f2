"""Whose skill is motion? Four encoders of different clips: python studies/encoders.py --gestures DIR

Compares in one `dsm bias`, on the gestures and on MotionScenes: a small VideoMAE (Tong et al. 2022), trained
on made videos by its own objective (``adapt.py``); a transformer of pictures, trained with labels on single
frames of the training videos and applied frame by frame; `moco` and `dsm`. Each takes its own clips. The
transformer of pictures cannot see motion, so its motion gain and order sensitivity must be 0: the study says
whether their intervals contain it. Writes ``encoders.md``; finished work is not repeated. ``--quick`` tests
in minutes that everything works.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import adapt
import numpy as np
import torch
from begin import begin
from command import dsm_command
from reliance import holds_zero
from tables import interval
from trials import study_command

from dsm.data.clips import EvaluationClips
from dsm.data.groups import read_groups
from dsm.data.lists import read_list, write_list
from dsm.data.settings import ClipConfig
from dsm.extras import load_extra
from dsm.files import write_text
from dsm.models.checkpoint_file import checkpoint_of
from dsm.runs.results import RESULTS, Row, read_results
from dsm.synthetic.motionscenes import write_motionscenes
from dsm.synthetic.settings import MotionScenesConfig
from dsm.terminal import console, progress

TITLES = {
    "videomae": "VideoMAE, small",
    "pictures": "pictures, frame by frame",
    "moco": "`moco`",
    "dsm": "`dsm`",
}
COLUMNS = ("acc_clip", "scene_reliance", "motion_gain", "order_sensitivity", "direction_sensitivity")
PICTURE = ClipConfig(frames=4, stride=6, resize=72, size=64)
"""What the transformer of pictures takes: few frames, far apart."""
OWN = "--clip.frames 8 --clip.resize 62 --clip.size 48"
HELD = 3
"""Every third backdrop of the gestures is for the test."""


@dataclass(frozen=True)
class Options:
    gestures: Path | None = None
    """Folder of the gestures: all.txt, classes.txt and groups.tsv; without it, they are left out."""
    moco: Path | None = None
    """A run of `moco`; by default one is trained in each place."""
    dsm: Path | None = None
    out: Path = Path("runs/encoders")
    seed: int = 0
    train: int = 600
    """MotionScenes to train on."""
    test: int = 200
    steps: int = 450
    """Steps of `moco` and `dsm`, and of the transformer of pictures."""
    first_steps: int = 1500
    """Steps of VideoMAE."""
    quick: bool = False
    """Few videos and steps, in another folder; the numbers mean nothing."""


def made_lists(folder: Path, options: Options) -> None:
    """MotionScenes of nine tenths, with ``train.txt`` and ``test.txt``."""
    if not (folder / "test.txt").exists():
        scenes = MotionScenesConfig(train=options.train, test=options.test, seed=options.seed)
        write_motionscenes(scenes, folder)


def gesture_lists(folder: Path, options: Options) -> None:
    """The gestures: every third backdrop to test, the others to train; with ``groups.tsv`` by file."""
    assert options.gestures is not None
    videos = read_list(options.gestures / "all.txt")
    groups = read_groups(options.gestures / "groups.tsv", videos.paths)
    held = set(sorted(set(groups))[::HELD])
    folder.mkdir(parents=True, exist_ok=True)
    for part, tests in (("train", False), ("test", True)):
        chosen = np.array([place for place, group in enumerate(groups) if (group in held) == tests])
        some = write_list(folder / f"{part}.txt", videos.part(chosen, folder))
        if tests:
            rows = [f"{path}\t{groups[place]}\n" for path, place in zip(some.paths, chosen, strict=True)]
            write_text(folder / "groups.tsv", "".join(["path\tgroup\n", *rows]))
    shutil.copyfile(options.gestures / "classes.txt", folder / "classes.txt")


def learn_pictures(folder: Path, train: Path, options: Options) -> Path:
    """Train a transformer on single frames with labels, and save it as its authors do; return the folder."""
    if (folder / "config.json").exists():
        return folder
    library = load_extra("transformers", "transformers", package="transformers", wanted_by="this study")
    videos = read_list(train)
    clips = EvaluationClips(videos, PICTURE, windows=1)
    frames = torch.cat([clips.sample(place)["clips"] for place in range(len(videos))])  # (n, T, S, S, 3)
    labels = torch.from_numpy(videos.labels)
    torch.manual_seed(options.seed)
    config = library.ViTConfig(
        hidden_size=192, num_hidden_layers=4, num_attention_heads=3, intermediate_size=384,
        image_size=PICTURE.size, patch_size=8, num_labels=int(labels.max()) + 1,
    )  # fmt: skip
    model = library.ViTForImageClassification(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=0.05)
    rng = np.random.default_rng(options.seed)
    with progress("pictures", options.steps) as bar:
        for step in range(options.steps):
            rows = torch.from_numpy(rng.choice(len(frames), 32))
            drawn = frames[rows, torch.from_numpy(rng.integers(PICTURE.frames, size=32))]
            pixels = adapt.normalised(drawn[:, None])[:, 0]
            loss = model(pixel_values=pixels, labels=labels[rows]).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            bar.update(step + 1, f"  loss {float(loss.detach()):.3f}")
    adapt.save_published(model, PICTURE, folder)
    return folder


def learn_motion(folder: Path, method: str, train: Path, stride: int, options: Options) -> Path:
    """A run of a method on a place's training videos, without labels."""
    if not checkpoint_of(folder, options.steps).exists():
        dsm_command(
            f"pretrain --data.train {train} --method {method} --backbone tiny3d {OWN} --clip.stride {stride} "
            f"--data.batch-size 32 --data.workers 0 --data.cache-mb 1500 --optim.name adamw --optim.lr 0.001 "
            f"--monitor.videos 0 --steps {options.steps} --seed {options.seed} --out {folder} --overwrite"
        )
    return folder


def one_place(place: str, stride: int, options: Options) -> dict[str, dict[str, Row]]:
    """Encoder -> metric -> number.

    Args:
        stride: between frames of the encoders trained here, in frames of the video.
    """
    folder = options.out / place
    more = " --quick --windows 1" if options.quick else ""
    if place == "gestures":
        gesture_lists(folder / "videos", options)
        more += f" --groups {folder}/videos/groups.tsv"
    else:
        made_lists(folder / "videos", options)
    train, test = (folder / "videos" / f"{part}.txt" for part in ("train", "test"))
    own = adapt.Options(gestures=Path(), out=options.out, made=options.train, first_steps=options.first_steps)
    weights = [
        f"hf:{adapt.learn_first(own, options.seed)}",
        f"hf:{learn_pictures(folder / 'pictures', train, options)}",
        options.moco or learn_motion(folder / "moco", "moco", train, stride, options),
        options.dsm or learn_motion(folder / "dsm", "dsm", train, stride, options),
    ]
    dsm_command(
        f"bias --weights {' '.join(map(str, weights))} --names {' '.join(TITLES)} --data.train {train} "
        f"--data.test {test} --data.workers 0 --batch-size 16{more} "
        f"--out {folder}/report --overwrite"
    )
    found: dict[str, dict[str, Row]] = {}
    for row in read_results(folder / "report" / RESULTS):
        found.setdefault(row.run, {})[row.metric] = row
    return found


def table(numbers: dict[str, dict[str, Row]]) -> str:
    """One row an encoder, in %; a number that cannot be measured is left empty."""
    names = ("accuracy", "scene reliance", "motion gain", "order", "direction")
    lines = [f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for name, title in TITLES.items():
        cells = [interval(numbers[name][one]) if one in numbers[name] else "" for one in COLUMNS]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def verdict(numbers: dict[str, dict[str, Row]]) -> str:
    """Whether the measures say of pictures that they show no motion."""
    told = []
    for metric, title in (("motion_gain", "motion gain"), ("order_sensitivity", "order sensitivity")):
        holds = holds_zero("pictures", metric)(numbers, False)
        words = {True: "contains 0, as it must", False: "**does not contain 0**", None: "cannot be measured"}
        told.append(f"its {title} {words[holds]}")
    return f"Frame by frame, {' and '.join(told)}.\n"


def main(options: Options) -> None:
    if options.quick:
        out = options.out.with_name(f"{options.out.name}-quick")  # or its work would pass for finished
        options = replace(options, out=out, train=40, test=40, steps=4, first_steps=4)
    places = {"scenes": 3, **({"gestures": 2} if options.gestures else {})}
    parts = [f"`{study_command()}`\n"]
    for place, stride in places.items():
        numbers = one_place(place, stride, options)
        parts.append(f"`{place}`, with 95 % intervals:\n\n{table(numbers)}\n{verdict(numbers)}")
    text = "\n".join(parts)
    write_text(options.out / "encoders.md", text)
    console.print(text, markup=False)
    console.print(f"{options.out}: encoders.md, and a report of each place")


if __name__ == "__main__":
    begin(main, Options, __doc__)
