"""``dsm report``: a page of real small runs, compared; the figures in it and the names of the runs."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from runs import BOLD

from dsm.cli import main
from dsm.errors import UserError
from dsm.pages import figures
from dsm.pages.confusion import draw_confusion
from dsm.pages.figures import COLOURS, bar_chart, line_chart, looks_of
from dsm.pages.film import write_named_strips
from dsm.pages.picture_texts import describe_picture
from dsm.pages.run_report import _heading, _progress, _result
from dsm.pages.tables import Cell, result_tables, seed_tables
from dsm.runs.folder import plain
from dsm.runs.logs import read_gradients
from dsm.runs.record import RunRecord, differences, over_seeds, read_run, short_names
from dsm.runs.results import Row, write_results
from dsm.train.config import DataConfig, FinetuneConfig, FinetuneData, PretrainConfig
from dsm.verbs.report import read_given, report, with_distinct_runs
from dsm.verbs.settings.evaluation import ReportConfig, ReportData
from dsm.video.ledger import Verdict, ledger_json


def test_a_page_shows_every_run_and_their_differences(runs: Path, tmp_path: Path) -> None:
    config = ReportConfig((runs / BOLD, runs / "moco"), tmp_path / "report.html")
    report(config)
    page = config.out.read_text(encoding="utf-8")
    assert "2 runs side by side" in page
    records = [read_run(folder, folder.name) for folder in config.runs]
    changed = dict(differences(records))
    assert changed["method"] == ["dsm", "moco"]
    assert changed["seed"] == ["0", "1"]
    assert "backbone" not in changed
    assert all(f'<th scope="row">{name}' in page for name in changed)
    assert page.count("<svg role") >= 8
    texts = re.findall(r'alt="The gradient of [^"]*"', page)
    for run, line in zip((BOLD, "moco"), texts, strict=True):
        last = read_gradients(runs / run)[-1]
        sizes = {name: found[0] for name, found in last["layers"].items()}
        most, least = max(sizes, key=sizes.__getitem__), min(sizes, key=sizes.__getitem__)
        assert f"At step {last['step']} its mean size is greatest in {most} ({sizes[most]:.1e})" in line
        assert f"least in {least} ({sizes[least]:.1e})" in line
    assert page.count('<svg role="img" aria-label="') == page.count("<svg role")


def test_curves_are_also_written_as_a_figure(runs: Path, tmp_path: Path) -> None:
    for name, begin in (("curves.pdf", b"%PDF"), ("curves.png", b"\x89PNG")):
        config = ReportConfig((runs / BOLD, runs / "moco"), tmp_path / f"{name}.html", curves=tmp_path / name)
        report(config)
        assert (tmp_path / name).read_bytes().startswith(begin)


def test_existing_results_are_shown(runs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "earlier"
    write_results(
        folder / "results.json", [Row("<i>", 0, "unseen", "R@1", 0.625, 0.5, 0.75, 8)], command="dsm x"
    )
    write_named_strips(folder / "strip.png", [("a", np.zeros((2, 8, 8, 3), np.uint8))])
    config = ReportConfig((runs / "moco",), tmp_path / "report.html", results=(folder,))
    report(config)
    page = config.out.read_text(encoding="utf-8")
    assert "62.5 <small>[50, 75]</small>" in page
    assert "&lt;i&gt;" in page
    assert "<i>" not in page
    assert 'alt="strip.png of earlier, whose results are &lt;i&gt;, unseen: R@1 0.625"' in page


def test_pictures_have_alt_text_with_their_numbers(tmp_path: Path) -> None:
    def row(run: str, test: str, metric: str, value: float) -> Row:
        return Row(run, 0, test, metric, value, None, None, 8)

    rows = [
        row("dsm", "test", "acc_clip", 0.8),
        row("dsm", "test", "acc_no_foreground", 0.25),
        row("dsm", "test", "scene_reliance", 0.1),
        row("dsm", "test_conflict", "acc_clip", 0.5),
        row("moco", "test", "acc_clip", 0.7),
    ]
    text = "Accuracy by variant. dsm: clip 80%, no foreground 25%; moco: clip 70%"
    assert describe_picture(tmp_path / "bars.png", rows) == text
    assert "moco, test: acc_clip 0.7" in describe_picture(tmp_path / "other.png", rows)
    (tmp_path / "classes.csv").write_text(
        "weights,class,videos,acc_clip,acc_static,relative_gain\n"
        "dsm,walk,4,1,0.25,3.5\ndsm,run,4,0.5,0.5,0\ndsm,swim,4,1,1,-0.1\n"
    )
    assert describe_picture(tmp_path / "bias.png", rows) == (
        "Each class by single frames and by the clip. dsm: 3 classes; single frames reach an accuracy of 25% "
        "(walk) to 100% (swim), and the clip does 0.9 (swim) to 4.5 (walk) times as well"
    )
    assert describe_picture(tmp_path / "confusion.png", rows).startswith("confusion.png of")
    (tmp_path / "classes.csv").write_text(
        "class,videos,top1,most often taken for\nwalk,4,0.25,run\nrun,4,1.0,\n"
    )
    assert describe_picture(tmp_path / "confusion.png", rows) == (
        "Confusion matrix of 2 classes: best is run (100% right), worst walk (25% right, most often "
        "taken for run)"
    )
    for strange in (b"class,top1,most often taken for\nwalk\n", "class\n\xe9".encode("latin-1")):
        (tmp_path / "classes.csv").write_bytes(strange)
        assert describe_picture(tmp_path / "confusion.png", []).startswith("confusion.png of")


def test_an_unfinished_run_can_be_shown(runs: Path, tmp_path: Path) -> None:
    run = shutil.copytree(runs / "moco", tmp_path / "moco")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 14, "lo')
    report(ReportConfig((run,), tmp_path / "report.html"))
    assert "7 of 7" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_foreign_config_is_shown_unchanged(runs: Path, tmp_path: Path) -> None:
    run = shutil.copytree(runs / "moco", tmp_path / "moco")
    record = {
        "command": "",
        "config": {"clip": 3, "method": 5, "settings": [1]},
        "versions": {},
        "revision": None,
    }
    (run / "config.json").write_text(json.dumps(record))
    config = ReportConfig((run,), tmp_path / "report.html")
    report(config)
    assert "clip 3" in config.out.read_text(encoding="utf-8")


def test_runs_get_distinct_names(tmp_path: Path) -> None:
    def named(*paths: str) -> list[str]:
        return short_names([tmp_path / path for path in paths])

    assert named("a", "b") == ["a", "b"]
    assert named("moco/run", "dsm/run") == ["moco", "dsm"]
    assert named("x/moco", "y/moco", "y/dsm") == ["x/moco", "y/moco", "y/dsm"]
    with pytest.raises(UserError, match="given twice"):
        named("a", "b/../a")


def test_seeds_of_one_experiment_are_summarised(runs: Path) -> None:
    one = read_run(runs / "moco", "moco-1")
    two = replace(one, name="moco-2", config={**one.config, "seed": 2, "out": "elsewhere"})
    other = read_run(runs / BOLD, "dsm")
    groups = over_seeds([one, two, other])
    assert groups == {"moco-1": "moco, 2 seeds", "moco-2": "moco, 2 seeds"}
    data = {**one.config["data"], "cache_folder": "/cache", "root": "/elsewhere"}
    copied = replace(two, config={**two.config, "copy_to": "s3://runs/2", "nonfinite": "stop", "data": data})
    assert over_seeds([one, copied]) == groups
    rows = [Row(name, 0, "test", "R@1", value, 0, 1, 9) for name, value in
            (("moco-1", 0.5), ("moco-2", 0.7), ("dsm", 0.9))]  # fmt: skip
    (table,) = seed_tables(rows, groups)
    assert table.runs == ["moco, 2 seeds"]
    cell = table.lines[0][2][0]
    assert cell
    assert (cell.value, cell.spread) == ("60.0", "± 14.1")
    (table,) = seed_tables([*rows, replace(rows[0], low=0.4)], groups)  # from a second file
    assert table.lines[0][2][0] == cell
    (table,) = result_tables([rows[2], rows[2]])
    assert table.lines[0][2] == [Cell("90.0", "[0, 100]", False)]


def test_a_method_has_the_same_colour_everywhere() -> None:
    names = ["mine", "dsm-triplet-0", "moco", "dsm-seed1", "dsm-seed2", "dsmall", "random weights"]
    looks = dict(zip(names, looks_of(names), strict=True))
    for name, method in (("moco", "moco"), ("dsm-seed1", "dsm"), ("dsm-triplet-0", "dsm-triplet")):
        assert looks[name].colour == COLOURS[method]
    assert looks["random weights"].colour == COLOURS["random"]
    assert looks["dsm-seed2"] != looks["dsm-seed1"]
    assert looks["dsm-seed2"].colour == COLOURS["dsm"]
    assert not {looks["mine"].colour, looks["dsmall"].colour} & set(COLOURS.values())


def test_results_of_the_same_name_from_two_folders_are_two_runs(tmp_path: Path) -> None:
    folders = [tmp_path / "one" / "test", tmp_path / "two" / "test", tmp_path / "two" / "bias"]
    for folder, metric in zip(folders, ("top1", "top1", "scene_reliance"), strict=True):
        row = Row("dsm", 0, "test", metric, 0.5, None, None, 10)
        write_results(folder / "results.json", [row], command="x")
    apart = with_distinct_runs(folders, [read_given(folder) for folder in folders])
    assert [row.run for one in apart for row in one.rows] == [
        "dsm (one/test)", "dsm (two/test)", "dsm (two/bias)",
    ]  # fmt: skip
    alone = with_distinct_runs(folders[1:], [read_given(folder) for folder in folders[1:]])
    assert [row.run for one in alone for row in one.rows] == ["dsm", "dsm"]


def test_two_numbers_of_one_seed_are_no_spread_over_seeds(tmp_path: Path) -> None:
    """A probe of other features of a run is another number; the same number in two files is one."""
    own = Row("dsm", 0, "test", "linear_probe", 0.71, 0.6, 0.8, 100)
    for name, value in (("same", 0.71), ("other", 0.74)):
        write_results(tmp_path / name / "results.json", [replace(own, value=value)], command="x")
    folders = [tmp_path / "same"]
    (same,) = with_distinct_runs(folders, [read_given(tmp_path / "same")], [own])
    assert same.rows[0].run == "dsm"
    (other,) = with_distinct_runs([tmp_path / "other"], [read_given(tmp_path / "other")], [own])
    (table,) = result_tables([own, *same.rows, *other.rows])
    assert table.runs == ["dsm", "dsm (other)"]
    assert [cell and cell.spread for cell in table.lines[0][2]] == ["[60, 80]", "[60, 80]"]


def made_run(folder: Path, **config: object) -> Path:
    """A run folder of three steps, without checkpoints."""
    folder.mkdir(parents=True)
    record = {"command": "", "config": config, "versions": {}, "revision": None}
    (folder / "config.json").write_text(json.dumps(record))
    lines = (json.dumps({"step": step, "loss": 1 / step}) for step in (1, 2, 3))
    (folder / "metrics.jsonl").write_text("\n".join(lines))
    return folder


def test_damaged_videos_were_not_replaced(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", clip={"frames": 8, "stride": 4, "fps": 12.0, "size": 56})
    verdicts = [Verdict("a.mp4", "damaged", reason="frame 3 is lost"), Verdict("b.mp4", "missing")]
    (run / "ledger.json").write_text(ledger_json(verdicts))
    page = tmp_path / "report.html"
    report(ReportConfig((run,), page))
    text = page.read_text(encoding="utf-8")
    assert "all settings, 1 unreadable video, 1 damaged video</summary>" in text
    unread, damaged = text.split("could not be read and were replaced")[1].split("have lost some frames")
    assert ("b.mp4" in unread, "a.mp4" in unread, "a.mp4" in damaged) == (True, False, True)
    assert "8 frames, stride 4 at 12 frames per second, 56² pixels" in text


def test_two_runs_are_never_measured_in_one_folder(scenes: Path, tmp_path: Path) -> None:
    runs = made_run(tmp_path / "a", seed=0), made_run(tmp_path / "b", seed=1)
    lists = ReportData(scenes / "train.txt", scenes / "test.txt")
    with pytest.raises(UserError, match="x/y_z, x_y/z would be measured in one folder"):
        report(ReportConfig(runs, tmp_path / "r.html", lists, names=("x/y_z", "x_y/z")))


def test_letters_that_no_font_has_are_told_as_one_fact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts: list[str] = []
    monkeypatch.setattr(figures, "note", lambda text, about: facts.append(about))
    names = ["\N{EGYPTIAN HIEROGLYPH A001}", "\N{EGYPTIAN HIEROGLYPH A002}"]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        draw_confusion(np.eye(2, dtype=np.int64), names, tmp_path / "confusion.png")
    assert told == []
    assert set(facts) == {"letters of figures"}


def test_a_line_of_one_point_is_visible() -> None:
    def drawn(steps: list[float]) -> str:
        return line_chart([("a", "#123456", steps, [1.0] * len(steps))], title="", y_label="", description="")

    assert "fill: #123456" in drawn([1])
    assert "fill: #123456" not in drawn([float(step) for step in range(50)]), "a long line needs no dots"


def test_bars_of_runs_are_grouped_and_a_missing_one_is_left_out() -> None:
    values = {("moco", "clip"): [0.5], ("moco", "static"): [0.4], ("other", "clip"): [0.7]}
    svg = bar_chart(["clip", "static"], ["moco", "other"], values, {}, title="", chance=None, description="")
    assert [f">{number}<" in svg for number in (50, 40, 70)] == [True] * 3
    assert "chance" not in svg


def test_names_are_neither_formulas_nor_markup() -> None:
    name = r"$\bad$ a$b$c [/x] _y"
    svg = bar_chart([name], [name], {(name, name): [0.5]}, {}, title=name, chance=None, description="")
    assert "a$b$c [/x] _y" in svg


def test_the_headline_is_a_result_and_compares_no_losses_of_different_methods(runs: Path) -> None:
    records = [read_run(runs / folder, name) for folder, name in ((BOLD, "dsm"), ("moco", "moco"))]

    def row(run: str, value: float, low: float, high: float) -> Row:
        return Row(run, 0, "unseen", "R@1", value, low, high, 100)

    assert _result(records, [row("moco", 0.4, 0.3, 0.5), row("dsm", 0.7, 0.6, 0.8)]) == (
        "On unseen, the nearest training video is of the same class (R@1) for 70.0% of the videos with dsm, "
        "40.0% with moco."
    )
    assert "loss" not in _progress(records)
    near = _result(records, [row("moco", 0.6, 0.5, 0.7), row("dsm", 0.7, 0.6, 0.8)])
    assert "The interval of dsm overlaps that of moco: the order is uncertain." in near
    unknown = [Row(run, 0, "unseen", "R@1", 0.5, None, None, 100) for run in ("moco", "dsm")]
    assert "Without intervals, the order is uncertain." in _result(records, unknown)
    assert _heading(records, unknown) == "2 runs side by side"
    assert "loss" in _progress(records[:1])


@pytest.mark.parametrize("verb", ["pretrain", "finetune"])
def test_settings_of_runs_are_told_by_flags_that_exist(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    listed, out = Path("list.txt"), Path("out")
    made = {
        "pretrain": PretrainConfig(DataConfig(listed), out),
        "finetune": FinetuneConfig(data=FinetuneData(listed), out=out),
    }
    config = plain(made[verb])
    record = RunRecord("one", Path("one"), "", {}, None, config, [], [], [])
    with pytest.raises(SystemExit):
        main.run([verb, "--help-all"])
    told = capsys.readouterr().out
    for flag in record.settings:
        flag = flag.replace("METHOD.", f"{record.method}.")
        assert re.search(rf"--{re.escape(flag)}[ ,\n]", told), flag
