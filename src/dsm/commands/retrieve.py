"""``dsm retrieve``: recall of queries in a gallery."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from dsm.engine.runfolder import claim_folder, git_revision
from dsm.evaluate.features import load_features
from dsm.evaluate.results import share, write_results
from dsm.evaluate.retrieval import KS, retrieve

RESULTS = "results.json"


@dataclass(frozen=True)
class RetrieveConfig:
    """Settings of `dsm retrieve`."""

    gallery: Path
    """Features to search in (usually the training videos)."""
    queries: Path
    """Features to search for (usually the test videos)."""
    out: Path
    """Folder for results.json and neighbours.tsv."""
    overwrite: bool = False
    """Replace the results in `out`."""


def retrieve_command(config: RetrieveConfig) -> None:
    """Search, print recall beside chance, write the numbers and every query's neighbours."""
    gallery = load_features(config.gallery)
    queries = gallery if config.queries == config.gallery else load_features(config.queries)
    found = retrieve(gallery, queries)
    claim_folder(config.out, overwrite=config.overwrite, marker=RESULTS)
    meta = queries.meta
    run, seed, test = str(meta.get("run", "?")), int(meta.get("seed", 0)), str(meta.get("list", "queries"))
    rows = [share(run, seed, test, f"R@{k}", found.recall(k)) for k in KS]
    write_results(config.out / RESULTS, rows, revision=git_revision())

    lines = ["query\tlabel\tneighbours (path:label:cosine), nearest first\n"]
    for row, path in enumerate(queries.paths):
        near = (
            f"{gallery.paths[place]}:{gallery.labels[place]}:{cosine:.4f}"
            for place, cosine in zip(found.neighbours[row, :10], found.similarities[row, :10], strict=True)
        )
        lines.append(f"{path}\t{queries.labels[row]}\t" + "\t".join(near) + "\n")
    (config.out / "neighbours.tsv").write_text("".join(lines), encoding="utf-8")

    counts = np.bincount(gallery.labels)
    of_label = np.append(counts, 0)[np.minimum(queries.labels, len(counts))]
    table = Table(title=f"{run}: {len(queries)} queries in {len(gallery)} videos")
    for name in ("", *(f"R@{k}" for k in KS)):
        table.add_column(name, justify="right")
    table.add_row("found", *(f"{row.value:.1%}" for row in rows))
    table.add_row("95 %", *(f"{row.low:.1%}–{row.high:.1%}" for row in rows))
    table.add_row("chance", *(f"{(1 - (1 - of_label / len(gallery)) ** k).mean():.1%}" for k in KS))
    Console().print(table)
    Console(stderr=True).print(f"written: {config.out / RESULTS}, {config.out / 'neighbours.tsv'}")
