"""The docs' pictures, and the numbers beside them: python studies/pictures.py --out runs/pictures

All of them come from one demo (``--demo FOLDER``; without it, one is made): the training views, a preview,
videos and their nearest neighbours, where `dsm` looks and how much of that is on moving things, and the
embeddings of `moco` and `dsm`. It also draws frames of MotionScenes' worlds (``--worlds`` draws only
these). Writes the pictures, ``look.md``, ``embedding.md`` and ``neighbours.md``. Finished work is not
repeated.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from begin import begin
from command import dsm_command
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from small_pictures import save_jpeg, save_png
from tables import interval

from dsm.data.groups import read_groups
from dsm.data.lists import VideoList, read_list, write_list
from dsm.demo import CLIP, demo
from dsm.evaluate.feature_files import load_features
from dsm.evaluate.retrieval import retrieve
from dsm.files import write_text
from dsm.runs.results import RESULTS, Row, read_results
from dsm.synthetic.motionscenes import plan_split, render
from dsm.synthetic.settings import WORLDS, MotionScenesConfig
from dsm.terminal import console
from dsm.verbs.settings.training import DemoConfig
from dsm.video.decode import read_frames

WEIGHTS = ("random", "moco", "dsm")
LAYERS = {"": "last layer (4x3x3)", "stages.stage2": "`stages.stage2` (4x6x6)"}
"""The layers of the maps, and their names in the table."""
WORLDS_SHOWN = {"scenes": (2, 4), "dots": (3, 17), "walkers": (0, 16), "drone": (4, 13)}
"""Numbers of two training videos of each world."""


@dataclass(frozen=True)
class Options:
    out: Path = Path("runs/pictures")
    demo: Path | None = None
    """Folder of an existing demo; without it, one is made in `out`/demo."""
    videos: int = 300
    """Number of videos of the free test to use."""
    worlds: bool = False
    """Draw only `worlds.png`, in seconds."""
    quick: bool = False
    """Few videos and steps, to test the study; the numbers mean nothing."""


@dataclass(frozen=True)
class DemoFolder:
    """A finished demo, and the folder for its pictures."""

    demo: Path
    out: Path
    seed: int

    def weights(self, name: str) -> str:
        """Flags for `--weights`; for random weights, with their backbone, seed and clip."""
        if name == "random":
            clip = f"--frames {CLIP.frames} --stride {CLIP.stride} --resize {CLIP.resize} --size {CLIP.size}"
            return f"none --backbone tiny --seed {self.seed} {clip}"
        return str(self.demo / "runs" / f"{name}-seed{self.seed}")

    @property
    def scenes(self) -> Path:
        return self.demo / "scenes"

    @property
    def test(self) -> str:
        """The list of test videos and its root, as flags."""
        return f"{self.out}/test.txt --root {self.scenes}"


def draw_worlds(out: Path) -> None:
    """One row per world of MotionScenes: five frames of each of two videos, a sixth of a second apart."""
    rows = []
    for world in WORLDS:
        config = MotionScenesConfig(world=world)
        plans = plan_split(config, "train")
        videos = [render(config, plans[index])[:20:4] for index in WORLDS_SHOWN[world]]
        gap = np.full((config.size, 6, 3), 255, np.uint8)
        row = np.concatenate([*videos[0], gap, *videos[1]], 1)
        rows += [row, np.full((4, row.shape[1], 3), 255, np.uint8)]
    sheet = Image.fromarray(np.concatenate(rows[:-1]))
    sheet.quantize(256, dither=Image.Dither.NONE).save(out / "worlds.png", optimize=True)


def cut_test(demo_folder: DemoFolder, count: int) -> None:
    """List the first ``count`` videos of the free test."""
    videos = read_list(demo_folder.scenes / "test_free.txt")
    some = VideoList(videos.paths[:count], videos.labels[:count], videos.frames[:count], videos.root)
    write_list(demo_folder.out / "test.txt", some)
    shutil.copyfile(demo_folder.scenes / "classes.txt", demo_folder.out / "classes.txt")


def draw_clips(demo_folder: DemoFolder) -> None:
    """Draw the training views, the preview of two videos, and where `dsm` looks."""
    save_png(demo_folder.demo / "figures" / "views.png", demo_folder.out / "views.png", 128)
    still = demo_folder.out / "preview_scenes.png"
    dsm_command(
        f"data preview {demo_folder.scenes}/train.txt --clip.frames {CLIP.frames} "
        f"--clip.stride {CLIP.stride} --clip.resize {CLIP.resize} --clip.size {CLIP.size} "
        f"--show 2 --measure 2 --out {still} --overwrite"
    )
    save_jpeg(still, still.with_suffix(".jpg"))
    videos = demo_folder.scenes / "videos" / "test_free"
    dsm_command(
        f"look --weights {demo_folder.weights('dsm')} {videos}/00003.mp4 --other {videos}/00007.mp4 "
        f"--probe all --layer stages.stage2 --out {demo_folder.out}/look.jpg --overwrite"
    )


def draw_neighbours(demo_folder: DemoFolder) -> str:
    """Write an animation of videos and their nearest training videos by `moco` and by `dsm`.

    Shown are the first videos of the conflict test for which `moco` finds the scene but not the motion, and
    `dsm` the motion. Returns how often each is right, as a sentence.
    """
    found = {}
    for name in WEIGHTS[1:]:
        folder = demo_folder.demo / "features" / f"{name}-seed{demo_folder.seed}"
        train, test = (load_features(folder / f"{split}.npz") for split in ("train", "test_conflict"))
        retrieved = retrieve(train, test, 1)
        found[name] = retrieved.neighbours[:, 0], retrieved.recall(1)
    (by_moco, moco_right), (by_dsm, dsm_right) = found.values()
    table = demo_folder.scenes / "scenes.tsv"
    scene, others = (np.array(read_groups(table, part.paths)) for part in (test, train))
    misled = dsm_right & ~moco_right & (scene == others[by_moco])
    frames = []
    for place in np.flatnonzero(misled)[:NEIGHBOURS_SHOWN]:
        paths = [test.paths[place], train.paths[by_moco[place]], train.paths[by_dsm[place]]]
        frames.append([read_frames(demo_folder.scenes / path, np.arange(0, 24)) for path in paths])
    write_animation(demo_folder.out / "neighbours.webp", frames)
    both, only_dsm, only_moco, neither = (
        int(of.sum())
        for of in (
            dsm_right & moco_right, dsm_right & ~moco_right, moco_right & ~dsm_right, ~dsm_right & ~moco_right
        )
    )  # fmt: skip
    return (
        f"Of the {len(test)} such test videos, both find the same motion for {both}, only `dsm` for "
        f"{only_dsm}, only `moco` for {only_moco}, and neither for {neither}."
    )


NEIGHBOURS_SHOWN = 4


def write_animation(file: Path, videos: list[list[NDArray[np.uint8]]]) -> None:
    """An animated WebP: a column per query, with its video above its neighbours. Videos are (T, H, W, 3)."""
    names = ("test video", "nearest: moco", "nearest: dsm")
    side = videos[0][0].shape[1]
    left, gap = 120, 6
    font = ImageFont.load_default(13)
    pictures = []
    for n in range(min(len(video) for row in videos for video in row)):
        picture = Image.new("RGB", (left + len(videos) * (side + gap), len(names) * (side + gap)), "white")
        draw = ImageDraw.Draw(picture)
        for row, name in enumerate(names):
            draw.text((4, row * (side + gap) + side // 2 - 8), name, fill="black", font=font)
            for column, video in enumerate(videos):
                at = (left + column * (side + gap), row * (side + gap))
                picture.paste(Image.fromarray(video[row][n]), at)
        pictures.append(picture)
    pictures[0].save(
        file, save_all=True, append_images=pictures[1:], duration=120, loop=0, quality=60, method=6
    )


def score(demo_folder: DemoFolder, name: str, layer: str, probe: str) -> dict[str, Row]:
    """The rows of `dsm look --score`, by metric; measured if not done yet."""
    folder = demo_folder.out / "scores" / f"{name}-{layer or 'last'}-{probe}"
    if not (folder / RESULTS).exists():
        where = f"--layer {layer}" if layer else ""
        dsm_command(
            f"look --weights {demo_folder.weights(name)} {demo_folder.test} --score --probe {probe} {where} "
            f"--out {folder} --overwrite"
        )
    return {row.metric: row for row in read_results(folder / RESULTS)}


def look_table(demo_folder: DemoFolder) -> str:
    """One row per layer and weights, in %."""
    columns = ("on motion", "area", "other video's map", "**above that map**", "against a still actor")
    lines = [f"| weights | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    for layer, title in LAYERS.items():
        for name in WEIGHTS:
            clip, pasted = (score(demo_folder, name, layer, probe) for probe in ("clip", "pasted"))
            cells = [
                f"{100 * clip[metric].value:.1f}"
                for metric in ("map_mass_on_motion", "motion_area", "other_map_mass_on_motion")
            ]
            cells += [interval(clip["map_mass_above_other_map"]), interval(pasted["prefers_motion_to_still"])]
            lines.append(f"| {name}, {title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def embedding_table(demo_folder: DemoFolder) -> str:
    """Extract, draw, and return one row per metric; shares in %."""
    names = WEIGHTS[1:]
    for name in names:
        dsm_command(
            f"extract --weights {demo_folder.weights(name)} --data {demo_folder.test} "
            f"--out {demo_folder.out}/features/{name}.npz --overwrite"
        )
    files = " ".join(f"{demo_folder.out}/features/{name}.npz" for name in names)
    dsm_command(f"embed {files} --out {demo_folder.out}/embedding --overwrite")
    shutil.copyfile(demo_folder.out / "embedding" / "embedding.png", demo_folder.out / "embedding.png")
    values = {(row.run, row.metric): row for row in read_results(demo_folder.out / "embedding" / RESULTS)}
    runs = sorted({run for run, _ in values}, key=lambda run: [name in run for name in names], reverse=True)
    lines = [f"| | {' | '.join(names)} | chance |", "|---" * (2 + len(names)) + "|"]
    for metric in (
        "label_agreement",
        "label_silhouette",
        "label_scatter",
        "scene_agreement",
        "scene_scatter",
    ):
        cells = [interval(values[run, metric]) for run in runs]
        chance = values.get((runs[0], f"{metric}_chance"))
        title = metric.replace("_", " ")
        lines.append(f"| {title}, % | {' | '.join(cells)} | {interval(chance) if chance else '0'} |")
    ranks = " | ".join(f"{values[run, 'effective_rank'].value:.1f}" for run in runs)
    return "\n".join([*lines, f"| effective rank of 128 | {ranks} | |"]) + "\n"


def main(options: Options) -> None:
    options.out.mkdir(parents=True, exist_ok=True)
    draw_worlds(options.out)
    if options.worlds:
        console.print(f"{options.out}: worlds.png")
        return
    folder = options.demo or options.out / "demo"
    config = DemoConfig(folder)
    if options.quick:
        config = DemoConfig(folder, steps=5, videos=64, tests=40)
    if options.demo is None:
        demo(config)
    demo_folder = DemoFolder(folder, options.out, config.seeds[0])
    cut_test(demo_folder, 40 if options.quick else options.videos)
    draw_clips(demo_folder)
    write_text(options.out / "neighbours.md", f"{draw_neighbours(demo_folder)}\n")
    write_text(options.out / "look.md", look_table(demo_folder))
    write_text(options.out / "embedding.md", embedding_table(demo_folder))
    console.print(f"{options.out}: the pictures, and look.md, embedding.md and neighbours.md")


if __name__ == "__main__":
    begin(main, Options, __doc__)
