"""Exact retrieval compared with the bare matrix product: python benchmarks/retrieval.py

Both alternate on the same queries, in one run: the product alone, in its fastest blocks, and the search,
which computes the product, keeps the neighbours and compares them again. Then a single query, as in `dsm
search`, is compared with reading the features from the file. Prints rates, their ratio, and the peak memory.
"""

from __future__ import annotations

import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

from dsm.evaluate.feature_files import load_features, write_features
from dsm.evaluate.features import Features
from dsm.evaluate.nearest import BASE, QUERIES, nearest


@dataclass(frozen=True)
class Options:
    gallery: int = 1_000_000
    queries: int = 10_000
    dim: int = 512
    k: int = 50
    turns: int = 2


def product(base: torch.Tensor, queries: torch.Tensor) -> None:
    out = torch.empty(min(QUERIES, len(queries)) * BASE)
    for part in base.split(BASE):
        for some in queries.split(QUERIES):
            torch.mm(some, part.T, out=out[: len(some) * len(part)].view(len(some), len(part)))


def main(options: Options) -> None:
    rng = np.random.default_rng(0)
    base = rng.standard_normal((options.gallery, options.dim), np.float32)
    queries = rng.standard_normal((options.queries, options.dim), np.float32)
    seconds: dict[str, float] = {"product": 0.0, "search": 0.0}
    share = options.queries // options.turns
    for turn in range(options.turns):
        some = queries[turn * share : (turn + 1) * share]
        begun = time.perf_counter()
        product(torch.from_numpy(base), torch.from_numpy(some))
        middle = time.perf_counter()
        nearest(base, some, options.k)
        seconds["product"] += middle - begun
        seconds["search"] += time.perf_counter() - middle
        print(
            f"turn {turn}: product {middle - begun:.1f} s, search {time.perf_counter() - middle:.1f} s",
            flush=True,
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{options.queries} queries in {options.gallery} x {options.dim}, k = {options.k}, "
          f"{torch.get_num_threads()} threads")  # fmt: skip
    for name, spent in seconds.items():
        print(f"{name:8s} {share * options.turns / spent:8.1f} queries/s")
    print(f"search / product {seconds['product'] / seconds['search']:.0%}, peak memory {peak:.1f} GiB")

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "index.npz"
        labels = np.full(len(base), -1)
        write_features(file, Features(base, labels, [f"{i}.mp4" for i in range(len(base))]), [base])
        del base
        for _ in range(2):
            begun = time.perf_counter()
            with file.open("rb") as opened:
                while opened.read(2**24):
                    pass
            read = time.perf_counter() - begun
            index = load_features(file)
            begun = time.perf_counter()
            nearest(index.features, queries[:1], options.k)
            searched = time.perf_counter() - begun
            print(f"one query: {searched:.2f} s; reading the file: {read:.2f} s")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
