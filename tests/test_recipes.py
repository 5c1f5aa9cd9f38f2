"""Named recipes: the scripts' actual settings, and complete small runs."""

from __future__ import annotations

import json
import os
import shlex
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import tyro
from runs import small_run

from dsm.cli import main
from dsm.errors import UserError
from dsm.models.checkpoint_file import list_checkpoints
from dsm.models.weights import load_weights
from dsm.recipes import OWN, RECIPES, find_recipe
from dsm.runs.card import as_flag
from dsm.signals import Interrupted
from dsm.train import trainer
from dsm.train.optim import learning_rate
from dsm.train.pretrain import PretrainConfig, pretrain
from dsm.verbs.run_recipe import _settings, pretraining, recipes, run
from dsm.verbs.settings.training import Changes, RecipeData, RecipesConfig, RunRecipeConfig

pytestmark = pytest.mark.usefixtures("blank_figures")

ROOT = Path(__file__).parents[1]
SMALL = Changes(steps=2, batch_size=8, frames=4, stride=3, size=32)


def script_rows(shared: Path) -> list[dict[str, str]]:
    lines = (shared / "original-experiments.md").read_text().splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    header, rows = table[0], table[2:]
    names = [name if header.index(name) == i else f"{name} 2" for i, name in enumerate(header)]
    return [dict(zip(names, row, strict=True)) for row in rows]


def test_every_script_of_the_release_has_a_recipe_with_its_settings(shared: Path) -> None:
    by_script = {recipe.script: recipe for recipe in RECIPES.values() if recipe.script}
    rows = script_rows(shared)
    assert len(rows) == 19
    for row in rows:
        recipe = by_script[row["script"]]
        assert recipe.devices == int(row["GPUs"]), row
        if row["batch"] and row["pretrain on"]:
            config = recipe.pretrain
            assert config is not None
            found = (config.method, config.backbone, config.data.batch_size, config.clip.frames)
            assert found == (row["method"], row["net"], int(row["batch"]), int(row["frames"])), row
            assert (config.clip.stride, config.clip.size) == (int(row["stride"]), int(row["size"])), row
            assert (config.epochs, config.settings.dsm.queue) == (int(row["epochs"]), int(row["queue"])), row
        if row["fine-tune on"] and row["epochs 2"]:
            tuned = recipe.finetune
            assert tuned is not None
            found = (tuned.epochs, tuned.data.batch_size, tuned.clip.frames, tuned.clip.size)
            expected = tuple(int(row[name]) for name in ("epochs 2", "batch 2", "frames 2", "size 2"))
            assert found == expected, row
            assert (tuned.optim.lr, tuned.head.dropout) == (float(row["lr"]), float(row["dropout"])), row
            # The learning rate of the script, epoch by epoch.
            for epoch in range(tuned.epochs):
                passed = sum(epoch >= int(at) for at in row["lr x0.3 at"].split())
                rate = learning_rate(tuned.optim, epoch, tuned.epochs, tuned.data.batch_size)
                assert rate == pytest.approx(float(row["lr"]) * 0.3**passed), (row, epoch)


def test_recipes_have_the_papers_pretraining_schedule() -> None:
    config = find_recipe("table-ucf101-i3d-dsm").pretrain
    assert config is not None
    rates = [learning_rate(config.optim, epoch, 240, 8) for epoch in (0, 119, 120, 159, 160, 199, 200)]
    assert rates == pytest.approx([3e-3, 3e-3, 3e-4, 3e-4, 3e-5, 3e-5, 3e-6])
    assert (config.settings.dsm.temperature, config.settings.dsm.momentum) == (0.07, 0.999)
    assert not config.settings.dsm.ramp


def test_no_baseline_has_the_clips_own_negative() -> None:
    for recipe in RECIPES.values():
        if recipe.pretrain and recipe.pretrain.method == "moco":
            assert recipe.pretrain.settings.moco.negatives == 0


def test_recipes_are_listed_and_printed(capsys: pytest.CaptureFixture[str]) -> None:
    main.run(["recipes"])
    listed = capsys.readouterr().out
    assert all(name in listed for name in RECIPES)
    output = str(recipes(RecipesConfig("kinetics-i3d-dsm-8gpu")))
    main.run(["recipes", "kinetics-i3d-dsm-8gpu"])
    assert capsys.readouterr().out.split() == output.split()
    assert "--dsm.queue 3569" in output
    assert "give the training list" in output
    with pytest.raises(UserError, match="did you mean"):
        find_recipe("kinetics-i3d-dsm-9gpu")


def run_config(scenes: Path, out: Path, name: str, **changes: object) -> RunRecipeConfig:
    settings: dict = {
        "recipe": name, "out": out, "backbone": "tiny", "devices": 1, "windows": 2, "precision": "fp32",
        "data": RecipeData(scenes / "train.txt", scenes / "test_free.txt", workers=0),
        "pretrain": SMALL, "finetune": SMALL,
    }  # fmt: skip
    return RunRecipeConfig(**{**settings, **changes})


def test_a_recipe_pretrains_fine_tunes_and_tests(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = run_config(scenes, tmp_path / "run", "table-ucf101-i3d-dsm")
    result = run(config)
    output = capsys.readouterr()
    assert "74.8%" in str(result)  # the paper's number beside ours
    assert not output.out
    assert output.err.count("its curves are in") == 2
    assert "Next:" not in output.err  # the recipe does the next step itself
    assert "Next:" not in str(result)
    rows = json.loads((tmp_path / "run" / "results.json").read_text())["rows"]
    assert [row["metric"] for row in rows] == ["top1", "top5", "mean_class_top1"]
    run(config)  # again: nothing is trained twice
    again = capsys.readouterr()
    assert again.err.count("is done (2 steps)") == 2
    assert json.loads((tmp_path / "run" / "results.json").read_text())["rows"] == rows
    with pytest.raises(UserError, match="with other settings"):
        run(run_config(scenes, tmp_path / "run", "table-ucf101-i3d-moco"))
    edited = tmp_path / "train.txt"
    lines = (scenes / "train.txt").read_text().splitlines(keepends=True)
    other = RecipeData(edited, scenes / "test_free.txt", root=scenes, workers=0)
    edited.write_text("".join(lines))
    run(run_config(scenes, tmp_path / "edited", "table-ucf101-i3d-random", data=other))
    edited.write_text("".join(lines[:-1]))
    with pytest.raises(UserError, match="with other settings"):
        run(run_config(scenes, tmp_path / "edited", "table-ucf101-i3d-random", data=other))


def test_given_epochs_replace_a_recipes_steps(scenes: Path, tmp_path: Path) -> None:
    recipe = find_recipe("still-camera").pretrain
    assert recipe is not None
    assert recipe.steps
    for changes, counted in ((Changes(epochs=3), (3, None)), (Changes(epochs=3, steps=5), (3, 5)),
                             (Changes(), (recipe.epochs, recipe.steps))):  # fmt: skip
        made = pretraining(run_config(scenes, tmp_path, "still-camera", pretrain=changes), recipe)
        assert (made.epochs, made.steps) == counted


@pytest.fixture(scope="module")
def first(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose weights others begin with."""
    return pretrain(small_run(scenes, tmp_path_factory.mktemp("first") / "run", steps=2))


@pytest.mark.parametrize("name", OWN)
def test_recipes_for_own_data_start_from_weights(
    scenes: Path, tmp_path: Path, first: Path, name: str
) -> None:
    config = run_config(scenes, tmp_path / "run", name, weights=str(first))
    run(config)
    about = load_weights(tmp_path / "run" / "finetune").config
    assert (about["backbone"], about["model"]["pooling"]) == ("tiny", "avgmax")


@pytest.mark.slow
def test_unsupported_clips_are_refused_before_the_first_stage(scenes: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    fits = Changes(steps=4, batch_size=8, frames=16, stride=1, size=224)
    config = run_config(
        scenes, tmp_path / "run", "table-ucf101-i3d-dsm", backbone="hf:videomae", pretrain=fits
    )
    with pytest.raises(UserError, match="does not take clips of 3x4x32x32"):
        run(config)
    assert not (tmp_path / "run").exists()


def test_overwrite_keeps_the_starting_weights(scenes: Path, tmp_path: Path) -> None:
    first = pretrain(small_run(scenes, tmp_path / "run" / "pretrain", steps=1))
    config = run_config(scenes, tmp_path / "run", "small-own", weights=str(first), overwrite=True)
    (tmp_path / "run" / "recipe.json").write_text('{"made_by": "dsm"}')  # of other settings
    with pytest.raises(UserError, match="is inside --out, which --overwrite empties"):
        run(config)
    assert list_checkpoints(first)


def test_the_docs_command_has_the_settings_of_the_recipe() -> None:
    page = (ROOT / "docs" / "own-videos.md").read_text(encoding="utf-8").replace("\\\n", " ")
    (line,) = (line for line in page.splitlines() if line.startswith("$ dsm pretrain"))
    config = tyro.cli(PretrainConfig, args=shlex.split(line)[3:])
    recipe = find_recipe("still-camera").pretrain
    assert recipe is not None
    assert (recipe.data.workers, recipe.data.cache_mb) == (1, 1500)  # each worker has its own cache
    data = replace(recipe.data, train=config.data.train, cache_mb=0, workers=None)
    settings = replace(recipe.settings, moco=config.settings.moco)
    assert replace(recipe, data=data, out=config.out, settings=settings) == config


def test_a_setting_is_printed_as_typed() -> None:
    config = find_recipe("table-ucf101-i3d-dsm").pretrain
    assert config is not None
    flags = [as_flag(name, value) for name, value in _settings(config)]
    assert {"--no-recompute", "--dsm.no-joint", "--dsm.tld.shift 1.0"} <= set(flags)
    words = [word for flag in flags for word in flag.split()]
    again = tyro.cli(PretrainConfig, args=[*words, "--data.train", "list.txt", "--out", "out"])
    assert again.settings.dsm == config.settings.dsm
    assert replace(again, data=config.data, out=config.out, settings=config.settings) == config


def test_a_stopped_command_says_how_to_continue(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = trainer.Trainer.train_step

    def stopped(self: trainer.Trainer, *args: object) -> object:
        if self.step == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(trainer.Trainer, "train_step", stopped)
    data, out = str(scenes / "train.txt"), tmp_path / "run"
    words = ["run", "ucf101-i3d-pretrain", "--data.train", data, "--data.workers", "0", "--out", str(out)]
    words += ["--backbone", "tiny", "--devices", "1", "--precision", "fp32", "--pretrain.steps", "4"]
    words += ["--pretrain.batch-size", "8", "--pretrain.frames", "4", "--pretrain.size", "32"]
    with pytest.raises(Interrupted, match="stopped at step 2 of 4 and saved; the same command continues"):
        main.run(words)
    alone = ["pretrain", "--data.train", data, "--data.workers", "0", "--out", str(tmp_path / "alone")]
    alone += ["--backbone", "tiny", "--steps", "4", "--data.batch-size", "8"]
    alone += ["--clip.frames", "4", "--clip.size", "32", "--clip.resize", "40"]
    for more, how in (([], "with --resume"), (["--overwrite"], "with --resume in place of --overwrite")):
        with pytest.raises(Interrupted, match=f"and saved; the same command {how} continues"):
            main.run([*alone, *more])
    monkeypatch.undo()
    data_workers = words.index("--data.workers") + 1
    fewer = [*words[:data_workers], "1", *words[data_workers + 1 :]]
    for again in (fewer, [*alone, "--resume"]):  # settings of reading speed may change
        main.run(again)
    for folder in (out / "pretrain", tmp_path / "alone"):
        assert list_checkpoints(folder)[-1].name == "step_00000004.pt"


def test_recipes_without_training_run(scenes: Path, tmp_path: Path, first: Path) -> None:
    with pytest.raises(UserError, match="give --weights"):
        run(run_config(scenes, tmp_path / "run", "ucf101-c3d-retrieve"))
    retrieves = run_config(scenes, tmp_path / "run", "ucf101-c3d-retrieve", weights=str(first))
    assert "R@1" in str(run(retrieves))
    rows = json.loads((tmp_path / "run" / "results.json").read_text())["rows"]
    assert [row["metric"] for row in rows] == ["R@1", "R@5", "R@10", "R@20", "R@50", "mAP"]
    assert {(row["run"], row["test"], row["n"]) for row in rows} == {("dsm", "test_free", 10)}
    assert (tmp_path / "run" / "retrieve" / "neighbours.tsv").is_file()
    run(retrieves)
    assert json.loads((tmp_path / "run" / "results.json").read_text())["rows"] == rows
    run(run_config(scenes, tmp_path / "tuned", "hmdb51-i3d-ft", weights=str(first)))
    tuned = str(tmp_path / "tuned" / "finetune")
    tested = run(run_config(scenes, tmp_path / "tested", "hmdb51-i3d-eval", weights=tuned))
    assert [row.metric for row in tested.rows] == ["top1", "top5", "mean_class_top1"]


def test_recipes_refuse_an_outer_launcher(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "0"), ("LOCAL_RANK", "0"), ("LOCAL_WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="run it without torchrun"):
        run(run_config(scenes, tmp_path / "run", "table-ucf101-i3d-dsm"))


def test_lists_are_read_before_days_of_pretraining(scenes: Path, tmp_path: Path) -> None:
    data = RecipeData(scenes / "train.txt", scenes / "nowhere.txt")
    with pytest.raises(UserError, match=r"nowhere\.txt"):
        run(run_config(scenes, tmp_path / "run", "table-ucf101-i3d-dsm", data=data))
    assert not (tmp_path / "run").exists()
