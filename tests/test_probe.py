"""Probes on features files: votes, cross-validation, output."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from dsm.cli.main import run
from dsm.errors import UserError
from dsm.evaluate.feature_files import save_features
from dsm.evaluate.features import Features
from dsm.evaluate.probe import choose_strength, fit_probe, linear_probe
from dsm.evaluate.retrieval import knn_probe


def made(count: int, seed: int, dim: int = 10, classes: int = 3) -> Features:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    rows = rng.normal(size=(count, dim)) + 1.2 * np.eye(dim)[labels]
    return Features(rows.astype(np.float32), labels, [f"{seed}-{place}.mp4" for place in range(count)])


def test_the_neighbour_vote_equals_scikit_learn() -> None:
    train, test = made(200, 0), made(100, 1)
    model = KNeighborsClassifier(
        20, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / 0.07)
    ).fit(train.features, train.labels)
    expected = model.predict(test.features) == test.labels
    assert np.array_equal(knn_probe(train, test), expected)
    # Each video among the others.
    for place in range(0, 200, 20):
        others = np.arange(200) != place
        model.fit(train.features[others], train.labels[others])
        right = model.predict(train.features[[place]])[0] == train.labels[place]
        assert knn_probe(train, train, apart=(np.arange(200), np.arange(200)))[place] == right


def test_groups_stay_together_in_cross_validation() -> None:
    """Features that identify the group and not the class: they help only if a group is split."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(24), 8)
    labels = (groups % 2).astype(np.int64)
    rows = (rng.normal(size=(24, 30))[groups] + 0.01 * rng.normal(size=(192, 30))).astype(np.float32)
    train = Features(rows, labels, [""] * 192)
    parted, together = choose_strength(train), choose_strength(train, [str(group) for group in groups])
    assert max(parted.accuracy.values()) > 0.95
    assert max(together.accuracy.values()) < 0.8


def test_of_equally_good_strengths_the_strongest_regularisation_is_chosen() -> None:
    rows = np.repeat(np.eye(2, dtype=np.float32), 20, axis=0)  # every strength is right everywhere
    chosen = choose_strength(Features(rows, np.repeat([0, 1], 20), [""] * 40))
    assert set(chosen.accuracy.values()) == {1.0}
    assert chosen.strength == min(chosen.accuracy)


def test_a_class_of_one_video_does_not_stop_cross_validation(capsys: pytest.CaptureFixture[str]) -> None:
    many = made(60, 0, classes=2)
    one = Features(np.full((1, 10), 9, np.float32), np.array([2]), ["alone.mp4"])
    both = Features(
        np.concatenate([many.features, one.features]),
        np.concatenate([many.labels, one.labels]),
        many.paths + one.paths,
    )
    with_it, without = choose_strength(both).accuracy, choose_strength(many).accuracy
    # No fold tests this class: its single video, far from the others, changes few of their answers.
    assert max(abs(with_it[strength] - without[strength]) for strength in without) < 0.15
    assert "1 of 3 classes has a single video" in capsys.readouterr().err
    with pytest.raises(UserError, match="at least two videos of a class"):
        choose_strength(both.part(np.array([0, int(np.flatnonzero(many.labels != many.labels[0])[0])])))


def test_a_probe_uses_small_dimensions_besides_large_ones() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    signal, noise = 1e-3 * (labels + 0.3 * rng.normal(size=200)), 1e3 * rng.normal(size=200)
    features = Features(np.column_stack([signal, noise]).astype(np.float32), labels, [""] * 200)
    assert (fit_probe(features).predict(features.features) == labels).mean() > 0.9


def test_probe_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_features(tmp_path / "a.npz", made(150, 0))
    save_features(tmp_path / "b.npz", made(80, 1))
    run(
        [
            "probe",
            "--train",
            str(tmp_path / "a.npz"),
            "--test",
            str(tmp_path / "b.npz"),
            "--out",
            str(tmp_path),
        ]
    )
    rows = {row["metric"]: row for row in json.loads((tmp_path / "results.json").read_text())["rows"]}
    assert set(rows) == {"linear_probe", "linear_probe_mean_class", "knn", "knn_mean_class"}
    (hits,) = linear_probe(made(150, 0), [made(80, 1)], strength=choose_strength(made(150, 0)).strength)
    assert rows["linear_probe"]["value"] == hits.mean()
    assert rows["knn"]["low"] < rows["knn"]["value"] < rows["knn"]["high"]
    assert "linear_probe" in capsys.readouterr().out
    with pytest.raises(UserError, match="10 and 4 dimensions"):
        linear_probe(made(30, 0), [made(30, 1, dim=4)])


def test_a_probe_with_one_video_per_class_uses_the_default_c(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    clips = Features(
        rng.normal(size=(20, 8)).astype(np.float32), np.repeat([0, 1], 10), ["a.mp4"] * 10 + ["b.mp4"] * 10,
        times=np.zeros((20, 2), np.float32),
    )  # fmt: skip
    save_features(tmp_path / "clips.npz", clips)
    words = ["--train", str(tmp_path / "clips.npz"), "--test", str(tmp_path / "clips.npz")]
    run(["probe", *words, "--out", str(tmp_path / "out")])
    assert "C = 1, not chosen by cross-validation" in capsys.readouterr().err
