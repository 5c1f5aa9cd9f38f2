"""Shared parts of the studies: tables over seeds, reused measurements, blocks of the docs, their order."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from dsm.errors import UserError
from dsm.runs.results import Row

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(not (ROOT / "studies").exists(), reason="the studies are only in a clone")


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Imports a study with its neighbours, as when it runs; removes them from sys.modules afterwards."""
    monkeypatch.syspath_prepend(ROOT / "studies")
    yield importlib.import_module
    for file in (ROOT / "studies").glob("*.py"):
        sys.modules.pop(file.stem, None)


def rows_of(run: str, values: dict[int, float]) -> list[Row]:
    return [Row(run, seed, "test", "R@1", value, None, None, 10) for seed, value in values.items()]


def test_a_difference_pairs_the_same_seeds(study: Callable[[str], ModuleType]) -> None:
    """By hand: gains 10, 20 and 30 points; a t interval of three has a half of 4.303 * 10 / sqrt(3)."""
    tables = study("tables")
    rows = rows_of("dsm", {1: 0.5, 2: 0.7, 3: 0.9, 4: 1.0}) + rows_of("moco", {3: 0.6, 2: 0.5, 1: 0.4})
    text = tables.table(rows, "R@1", runs=["moco", "dsm"], tests=["test"], against=[("dsm", "moco")])
    assert text.splitlines()[-1] == "| dsm minus moco | +20.0 ± 24.8 |"
    clear = rows_of("dsm", {1: 0.8, 2: 0.9, 3: 1.0}) + rows_of("moco", {1: 0.1, 2: 0.2, 3: 0.3})
    text = tables.table(clear, "R@1", runs=["dsm"], tests=["test"], against=[("dsm", "moco")])
    assert text.splitlines()[-1] == "| dsm minus moco | **+70.0 ± 0.0** |"


def test_a_single_seed_has_the_interval_over_its_videos(study: Callable[[str], ModuleType]) -> None:
    tables = study("tables")
    rows = [Row("dsm", 7, "test", "R@1", 0.5, 0.25, 0.75, 10)]
    assert "| dsm | 50.0 [25.0, 75.0] |" in tables.table(rows, "R@1", runs=["dsm"], tests=["test"])
    assert tables.caption(rows).startswith("Seed 7 alone,")


def test_the_printed_command_measures_everything_again(
    study: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--out", "o", "--known", "a.json", "b.json", "--jobs", "2", "--known", "c.json"]
    monkeypatch.setattr(sys, "argv", ["/somewhere/studies/budget.py", *words])
    assert study("trials").study_command() == "python studies/budget.py --out o --jobs 2"


def test_measurements_are_read_back(study: Callable[[str], ModuleType], tmp_path: Path) -> None:
    measured = study("measured")
    one = measured.Measured("abc", "features", "r1", tuple(rows_of("dsm", {1: 0.5, 2: 0.25})))
    other = measured.Measured("def", "bias", None, (Row("x", 0, "t", "m", 0.1, 0.0, 0.2, 3),))
    measured.write_measured(tmp_path / "m.json", [one, other])
    known = measured.read_measured([tmp_path / "m.json"])
    assert known == {("abc", "features"): one, ("def", "bias"): other}
    assert measured.revisions([one, other]) == "r1, unknown"
    (tmp_path / "m.json").write_text("[]")
    with pytest.raises(UserError, match="holds no measurements"):
        measured.read_measured([tmp_path / "m.json"])
    with pytest.raises(UserError, match="no such file"):
        measured.read_measured([tmp_path / "none.json"])


def test_the_digest_depends_on_settings_and_not_on_folders(
    study: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    ranking, trial, measured = study("ranking"), study("trial"), study("measured")

    def digest(
        folder: Path, seed: int = 1, measure: str | None = None, tune: int = 10, **changes: object
    ) -> str:
        one = ranking.trial(replace(ranking.Options(folder), **changes), "dsm", seed)
        found = trial.settings_of(replace(one, tuned=replace(one.tuned, epochs=tune)), measure)
        digest: str = measured.digest(json.loads(json.dumps(found)))
        return digest

    here = digest(tmp_path / "here")
    assert digest(tmp_path / "there") == here
    assert digest(Path("runs")) == here
    assert digest(tmp_path, measures=("look",)) == here  # measures do not change the weights
    assert digest(tmp_path, tune=20) == here  # nor does later fine-tuning
    assert digest(tmp_path, measure="finetuned", tune=20) != digest(tmp_path, measure="finetuned")
    assert digest(tmp_path, measure="bias", tune=20) == digest(tmp_path, measure="bias")
    others = [digest(tmp_path, seed=2), digest(tmp_path, steps=5), digest(tmp_path, correlation=0.5)]
    assert len({here, *others}) == 4


def test_known_measurements_are_reused_and_other_settings_refused(
    study: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    ranking, trials, measured = study("ranking"), study("trials"), study("measured")
    trial = ranking.trial(ranking.Options(tmp_path, measures=("features",)), "dsm", 1)
    settings = measured.digest(trials.settings_of(trial, "features"))
    one = measured.Measured(settings, "features", "r1", tuple(rows_of("dsm", {1: 0.5})))
    known = {(one.settings, "features"): one}
    assert not trials.is_done(trial, {})
    assert trials.is_done(trial, known)
    assert trials.run_trial(trial, known) == [one]
    (row,) = trials.run_trial(replace(trial, name="as others call it"), known)[0].rows
    assert (row.run, row.value) == ("as others call it", one.rows[0].value)
    assert not trial.folder.exists()  # nothing was trained

    trial.folder.mkdir(parents=True)
    trials._claim(trial)
    longer = replace(trial, config=replace(trial.config, steps=7))
    with pytest.raises(UserError, match="holds a trial with other settings"):
        trials.run_trial(longer, {})
    measured.write_measured(trial.folder / "features.json", [one])
    assert trials.run_trial(trial, {}) == [one]
    with pytest.raises(UserError, match="json: was measured with other settings"):
        trials.run_trial(longer, {})
    # A trained encoder may be fine-tuned with other settings if that was not measured yet.
    trials._claim(replace(trial, tuned=replace(trial.tuned, steps=7)))


def test_blocks_are_filled_repeatedly(study: Callable[[str], ModuleType], tmp_path: Path) -> None:
    fill = study("fill_docs").fill
    (tmp_path / "a.md").write_text("| 1 |\n")
    page = "Before\n<!-- from a.md -->\nold\n<!-- end -->\nbetween\n<!-- from b.md -->\nkept\n<!-- end -->\n"
    filled, missing = fill(page, (tmp_path,))
    assert filled == page.replace("old", "\n| 1 |\n")
    assert missing == ["b.md"]
    assert fill(filled, (tmp_path,))[0] == filled


def test_every_block_of_the_docs_is_written_by_a_study(study: Callable[[str], ModuleType]) -> None:
    fill_docs = study("fill_docs")
    studies = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "studies").glob("*.py"))
    for page in fill_docs.Options(()).pages:
        for _, name, _ in fill_docs.BLOCK.findall(page.read_text(encoding="utf-8")):
            written = f'"{name}"' in studies or f'"{Path(name).stem}"' in studies
            assert written, f"{page.name}: nothing writes {name}"


def test_quick_and_full_studies_use_separate_folders(study: Callable[[str], ModuleType]) -> None:
    everything = study("everything")
    whole, quick = everything.Options(), everything.Options(quick=True)
    assert whole.folder != quick.folder
    names = [command[0] for command in everything.commands(whole)]
    assert names[-1] == "studies/fill_docs.py"
    assert names[-1] not in [command[0] for command in everything.commands(quick)]
    assert all((ROOT / name).is_file() for name in names)
    with pytest.raises(UserError, match="go together"):
        everything.Options(real=Path("list.txt"))


def test_the_settings_of_studies_are_valid(study: Callable[[str], ModuleType], tmp_path: Path) -> None:
    ablations, budget = study("ablations"), study("budget")
    options = ablations.Options(tmp_path)
    trials = ablations.trials_of(options, 3)
    assert len({trial.folder for trial in trials}) == len(trials) == len({trial.name for trial in trials})
    assert {trial.config.seed for trial in trials} == {3}
    with pytest.raises(UserError, match="groups are parts"):
        ablations.Options(only=("nonsense",))
    assert len({trial.folder for trial in budget.trials_of(budget.Options(tmp_path), 3)}) == 8


@pytest.mark.slow
def test_every_study_runs_with_quick(tmp_path: Path) -> None:
    line = [sys.executable, ROOT / "studies" / "everything.py", "--quick", "--out", tmp_path / "all"]
    subprocess.run(line, check=True, cwd=tmp_path)
    written = {file.name for file in (tmp_path / "all").glob("*/*.md")}
    assert {"demo.md", "reliance.md", "ranking.md", "budget.md", "ablations.md", "look.md"} <= written
