"""What ``dsm report`` measures of a run: by the verbs there are, each result kept for the next call."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from dsm.analyse.alt_texts import picture_told
from dsm.analyse.gallery import drawn
from dsm.analyse.look import read_frames_of
from dsm.analyse.report_content import Embedding, Maps, Measured
from dsm.analyse.run_record import RunRecord
from dsm.commands.bias import BiasConfig, BiasData, bias
from dsm.commands.embed import EmbedConfig, examine
from dsm.commands.extract import ExtractConfig, extract
from dsm.commands.look import LookConfig, build_looker, look, take_aim
from dsm.commands.probe import ProbeConfig, probe_command
from dsm.commands.retrieve import RetrieveConfig, retrieve_command
from dsm.commands.video_test import VideoTestConfig, VideoTestData, video_test
from dsm.datasets.lists import VideoList, needed
from dsm.engine.bad_videos import told_of_left_out
from dsm.engine.extraction import ExtractSettings
from dsm.engine.progress import console
from dsm.engine.runfolder import claim_by_settings
from dsm.errors import UserError
from dsm.evaluate.feature_files import load_features
from dsm.evaluate.results import RESULTS, read_results
from dsm.files import written_aside
from dsm.models.checkpoint_file import list_checkpoints

Measure = Literal["retrieval", "probe", "test", "look", "bias", "embedding"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
WRITTEN_LAST = {
    "retrieval": "classes.csv",
    "probe": RESULTS,
    "test": RESULTS,
    "look": "look.csv",
    "bias": "variants.png",
}
"""By what a measurement is known to have come to its end."""

BIAS_PICTURES = ("bias.png", "bars.png", "variants.png")


@dataclass(frozen=True)
class Lists:
    """The labelled lists that runs are measured on."""

    train_file: Path
    test_file: Path
    root: Path | None
    train: VideoList
    test: VideoList


@dataclass(frozen=True)
class MeasureSettings:
    """What is measured, and how."""

    measures: tuple[Measure, ...]
    groups: Path | None
    group_regex: str
    windows: int
    maps: int
    workers: int


def claim(
    base: Path, runs: Sequence[RunRecord], lists: Lists, settings: MeasureSettings, *, overwrite: bool
) -> list[Path]:
    """Take a folder under ``base`` for each run; measurements of the same weights and lists stay in it.

    Raises:
        UserError: a run has no weights; or a folder holds something else, and may not be overwritten.
    """
    what = "what a report measured"
    claim_by_settings(base, "report.json", {"format": 1}, what=what, overwrite=False, needed=())
    made_by: dict[str, Any] = {
        "train": lists.train.digest(),
        "test": lists.test.digest(),
        "groups": [_digest(settings.groups) if settings.groups else "None", settings.group_regex],
        "windows": settings.windows,
    }
    every = []
    for run in runs:
        checkpoints = list_checkpoints(run.folder)
        if not checkpoints:
            raise UserError(
                f"{run.folder}: holds no checkpoint to measure; leave --data.train and --data.test out."
            )
        every.append(made_by | {"weights": _digest(checkpoints[-1])})
    folders = [base / run.name.replace("/", "_") for run in runs]
    for folder, settings_of in zip(folders, every, strict=True):
        claim_by_settings(
            folder, "measured.json", settings_of, what="measurements",
            overwrite=overwrite,
            needed=needed(lists.train, lists.test, settings.groups, *(run.folder for run in runs)),
        )  # fmt: skip
    return folders


def measure(run: RunRecord, folder: Path, lists: Lists, settings: MeasureSettings) -> Measured:
    """Measure a run; what an earlier call did in ``folder`` is taken from there.

    Raises:
        UserError: no features can be extracted. What else cannot be measured is left out, and told.
    """
    weights, workers, windows = str(run.folder), settings.workers, settings.windows
    grouped: dict[str, Any] = {"groups": settings.groups, "group_regex": settings.group_regex}
    train, test = folder / "train.npz", folder / "test.npz"
    for file, data in ((train, lists.train_file), (test, lists.test_file)):
        if not file.exists():
            console.print(f"{run.name}: features of {data.name}", style="bold")
            wanted = ExtractSettings(windows=windows, workers=workers)
            extract(ExtractConfig(weights, data, file, root=lists.root, settings=wanted))
    looking = LookConfig(
        lists.test_file, weights, folder / "look",
        score=True, root=lists.root, windows=windows, workers=workers, **grouped,
    )  # fmt: skip
    bias_data = BiasData(lists.test_file, lists.train_file, root=lists.root, workers=workers)
    test_data = VideoTestData(lists.test_file, lists.root, workers)
    parts: dict[Measure, Callable[[Path], object]] = {
        "retrieval": lambda out: retrieve_command(RetrieveConfig(train, test, out, shown=0, **grouped)),
        "probe": lambda out: probe_command(ProbeConfig(train, test, out, **grouped)),
        "test": lambda out: video_test(VideoTestConfig(weights, test_data, out, windows=windows, **grouped)),
        "look": lambda _: look(looking),
        "bias": lambda out: bias(
            BiasConfig((weights,), bias_data, out, names=(run.name,), windows=windows, **grouped)
        ),
    }
    features = load_features(train), load_features(test)
    rows, left_out = [], []
    seed = run.config.get("seed")
    for name in settings.measures:
        out = folder / name
        if name not in WRITTEN_LAST or (name == "test" and run.method != "finetune"):
            continue
        try:
            if not (out / WRITTEN_LAST[name]).exists():
                console.print(f"{run.name}: {name}", style="bold")
                shutil.rmtree(out, ignore_errors=True)  # broken off; they begin from the start
                parts[name](out)
            found = read_results(out / RESULTS)
        except UserError as error:
            left_out.append(f"{name}: {error}")
            console.print(f"{run.name}: {left_out[-1]}", style="yellow")
            continue
        rows += [replace(row, run=run.name, seed=seed if isinstance(seed, int) else 0) for row in found]
    shown = [folder / "bias" / name for name in BIAS_PICTURES if "bias" in settings.measures]
    return Measured(
        rows=rows,
        features=features if "retrieval" in settings.measures else None,
        maps=_maps(folder / "maps.npz", looking, lists.test, features[1].paths, settings.maps)
        if settings.maps
        else None,
        bias=[(path, picture_told(path, rows)) for path in shown if path.exists()],
        left_out=left_out + told_of_left_out(folder),
    )


def embed_runs(names: Sequence[str], folders: Sequence[Path], settings: MeasureSettings) -> Embedding:
    """The maps of all runs; they take seconds, and are made anew each time.

    Raises:
        UserError: there is nothing that could be mapped, or not the same in all runs.
    """
    rows, embedded, features = examine(
        EmbedConfig(
            tuple(folder / "test.npz" for folder in folders), folders[0],
            gallery=tuple(folder / "train.npz" for folder in folders),
            groups=settings.groups, group_regex=settings.group_regex,
        ),
        names,
    )  # fmt: skip
    return Embedding(rows, embedded, features)


def _maps(
    file: Path, looking: LookConfig, videos: VideoList, readable: Sequence[str], count: int
) -> Maps | None:
    """Where a run looks in some of these videos; from the file where an earlier call looked at the same."""
    places = [videos.paths.index(readable[at]) for at in drawn(len(readable), count)]
    if file.exists():
        with np.load(file, allow_pickle=False) as kept:
            if kept["places"].tolist() == places:
                paths = [str(path) for path in kept["paths"]]
                return Maps(paths, kept["frames"], kept["maps"].astype(np.float32), str(kept["raised"]))
    frames, maps, paths = [], [], []
    try:
        looker, _, _ = build_looker(looking)
        raised = take_aim(looking, looker)
        for place in places:
            clip = read_frames_of(videos.file(place), looker.clip)
            frames.append(looker.shown(clip))
            maps.append(looker.look(clip[None]).maps[0])
            paths.append(videos.paths[place])
    except UserError as error:  # a network without a map; a video that cannot be read
        console.print(f"{looking.weights}: no maps: {error}", style="yellow")
        return None
    with written_aside(file) as aside, aside.open("wb") as opened:
        np.savez_compressed(
            opened, places=places, paths=np.array(paths, np.str_), frames=np.stack(frames),
            maps=np.stack(maps).astype(np.float16), raised=raised,
        )  # fmt: skip
    return Maps(paths, np.stack(frames), np.stack(maps), raised)


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        found = hashlib.sha256()
        while block := opened.read(2**20):
            found.update(block)
    return found.hexdigest()
