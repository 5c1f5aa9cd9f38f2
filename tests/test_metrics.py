"""Every number of ``results.json`` is written in one form everywhere, and reports say what it means."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from dsm.evaluate.bias import NUMBERS
from dsm.evaluate.embedding import numbers_of
from dsm.evaluate.features import Features
from dsm.evaluate.unlabelled import DIMENSIONS, OF_SHARED_PLACES
from dsm.evaluate.variants import VARIANTS
from dsm.pages.embedding import number_table
from dsm.pages.tables import by_subject, cell_of, result_tables
from dsm.runs.metrics import ACCURACY, COUNT, METRICS, RANK, SCORE, SHARE, metric_of
from dsm.runs.results import Row, rows_table


def row(metric: str, value: float, low: float | None = None, high: float | None = None) -> Row:
    return Row("mine", 0, "test", metric, value, low, high, 40)


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("R@5", 0.712, "71.2%"),
        ("clusters", 7, "7"),
        ("monitor/unread", 1200, "1,200"),
        ("label_silhouette", -0.123, "-0.12"),
        ("effective_rank", 12.34, "12.3"),
        ("train/loss", 1.2345, "1.23"),
        ("balance", -0.98, "-0.98"),
        ("label_agreement_chance", 0.1, "10.0%"),
        ("hat_swap_same_ratio_by_motion", 0.5, "50.0%"),
        ("named by somebody else", 0.5, "50.0%"),
    ],
)
def test_a_number_is_written_alike_in_a_terminal_and_on_pages(metric: str, value: float, text: str) -> None:
    one = row(metric, value)
    assert one.texts == (text, "")
    printed = io.StringIO()
    Console(file=printed, width=200).print(rows_table([one]))
    assert printed.getvalue().split()[-1] == text
    cell = cell_of([one], best=False)
    assert cell is not None
    assert cell.value == text.removesuffix("%")  # a page's head says that shares are in %
    lines = number_table([one, row("label_agreement", value)] if metric.endswith("_chance") else [one])
    assert lines[0].cells["mine"].value == text


def test_intervals_have_the_form_of_their_number() -> None:
    assert row("R@1", 0.5, 0.4, 0.6).texts == ("50.0%", "[40.0%, 60.0%]")
    assert row("balance", 0.5, 0.4, 0.6).texts == ("0.50", "[0.40, 0.60]")


def test_reports_explain_what_verbs_write() -> None:
    rng = np.random.default_rng(0)
    features = Features(
        rng.normal(size=(20, 4)).astype(np.float32), np.arange(20) % 2, list("abcdefghijklmnopqrst")
    )
    embedded = numbers_of(features, {"label": list("ab" * 10)}, named=("mine", 0, "test"))
    names = [one.metric for one in embedded]
    names += [
        *NUMBERS,
        *(f"dimensions_{kind}" for kind in DIMENSIONS),
        *OF_SHARED_PLACES,
        "R@1",
        "R@20",
        "place_neighbour_chance",
    ]
    for name in names:
        assert metric_of(name).meaning, name
    assert all(metric.meaning and metric.form in (SHARE, SCORE, RANK, COUNT) for metric in METRICS.values())
    assert all(metric_of(f"{ACCURACY}{variant}").subject == "scene" for variant in VARIANTS)
    assert metric_of("R@1").meaning == "the nearest training video is of the same class"
    assert metric_of("R@5").meaning == "one of the 5 nearest training videos is of the same class"
    assert metric_of("R@1_chance").meaning == "expected by chance"


def test_the_best_of_several_runs_is_marked_where_higher_is_better() -> None:
    names = ("R@1", "train/loss", "actor_left")
    rows = [
        Row(run, 0, "test", name, of, None, None, 9) for name in names for run, of in (("a", 0.2), ("b", 0.4))
    ]
    (table,) = result_tables(rows)
    marked = {metric: [cell is not None and cell.best for cell in cells] for metric, _, cells in table.lines}
    assert marked == {"R@1": [False, True], "train/loss": [False, False], "actor_left": [False, False]}
    quality, looks, scene = by_subject(rows)
    assert {one.metric for one in quality} == {"R@1", "train/loss"}
    assert not looks
    assert {one.metric for one in scene} == {"actor_left"}
