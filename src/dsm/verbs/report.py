"""``dsm report``: one page about one or more runs: their logs and, with lists, measurements.

Other verbs make the measurements; later calls reuse them.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dsm.data.classes import class_names, named, names_of
from dsm.data.list_format import UNLABELLED
from dsm.data.lists import VideoList, needed, read_list
from dsm.errors import UserError
from dsm.evaluate.extract_to_file import digest
from dsm.evaluate.feature_files import load_features
from dsm.evaluate.look import read_frames_of
from dsm.evaluate.settings import ExtractSettings
from dsm.files import written_aside
from dsm.models.checkpoint_file import list_checkpoints
from dsm.models.weights import load_weights
from dsm.pages.gallery import drawn
from dsm.pages.picture_texts import describe_picture
from dsm.pages.report_content import Embedding, Given, Maps, Measured, ReportContent
from dsm.pages.run_figures import save_curves
from dsm.pages.run_pictures import PICTURE_TYPES
from dsm.pages.run_report import write_run_report
from dsm.pages.template import PAGE_BYTES
from dsm.runs.bad_videos import left_out_sentences
from dsm.runs.claims import claim_by_settings, claim_files
from dsm.runs.record import PUBLISHED, RunRecord, read_encoder, read_run, short_names
from dsm.runs.results import RESULTS, Row, read_recorded_results, read_results
from dsm.seals import is_intact_zip, seal_zip
from dsm.settings import takes_settings
from dsm.terminal import console, some, warn
from dsm.verbs.bias import bias
from dsm.verbs.embed import examine
from dsm.verbs.extract import extract
from dsm.verbs.look import build_looker, look, take_aim
from dsm.verbs.probe import probe
from dsm.verbs.result import Result
from dsm.verbs.retrieve import retrieve
from dsm.verbs.settings.evaluation import (
    BiasConfig,
    BiasData,
    EmbedConfig,
    ExtractConfig,
    LookConfig,
    Measure,
    ProbeConfig,
    ReportConfig,
    RetrieveConfig,
    VideoTestConfig,
    VideoTestData,
)
from dsm.verbs.video_test import test as test_videos
from dsm.weights_names import path_of, published

WRITTEN_LAST = {
    "retrieval": "classes.csv",
    "probe": RESULTS,
    "test": RESULTS,
    "look": "look.csv",
    "bias": "variants.png",
}
"""The file that each measurement writes last: where it exists, the measurement is complete."""

BIAS_PICTURES = ("bias.png", "bars.png", "variants.png")


@dataclass(frozen=True)
class Lists:
    """The labelled lists to measure runs on."""

    train_file: Path
    test_file: Path
    root: Path | None
    train: VideoList
    test: VideoList


def claim(runs: Sequence[RunRecord], lists: Lists, config: ReportConfig) -> list[Path]:
    """Claim a folder beside the page for each run; measurements of the same weights and lists are kept.

    Raises:
        UserError: a run has no checkpoint, two runs would share a folder, or a folder holds something else
            and ``overwrite`` is off.
    """
    base, what = config.out.with_suffix(""), "the measurements of a report"
    folders = [base / run.name.replace("/", "_") for run in runs]
    if len(set(folders)) < len(folders):
        twice = Counter(folders).most_common(1)[0][0]
        names = some([run.name for run, folder in zip(runs, folders, strict=True) if folder == twice])
        raise UserError(f"{names} would be measured in one folder, {twice}; choose other --names.")
    claim_by_settings(base, "report.json", {"format": 1}, what=what, overwrite=False, needed=())
    table = config.grouping.groups
    made_by: dict[str, Any] = {
        "train": lists.train.digest(),
        "test": lists.test.digest(),
        "groups": [_digest(table) if table else "None", config.grouping.group_regex],
        "windows": config.windows,
    }
    run_settings = []
    for run in runs:
        if run.method == PUBLISHED:
            run_settings.append(made_by | {"weights": digest(load_weights(str(run.folder)).module)})
            continue
        checkpoints = list_checkpoints(run.folder)
        if not checkpoints:
            raise UserError(
                f"{run.folder}: has no checkpoint to measure; leave out --data.train and --data.test."
            )
        run_settings.append(made_by | {"weights": _digest(checkpoints[-1])})
    for folder, wanted in zip(folders, run_settings, strict=True):
        claim_by_settings(
            folder, "measured.json", wanted, what="measurements",
            overwrite=config.overwrite,
            needed=needed(lists.train, lists.test, table, *(path_of(run.folder) for run in runs)),
        )  # fmt: skip
    return folders


def measure(run: RunRecord, folder: Path, lists: Lists, config: ReportConfig) -> Measured:
    """Measure a run; measurements that are already in ``folder`` are reused.

    A measurement that fails is left out, with a warning.

    Raises:
        UserError: no features can be extracted.
    """
    weights, workers, windows = str(run.folder), config.data.workers, config.windows
    grouping = config.grouping
    train, test = folder / "train.npz", folder / "test.npz"
    for file, data in ((train, lists.train_file), (test, lists.test_file)):
        if not file.exists():
            console.print(f"{run.name}: features of {data.name}", style="bold")
            wanted = ExtractSettings(windows=windows, workers=workers)
            extract(ExtractConfig(weights, data, file, root=lists.root, settings=wanted))
    looking = LookConfig(
        lists.test_file, weights, folder / "look",
        score=True, root=lists.root, windows=windows, workers=workers, grouping=grouping,
    )  # fmt: skip
    learnt = lists.train_file if lists.train.labelled else None
    bias_data = BiasData(lists.test_file, learnt, root=lists.root, workers=workers)
    test_data = VideoTestData(lists.test_file, lists.root, workers)
    parts: dict[Measure, Callable[[Path], object]] = {
        "retrieval": lambda out: retrieve(RetrieveConfig(train, test, out, shown=0, grouping=grouping)),
        "probe": lambda out: probe(ProbeConfig(train, test, out, grouping=grouping)),
        "test": lambda out: test_videos(
            VideoTestConfig(weights, test_data, out, windows=windows, grouping=grouping)
        ),
        "look": lambda _: look(looking),
        "bias": lambda out: bias(
            BiasConfig(
                (weights,), bias_data, out, names=(run.name,), windows=windows, quick=True, grouping=grouping
            )
        ),
    }
    features = load_features(train), load_features(test)
    rows, left_out = [], []
    seed = run.config.get("seed")
    for name in config.measures:
        out = folder / name
        if name not in WRITTEN_LAST or (name == "test" and run.method != "finetune"):
            continue
        try:
            if name == "test" and not lists.test.labelled:
                raise UserError(f"{lists.test_file} has no labels, so there are no accuracies.")
            last = WRITTEN_LAST[name] if lists.train.labelled or name == "look" else RESULTS
            if not (out / last).exists():
                console.print(f"{run.name}: {name}", style="bold")
                if name in ("retrieval", "probe"):  # interrupted; the others continue
                    shutil.rmtree(out, ignore_errors=True)
                parts[name](out)
            measured = read_results(out / RESULTS)
        except UserError as error:
            left_out.append(f"{name}: {error}")
            warn(f"{run.name}: {left_out[-1]}")
            continue
        rows += [replace(row, run=run.name, seed=seed if isinstance(seed, int) else 0) for row in measured]
    pictures = [folder / "bias" / name for name in BIAS_PICTURES if "bias" in config.measures]
    return Measured(
        rows=rows,
        features=features if "retrieval" in config.measures else None,
        maps=_maps(folder / "maps.npz", looking, lists.test, features[1].paths, config.maps)
        if config.maps
        else None,
        bias=[(path, describe_picture(path, rows)) for path in pictures if path.exists()],
        left_out=left_out + left_out_sentences(folder),
    )


def embed_runs(names: Sequence[str], folders: Sequence[Path], config: ReportConfig) -> Embedding:
    """The maps of all runs; they take only seconds, so they are not saved.

    Raises:
        UserError: the features cannot be mapped, or are of different videos.
    """
    rows, embedded, features = examine(
        EmbedConfig(
            tuple(folder / "test.npz" for folder in folders), folders[0],
            gallery=tuple(folder / "train.npz" for folder in folders),
            grouping=config.grouping,
        ),
        names,
    )  # fmt: skip
    return Embedding(rows, embedded, features)


def _maps(
    file: Path, looking: LookConfig, videos: VideoList, readable: Sequence[str], count: int
) -> Maps | None:
    """Where a run looks in some of these videos; read from ``file`` if it is about the same videos."""
    places = [videos.paths.index(readable[at]) for at in drawn(len(readable), count)]
    if is_intact_zip(file):
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
            frames.append(looker.covered(clip))
            maps.append(looker.look(clip[None]).maps[0])
            paths.append(videos.paths[place])
    except UserError as error:  # the network has no feature map, or a video cannot be read
        warn(f"{looking.weights}: no maps: {error}")
        return None
    with written_aside(file) as aside, aside.open("wb") as opened:
        np.savez_compressed(
            opened, places=places, paths=np.array(paths, np.str_), frames=np.stack(frames),
            maps=np.stack(maps).astype(np.float16), raised=raised,
        )  # fmt: skip
        opened.close()
        seal_zip(aside)
    return Maps(paths, np.stack(frames), np.stack(maps), raised)


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        digest = hashlib.sha256()
        while block := opened.read(2**20):
            digest.update(block)
    return digest.hexdigest()


@takes_settings(ReportConfig)
def report(config: ReportConfig) -> Result:
    """Put runs on one page: settings, curves and, with lists, measurements; finished ones are reused."""
    claim_files(config.out, overwrite=config.overwrite)
    if config.curves:
        claim_files(config.curves, overwrite=config.overwrite)
    names = config.names or tuple(short_names(config.runs))
    if config.data.test is None and (bare := next(filter(published, config.runs), None)):
        raise UserError(
            f"{bare} is a published model, which logged nothing; give --data.train and --data.test to "
            "measure it."
        )
    runs = [
        read_encoder(str(folder), name) if published(folder) else read_run(folder, name)
        for folder, name in zip(config.runs, names, strict=True)
    ]
    given = [read_given(folder) for folder in config.results]
    measured: dict[str, Measured] = {}
    classes: list[str] = []
    embedding = None
    left_out: list[str] = []
    lists = read_lists(config)
    if lists:
        classes = class_names(lists.train, int(max(lists.train.labels.max(), lists.test.labels.max())) + 1)
        folders = claim(runs, lists, config)
        for run, folder in zip(runs, folders, strict=True):
            measured[run.name] = measure(run, folder, lists, config)
        if "embedding" in config.measures:
            try:
                embedding = embed_runs(names, folders, config)
            except UserError as error:
                left_out.append(f"embedding: {error}")
                warn(left_out[-1])
    own = [row for run in runs for row in run.rows] + [row for one in measured.values() for row in one.rows]
    given = with_distinct_runs(config.results, given, own)
    content = ReportContent(
        runs, measured, given, classes, config.shown, config.grouping.given,
        embedding, left_out,
    )  # fmt: skip
    write_run_report(config.out, content)
    files, lines = [config.out], []
    if config.curves:
        save_curves(config.curves, {run.name: run.metrics for run in runs})
        files.append(config.curves)
        lines.append(f"{config.curves}: the curves of all runs")
    size = config.out.stat().st_size
    lines.append(f"{config.out}: {len(runs)} run{'s' if len(runs) > 1 else ''}, {size / 1e6:.1f} MB")
    if size > PAGE_BYTES:
        limit = f"{PAGE_BYTES / 1e6:.0f} MB"
        warn(f"the page is larger than {limit}; give fewer runs, or lower --shown or --maps.")
    rows: list[Row] = [row for one in measured.values() for row in one.rows]
    rows += embedding.rows if embedding else []
    return Result([*rows, *(row for one in given for row in one.rows)], files, lines=lines)


def read_lists(config: ReportConfig) -> Lists | None:
    """The lists to measure on; None without ``--data``.

    Raises:
        UserError: a list cannot be read, or some videos have labels and others none.
    """
    if config.data.train is None or config.data.test is None:
        return None
    train = read_list(config.data.train, config.data.root)
    test = read_list(config.data.test, config.data.root, like=named(names_of(train), config.data.train))
    bare = [bool((videos.labels == UNLABELLED).all()) for videos in (train, test)]
    if all(bare):
        warn(
            "the lists have no labels, so recall, probes, tests and scene reliance are left out; the page "
            "shows neighbours, the map, the balance of motion and scene, and where the runs look."
        )
    else:
        _need_labels(train, test)
    for videos in (train, test):
        config.grouping.of(videos.paths)  # fail now, not after hours
    return Lists(config.data.train, config.data.test, config.data.root, train, test)


def _need_labels(*lists: VideoList) -> None:
    for videos in lists:
        if not videos.labelled:
            raise UserError(
                f"{videos.source}: {int((videos.labels < 0).sum())} of its videos have no label; to measure "
                "runs, every line of both lists must be `path label`, or no line may have a label."
            )


def read_given(folder: Path) -> Given:
    """The rows, command and pictures of a results folder.

    Raises:
        UserError: it has no results.json written by dsm.
    """
    command, rows = read_recorded_results(folder / RESULTS)
    # Skip links: they could point to any file, and the page may be shared.
    files = (path for path in folder.iterdir() if path.is_file() and not path.is_symlink())
    pictures = sorted(path for path in files if path.suffix.lower() in PICTURE_TYPES)
    described = [(path, describe_picture(path, rows)) for path in pictures]
    return Given(folder.absolute().name, command, rows, described)


def with_distinct_runs(
    folders: Sequence[Path], given: Sequence[Given], own: Sequence[Row] = ()
) -> list[Given]:
    """Add the folder to a run's name if several folders have results with the same name and seed, or if the
    page's runs have other numbers by that name: two numbers of one seed are no spread over seeds.

    Args:
        own: the rows of the page's runs.
    """

    def name_of(row: Row) -> tuple[str, int, str, str]:
        return row.run, row.seed, row.test, row.metric

    counts = Counter(name for one in given for name in {name_of(row) for row in one.rows})
    shared = {name[0] for name, count in counts.items() if count > 1}
    values = {name_of(row): row.value for row in own}
    shared |= {
        row.run for one in given for row in one.rows if values.get(name_of(row), row.value) != row.value
    }
    alike = len({one.name for one in given}) < len(given)
    distinct = []
    for folder, one in zip(folders, given, strict=True):
        name = "/".join(folder.absolute().parts[-2:]) if alike else one.name
        rows = [replace(row, run=f"{row.run} ({name})") if row.run in shared else row for row in one.rows]
        distinct.append(replace(one, rows=rows))
    return distinct
