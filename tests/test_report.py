"""``dsm report``: a page of real small runs, compared, opened in a browser; what was measured is kept."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browser import opened
from runs import CLIP, small_run
from test_cli import refused

from dsm.analyse.alt_texts import picture_told
from dsm.analyse.figures import COLOURS, film_strip, looks_of
from dsm.analyse.result_tables import result_tables, seed_tables
from dsm.analyse.run_record import differences, over_seeds, read_run, short_names
from dsm.commands.report import ReportConfig, ReportData, report
from dsm.commands.report_measure import MEASURES
from dsm.datasets.lists import VideoList, read_list, write_list
from dsm.engine.finetune import FinetuneConfig, FinetuneData, finetune
from dsm.engine.optim import OptimConfig
from dsm.engine.pretrain import pretrain
from dsm.engine.runfolder import read_gradients
from dsm.errors import UserError
from dsm.evaluate.results import Row, read_results, write_results

BOLD = "<b>"
"""The name of a run that is up to no good."""


@pytest.fixture(scope="session")
def runs(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretraining with `dsm`, one with `moco` of another seed, and a fine-tuning."""
    out = tmp_path_factory.mktemp("runs")
    first = pretrain(small_run(scenes, out / BOLD, log_every=2))
    pretrain(small_run(scenes, out / "moco", method="moco", seed=1, log_every=2))
    finetune(
        FinetuneConfig(
            data=FinetuneData(scenes / "train.txt", batch_size=8, workers=0), out=out / "tuned",
            backbone="tiny", weights=str(first), steps=6, clip=CLIP, log_every=1,
            optim=OptimConfig("adamw", lr=1e-3, warmup=2),
        )
    )  # fmt: skip
    return out


@pytest.fixture(scope="session")
def data(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> ReportData:
    """Lists of three classes of four videos each."""
    out = tmp_path_factory.mktemp("lists")
    videos = read_list(scenes / "train.txt")
    found = np.concatenate([np.flatnonzero(videos.labels == label)[:4] for label in range(3)])
    for name, places in (("train", found), ("test", found[::-1])):
        paths = [videos.paths[place] for place in places]
        write_list(
            out / f"{name}.txt", VideoList(paths, videos.labels[places], videos.frames[places], scenes)
        )
    return ReportData(out / "train.txt", out / "test.txt", scenes, workers=0)


@pytest.fixture(scope="session")
def measured(runs: Path, data: ReportData, tmp_path_factory: pytest.TempPathFactory) -> ReportConfig:
    """A report of the pretrained and the fine-tuned run, everything measured."""
    out = tmp_path_factory.mktemp("report") / "report.html"
    config = ReportConfig((runs / BOLD, runs / "tuned"), out, data, windows=1, shown=2, maps=1)
    report(config)
    return config


def page_of(config: ReportConfig) -> str:
    return config.out.read_text(encoding="utf-8")


def test_a_page_holds_every_run_and_in_what_they_differ(runs: Path, tmp_path: Path) -> None:
    config = ReportConfig((runs / BOLD, runs / "moco"), tmp_path / "report.html")
    report(config)
    page = page_of(config)
    assert "2 runs side by side" in page
    records = [read_run(folder, folder.name) for folder in config.runs]
    told = dict(differences(records))
    assert told["method"] == ["dsm", "moco"]
    assert told["seed"] == ["0", "1"]
    assert "backbone" not in told
    assert all(f'<th scope="row">{name}' in page for name in told)
    assert page.count("<svg role") >= 8
    told = re.findall(r'alt="The gradient of [^"]*"', page)
    for run, line in zip((BOLD, "moco"), told, strict=True):
        last = read_gradients(runs / run)[-1]
        sizes = {name: found[0] for name, found in last["layers"].items()}
        most, least = max(sizes, key=sizes.__getitem__), min(sizes, key=sizes.__getitem__)
        assert f"At step {last['step']} its mean size is greatest in {most} ({sizes[most]:.1e})" in line
        assert f"least in {least} ({sizes[least]:.1e})" in line
    assert page.count('<svg role="img" aria-label="') == page.count("<svg role")


def test_the_page_holds_everything_itself_and_a_name_is_only_a_name(measured: ReportConfig) -> None:
    page = page_of(measured)
    assert "&lt;b&gt;" in page
    # In the head of a table, a summary, the caption of a clip: never as it is.
    assert not re.search(r"(<th[^>]*>|<summary>|figcaption>|<h3>|</svg>)\s*<b>\s*</", page)
    assert page.count(BOLD) == page.count("<b>✓</b>") + page.count("<b>✗</b>")
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page)
    assert len(page) < 25e6


@pytest.mark.parametrize("width", [390, 1200])
def test_it_opens_in_a_browser_without_an_error(measured: ReportConfig, tmp_path: Path, width: int) -> None:
    page = measured.out.read_text(encoding="utf-8")
    # The page tells how wide it came out, so that a part that is too wide for a phone is seen.
    probe = tmp_path / "page.html"
    script = "document.body.dataset.reach = document.documentElement.scrollWidth <= innerWidth"
    probe.write_text(page.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    found, errors = opened(probe, width=width)
    assert not errors
    assert 'data-reach="true"' in found
    assert re.search(r'<video[^>]*tabindex="0"', found)


@pytest.mark.parametrize("stopped", [True, False])
def test_stopped_clips_stay_so_in_the_embedding_too(
    measured: ReportConfig, tmp_path: Path, stopped: bool
) -> None:
    press = 'document.getElementById("still").click();' if stopped else ""
    script = f"""<script>{press}
    document.querySelector(".embedding .maps svg").dispatchEvent(new Event("focus"));
    document.body.dataset.dot = document.querySelector(".told video").autoplay;
    </script>"""
    page = tmp_path / "page.html"
    page.write_text(page_of(measured).replace("</body>", script + "</body>"), encoding="utf-8")
    found, errors = opened(page)
    assert not errors
    assert f'data-dot="{str(not stopped).lower()}"' in found


def test_all_that_was_asked_for_is_measured(measured: ReportConfig) -> None:
    page = page_of(measured)
    base = measured.out.with_suffix("")
    assert sorted(path.name for path in (base / BOLD).iterdir() if path.is_dir()) == sorted(
        name
        for name in MEASURES
        if name not in ("test", "embedding")  # for classifiers; of all runs together
    )
    assert (base / "tuned" / "test" / "results.json").exists()
    for metric in ("R@1", "linear_probe", "top1", "map_mass_on_motion", "scene_reliance"):
        assert f'<th scope="row">{metric.replace("_", "_<wbr>")}' in page, metric
    assert "effective rank" in page
    table = result_tables(read_results(base / BOLD / "retrieval" / "results.json"))[0]
    cell = table.lines[0][2][0]
    assert cell
    assert re.search(f"<td[^>]*>{cell.value} <small>{cell.spread}</small></td>", page)
    assert page.count("<video ") == 2 * 2 * 6 + 3  # queries with neighbours; a clip with two maps
    assert page.count('alt="One test video in all variants') == 1
    bars, classes = (re.findall(rf'alt="{words} [^"]*"', page) for words in ("Accuracy by", "Each class by"))
    for run, told in zip((BOLD, "tuned"), bars, strict=True):
        (clip,) = [
            row for row in read_results(base / run / "bias" / "results.json") if row.metric == "acc_clip"
        ]
        assert f"clip {clip.value:.0%}, static" in told
    assert all("of 3 classes, single frames tell" in told for told in classes)
    assert len(classes) == 2


def test_what_cannot_be_read_is_left_out_of_every_part_and_named(
    runs: Path, data: ReportData, tmp_path: Path
) -> None:
    assert data.test
    assert data.root
    videos = read_list(data.test, data.root)
    (tmp_path / "gone.mp4").write_bytes(b"no video")
    paths = [str(data.root / path) for path in videos.paths]
    paths[0] = str(tmp_path / "gone.mp4")
    listed = VideoList(paths, videos.labels, videos.frames, tmp_path)
    write_list(tmp_path / "test.txt", listed)
    config = ReportConfig(
        (runs / BOLD, runs / "tuned"), tmp_path / "report.html", windows=1, shown=1, maps=12,
        data=replace(data, test=tmp_path / "test.txt"), measures=("retrieval", "test", "bias"),
    )  # fmt: skip
    report(config)
    page = page_of(config)
    assert '<a href="#left">Left out</a>' in page
    left = re.findall(r"<li>([^<]*gone\.mp4[^<]*)</li>", page)
    assert [line.split(": ")[:3] for line in left] == [
        ["&lt;b&gt;", "bias/test", "1 cannot be read"],
        ["&lt;b&gt;", "test.npz", "1 cannot be read"],
        ["tuned", "bias/test", "1 cannot be read"],
        ["tuned", "test/probabilities.npz", "1 cannot be read"],
        ["tuned", "test.npz", "1 cannot be read"],
    ]
    assert '<h2 id="bias">' in page
    assert page.count('aria-label="the clip') == 11  # of all the others


def test_a_second_call_takes_what_is_there_and_does_what_is_missing(measured: ReportConfig) -> None:
    base = measured.out.with_suffix("")
    shutil.rmtree(base / BOLD / "probe")
    (base / "tuned" / "look" / "look.csv").unlink()  # as if stopped in the midst of it
    with pytest.raises(UserError, match=r"report\.html already exists"):
        report(measured)

    def written() -> dict[Path, int]:
        marks = ("report.json", "measured.json")
        files = (path for path in base.rglob("*") if path.is_file() and path.name not in marks)
        return {path.relative_to(base): path.stat().st_mtime_ns for path in files}

    before = written()
    report(replace(measured, overwrite=True, data=replace(measured.data, workers=1)))
    after = written()
    new = {path.parent for path, at in after.items() if before.get(path) != at}
    assert new == {Path(BOLD, "probe"), Path("tuned", "look")}
    assert before.keys() <= after.keys()


def test_measurements_of_other_weights_are_not_taken(
    measured: ReportConfig, runs: Path, tmp_path: Path
) -> None:
    base = tmp_path / "report"
    shutil.copytree(measured.out.with_suffix(""), base)
    config = replace(
        measured, runs=(runs / "moco",), names=(BOLD,), out=tmp_path / "report.html",
        measures=("retrieval",), maps=0,
    )  # fmt: skip
    with pytest.raises(UserError, match="measurements of other settings"):
        report(config)
    theirs = read_results(base / BOLD / "retrieval" / "results.json")
    report(replace(config, overwrite=True))
    assert read_results(base / BOLD / "retrieval" / "results.json") != theirs
    assert not (base / BOLD / "bias").exists()


def test_curves_come_as_a_figure_too(runs: Path, tmp_path: Path) -> None:
    for name, begin in (("curves.pdf", b"%PDF"), ("curves.png", b"\x89PNG")):
        config = ReportConfig((runs / BOLD, runs / "moco"), tmp_path / f"{name}.html", curves=tmp_path / name)
        report(config)
        assert (tmp_path / name).read_bytes().startswith(begin)


def test_results_that_are_there_are_shown(runs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "earlier"
    write_results(
        folder / "results.json", [Row("<i>", 0, "unseen", "R@1", 0.625, 0.5, 0.75, 8)], command="dsm x"
    )
    film_strip(folder / "strip.png", [("a", np.zeros((2, 8, 8, 3), np.uint8))])
    config = ReportConfig((runs / "moco",), tmp_path / "report.html", results=(folder,))
    report(config)
    page = page_of(config)
    assert "62.5 <small>50–75</small>" in page
    assert "&lt;i&gt;" in page
    assert "<i>" not in page
    assert 'alt="strip.png of earlier, whose results are &lt;i&gt;, unseen: R@1 0.625"' in page


def test_pictures_are_told_by_their_numbers(tmp_path: Path) -> None:
    def row(run: str, test: str, metric: str, value: float) -> Row:
        return Row(run, 0, test, metric, value, None, None, 8)

    rows = [
        row("dsm", "test", "acc_clip", 0.8),
        row("dsm", "test", "acc_no_foreground", 0.25),
        row("dsm", "test", "scene_reliance", 0.1),
        row("dsm", "test_conflict", "acc_clip", 0.5),
        row("moco", "test", "acc_clip", 0.7),
    ]
    told = "Accuracy by variant. dsm: clip 80%, no foreground 25%; moco: clip 70%"
    assert picture_told(tmp_path / "bars.png", rows) == told
    assert "moco, test: acc_clip 0.7" in picture_told(tmp_path / "other.png", rows)
    (tmp_path / "classes.csv").write_text(
        "weights,class,videos,acc_clip,acc_static,relative_gain\n"
        "dsm,walk,4,1,0.25,3.5\ndsm,run,4,0.5,0.5,0\ndsm,swim,4,1,1,-0.1\n"
    )
    assert picture_told(tmp_path / "bias.png", rows) == (
        "Each class by single frames and by the clip. dsm: of 3 classes, single frames tell 25% (walk) to "
        "100% (swim), and the clip does 0.9 (swim) to 4.5 (walk) times as well"
    )
    assert picture_told(tmp_path / "confusion.png", rows).startswith("confusion.png of")  # not of dsm test
    (tmp_path / "classes.csv").write_text(
        "class,videos,top1,most often taken for\nwalk,4,0.25,run\nrun,4,1.0,\n"
    )
    assert picture_told(tmp_path / "confusion.png", rows) == (
        "Which class is taken for which: of 2, best is run (100% right), worst walk (25% right, most often "
        "taken for run)"
    )


def test_a_run_that_is_being_written_can_be_shown(runs: Path, tmp_path: Path) -> None:
    run = shutil.copytree(runs / "moco", tmp_path / "moco")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 14, "lo')
    report(ReportConfig((run,), tmp_path / "report.html"))
    assert "12 of 12" in page_of(ReportConfig((run,), tmp_path / "report.html"))


def test_a_config_of_another_make_is_shown_as_it_is(runs: Path, tmp_path: Path) -> None:
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
    assert "clip 3" in page_of(config)


def test_names_tell_runs_apart(tmp_path: Path) -> None:
    def named(*paths: str) -> list[str]:
        return short_names([tmp_path / path for path in paths])

    assert named("a", "b") == ["a", "b"]
    assert named("moco/run", "dsm/run") == ["moco", "dsm"]
    assert named("x/moco", "y/moco", "y/dsm") == ["x/moco", "y/moco", "y/dsm"]
    with pytest.raises(UserError, match="given twice"):
        named("a", "b/../a")


def test_seeds_of_one_experiment_are_told_together(runs: Path) -> None:
    one = read_run(runs / "moco", "moco-1")
    two = replace(one, name="moco-2", config={**one.config, "seed": 2, "out": "elsewhere"})
    other = read_run(runs / BOLD, "dsm")
    groups = over_seeds([one, two, other])
    assert groups == {"moco-1": "moco, 2 seeds", "moco-2": "moco, 2 seeds"}
    rows = [Row(name, 0, "test", "R@1", value, 0, 1, 9) for name, value in
            (("moco-1", 0.5), ("moco-2", 0.7), ("dsm", 0.9))]  # fmt: skip
    (table,) = seed_tables(rows, groups)
    assert table.runs == ["moco, 2 seeds"]
    cell = table.lines[0][2][0]
    assert cell
    assert (cell.value, cell.spread) == ("60.0", "± 14.1")


def test_mistakes_are_told_in_one_sentence(
    runs: Path,
    data: ReportData,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def told(*words: object) -> str:
        return refused(capsys, monkeypatch, "report", *words, "--out", tmp_path / "report.html")

    (tmp_path / "photographs").mkdir()
    assert "is no run of dsm" in told(tmp_path / "photographs")
    assert "no such folder" in told(tmp_path / "nothing")
    silent = shutil.copytree(runs / "moco", tmp_path / "silent")
    (silent / "metrics.jsonl").unlink()
    assert "has logged no step" in told(silent)
    assert data.train
    assert data.root
    paths = read_list(data.train, data.root).paths
    (tmp_path / "bare.txt").write_text("".join(f"{path}\n" for path in paths))
    lists = ("--data.train", data.train, "--data.root", data.root)
    assert "have no label" in told(runs / "moco", *lists, "--data.test", tmp_path / "bare.txt")
    assert "takes both" in told(runs / "moco", *lists)
    assert "holds no results" in _with_results(tmp_path, {"rows": [{"run": 3}]}, told, runs / "moco")
    assert "one run folder or more" in told()
    assert not (tmp_path / "report.html").exists()
    assert not (tmp_path / "report").exists()


def _with_results(folder: Path, content: object, told, run: Path) -> str:  # type: ignore[no-untyped-def]
    (folder / "strange").mkdir()
    (folder / "strange" / "results.json").write_text(json.dumps(content))
    return str(told(run, "--results", folder / "strange"))


def test_a_method_has_its_colour_everywhere() -> None:
    names = ["mine", "dsm-triplet-0", "moco", "dsm-seed1", "dsm-seed2", "dsmall", "random weights"]
    looks = dict(zip(names, looks_of(names), strict=True))
    for name, method in (("moco", "moco"), ("dsm-seed1", "dsm"), ("dsm-triplet-0", "dsm-triplet")):
        assert looks[name].colour == COLOURS[method]
    assert looks["random weights"].colour == COLOURS["random"]
    assert looks["dsm-seed2"] != looks["dsm-seed1"]
    assert looks["dsm-seed2"].colour == COLOURS["dsm"]
    assert not {looks["mine"].colour, looks["dsmall"].colour} & set(COLOURS.values())
