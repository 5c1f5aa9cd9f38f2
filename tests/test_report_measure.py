"""``dsm report`` with lists: what it measures, keeps and leaves out; its page opened in a browser."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browser import opened
from runs import BOLD
from test_cli import refused

from dsm.data.lists import VideoList, read_list, write_list
from dsm.data.settings import Grouping
from dsm.errors import UserError
from dsm.pages.tables import result_tables
from dsm.runs.results import read_results
from dsm.verbs.report import report
from dsm.verbs.settings.evaluation import MEASURES, ReportConfig, ReportData


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


def test_the_page_is_self_contained_and_escapes_names(measured: ReportConfig) -> None:
    page = measured.out.read_text(encoding="utf-8")
    assert "&lt;b&gt;" in page
    # In a table's head, a summary, a clip's caption: always escaped.
    assert not re.search(r"(<th[^>]*>|<summary>|figcaption>|<h3>|</svg>)\s*<b>\s*</", page)
    assert page.count(BOLD) == page.count("<b>✓</b>") + page.count("<b>✗</b>")
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page)
    assert len(page) < 25e6


@pytest.mark.parametrize("width", [390, 1200])
def test_the_report_opens_in_a_browser_without_errors(
    measured: ReportConfig, tmp_path: Path, width: int
) -> None:
    page = measured.out.read_text(encoding="utf-8")
    # The page reports its width, so that a part that is too wide for a phone is noticed.
    changed = tmp_path / "page.html"
    script = "document.body.dataset.reach = document.documentElement.scrollWidth <= innerWidth"
    changed.write_text(page.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    found, errors = opened(changed, width=width)
    assert not errors
    assert 'data-reach="true"' in found
    assert re.search(r'<video[^>]*tabindex="0"', found)


@pytest.mark.parametrize("stopped", [True, False])
def test_stopped_clips_stay_stopped_in_the_embedding(
    measured: ReportConfig, tmp_path: Path, stopped: bool
) -> None:
    press = 'document.getElementById("still").click();' if stopped else ""
    script = f"""<script>{press}
    document.querySelector(".embedding .maps svg").dispatchEvent(new Event("focus"));
    document.body.dataset.dot = document.querySelector(".told video").autoplay;
    </script>"""
    page = tmp_path / "page.html"
    page.write_text(
        measured.out.read_text(encoding="utf-8").replace("</body>", script + "</body>"), encoding="utf-8"
    )
    found, errors = opened(page)
    assert not errors
    assert f'data-dot="{str(not stopped).lower()}"' in found


def test_everything_requested_is_measured(measured: ReportConfig) -> None:
    page = measured.out.read_text(encoding="utf-8")
    base = measured.out.with_suffix("")
    assert sorted(path.name for path in (base / BOLD).iterdir() if path.is_dir()) == sorted(
        name
        for name in MEASURES
        if name not in ("test", "embedding")  # for classifiers; for all runs together
    )
    assert (base / "tuned" / "test" / "results.json").exists()
    for metric in ("R@1", "linear_probe", "top1", "map_mass_on_motion", "scene_reliance"):
        assert f'<th scope="row">{metric.replace("_", "_<wbr>")}' in page, metric
    assert "effective rank" in page
    table = result_tables(read_results(base / BOLD / "retrieval" / "results.json"))[0]
    cell = table.lines[0][2][0]
    assert cell
    assert re.search(f"<td[^>]*><span>{cell.value} <small>{re.escape(cell.spread)}</small></span></td>", page)
    assert page.count("<video ") == 2 * 2 * 6 + 3  # queries with neighbours; a clip with two maps
    assert page.count('alt="One test video in all variants') == 1
    (bars,) = re.findall(r'aria-label="Accuracy by variant[.] ([^"]*)"', page)
    classes = re.findall(r'alt="Each class by [^"]*"', page)
    for run, told in zip((BOLD, "tuned"), bars.split("; "), strict=True):
        (clip,) = [
            row for row in read_results(base / run / "bias" / "results.json") if row.metric == "acc_clip"
        ]
        assert f"clip {clip.value:.0%}, static" in told
    assert all("3 classes; single frames reach" in alt for alt in classes)
    assert len(classes) == 2


@pytest.mark.slow
def test_unreadable_videos_are_left_out_of_every_part_and_named(
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
    page = config.out.read_text(encoding="utf-8")
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
    assert page.count('aria-label="the clip') == 11  # in the captions of all other videos


def test_a_second_call_reuses_results_and_measures_the_rest(measured: ReportConfig) -> None:
    base = measured.out.with_suffix("")
    shutil.rmtree(base / BOLD / "probe")
    (base / "tuned" / "look" / "look.csv").unlink()  # as if stopped before it was finished
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


def test_measurements_of_other_weights_are_not_reused(
    measured: ReportConfig, runs: Path, tmp_path: Path
) -> None:
    base = tmp_path / "report"
    shutil.copytree(measured.out.with_suffix(""), base)
    config = replace(
        measured, runs=(runs / "moco",), names=(BOLD,), out=tmp_path / "report.html",
        measures=("retrieval",), maps=0,
    )  # fmt: skip
    with pytest.raises(UserError, match="measurements with other settings"):
        report(config)
    theirs = read_results(base / BOLD / "retrieval" / "results.json")
    report(replace(config, overwrite=True))
    assert read_results(base / BOLD / "retrieval" / "results.json") != theirs
    assert not (base / BOLD / "bias").exists()


def test_measurements_of_other_groups_are_not_reused(runs: Path, data: ReportData, tmp_path: Path) -> None:
    table = tmp_path / "groups.tsv"
    config = ReportConfig(
        (runs / "moco",), tmp_path / "report.html", data, grouping=Grouping(table), windows=1, shown=0,
        maps=0, measures=("retrieval",), overwrite=True,
    )  # fmt: skip
    assert data.train
    assert data.test
    paths = [path for file in (data.train, data.test) for path in read_list(file, data.root).paths]
    intervals = []
    for groups in (paths, [str(paths.index(path) % 6) for path in paths]):
        lines = [f"{path}\t{group}\n" for path, group in zip(paths, groups, strict=True)]
        table.write_text("path\tgroup\n" + "".join(lines))
        report(config)
        row = read_results(tmp_path / "report" / "moco" / "retrieval" / "results.json")[0]
        intervals.append((row.low, row.high))
    assert intervals[0] != intervals[1]


def test_mistakes_raise_one_sentence(
    runs: Path,
    data: ReportData,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def report_error(*words: object) -> str:
        return refused(capsys, monkeypatch, "report", *words, "--out", tmp_path / "report.html")

    (tmp_path / "photographs").mkdir()
    assert "not a run of dsm" in report_error(tmp_path / "photographs")
    assert "no such folder" in report_error(tmp_path / "nothing")
    silent = shutil.copytree(runs / "moco", tmp_path / "silent")
    (silent / "metrics.jsonl").unlink()
    assert "has logged no step" in report_error(silent)
    assert data.train
    assert data.root
    paths = read_list(data.train, data.root).paths
    (tmp_path / "bare.txt").write_text("".join(f"{path}\n" for path in paths))
    lists = ("--data.train", data.train, "--data.root", data.root)
    assert "have no label" in report_error(runs / "moco", *lists, "--data.test", tmp_path / "bare.txt")
    assert "needs both" in report_error(runs / "moco", *lists)
    assert "is not a results file" in _with_results(
        tmp_path, {"rows": [{"run": 3}]}, report_error, runs / "moco"
    )
    assert "at least one run folder" in report_error()
    assert not (tmp_path / "report.html").exists()
    assert not (tmp_path / "report").exists()


def _with_results(folder: Path, content: object, report_error, run: Path) -> str:  # type: ignore[no-untyped-def]
    (folder / "strange").mkdir()
    (folder / "strange" / "results.json").write_text(json.dumps(content))
    return str(report_error(run, "--results", folder / "strange"))
