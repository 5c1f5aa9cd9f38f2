"""A small demo: it finishes, can be stopped and repeated, and its page opens in a real browser."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from browser import opened
from warm_dsm import dsm

from dsm.evaluate.retrieval import KS


def run_demo(out: Path, *more: object) -> subprocess.CompletedProcess[str]:
    return dsm("demo", "--out", out, "--steps", 2, "--videos", 32, "--tests", 10, *more)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "demo"
    done = run_demo(out)
    assert done.returncode == 0, done.stderr
    assert "linear probe" in done.stdout
    return out


def rows_of(out: Path) -> list[dict]:
    return json.loads((out / "results.json").read_text())["rows"]


def test_results_hold_every_run_test_and_metric(finished: Path) -> None:
    rows = rows_of(finished)
    metrics = [*(f"R@{k}" for k in KS), "linear_probe"]
    found = {(row["run"], row["test"], row["metric"]) for row in rows}
    assert found == {
        (run, test, metric)
        for run in ("random", "moco", "dsm")
        for test in ("test", "test_conflict", "test_free")
        for metric in metrics
    }
    for row in rows:
        assert 0 <= row["low"] <= row["value"] <= row["high"] <= 1
        assert row["n"] == 10


@pytest.mark.slow
def test_two_demos_of_the_same_seed_are_equal_to_the_last_digit(finished: Path, tmp_path: Path) -> None:
    done = run_demo(tmp_path / "again", "--workers", 0)
    assert done.returncode == 0, done.stderr
    assert rows_of(tmp_path / "again") == rows_of(finished)


@pytest.mark.slow
def test_a_finished_demo_is_reused_when_a_seed_is_added(finished: Path) -> None:
    checkpoint = next((finished / "runs" / "dsm-seed0" / "checkpoints").glob("*.pt"))
    written = checkpoint.stat().st_mtime_ns
    first = rows_of(finished)
    done = run_demo(finished, "--seeds", 0, 1)
    assert done.returncode == 0, done.stderr
    assert checkpoint.stat().st_mtime_ns == written
    rows = rows_of(finished)
    assert [row for row in rows if row["seed"] == 0] == first
    assert {row["seed"] for row in rows} == {0, 1}
    assert "±" in done.stdout


def test_a_demo_with_other_settings_is_not_overwritten(finished: Path) -> None:
    before = (finished / "results.json").read_bytes()
    done = run_demo(finished, "--videos", 96)
    assert done.returncode == 2
    assert "other settings" in done.stderr
    assert (finished / "results.json").read_bytes() == before


def test_the_page_is_self_contained(finished: Path) -> None:
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page)
    assert page.count("<video") > 20
    assert page.count("<svg") == 5
    assert len(page) < 25e6


def test_the_page_opens_in_a_browser_without_errors(finished: Path) -> None:
    document, errors = opened(finished / "report.html")
    assert 'tabindex="0"' in document  # the page's script finished
    assert not errors
