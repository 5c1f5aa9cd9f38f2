"""``dsm recipes`` and ``dsm run``: named experiments, listed and done."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from dsm.data.lists import VideoList, needed, read_list
from dsm.data.reading import ClipChanges
from dsm.distributed import begun_from_outside
from dsm.errors import UserError
from dsm.evaluate.extraction import ExtractSettings
from dsm.models.precision import Precision
from dsm.models.weights import LoadSettings, load_weights
from dsm.models.zoo import check_takes, create_model
from dsm.recipes import RECIPES, Recipe, find_recipe
from dsm.runs.card import as_flag
from dsm.runs.folder import claim_by_settings, flat, git_revision, lasting, plain
from dsm.runs.results import RESULTS, Row, write_results
from dsm.terminal import console
from dsm.train.config import RunConfig, train_once
from dsm.train.finetune import FinetuneConfig
from dsm.train.pretrain import PretrainConfig
from dsm.verbs.card import renew_card
from dsm.verbs.extract import ExtractConfig, extract
from dsm.verbs.retrieve import RetrieveConfig, retrieve
from dsm.verbs.train import finetune_command, pretrain_command
from dsm.verbs.video_test import VideoTestConfig, VideoTestData
from dsm.verbs.video_test import test as test_videos


@dataclass(frozen=True)
class RecipesConfig:
    """Settings of `dsm recipes`."""

    name: Annotated[str | None, tyro.conf.Positional] = None
    """Show all settings of this one."""


def recipes_command(config: RecipesConfig) -> None:
    """List the recipes, or tell everything about one."""
    if config.name:
        _tell(find_recipe(config.name))
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("recipe", no_wrap=True, min_width=max(map(len, RECIPES)))
    for column in ("does", "method", "backbone", "GPUs", "paper", "what it is"):
        table.add_column(column)
    for recipe in RECIPES.values():
        reported = f"{recipe.reported:.1%}" if recipe.reported is not None else ""
        method = recipe.pretrain.method if recipe.pretrain else ""
        some = recipe.pretrain or recipe.finetune
        table.add_row(
            recipe.name, ", ".join(recipe.stages), method, some.backbone if some else "",
            str(recipe.devices), reported, recipe.summary,
        )  # fmt: skip
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def _tell(recipe: Recipe) -> None:
    print(f"{recipe.name}: {recipe.summary}; {' → '.join(recipe.stages)}")
    if recipe.script:
        print(f"the release's script {recipe.script}")
    for note in recipe.notes:
        print(f"note: {note}")
    for title, part in (("pretrain", recipe.pretrain), ("finetune", recipe.finetune)):
        if part is not None and (title in recipe.stages or not recipe.pretrain):
            print(f"\n{title}")
            for name, value in _settings(part):
                print(f"  {as_flag(name, value)}")


def _settings(config: RunConfig) -> list[tuple[str, Any]]:
    settings = plain(config)
    method = settings.pop("settings", None)
    if method:
        chosen = settings["method"].replace("-", "_")
        settings[settings["method"]] = method[chosen]
    settings |= settings.pop("head", {})
    left_out = {"data.train", "out", "data.test", "monitor.list", "data.root"}
    return [(n, v) for n, v in flat(settings).items() if n not in left_out and v is not None]


@dataclass(frozen=True)
class RecipeData:
    """Lists, as `dsm data convert` and `dsm data index` write them."""

    train: Path
    """Labelled training videos; what is pretrained on too, where nothing else is given."""
    test: Path | None = None
    """Labelled test videos; needed by recipes that test."""
    root: Path | None = None
    """Folder put before relative paths; left out, the lists' own."""
    pretrain: Path | None = None
    """Videos to pretrain on; labels are not looked at."""
    pretrain_root: Path | None = None
    """Folder put before their relative paths; left out, `root`."""
    workers: int | None = None
    """Processes that decode; left out, the recipe's."""


@dataclass(frozen=True)
class Changes:
    """What of a recipe is to be otherwise; left out, as it is."""

    epochs: int | None = None
    steps: int | None = None
    batch_size: int | None = None
    frames: int | None = None
    stride: int | None = None
    size: int | None = None
    """Side of the crop; the video's shorter side goes with it."""


@dataclass(frozen=True)
class RunRecipeConfig:
    """Settings of `dsm run`."""

    recipe: Annotated[str, tyro.conf.Positional]
    """`dsm recipes` lists them."""
    data: RecipeData
    out: Path
    """Folder for the runs and their results; the same command goes on where it was stopped."""
    weights: str | None = None
    """What the first stage begins with, where not with random weights."""
    backbone: str | None = None
    """Another backbone than the recipe's."""
    devices: int | None = None
    """Another number of processes than the recipe's."""
    precision: Precision | None = None
    """Another precision than the recipe's."""
    seed: int = 0
    pretrain: Changes = field(default_factory=Changes)
    finetune: Changes = field(default_factory=Changes)
    windows: int = 10
    """Clips a video in the test."""
    overwrite: bool = False
    """Replace what another recipe or other settings left in `out`."""


def run_recipe(config: RunRecipeConfig) -> None:
    """Do all stages of a recipe that are not done yet; print its number beside the paper's."""
    if begun_from_outside():
        raise UserError("dsm run does one stage after another: leave torchrun out, and give --devices.")
    recipe = find_recipe(config.recipe)
    lists = _check(config, recipe)
    claim_by_settings(
        config.out, "recipe.json", lasting(config), what="a recipe's run",
        overwrite=config.overwrite, needed=needed(*lists, Path(config.weights) if config.weights else None),
    )  # fmt: skip
    for note in recipe.notes:
        console.print(f"note: {note}", style="dim")
    weights, rows = config.weights, []
    for stage in recipe.stages:
        console.print(f"{recipe.name}: {stage}", style="bold")
        if stage == "pretrain" and recipe.pretrain:
            made = pretraining(config, recipe.pretrain)
            train_once(made, pretrain_command)
            weights = str(made.out)
        elif stage == "finetune" and recipe.finetune:
            tuned = finetuning(config, recipe.finetune, weights)
            train_once(tuned, finetune_command)
            weights = str(tuned.out)
        elif stage == "test" and config.data.test and weights:
            data = VideoTestData(config.data.test, config.data.root, _workers(config, recipe.finetune))
            tested = test_videos(
                VideoTestConfig(weights, data, config.out / "test", windows=config.windows, overwrite=True)
            )
            rows = list(tested.rows)
            if "finetune" in recipe.stages:
                renew_card(Path(weights), [config.out / "test" / RESULTS])
        elif stage == "retrieve" and recipe.finetune and weights:
            rows = _retrieve(config, finetuning(config, recipe.finetune, weights), weights)
    _report(config, recipe, rows)


def _check(config: RunRecipeConfig, recipe: Recipe) -> list[VideoList]:
    """Find out what is wrong now, not after days of pretraining; the lists."""
    if {"test", "retrieve"} & set(recipe.stages) and config.data.test is None:
        raise UserError(f"{recipe.name}: tests what it trained; give --data.test LIST.")
    if recipe.stages[0] in ("test", "retrieve") and config.weights is None:
        raise UserError(f"{recipe.name}: trains nothing; give --weights RUN.")
    named = (
        (config.data.train, config.data.root),
        (config.data.test, config.data.root),
        (config.data.pretrain, config.data.pretrain_root or config.data.root),
    )
    lists = [read_list(path, root) for path, root in named if path is not None]
    parts: list[RunConfig] = []
    if recipe.pretrain and "pretrain" in recipe.stages:
        parts.append(pretraining(config, recipe.pretrain))
    if recipe.finetune and "finetune" in recipe.stages:
        parts.append(finetuning(config, recipe.finetune, None))
    loaded = load_weights(config.weights) if config.weights is not None else None
    for part in parts:
        shape = part.clip.input_shape
        check_takes(loaded.module if loaded else create_model(part.backbone, in_channels=shape[0]), shape)
    return lists


def pretraining(config: RunRecipeConfig, recipe: PretrainConfig) -> PretrainConfig:
    """The recipe's pretraining on this data."""
    data = replace(
        recipe.data,
        train=config.data.pretrain or config.data.train,
        root=(config.data.pretrain_root or config.data.root) if config.data.pretrain else config.data.root,
    )
    begin = replace(recipe, data=data, weights=config.weights or recipe.weights)
    changed: PretrainConfig = _changed(config, begin, config.pretrain)
    return replace(changed, out=config.out / "pretrain")


def finetuning(config: RunRecipeConfig, recipe: FinetuneConfig, weights: str | None) -> FinetuneConfig:
    """The recipe's fine-tuning on this data."""
    d = config.data
    data = replace(recipe.data, train=d.train, test=d.test, root=d.root)
    changed: FinetuneConfig = _changed(config, replace(recipe, data=data), config.finetune)
    return replace(changed, out=config.out / "finetune", weights=weights or changed.weights)


def _workers(config: RunRecipeConfig, part: RunConfig | None) -> int:
    if config.data.workers is not None:
        return config.data.workers
    return part.data.workers if part else VideoTestData.workers


def _changed(config: RunRecipeConfig, part: Any, changes: Changes) -> Any:
    clip = part.clip
    if changes.size:
        resize = round(clip.resize * changes.size / clip.size)
        clip = replace(clip, size=changes.size, resize=resize)
    clip = replace(clip, frames=changes.frames or clip.frames, stride=changes.stride or clip.stride)
    batch_size = changes.batch_size or part.data.batch_size
    data = replace(part.data, batch_size=batch_size, workers=_workers(config, part))
    # Where a recipe counts in steps, these would win over the epochs that are asked for.
    steps = changes.steps or (None if changes.epochs else part.steps)
    return replace(
        part, clip=clip, data=data, epochs=changes.epochs or part.epochs, steps=steps,
        backbone=config.backbone or part.backbone, devices=config.devices or part.devices,
        precision=config.precision or part.precision, seed=config.seed,
    )  # fmt: skip


def _retrieve(config: RunRecipeConfig, made: FinetuneConfig, weights: str) -> list[Row]:
    clip = ClipChanges(made.clip.frames, made.clip.stride, made.clip.resize, made.clip.size)
    settings = ExtractSettings(config.windows, batch_size=1, workers=made.data.workers)
    files = {}
    for name, listed in (("train", config.data.train), ("test", config.data.test)):
        assert listed is not None
        files[name] = config.out / "features" / f"{name}.npz"
        files[name].unlink(missing_ok=True)  # the weights may have changed
        extract(
            ExtractConfig(
                weights, listed, files[name], root=config.data.root, clip=clip,
                loading=LoadSettings(made.backbone, config.seed), settings=settings,
            )
        )  # fmt: skip
    found = retrieve(RetrieveConfig(files["train"], files["test"], config.out / "retrieve", overwrite=True))
    return list(found.rows)


def _report(config: RunRecipeConfig, recipe: Recipe, rows: Sequence[Row]) -> None:
    if not rows:
        console.print(f"{config.out}: done; nothing of it is tested.")
        return
    write_results(config.out / RESULTS, list(rows), revision=git_revision())
    table = Table(title=recipe.name)
    for column in ("metric", "here", "95 % interval", "the paper"):
        table.add_column(column, justify="right")
    for place, row in enumerate(rows):
        interval = "" if row.low is None or row.high is None else f"{row.low:.1%} to {row.high:.1%}"
        reported = f"{recipe.reported:.1%}" if place == 0 and recipe.reported is not None else ""
        table.add_row(row.metric, f"{row.value:.1%}", interval, reported)
    Console().print(table)
    if recipe.reported is None:
        console.print("The paper has no number for this.")
    console.print(f"{config.out / 'results.json'}: the numbers")
