"""``dsm recipes`` lists named experiments; ``dsm run`` runs one."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from dsm.data.lists import VideoList, needed, read_list
from dsm.data.settings import ClipChanges
from dsm.distributed import begun_from_outside
from dsm.errors import UserError
from dsm.evaluate.settings import ExtractSettings
from dsm.models.settings import LoadSettings
from dsm.models.weights import load_weights
from dsm.models.zoo import check_takes, create_model
from dsm.recipes import RECIPES, Recipe, find_recipe
from dsm.runs.card import as_flag
from dsm.runs.claims import claim_by_settings
from dsm.runs.folder import flags_of, lasting
from dsm.runs.results import RESULTS, write_results
from dsm.runs.tracking import track_end
from dsm.settings import takes_settings
from dsm.terminal import console
from dsm.train.config import FinetuneConfig, PretrainConfig, RunConfig
from dsm.verbs.card import renew_card
from dsm.verbs.extract import extract
from dsm.verbs.result import Result
from dsm.verbs.retrieve import retrieve
from dsm.verbs.settings.evaluation import ExtractConfig, RetrieveConfig, VideoTestConfig, VideoTestData
from dsm.verbs.settings.training import Changes, RecipesConfig, RunRecipeConfig
from dsm.verbs.train import train_stage
from dsm.verbs.video_test import test as test_videos
from dsm.weights_names import path_of

PIPED_WIDTH = 140
"""Width of the list of recipes, in characters, if it is not written to a terminal."""


@takes_settings(RecipesConfig)
def recipes(config: RecipesConfig) -> Result:
    """List the recipes, or show all settings of one."""
    if config.name:
        return Result(tables=[Text("\n".join(_lines(find_recipe(config.name))))])
    table = Table(box=None, padding=(0, 2, 0, 0), width=None if sys.stdout.isatty() else PIPED_WIDTH)
    table.add_column("recipe", no_wrap=True, min_width=max(map(len, RECIPES)))
    for column in ("does", "method", "backbone", "GPUs", "paper", "what it is"):
        table.add_column(column)
    for recipe in RECIPES.values():
        reported = f"{recipe.reported:.1%}" if recipe.reported is not None else ""
        method = recipe.pretrain.method if recipe.pretrain else ""
        stage = recipe.pretrain or recipe.finetune
        table.add_row(
            recipe.name, ", ".join(recipe.stages), method, stage.backbone if stage else "",
            str(recipe.devices), reported, recipe.summary,
        )  # fmt: skip
    return Result(tables=[table])


def _lines(recipe: Recipe) -> Iterator[str]:
    yield f"{recipe.name}: {recipe.summary}; {' → '.join(recipe.stages)}"
    if recipe.script:
        yield f"the release's script {recipe.script}"
    for note in recipe.notes:
        yield f"note: {note}"
    for title, part in (("pretrain", recipe.pretrain), ("finetune", recipe.finetune)):
        if part is not None and (title in recipe.stages or not recipe.pretrain):
            yield ""
            yield title
            for name, value in _settings(part):
                yield f"  {as_flag(name, value)}"


def _settings(config: RunConfig) -> list[tuple[str, Any]]:
    of_the_user = {"data.train", "out", "data.test", "monitor.list", "data.root", "track"}
    return [
        (name, value)
        for name, value in flags_of(config).items()
        if name not in of_the_user and value is not None
    ]


@takes_settings(RunRecipeConfig)
def run(config: RunRecipeConfig) -> Result:
    """Run all stages of a recipe that are not done yet; compare its result with the paper's.

    Raises:
        UserError: a mistake that the user can fix, reported before anything is written where possible.
        Interrupted: stopped by a signal; a checkpoint was written, and the same settings continue.
    """
    if begun_from_outside():
        raise UserError("dsm run starts its own processes: run it without torchrun, and use --devices.")
    recipe = find_recipe(config.recipe)
    lists = _check(config, recipe)
    settings = lasting(config) | {"lists": [videos.digest(rooted=False) for videos in lists]}
    claim_by_settings(
        config.out, "recipe.json", settings, what="the output of dsm run",
        overwrite=config.overwrite,
        needed=needed(*lists, path_of(config.weights) if config.weights else None),
    )  # fmt: skip
    for note in recipe.notes:
        console.print(f"note: {note}", style="dim")
    weights, result = config.weights, Result()
    runs: list[Path] = []
    for stage in recipe.stages:
        console.print(f"{recipe.name}: {stage}", style="bold")
        if stage == "pretrain" and recipe.pretrain:
            encoder = pretraining(config, recipe.pretrain)
            train_stage(encoder)
            runs.append(encoder.out)
            weights = str(encoder.out)
        elif stage == "finetune" and recipe.finetune:
            classifier = finetuning(config, recipe.finetune, weights)
            train_stage(classifier)
            runs.append(classifier.out)
            weights = str(classifier.out)
        elif stage == "test" and config.data.test and weights:
            data = VideoTestData(config.data.test, config.data.root, _workers(config, recipe.finetune))
            result = test_videos(
                VideoTestConfig(weights, data, config.out / "test", windows=config.windows, overwrite=True)
            )
            if "finetune" in recipe.stages:
                renew_card(Path(weights), [config.out / "test" / RESULTS])
                track_end(Path(weights), config.track, tested=result.rows)
        elif stage == "retrieve" and recipe.finetune and weights:
            result = _retrieve(config, finetuning(config, recipe.finetune, weights), weights)
    return _summed_up(config, recipe, runs, result)


def _check(config: RunRecipeConfig, recipe: Recipe) -> list[VideoList]:
    """Report mistakes now, not after days of pretraining; return the lists."""
    if {"test", "retrieve"} & set(recipe.stages) and config.data.test is None:
        raise UserError(f"{recipe.name} ends with a test; give --data.test LIST.")
    if recipe.stages[0] in ("test", "retrieve") and config.weights is None:
        raise UserError(f"{recipe.name} trains nothing; give --weights RUN.")
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
    """The settings of the recipe's pretraining on this data."""
    data = replace(
        recipe.data,
        train=config.data.pretrain or config.data.train,
        root=(config.data.pretrain_root or config.data.root) if config.data.pretrain else config.data.root,
    )
    begin = replace(recipe, data=data, weights=config.weights or recipe.weights)
    changed: PretrainConfig = _changed(config, begin, config.pretrain)
    return replace(changed, out=config.out / "pretrain")


def finetuning(config: RunRecipeConfig, recipe: FinetuneConfig, weights: str | None) -> FinetuneConfig:
    """The settings of the recipe's fine-tuning on this data."""
    d = config.data
    data = replace(recipe.data, train=d.train, test=d.test, root=d.root)
    changed: FinetuneConfig = _changed(config, replace(recipe, data=data), config.finetune)
    return replace(changed, out=config.out / "finetune", weights=weights or changed.weights)


def _workers(config: RunRecipeConfig, part: RunConfig | None) -> int | None:
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
    # The recipe's steps would override the requested epochs.
    steps = changes.steps or (None if changes.epochs else part.steps)
    return replace(
        part, clip=clip, data=data, epochs=changes.epochs or part.epochs, steps=steps,
        backbone=config.backbone or part.backbone, devices=config.devices or part.devices,
        precision=config.precision or part.precision, seed=config.seed, track=config.track,
    )  # fmt: skip


def _retrieve(config: RunRecipeConfig, made: FinetuneConfig, weights: str) -> Result:
    clip = ClipChanges(made.clip.frames, made.clip.stride, made.clip.resize, made.clip.size)
    settings = ExtractSettings(config.windows, batch_size=1, workers=made.data.workers)
    files = {}
    for name, list_file in (("train", config.data.train), ("test", config.data.test)):
        assert list_file is not None
        files[name] = config.out / "features" / f"{name}.npz"
        files[name].unlink(missing_ok=True)  # the weights may have changed
        extracted = extract(
            ExtractConfig(
                weights, list_file, files[name], root=config.data.root, clip=clip,
                loading=LoadSettings(made.backbone, made.pooling, config.seed), settings=settings,
            )
        )  # fmt: skip
        for line in extracted.lines:
            console.print(line)
    return retrieve(RetrieveConfig(files["train"], files["test"], config.out / "retrieve", overwrite=True))


def _summed_up(config: RunRecipeConfig, recipe: Recipe, runs: Sequence[Path], result: Result) -> Result:
    """The result of the last stage, compared with the paper's."""
    if not result.rows:
        return Result(files=runs, lines=[f"{config.out}: done; this recipe has no test."])
    file = config.out / RESULTS
    write_results(file, list(result.rows))
    table = Table(title=recipe.name)
    for column in ("metric", "here", "95 % interval", "the paper"):
        table.add_column(column, justify="right")
    for place, row in enumerate(result.rows):
        reported = f"{recipe.reported:.1%}" if place == 0 and recipe.reported is not None else ""
        table.add_row(row.metric, f"{row.value:.1%}", row.interval("{:.1%} to {:.1%}"), reported)
    none_reported = ["The paper reports no number for this."] if recipe.reported is None else []
    return Result(
        result.rows,
        [*runs, *result.files, file],
        [*result.tables, table],
        [*result.lines, *none_reported, f"{file}: the numbers"],
    )
