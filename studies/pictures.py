"""The docs' pictures, and what their pages measure of them: python studies/pictures.py --out runs/pictures

All of it is of one demo (``--demo FOLDER``, made where it is missing): clips as they are trained on, where
`dsm` looks and how much of that is on what moves, and the embeddings of `moco` and `dsm`. Beside it,
frames of MotionScenes' worlds (``--worlds`` draws these alone). Writes the pictures, ``look.md`` and
``embedding.md``. What is done is not done again.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from begin import begin
from command import dsm_command
from PIL import Image
from tables import interval

from dsm.data.lists import VideoList, read_list, write_list
from dsm.demo import CLIP, demo
from dsm.files import write_text
from dsm.runs.results import RESULTS, Row, read_results
from dsm.synthetic.motionscenes import WORLDS, MotionScenesConfig, plan_split, render
from dsm.terminal import console
from dsm.verbs.settings.demo import DemoConfig

WEIGHTS = ("random", "moco", "dsm")
LAYERS = {"": "last layer (4x3x3)", "stages.stage2": "`stages.stage2` (4x6x6)"}
"""Where maps are taken, and what the table calls it."""
WORLDS_SHOWN = {"scenes": (2, 4), "dots": (3, 17), "walkers": (0, 16), "drone": (4, 13)}
"""Two training videos of each world, by their numbers."""


@dataclass(frozen=True)
class Options:
    out: Path = Path("runs/pictures")
    demo: Path | None = None
    """Folder of a demo that is there; left out, `out`/demo, which is made."""
    videos: int = 300
    """Of the free test, how many are looked at."""
    worlds: bool = False
    """Only `worlds.png`, in seconds."""
    quick: bool = False
    """Few videos and steps: numbers that mean nothing, by the same way."""


@dataclass(frozen=True)
class Made:
    """A demo that is there, and where its pictures go."""

    demo: Path
    out: Path
    seed: int

    def weights(self, name: str) -> str:
        """What `--weights` is given, and how random weights are built and shown clips."""
        if name == "random":
            clip = f"--frames {CLIP.frames} --stride {CLIP.stride} --resize {CLIP.resize} --size {CLIP.size}"
            return f"none --backbone tiny --seed {self.seed} {clip}"
        return str(self.demo / "runs" / f"{name}-seed{self.seed}")

    @property
    def scenes(self) -> Path:
        return self.demo / "scenes"

    @property
    def test(self) -> str:
        """The list of what is looked at, and its root, as flags."""
        return f"{self.out}/test.txt --root {self.scenes}"


def draw_worlds(out: Path) -> None:
    """A row for each world of MotionScenes: five frames of each of two videos, a sixth of a second apart."""
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


def cut_test(made: Made, count: int) -> None:
    """The first videos of the free test."""
    videos = read_list(made.scenes / "test_free.txt")
    some = VideoList(videos.paths[:count], videos.labels[:count], videos.frames[:count], videos.root)
    write_list(made.out / "test.txt", some)
    shutil.copyfile(made.scenes / "classes.txt", made.out / "classes.txt")


def draw_clips(made: Made) -> None:
    """What an encoder is trained on, and where it looks."""
    with Image.open(made.demo / "figures" / "views.png") as views:
        views.convert("RGB").quantize(128).save(made.out / "views.png", optimize=True)
    videos = made.scenes / "videos" / "test_free"
    dsm_command(
        f"look --weights {made.weights('dsm')} {videos}/00003.mp4 --other {videos}/00007.mp4 --probe all "
        f"--layer stages.stage2 --out {made.out}/look.jpg --overwrite"
    )


def score(made: Made, name: str, layer: str, probe: str) -> dict[str, Row]:
    """What `dsm look --score` measures."""
    folder = made.out / "scores" / f"{name}-{layer or 'last'}-{probe}"
    if not (folder / RESULTS).exists():
        where = f"--layer {layer}" if layer else ""
        dsm_command(
            f"look --weights {made.weights(name)} {made.test} --score --probe {probe} {where} "
            f"--out {folder} --overwrite"
        )
    return {row.metric: row for row in read_results(folder / RESULTS)}


def look_table(made: Made) -> str:
    """A line for each weights and layer, in %."""
    columns = ("on motion", "area", "another's map", "**above it**", "beside a still actor")
    lines = [f"| weights | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    for layer, told in LAYERS.items():
        for name in WEIGHTS:
            clip, pasted = (score(made, name, layer, probe) for probe in ("clip", "pasted"))
            cells = [
                f"{100 * clip[metric].value:.1f}"
                for metric in ("map_mass_on_motion", "motion_area", "other_map_mass_on_motion")
            ]
            cells += [interval(clip["map_mass_above_other_map"]), interval(pasted["prefers_motion_to_still"])]
            lines.append(f"| {name}, {told} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def embedding_table(made: Made) -> str:
    """Extract, draw, and a line for each number; shares in %."""
    names = WEIGHTS[1:]
    for name in names:
        dsm_command(
            f"extract --weights {made.weights(name)} --data {made.test} --out {made.out}/features/{name}.npz "
            "--overwrite"
        )
    files = " ".join(f"{made.out}/features/{name}.npz" for name in names)
    dsm_command(f"embed {files} --out {made.out}/embedding --overwrite")
    shutil.copyfile(made.out / "embedding" / "embedding.png", made.out / "embedding.png")
    found = {(row.run, row.metric): row for row in read_results(made.out / "embedding" / RESULTS)}
    runs = sorted({run for run, _ in found}, key=lambda run: [name in run for name in names], reverse=True)
    lines = [f"| | {' | '.join(names)} | chance |", "|---" * (2 + len(names)) + "|"]
    for metric in (
        "label_agreement",
        "label_silhouette",
        "label_scatter",
        "scene_agreement",
        "scene_scatter",
    ):
        cells = [interval(found[run, metric]) for run in runs]
        chance = found.get((runs[0], f"{metric}_chance"))
        told = metric.replace("_", " ")
        lines.append(f"| {told}, % | {' | '.join(cells)} | {interval(chance) if chance else '0'} |")
    ranks = " | ".join(f"{found[run, 'effective_rank'].value:.1f}" for run in runs)
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
    made = Made(folder, options.out, config.seeds[0])
    cut_test(made, 40 if options.quick else options.videos)
    draw_clips(made)
    write_text(options.out / "look.md", look_table(made))
    write_text(options.out / "embedding.md", embedding_table(made))
    console.print(f"{options.out}: worlds.png, views.png, look.jpg, embedding.png, look.md, embedding.md")


if __name__ == "__main__":
    begin(main, Options, __doc__)
