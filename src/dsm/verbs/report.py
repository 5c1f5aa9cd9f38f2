"""``dsm report``: one page about one or more runs, from what they logged and, with lists, what is measured.

Measurements are made by the other verbs; each result is kept for the next call.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
import tyro

from dsm.data.classes import class_names, named, names_of
from dsm.data.groups import find_groups
from dsm.data.list_forms import Named
from dsm.data.lists import VideoList, needed, read_list
from dsm.errors import UserError
from dsm.evaluate.extraction import ExtractSettings
from dsm.evaluate.features import load_features
from dsm.evaluate.look import read_frames_of
from dsm.files import written_aside
from dsm.models.checkpoint_file import list_checkpoints
from dsm.pages.gallery import drawn
from dsm.pages.run_figures import save_curves
from dsm.pages.run_pictures import KINDS, Embedding, Given, Maps, Measured, ReportContent, picture_told
from dsm.pages.run_report import MOST, write_run_report
from dsm.runs.bad_videos import told_of_left_out
from dsm.runs.folder import claim_by_settings, claim_file
from dsm.runs.record import RunRecord, read_run, short_names
from dsm.runs.results import RESULTS, read_results, read_told_results
from dsm.terminal import console, warn
from dsm.verbs.bias import BiasConfig, BiasData, bias
from dsm.verbs.embed import EmbedConfig, examine
from dsm.verbs.extract import ExtractConfig, extract
from dsm.verbs.look import LookConfig, build_looker, look, take_aim
from dsm.verbs.probe import ProbeConfig, probe
from dsm.verbs.retrieve import RetrieveConfig, retrieve
from dsm.verbs.video_test import VideoTestConfig, VideoTestData, video_test

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
        "retrieval": lambda out: retrieve(RetrieveConfig(train, test, out, shown=0, **grouped)),
        "probe": lambda out: probe(ProbeConfig(train, test, out, **grouped)),
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
            warn(f"{run.name}: {left_out[-1]}")
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
        warn(f"{looking.weights}: no maps: {error}")
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


CURVES = (".png", ".pdf", ".svg")


@dataclass(frozen=True)
class ReportData:
    """Labelled lists that the runs are measured on; left out, nothing is measured."""

    train: Path | None = None
    """Videos to search in and to train probes on."""
    test: Path | None = None
    """Videos to test on."""
    root: Path | None = None
    """Folder put before relative paths; left out, each list's own."""
    workers: int = 1
    """Processes that decode."""


@dataclass(frozen=True)
class ReportConfig:
    """Settings of `dsm report`."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders of `dsm pretrain` and `dsm finetune`."""
    out: Path
    """Page to write, .html. What is measured is kept beside it, in the folder of this name without .html."""
    data: ReportData = field(default_factory=ReportData)
    results: tuple[Path, ...] = ()
    """Folders with a results.json of any verb: their rows and pictures are taken too."""
    names: tuple[str, ...] = ()
    """What to call the runs; left out, by their folders."""
    curves: Path | None = None
    """The curves of all runs in one figure besides: .png, .pdf or .svg."""
    measures: Annotated[tuple[Measure, ...], tyro.conf.arg(name="measure")] = MEASURES
    """What is measured."""
    groups: Path | None = None
    """Table whose last column says which videos belong together; intervals then draw whole groups."""
    group_regex: str = ""
    """The same, found in their paths."""
    windows: int = 3
    """Clips a video, evenly spread."""
    shown: int = 6
    """Test videos whose neighbours are shown."""
    maps: int = 3
    """Test videos in which it is shown where the runs look."""
    overwrite: bool = False
    """Replace the page and, where they are of other weights or lists, the measurements."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise UserError("give one run folder or more: dsm report RUN… --out report.html")
        if self.out.suffix.lower() not in (".html", ".htm"):
            raise UserError(f"{self.out}: the report is a page; let --out end in .html.")
        if self.curves and self.curves.suffix.lower() not in CURVES:
            raise UserError(f"{self.curves}: --curves must end in one of {', '.join(CURVES)}.")
        if (self.data.train is None) != (self.data.test is None):
            raise UserError("measuring takes both --data.train and --data.test; without both, neither.")
        if self.names and len(self.names) != len(self.runs):
            raise UserError(f"{len(self.names)} --names for {len(self.runs)} runs; each needs one.")
        if len(set(self.names)) < len(self.names):
            raise UserError("two of --names are the same.")
        if self.windows < 1 or min(self.shown, self.maps, self.data.workers) < 0:
            raise UserError("windows must be at least 1; shown, maps and data.workers not below 0.")


def report(config: ReportConfig) -> None:
    """Read the runs, measure what is asked for and not there yet, write the page."""
    claim_file(config.out, overwrite=config.overwrite)
    if config.curves:
        claim_file(config.curves, overwrite=config.overwrite)
    names = config.names or tuple(short_names(config.runs))
    runs = [read_run(folder, name) for folder, name in zip(config.runs, names, strict=True)]
    given = told_apart(config.results, [read_given(folder) for folder in config.results])
    measured, classes, embedding = {}, [], None
    left_out: list[str] = []
    lists = read_lists(config)
    if lists:
        classes = class_names(
            lists.train_file.parent, int(max(lists.train.labels.max(), lists.test.labels.max())) + 1
        )
        settings = MeasureSettings(
            config.measures,
            config.groups,
            config.group_regex,
            config.windows,
            config.maps,
            config.data.workers,
        )
        folders = claim(config.out.with_suffix(""), runs, lists, settings, overwrite=config.overwrite)
        for run, folder in zip(runs, folders, strict=True):
            measured[run.name] = measure(run, folder, lists, settings)
        if "embedding" in config.measures:
            try:
                embedding = embed_runs(names, folders, settings)
            except UserError as error:
                left_out.append(f"embedding: {error}")
                warn(left_out[-1])
    content = ReportContent(
        runs, measured, given, classes, config.shown, bool(config.groups or config.group_regex),
        embedding, left_out,
    )  # fmt: skip
    write_run_report(config.out, content)
    if config.curves:
        save_curves(config.curves, {run.name: run.metrics for run in runs})
        console.print(f"{config.curves}: the curves of all runs")
    _tell(config, runs)


def read_lists(config: ReportConfig) -> Lists | None:
    """The lists that are measured on.

    Raises:
        UserError: one cannot be read, or holds videos without labels.
    """
    if config.data.train is None or config.data.test is None:
        return None
    train = _labelled(config.data.train, config.data.root)
    test = _labelled(config.data.test, config.data.root, named(names_of(train), config.data.train))
    for videos in (train, test):
        find_groups(videos.paths, file=config.groups, regex=config.group_regex)  # wrong ones are told now
    return Lists(config.data.train, config.data.test, config.data.root, train, test)


def _labelled(path: Path, root: Path | None, like: Named | None = None) -> VideoList:
    videos = read_list(path, root, like=like)
    if not videos.labelled:
        raise UserError(
            f"{path}: {int((videos.labels < 0).sum())} of its videos have no label; measuring runs needs "
            "`path label` on every line. Without lists, `dsm report` shows what the runs logged."
        )
    return videos


def _is_picture(path: Path) -> bool:
    # A link could lead to anything, and the page is sent to others.
    return path.suffix.lower() in KINDS and path.is_file() and not path.is_symlink()


def read_given(folder: Path) -> Given:
    """The rows, the command and the pictures of a folder of results.

    Raises:
        UserError: it has no results.json of dsm.
    """
    command, rows = read_told_results(folder / RESULTS)
    pictures = sorted(path for path in folder.iterdir() if _is_picture(path))
    told = [(path, picture_told(path, rows)) for path in pictures]
    return Given(folder.absolute().name, command, rows, told)


def told_apart(folders: Sequence[Path], given: Sequence[Given]) -> list[Given]:
    """Numbers of the same name and seed from several folders are of several runs: named by the folder too."""

    def names(one: Given) -> set[tuple[str, int, str, str]]:
        return {(row.run, row.seed, row.test, row.metric) for row in one.rows}

    counts = Counter(name for one in given for name in names(one))
    shared = {name[0] for name, count in counts.items() if count > 1}
    alike = len({one.name for one in given}) < len(given)
    apart = []
    for folder, one in zip(folders, given, strict=True):
        place = "/".join(folder.absolute().parts[-2:]) if alike else one.name
        rows = [replace(row, run=f"{row.run} ({place})") if row.run in shared else row for row in one.rows]
        apart.append(replace(one, rows=rows))
    return apart


def _tell(config: ReportConfig, runs: Sequence[RunRecord]) -> None:
    size = config.out.stat().st_size
    console.print(f"{config.out}: {len(runs)} run{'s' if len(runs) > 1 else ''}, {size / 1e6:.1f} MB")
    if size > MOST:
        warn(f"the page is larger than {MOST / 1e6:.0f} MB; fewer runs, --shown or --maps make it smaller.")
