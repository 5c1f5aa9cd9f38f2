"""A bias report as rows, tables and text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dsm.analyse.bias import NUMBERS, Judged, accuracy, class_shares, four_numbers, skilled
from dsm.evaluate.results import Row, row_of
from dsm.files import csv_text
from dsm.notes import many

ACCURACY = "acc_"
"""Before a variant's name, in the names of metrics."""


def rows_of(judged: Mapping[str, Judged], *, test: str, seeds: Mapping[str, int]) -> list[Row]:
    """Accuracies of all variants there are and, where all are there, the four numbers.

    A number that cannot be told (:func:`dsm.analyse.bias.four_numbers`) has no row.
    """
    rows = []
    for run, one in judged.items():
        found = {ACCURACY + variant: accuracy(one, variant) for variant in one.probabilities}
        if len(one.probabilities) > 1:
            numbers = four_numbers(one)
            found |= {name: value for name, value in numbers.items() if value is not None}
        rows += [row_of(run, seeds[run], test, name, value, len(one.labels)) for name, value in found.items()]
    return rows


def classes_csv(judged: Mapping[str, Judged], names: Sequence[str]) -> str:
    """A line for each of the weights and each class: videos, accuracy in each variant, relative gain."""
    lines: list[list[str]] = []
    for run, one in judged.items():
        for share in class_shares(one):
            each = [f"{value:.4f}" for value in share.accuracy.values()]
            lines.append([run, names[share.label], str(share.videos), *each, f"{share.gain:.4f}"])
    variants = next(iter(judged.values())).probabilities
    header = ["weights", "class", "videos", *(ACCURACY + name for name in variants), "relative_gain"]
    return csv_text([header, *lines])


def predictions_csv(
    judged: Mapping[str, Judged], paths: Mapping[str, Sequence[str]], names: Sequence[str]
) -> str:
    """A line for each of the weights and each video: its class, whose scene came behind it, what was said.

    ``paths``: of the videos that each of the weights was asked about.
    """
    lines: list[list[str]] = []
    for run, one in judged.items():
        said = [one.said(variant) for variant in one.probabilities]
        for place, path in enumerate(paths[run]):
            its = [names[labels[place, 0]] for labels in said]
            lines.append([run, path, names[one.labels[place]], paths[run][one.others[place, 0]], *its])
    variants = next(iter(judged.values())).probabilities
    return csv_text([["weights", "path", "class", "background_of", *variants], *lines])


def print_table(rows: Sequence[Row], judged: Mapping[str, Judged], *, test: str) -> None:
    """A column for each of the weights: accuracies, then the four numbers, with their intervals."""
    of = {(row.run, row.test, row.metric): row for row in rows}
    table = Table(title=escape(f"{test}: {many(len(next(iter(judged.values())).labels), 'video')}"))
    table.add_column("")
    for run in judged:
        table.add_column(escape(run), justify="right")

    def add(name: str, test: str, metric: str) -> None:
        table.add_row(name, *(_cell(of.get((run, test, metric))) for run in judged))

    for variant in next(iter(judged.values())).probabilities:
        add(variant, test, ACCURACY + variant)
        if variant == "clip":
            for other in dict.fromkeys(row.test for row in rows if row.test != test):
                add(f"clip of {other}", other, ACCURACY + variant)
    table.add_row("chance", *(f"{one.chance:.1%}" for one in judged.values()), end_section=True)
    for number in NUMBERS:
        add(number.replace("_", " "), test, number)
    console = Console()
    console.print(table)
    for run, one in judged.items():
        if not skilled(one):
            console.print(
                escape(f"{run}: not clearly better than chance, so there is no skill to share out.")
            )


def _cell(row: Row | None) -> str:
    if row is None:
        return "–"
    if row.low is None or row.high is None:
        return f"{row.value:.1%}"
    return f"{row.value:.1%} \\[{row.low:.0%}, {row.high:.0%}]"
