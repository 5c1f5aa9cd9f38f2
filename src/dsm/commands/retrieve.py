"""``dsm retrieve``: recall of queries in a gallery."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dsm.engine.progress import console
from dsm.engine.runfolder import claim_file, git_revision
from dsm.evaluate.feature_files import load_features
from dsm.evaluate.results import share, write_results
from dsm.evaluate.retrieval import KS, retrieve
from dsm.files import write_text

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
    files = config.out / RESULTS, config.out / "neighbours.tsv"
    for file in files:
        claim_file(file, overwrite=config.overwrite)
    gallery = load_features(config.gallery)
    same = config.queries.exists() and config.queries.samefile(config.gallery)
    queries = gallery if same else load_features(config.queries)
    found = retrieve(gallery, queries)
    meta = queries.meta
    run, test = str(meta.get("run", "?")), str(meta.get("list", "queries"))
    seed = meta["seed"] if isinstance(meta.get("seed"), int) else 0
    rows = [share(run, seed, test, f"R@{k}", found.recall(k)) for k in KS]
    write_results(files[0], rows, revision=git_revision())

    lines = ["query\tlabel\tneighbours (path:label:cosine), nearest first\n"]
    for row, path in enumerate(queries.paths):
        near = (
            f"{gallery.paths[place]}:{gallery.labels[place]}:{cosine:.4f}"
            for place, cosine in zip(found.neighbours[row, :10], found.similarities[row, :10], strict=True)
        )
        lines.append(f"{path}\t{queries.labels[row]}\t" + "\t".join(near) + "\n")
    write_text(files[1], "".join(lines))

    counts = np.bincount(gallery.labels)
    # A query in the gallery is not among its own neighbours.
    of_label = np.append(counts, 0)[np.minimum(queries.labels, len(counts))] - same
    odds = of_label / (len(gallery) - same)
    table = Table(title=escape(f"{run}: {len(queries)} queries in {len(gallery)} videos"))
    for name in ("", *(f"R@{k}" for k in KS)):
        table.add_column(name, justify="right")
    table.add_row("found", *(f"{row.value:.1%}" for row in rows))
    table.add_row("95 %", *(f"{row.low:.1%}–{row.high:.1%}" for row in rows))
    table.add_row("chance", *(f"{(1 - (1 - odds) ** k).mean():.1%}" for k in KS))
    Console().print(table)
    console.print(f"written: {files[0]}, {files[1]}")
