"""Exact search and retrieval compared with slow loops and scikit-learn; ties, duplicates, groups."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from sklearn.neighbors import NearestNeighbors

from dsm.cli.main import run
from dsm.evaluate import nearest as nearest_module
from dsm.evaluate.feature_files import save_features
from dsm.evaluate.features import Features
from dsm.evaluate.nearest import nearest, unit_rows
from dsm.evaluate.retrieval import average_precision, chance, kept_apart, retrieve
from dsm.runs.results import read_results


def rows(count: int, dim: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)


def labelled(count: int, seed: int = 0, classes: int = 5, **meta: str) -> Features:
    labels = np.random.default_rng(seed + 100).integers(0, classes, count)
    return Features(rows(count, seed=seed), labels, [f"{place}.mp4" for place in range(count)], dict(meta))


@pytest.mark.parametrize("k", [1, 7, 500])
def test_nearest_neighbours_equal_scikit_learn(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks smaller than the sets, and a k larger than the gallery."""
    monkeypatch.setattr(nearest_module, "BASE", 64)
    monkeypatch.setattr(nearest_module, "QUERIES", 16)
    base, queries = rows(300), rows(50, seed=1)
    found = nearest(base, queries, k)
    expected = NearestNeighbors(n_neighbors=min(k, 300), metric="cosine", algorithm="brute").fit(base)
    distances, places = expected.kneighbors(queries)
    assert np.array_equal(found.places, places)
    assert np.allclose(found.similarities, 1 - distances, atol=1e-5)


def test_in_a_tie_the_earlier_row_is_nearer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest_module, "BASE", 64)
    base = rows(200, dim=33)
    copies = [3, 70, 71, 130, 199]
    base[copies] = base[3]
    found = nearest(base, 2 * base[3:4], 6)
    assert found.places[0, :5].tolist() == copies
    assert len(set(found.similarities[0, :5].tolist())) == 1
    everything = nearest(np.ones((150, 2), np.float32), np.ones((1, 2), np.float32), 150)
    assert everything.places[0].tolist() == list(range(150))


def test_rows_with_the_same_id_are_not_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest_module, "BASE", 32)
    monkeypatch.setattr(nearest_module, "QUERIES", 8)
    base, queries = rows(90), rows(20, seed=1)
    rng = np.random.default_rng(2)
    ids = rng.integers(0, 4, 90), rng.integers(0, 6, 20)
    found = nearest(base, queries, 90, apart=ids)
    for query in range(20):
        allowed = np.flatnonzero(ids[0] != ids[1][query])
        near = found.places[query][found.places[query] >= 0]
        assert sorted(near) == allowed.tolist()
        cosines = base[allowed] @ queries[query] / np.linalg.norm(base[allowed], axis=1)
        assert near.tolist() == allowed[np.argsort(-cosines)].tolist()


def test_large_groups_do_not_need_quadratic_memory() -> None:
    """4000 rows of 4 cameras are 4 million pairs; a list of them would take 190 MB."""
    features, camera = rows(4000), np.arange(4000) % 4
    tracemalloc.start()
    nearest(features, features, 10, apart=(camera, camera))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6


def test_a_video_in_both_sets_is_not_its_own_neighbour() -> None:
    gallery = labelled(40, root="/videos")
    same = Features(gallery.features[:5], gallery.labels[:5], gallery.paths[:5], {"root": "/videos"})
    elsewhere = Features(same.features, same.labels, same.paths, {"root": "/others"})
    found = retrieve(gallery, same)
    assert all(query not in near for query, near in enumerate(found.neighbours.tolist()))
    assert retrieve(gallery, elsewhere).neighbours[:, 0].tolist() == list(range(5))
    # Clips of one video are not neighbours of each other either.
    clips = Features(rows(6), np.arange(6) % 2, ["a", "a", "b", "b", "c", "c"])
    found = retrieve(clips, clips)
    assert all(near // 2 != query // 2 for query, line in enumerate(found.neighbours) for near in line)


def test_average_precision_equals_scikit_learn() -> None:
    gallery, queries = labelled(120), labelled(30, seed=1)
    found = average_precision(gallery, queries)
    for query in range(30):
        scores = gallery.features @ queries.features[query] / np.linalg.norm(gallery.features, axis=1)
        expected = average_precision_score(gallery.labels == queries.labels[query], scores)
        assert found[query] == pytest.approx(expected)
    alone = Features(queries.features, np.full(30, 99), queries.paths)
    assert np.isnan(average_precision(gallery, alone)).all()
    itself = kept_apart(gallery, gallery)
    assert itself is not None
    found = average_precision(gallery, gallery, itself)
    others = np.delete(np.arange(120), 7)
    scores = gallery.features[others] @ gallery.features[7] / np.linalg.norm(gallery.features[others], axis=1)
    assert found[7] == pytest.approx(
        average_precision_score(gallery.labels[others] == gallery.labels[7], scores)
    )


def test_precision_and_recall_rank_alike_where_an_encoder_has_collapsed() -> None:
    """Cosines within 1e-6 of each other; the right ones are the nearest, by double precision."""
    rng = np.random.default_rng(0)
    classes, each, dim = 20, 10, 512
    centre, towards = rng.normal(size=dim), rng.normal(size=(classes, dim))
    labels = np.repeat(np.arange(classes), each)
    spread = rng.normal(size=(2, classes * each, dim)) * 3e-6
    gallery, queries = (
        Features(
            (centre + 3e-4 * towards[labels] + noise).astype(np.float32), labels, [str(i) for i in labels]
        )
        for noise in spread
    )
    found = retrieve(gallery, queries, k=1)
    assert np.ptp(found.similarities) < 1e-6
    assert found.recall(1).mean() == 1.0
    assert average_precision(gallery, queries).mean() > 0.95


@pytest.mark.parametrize("k", [1, 3])
def test_chance_equals_random_neighbours(k: int) -> None:
    gallery, queries = labelled(24, classes=4), labelled(10, seed=1, classes=4)
    rng = np.random.default_rng(5)
    groups = [str(g) for g in rng.integers(0, 3, 24)], [str(g) for g in rng.integers(0, 4, 10)]
    apart = kept_apart(gallery, queries, groups)
    hits = []
    for _ in range(4000):
        query = rng.integers(10)
        allowed = [place for place in range(24) if groups[0][place] != groups[1][query]]
        drawn = rng.choice(allowed, k, replace=False)
        hits.append((gallery.labels[drawn] == queries.labels[query]).any())
    assert chance(gallery, queries, apart, k) == pytest.approx(np.mean(hits), abs=0.03)
    assert chance(gallery, queries, None, 24) == 1.0
    half = replace(queries, labels=np.where(np.arange(10) < 5, queries.labels, 9))  # an unknown class
    assert chance(gallery, half, None, 50) == 0.5
    alone = [str(g) for g in range(24)], [str(g) for g in range(10)]
    assert (
        chance(gallery.part(np.array([0])), queries.part(np.array([0])), (alone[0][:1], alone[1][:1]), 1) == 0
    )


def test_tiny_and_huge_features_are_scaled_to_length_1() -> None:
    rows = np.array([[3e-25, 4e-25], [3e20, 4e20], [0, 0]], np.float32)
    np.testing.assert_allclose(unit_rows(rows), [[0.6, 0.8], [0.6, 0.8], [0, 0]], rtol=1e-6)


def test_a_video_is_the_same_by_its_relative_and_by_its_absolute_path() -> None:
    rows = np.eye(2, dtype=np.float32)
    relative = Features(rows, np.zeros(2), ["a.mp4", "s3://b/c.mp4"], {"root": "/v"})
    absolute = replace(relative, paths=["/v/a.mp4", "s3://b/c.mp4"])
    assert relative.identities() == absolute.identities() == ["/v/a.mp4", "s3://b/c.mp4"]


def test_without_labels_and_without_any_neighbour_there_is_no_number(tmp_path: Path) -> None:
    """Clips of a single video are never neighbours of each other."""
    alone = Features(rows(4), np.full(4, -1), ["a.mp4"] * 4, {"root": "/x"}, np.zeros((4, 2), np.float32))
    save_features(tmp_path / "f.npz", alone)
    words = ["retrieve", "--gallery", str(tmp_path / "f.npz"), "--queries", str(tmp_path / "f.npz")]
    run([*words, "--out", str(tmp_path / "out"), "--shown", "0", "--group-regex", "a"])
    assert read_results(tmp_path / "out" / "results.json") == []
