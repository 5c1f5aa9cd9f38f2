"""Is it worth adapting an encoder to own footage? python studies/adapt.py --gestures DIR

A small transformer learns on made videos by the objective of VideoMAE (Tong et al. 2022), with transformers'
own code, so that it knows something. Then ``dsm pretrain --tune`` adapts it to the gestures, without labels.
Measured before and after: R@1 among other backdrops, how many neighbours stay the same, minutes, and the
greatest memory. Writes ``adapt.json`` (one row per number) and ``adapt.md``. Finished work is not repeated.
``--quick`` tests in minutes, with one seed, that everything works.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from begin import begin
from tables import caption, table
from torch import Tensor

from dsm.data.clips import EvaluationClips
from dsm.data.lists import read_list
from dsm.data.settings import ClipConfig
from dsm.evaluate.extract import extract_features
from dsm.evaluate.retrieval import kept_apart, recall_rows, retrieve
from dsm.extras import load_extra
from dsm.files import json_text, write_text
from dsm.methods.settings import MethodSettings
from dsm.models.families import IMAGENET
from dsm.models.weights import load_weights
from dsm.runs.results import Row, read_results, write_results
from dsm.synthetic.motionscenes import write_motionscenes
from dsm.synthetic.settings import MotionScenesConfig
from dsm.terminal import console, progress
from dsm.train.adaptation import agreement
from dsm.train.config import DataConfig, MonitorConfig, OptimConfig, PretrainConfig
from dsm.train.pretrain import pretrain

CLIP = ClipConfig(frames=8, stride=3, resize=72, size=64)
PATCH = 16
"""Side of a patch in pixels, as in VideoMAE."""
MASKED = 0.75
"""Share of the places whose pixels are hidden, the same in all frames."""
BEFORE = "before"
TITLES = {
    "R@1": "R@1: is the nearest video before another backdrop of the same gesture?",
    "retention": "Retention: the share of each video's ten neighbours that are the same as before",
}


@dataclass(frozen=True)
class Options:
    gestures: Path
    """Folder with all.txt and groups.tsv."""
    out: Path = Path("runs/adapt")
    tune: tuple[str, ...] = ("head", "lora")
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    made: int = 600
    """Made videos that the encoder learns on first."""
    first_steps: int = 1500
    """Steps of its first learning."""
    steps: int = 300
    """Steps of adapting."""
    videos: int | None = None
    """Use only the first so many gestures."""
    quick: bool = False
    """One seed, few videos and steps; the numbers mean nothing."""
    only: str | None = None
    """Used by the study itself: adapt in this way only, in a process whose memory is measured."""


def learn_first(options: Options, seed: int) -> Path:
    """Train a VideoMAE on made videos, and save it as its authors do; return the folder."""
    folder = options.out / f"seed-{seed}" / "videomae"
    if (folder / "config.json").exists():
        return folder
    library = load_extra("transformers", "transformers", package="transformers", wanted_by="this study")
    videos = options.out / f"seed-{seed}" / "made"
    if not (videos / "train.txt").exists():
        write_motionscenes(MotionScenesConfig(train=options.made, test=10, seed=seed), videos)
    clips = pixels(videos / "train.txt")
    torch.manual_seed(seed)
    small = {"hidden_size": 192, "num_hidden_layers": 6, "num_attention_heads": 3, "intermediate_size": 768}
    decoder = {"hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 384}
    config = library.VideoMAEConfig(
        **small, **{f"decoder_{name}": value for name, value in decoder.items()},
        image_size=CLIP.size, patch_size=PATCH, num_frames=CLIP.frames, use_mean_pooling=False,
    )  # fmt: skip
    model = library.VideoMAEForPreTraining(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-4, total_steps=options.first_steps)
    places, depth = (CLIP.size // PATCH) ** 2, CLIP.frames // 2
    rng = np.random.default_rng(seed)
    with progress(f"VideoMAE, seed {seed}", options.first_steps) as bar:
        for step in range(options.first_steps):
            batch = clips[rng.choice(len(clips), 16, replace=False)]
            hidden = np.stack([rng.permutation(places) < MASKED * places for _ in batch])
            masks = torch.from_numpy(np.tile(hidden, (1, depth)))
            loss: Any = model(pixel_values=normalised(batch), bool_masked_pos=masks).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            bar.update(step + 1, f"  loss {float(loss.detach()):.3f}")
    save_published(model, CLIP, folder)
    return folder


def save_published(model: Any, clip: ClipConfig, folder: Path) -> None:
    """Save a model of transformers as its authors do, with the settings of its processor."""
    processor = {
        "size": {"shortest_edge": clip.resize}, "crop_size": {"height": clip.size, "width": clip.size},
        "image_mean": IMAGENET.mean, "image_std": IMAGENET.std,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "preprocessor_config.json", json_text(processor))
    model.save_pretrained(folder)


def pixels(listed: Path) -> Tensor:
    """Three clips of each video: uint8 (clips, T, S, S, 3)."""
    videos = read_list(listed)
    clips = EvaluationClips(videos, CLIP, windows=3)
    return torch.cat([clips.sample(place)["clips"] for place in range(len(videos))])


def normalised(clips: Tensor) -> Tensor:
    """(B, T, S, S, 3) -> (B, T, 3, S, S), as VideoMAE takes it."""
    mean, std = torch.tensor(IMAGENET.mean), torch.tensor(IMAGENET.std)
    return ((clips.float() / 255 - mean) / std).permute(0, 1, 4, 2, 3)


def adapt(options: Options, seed: int, how: str) -> None:
    """Adapt the encoder to the gestures in one way, and write down minutes and memory."""
    out = options.out / f"seed-{seed}" / how.replace(":", "-")
    begun = time.monotonic()
    pretrain(
        PretrainConfig(
            data=DataConfig(own_list(options), batch_size=16, workers=0, cache_mb=1500), out=out / "run",
            weights=f"hf:{options.out / f'seed-{seed}' / 'videomae'}", tune=how, steps=options.steps,
            seed=seed, clip=replace(CLIP, stride=2), optim=OptimConfig(lr=1e-3),
            settings=MethodSettings(), overwrite=True,
            monitor=MonitorConfig(every=5, patience=0),
        )
    )  # fmt: skip
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    cost = {"minutes": (time.monotonic() - begun) / 60, "peak_memory_mb": peak}
    write_text(out / "cost.json", json_text(cost))


def own_list(options: Options) -> Path:
    """The list of the gestures, or of the first of them."""
    whole = options.gestures / "all.txt"
    if options.videos is None:
        return whole
    lines = [line.split() for line in whole.read_text(encoding="utf-8").splitlines() if line.strip()]
    some = options.out / f"first-{options.videos}.txt"
    rows = [" ".join([str((options.gestures / line[0]).absolute()), *line[1:]]) for line in lines]
    write_text(some, "\n".join(rows[:: max(len(rows) // options.videos, 1)][: options.videos]) + "\n")
    return some


def measure(options: Options, seed: int) -> list[Row]:
    """R@1 among other backdrops and retention of the encoder before and after each way."""
    videos = read_list(own_list(options))
    folder = options.out / f"seed-{seed}"
    weights = {BEFORE: f"hf:{folder / 'videomae'}"}
    weights |= {how: str(folder / how.replace(":", "-") / "run") for how in options.tune}
    features = {
        name: extract_features(
            load_weights(one).module, videos, replace(CLIP, stride=2), windows=3, batch_size=8, workers=0
        )
        for name, one in weights.items()
    }
    first = features[BEFORE]
    # Without the table's paths for a list of our own, the backdrop is in the file's name.
    names = dict(line.split("\t")[:2] for line in (options.gestures / "groups.tsv").read_text().splitlines())
    groups = [names[next(name for name in names if path.endswith(name))] for path in first.paths]
    rows = []
    for name, one in features.items():
        found = retrieve(one, one, 1, apart=kept_apart(one, one, (groups, groups)))
        recalls = recall_rows(name, seed, "gestures", found, groups=groups)
        rows += [row for row in recalls if row.metric == "R@1"]
        rows.append(Row(name, seed, "gestures", "retention", agreement(first, one), None, None, len(videos)))
        cost = folder / name.replace(":", "-") / "cost.json"
        for metric, value in json.loads(cost.read_text()).items() if cost.exists() else ():
            rows.append(Row(name, seed, "gestures", metric, value, None, None, 1))
    return rows


def main(options: Options) -> None:
    if options.quick:
        options = replace(
            options, out=options.out.with_name(f"{options.out.name}-quick"), seeds=options.seeds[:1], made=40,
            first_steps=10, steps=4, videos=40, quick=False,
        )  # fmt: skip
    if options.only is not None:
        adapt(options, options.seeds[0], options.only)
        return
    rows: list[Row] = []
    for seed in options.seeds:
        file = options.out / f"seed-{seed}" / "results.json"
        if not file.exists():
            learn_first(options, seed)
            for how in options.tune:
                adapt_apart(options, seed, how)
            write_results(file, measure(options, seed))
        rows += read_results(file)
    write_results(options.out / "adapt.json", rows)
    runs = [BEFORE, *options.tune]
    parts = [
        f"**{title}**\n\n"
        + table(rows, metric, runs=runs, tests=["gestures"],
                against=[(how, BEFORE) for how in options.tune if metric == "R@1"])
        for metric, title in TITLES.items()
    ]  # fmt: skip
    costs = []
    for how in options.tune:
        minutes, memory = (
            [row.value for row in rows if (row.run, row.metric) == (how, metric)]
            for metric in ("minutes", "peak_memory_mb")
        )
        costs.append(f"| {how} | {np.mean(minutes):.1f} | {max(memory):.0f} |")
    parts.append("| | minutes | greatest memory, MB |\n|---|---|---|\n" + "\n".join(costs) + "\n")
    write_text(options.out / "adapt.md", "\n".join([*parts, caption(rows), ""]))
    console.print(f"{options.out}: adapt.json, adapt.md")


def adapt_apart(options: Options, seed: int, how: str) -> None:
    """:func:`adapt` in a process of its own, whose memory is only that of this way; once."""
    if (options.out / f"seed-{seed}" / how.replace(":", "-") / "cost.json").exists():
        return
    given = {
        "gestures": options.gestures, "out": options.out, "seeds": seed, "steps": options.steps, "only": how,
        "videos": options.videos,
    }  # fmt: skip
    words = [str(word) for name, value in given.items() if value is not None for word in (f"--{name}", value)]
    subprocess.run([sys.executable, __file__, *words], check=True)


if __name__ == "__main__":
    begin(main, Options, __doc__)
