"""Retrieval and probe compared with slow loops; features files are read safely."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dsm.data.lists import read_list
from dsm.data.settings import ClipConfig
from dsm.errors import UserError
from dsm.evaluate.attentive import attentive_probe
from dsm.evaluate.extract import extract_features
from dsm.evaluate.feature_files import load_features, save_features, write_features
from dsm.evaluate.features import Features
from dsm.evaluate.probe import linear_probe
from dsm.evaluate.retrieval import knn_probe, retrieve
from dsm.intervals import spread_of
from dsm.models.zoo import create_model
from dsm.runs.results import share


def made_features(count: int, dim: int = 6, classes: int = 4, seed: int = 0) -> Features:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    features = rng.normal(size=(count, dim)) + 0.7 * np.eye(dim)[labels]
    return Features(features.astype(np.float32), labels, [f"{i}.mp4" for i in range(count)])


def recall_slowly(gallery: Features, queries: Features, k: int) -> float:
    hits = 0
    for query, label in zip(queries.features, queries.labels, strict=True):
        cosines = [
            float(query @ row / (np.linalg.norm(query) * np.linalg.norm(row))) for row in gallery.features
        ]
        nearest = sorted(range(len(cosines)), key=lambda place: -cosines[place])[:k]
        hits += any(gallery.labels[place] == label for place in nearest)
    return hits / len(queries)


@pytest.mark.parametrize("k", [1, 5, 10, 50])
def test_recall_equals_the_slow_loop(k: int) -> None:
    gallery, queries = made_features(40), made_features(700, seed=1)  # more than one chunk of queries
    assert retrieve(gallery, queries).recall(k).mean() == pytest.approx(recall_slowly(gallery, queries, k))


def test_a_video_is_never_its_own_neighbour() -> None:
    gallery = made_features(30)
    found = retrieve(gallery, gallery)
    assert not any(row in near for row, near in enumerate(found.neighbours.tolist()))


def test_ties_go_to_the_earlier_video() -> None:
    gallery = Features(np.ones((3, 2), np.float32), np.array([0, 1, 1]), ["a", "b", "c"])
    queries = Features(np.ones((1, 2), np.float32), np.array([1]), ["q"])
    assert retrieve(gallery, queries).neighbours.tolist() == [[0, 1, 2]]


def test_wrong_features_are_named() -> None:
    with pytest.raises(UserError, match="6 and 5 dimensions"):
        retrieve(made_features(3), made_features(3, dim=5))
    one, two = (replace(made_features(3), meta={"encoder": name}) for name in ("one", "two"))
    for compare in (retrieve, knn_probe, lambda *both: linear_probe(both[0], both[1:])):
        with pytest.raises(UserError, match="extracted with other weights"):
            compare(one, two)
        compare(one, made_features(3))  # which does not tell, as if imported
    tokens = [replace(of, meta=of.meta | {"tokens": 2}) for of in (one, two)]
    with pytest.raises(UserError, match="extracted with other weights"):
        attentive_probe(tokens[0], tokens[1:])
    unlabelled = Features(np.ones((2, 6), np.float32), np.array([-1, -1]), ["a", "b"])
    assert not retrieve(made_features(3), unlabelled).right.any(), "without a label nothing is right"
    assert not retrieve(unlabelled, unlabelled).right.any()
    with pytest.raises(UserError, match="at least two classes"):
        linear_probe(unlabelled, [])


def test_a_probe_learns_linear_labels_and_stays_at_chance_on_noise() -> None:
    train, test = made_features(400, classes=4), made_features(400, classes=4, seed=1)
    rng = np.random.default_rng(0)
    noise = Features(rng.normal(size=(400, 6)).astype(np.float32), test.labels, test.paths)
    right, chance = linear_probe(train, [test, noise])
    assert right.mean() > 0.4
    assert chance.mean() < 0.35


def test_features_are_the_mean_over_windows_of_the_encoder(scenes: Path) -> None:
    videos = read_list(scenes / "test.txt")
    clip = ClipConfig(frames=4, stride=2, resize=40, size=32)
    torch.manual_seed(0)
    encoder = create_model("tiny")
    together = extract_features(encoder, videos, clip, windows=2, batch_size=4, workers=0)
    alone = extract_features(encoder, videos, clip, windows=2, batch_size=1, workers=1)
    assert together.features.shape == (10, 128)
    assert np.allclose(together.features, alone.features, atol=1e-5)
    assert together.paths == videos.paths
    assert together.labels.tolist() == videos.labels.tolist()


def test_features_are_read_back_as_written(tmp_path: Path) -> None:
    features = made_features(5)
    save_features(tmp_path / "f.npz", features)
    again = load_features(tmp_path / "f.npz")
    assert np.array_equal(again.features, features.features)
    assert again.paths == features.paths
    save_features(tmp_path / "f.npy", features)
    assert np.array_equal(np.load(tmp_path / "f.npy"), features.features)


@pytest.mark.parametrize("name", ["f.npz", "f.npy"])
def test_a_stop_while_features_are_written_leaves_the_older_file(tmp_path: Path, name: str) -> None:
    save_features(tmp_path / name, made_features(5))
    before = (tmp_path / name).read_bytes()
    newer = made_features(7)

    def stopped() -> Iterator[np.ndarray]:
        yield newer.features[:3]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_features(tmp_path / name, newer, stopped())
    assert (tmp_path / name).read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_foreign_or_malicious_npz_is_refused(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (open, (str(tmp_path / "sprung"), "w"))  # type: ignore[return-value]

    np.savez(tmp_path / "foreign.npz", other=np.zeros(3))
    array = io.BytesIO()
    np.lib.format.write_array_header_1_0(array, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    array.write(pickle.dumps(Trap()))
    with zipfile.ZipFile(tmp_path / "trap.npz", "w") as archive:
        for name in ("features", "labels", "paths", "meta"):
            archive.writestr(f"{name}.npy", array.getvalue())
    (tmp_path / "text.npz").write_text("no archive")
    for name in ("foreign", "trap", "text"):
        with pytest.raises(UserError, match="is not a features file"):
            load_features(tmp_path / f"{name}.npz")
    assert not (tmp_path / "sprung").exists()


def test_features_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    features = made_features(3)
    features.features[1, 2] = np.nan
    save_features(tmp_path / "f.npz", features)
    with pytest.raises(UserError, match="not finite"):
        load_features(tmp_path / "f.npz")


def test_the_interval_of_a_share_contains_it() -> None:
    row = share("dsm", 0, "test", "R@1", np.array([True] * 60 + [False] * 40))
    assert row.value == 0.6
    assert row.low is not None
    assert row.high is not None
    # 1.96 standard errors of a share of 0.6 in 100 are 0.096.
    assert row.low == pytest.approx(0.6 - 0.096, abs=0.015)
    assert row.high == pytest.approx(0.6 + 0.096, abs=0.015)


def test_mean_and_standard_deviation_are_those_of_the_sample() -> None:
    assert str(spread_of([0.5])) == "50.0 %"
    assert str(spread_of([0.4, 0.5, 0.6])) == "50.0 ± 10.0 %"
