"""``dsm retrieve``: recall of queries in a gallery."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.markup import escape
from rich.table import Table

from dsm.errors import UserError
from dsm.evaluate.feature_files import load_features
from dsm.evaluate.features import Features, numbered_alike
from dsm.evaluate.retrieval import KS, Retrieval, average_precision, chance, kept_apart, recall_rows
from dsm.evaluate.retrieval import retrieve as nearest_of_each
from dsm.files import csv_text, write_text
from dsm.intervals import share_interval
from dsm.pages.tables import bar_of
from dsm.runs.claims import claim_files
from dsm.runs.results import RESULTS, Row, row_of, run_and_seed, write_results
from dsm.settings import takes_settings
from dsm.terminal import many, warn
from dsm.verbs.result import Result
from dsm.verbs.settings.evaluation import RetrieveConfig

FILES = (RESULTS, "neighbours.tsv", "classes.csv", "gallery.html")
LISTED = 10
"""Number of neighbours written for each query."""
MOST_RANKED = 10**9
"""Most similarities that are ranked for the mean average precision; they take some minutes."""


@takes_settings(RetrieveConfig)
def retrieve(config: RetrieveConfig) -> Result:
    """Search for each query in the gallery; write recall, every query's neighbours, and some of the clips."""
    files = [config.out / name for name in FILES]
    claim_files(*files, overwrite=config.overwrite)
    gallery = load_features(config.gallery)
    same = config.queries.exists() and config.queries.samefile(config.gallery)
    queries = gallery if same else load_features(config.queries)
    gallery.need_pooled(config.gallery, "dsm retrieve")
    queries.need_pooled(config.queries, "dsm retrieve")
    queries = numbered_alike(gallery, queries, (str(config.gallery), str(config.queries)))
    groups = queries.groups(config.grouping)
    across = None
    if config.across_groups:
        of_gallery = gallery.groups(config.grouping)
        across = (of_gallery, groups) if of_gallery and groups else None
    apart = kept_apart(gallery, queries, across)
    retrieval = nearest_of_each(gallery, queries, apart=apart)

    run, seed = run_and_seed(queries.meta)
    test = str(queries.meta.get("list", "queries"))
    labelled = gallery.labelled and queries.labelled
    rows = recall_rows(run, seed, test, retrieval, groups=groups) if labelled else []
    precision = None
    if not labelled:
        rows += _without_labels((run, seed, test), config, (gallery, queries), retrieval)
    elif len(gallery) * len(queries) <= MOST_RANKED:
        precision = average_precision(gallery, queries, apart)
        known = np.flatnonzero(np.isfinite(precision))
        if len(known):
            of_known = [groups[place] for place in known] if groups else None
            rows.append(
                row_of(run, seed, test, "mAP", share_interval(precision[known], groups=of_known), len(known))
            )
    else:
        warn("mAP is left out: it ranks the whole gallery for every query, which would take too long here.")
    write_results(files[0], rows)
    write_text(files[1], _neighbours_tsv(gallery, queries, retrieval))
    if labelled:
        write_text(files[2], _classes_csv(gallery, queries, retrieval, precision))
    else:
        files[2].unlink(missing_ok=True)  # of earlier results
    table = _table(
        rows,
        [chance(gallery, queries, apart, k) for k in KS] if labelled else [],
        f"{run}: {many(len(queries), 'query', 'queries')} in {many(len(gallery), 'video')}",
    )
    alone = ["a video does not count among its own neighbours"] if apart is not None and not across else []
    if not labelled:
        alone.append("not every video has a label, so R@k, mAP and the numbers per class are left out")
    of_one = next((row for row in rows if row.metric == "R@1"), None)
    recall = of_one and bar_of(f"{run}, R@1", of_one.measured)
    by_chance = chance(gallery, queries, apart, 1) if labelled else None
    if not config.shown or not _draw_gallery(
        files[3], (gallery, queries, retrieval, config.shown), recall=recall, chance=by_chance
    ):
        files[3].unlink(missing_ok=True)
    written = [file for file in files if file.exists()]
    return Result(
        rows, written, [table] if rows else [], [*alone, f"written: {', '.join(map(str, written))}"]
    )


def _without_labels(
    named: tuple[str, int, str], config: RetrieveConfig, of: tuple[Features, Features], retrieval: Retrieval
) -> list[Row]:
    """What needs no labels: the share of queries whose nearest neighbour is of their own group."""
    if not config.grouping.given or config.across_groups or not retrieval.neighbours.shape[1]:
        return []
    of_gallery, own = (one.groups(config.grouping) for one in of)
    assert of_gallery is not None
    assert own is not None
    nearest = retrieval.neighbours[:, 0]
    same = np.array([at >= 0 and of_gallery[at] == own[row] for row, at in enumerate(nearest.tolist())])
    return [row_of(*named, "same_group", share_interval(same, groups=own), len(same))]


def _draw_gallery(file: Path, of: tuple[Features, Features, Retrieval, int], **numbers: Any) -> bool:
    from dsm.pages.gallery import write_gallery

    try:
        write_gallery(file, *of, **numbers)
    except UserError as error:
        warn(f"no gallery of clips: {error}")
        return False
    return True


def _table(rows: Sequence[Row], by_chance: Sequence[float], title: str) -> Table:
    table = Table(title=escape(title))
    for name in ("", *(row.metric for row in rows)):
        table.add_column(name, justify="right")
    table.add_row("found", *(f"{row.value:.1%}" for row in rows))
    table.add_row("95 %", *(row.interval("{:.0%}–{:.0%}") for row in rows))
    table.add_row("chance", *(f"{value:.1%}" for value in by_chance))
    return table


def _neighbours_tsv(gallery: Features, queries: Features, retrieval: Retrieval) -> str:
    lines = ["query\tlabel\tneighbours (path:label:cosine), nearest first\n"]
    for row, path in enumerate(queries.paths):
        near = (
            f"{gallery.paths[place]}:{gallery.labels[place]}:{cosine:.4f}"
            for place, cosine in zip(
                retrieval.neighbours[row, :LISTED], retrieval.similarities[row, :LISTED], strict=True
            )
            if place >= 0
        )
        lines.append(f"{path}\t{queries.labels[row]}\t" + "\t".join(near) + "\n")
    return "".join(lines)


def _classes_csv(
    gallery: Features, queries: Features, retrieval: Retrieval, precision: NDArray[np.float64] | None
) -> str:
    """One line per class: its queries, its gallery videos, R@1, R@5 and mean average precision."""
    lines = [["label", "queries", "in gallery", "R@1", "R@5", "mAP"]]
    for label in np.unique(queries.labels):
        own = queries.labels == label
        known = precision is not None and np.isfinite(precision[own]).any()
        mean = f"{np.nanmean(precision[own]):.4f}" if precision is not None and known else ""
        recalls = (f"{retrieval.recall(k)[own].mean():.4f}" for k in (1, 5))
        lines.append([str(label), str(own.sum()), str((gallery.labels == label).sum()), *recalls, mean])
    return csv_text(lines)
