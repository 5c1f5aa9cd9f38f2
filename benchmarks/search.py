"""Search at scale, exact and approximate: python benchmarks/search.py --rows 10000000 --out DISK

Writes made features (float16) of so many clips, and of 2 % more as a second file. Then a process of its own
for each engine opens the archive, builds the index of the first file, searches one query at a time, and adds
the second file. Prints times, peak memory and recall@10, of which exact search is the truth. An existing
features file of the same size is used again.

The features are made as those of clips are: a spectrum that falls as 1/sqrt(i), clusters (as many as the
square root of the rows) of very different sizes (Zipf, exponent 0.7), videos within them, and 8 clips of each
video that lie closer together. A query is a further clip of a video that is there.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

from dsm.evaluate.archive import open_archive
from dsm.evaluate.faiss_index import index_file
from dsm.evaluate.feature_files import write_features
from dsm.evaluate.features import Features
from dsm.evaluate.nearest import nearest, nearest_among, unit_rows
from dsm.evaluate.search import SPARE, ArchiveIndex

CLIPS, CHUNK, K = 8, 2**16, 10


@dataclass(frozen=True)
class Options:
    rows: int = 200_000
    dim: int = 256
    added: float = 0.02
    """Share of rows in the second file."""
    queries: int = 200
    exact_queries: int = 5
    """Queries that exact search is timed on, one by one."""
    engines: tuple[str, ...] = ("exact", "faiss")
    out: Path = Path("runs/search")
    seed: int = 0
    only: str = ""
    """Measures one engine in this process."""


class World:
    """Where clips lie."""

    def __init__(self, options: Options) -> None:
        rng = np.random.default_rng(options.seed)
        self.spread = (1 / np.sqrt(np.arange(1, options.dim + 1))).astype(np.float32)
        count = max(int(np.sqrt(options.rows)), 16)
        self.centres = rng.standard_normal((count, options.dim), np.float32) * self.spread
        share = 1 / np.arange(1, count + 1) ** 0.7
        self.share = share / share.sum()

    def noise(self, rng: np.random.Generator, count: int) -> np.ndarray:
        return rng.standard_normal((count, len(self.spread)), np.float32) * self.spread

    def rows(self, count: int, seed: int) -> Iterator[np.ndarray]:
        """Chunks of rows, CLIPS of each video after each other."""
        for first in range(0, count, CHUNK):
            rng = np.random.default_rng([seed, first])
            some = min(CHUNK, count - first)
            videos = -(-some // CLIPS)
            video = self.centres[rng.choice(len(self.centres), videos, p=self.share)]
            video = np.repeat(video + 0.6 * self.noise(rng, videos), CLIPS, 0)[:some]
            yield (video + 0.3 * self.noise(rng, some)).astype(np.float16)


def files_of(options: Options) -> tuple[Path, Path]:
    name = f"{options.rows}x{options.dim}"
    return options.out / f"{name}.npz", options.out / f"{name}-added.npz"


def make(options: Options) -> None:
    world = World(options)
    counts = options.rows, int(options.rows * options.added)
    for file, count, seed in zip(files_of(options), counts, (1, 2), strict=True):
        if file.exists():
            continue
        begun = time.perf_counter()
        paths = [f"{seed}/{row // CLIPS:07d}.mp4" for row in range(count)]
        shape = np.broadcast_to(np.float16(0), (count, options.dim))
        begin = (np.arange(count) % CLIPS).astype(np.float32)
        about = Features(shape, np.full(count, -1), paths, {"root": "/"}, np.stack([begin, begin + 1], 1))
        write_features(file, about, world.rows(count, seed))
        print(f"{file}: {count} rows, {file.stat().st_size / 1e9:.2f} GB, "
              f"{time.perf_counter() - begun:.0f} s to make", flush=True)  # fmt: skip


class Memory:
    """The peak of a process's own memory, without the pages of mapped files."""

    def __init__(self) -> None:
        self.peak = 0
        self._ended = threading.Event()
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while not self._ended.wait(0.05):
            text = Path("/proc/self/status").read_text()
            self.peak = max(self.peak, int(text.split("RssAnon:")[1].split()[0]))

    def gigabytes(self) -> float:
        return self.peak * 1024 / 1e9


def measure(options: Options) -> dict[str, float | str]:
    """Everything of one engine."""
    memory, found = Memory(), {"engine": options.only}
    file, added = files_of(options)
    truth = options.out / f"truth-{options.rows}x{options.dim}.npy"

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        found[name] = round(time.perf_counter() - begun, 4)
        print(f"{options.only}: {name} {found[name]} s, {memory.gigabytes():.2f} GB", flush=True)

    with timed("open"):
        archive = open_archive([file])
    rows = archive.features.features
    rng = np.random.default_rng([options.seed, 5])
    chosen = rng.choice(options.rows, options.queries, replace=False)
    queries = rows[chosen].astype(np.float32) + 0.3 * World(options).noise(rng, options.queries)
    timed_on = queries
    if options.only == "exact":
        engine, timed_on = None, queries[: options.exact_queries]
        with timed("all queries at once"):
            np.save(truth, nearest(rows, queries, K).places)
    else:
        fresh = index_file(file)
        fresh.unlink(missing_ok=True)
        with timed("build"):
            engine = archive.engine(options.only)
        found["index GB"] = round(fresh.stat().st_size / 1e9, 2)
        with timed("open index"):
            engine = archive.engine(options.only)
        proposed = engine.candidates(unit_rows(queries), SPARE * K)
        near = nearest_among(rows, queries, proposed, K).places
        same = [len({*a} & {*b}) for a, b in zip(near.tolist(), np.load(truth).tolist(), strict=True)]
        found["recall@10"] = round(float(np.mean(same)) / K, 4)
    index = ArchiveIndex(archive.features, engine)
    for times in ("first time", "again"):
        with timed("queries"):
            for query in timed_on:
                index.search(query, K)
        found[f"ms a query, {times}"] = round(1000 * float(found.pop("queries")) / len(timed_on), 2)
    with timed("open both"):
        both = open_archive([file, added])
    index_file(added).unlink(missing_ok=True)
    with timed("add"):
        index = ArchiveIndex(both.features, both.engine(options.only))
    row = options.rows + 77
    assert (
        index.search(np.asarray(both.features.features[row], np.float32), 1)[0].row // CLIPS == row // CLIPS
    )
    found["memory GB"] = round(memory.gigabytes(), 2)
    return found


def main(options: Options) -> None:
    torch.set_num_threads(torch.get_num_threads())
    if options.only:
        print(json.dumps(measure(options)))
        return
    options.out.mkdir(parents=True, exist_ok=True)
    make(options)
    for name in options.engines:
        result = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], "--only", name],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        print(result.stdout, flush=True)
    print(f"{options.rows} x {options.dim}, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
