from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browser import fits, opened
from sklearn.metrics import silhouette_score
from test_cli import refused

from dsm.cli.main import run
from dsm.errors import UserError
from dsm.evaluate.embedding import nearest_others, plane, separation
from dsm.evaluate.feature_files import save_features
from dsm.evaluate.features import Features
from dsm.pages.embedding import MARKS
from dsm.runs.results import Row, read_results
from dsm.video.write import write_video

NAMED = ("dsm", 0, "test")


def blobs(spread: float, *, kinds: int = 3, each: int = 12, seed: int = 0) -> Features:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(kinds), each)
    centres = np.eye(8, dtype=np.float32)[labels]
    rows = (centres + spread * rng.standard_normal((len(labels), 8))).astype(np.float32)
    return Features(rows, labels, [f"v/{row:03d}.mp4" for row in range(len(rows))])


def values(rows: list[Row]) -> dict[str, float]:
    return {row.metric: row.value for row in rows}


def numbers_of(features: Features) -> dict[str, float]:
    return values(separation(features, [str(label) for label in features.labels], name="label", named=NAMED))


def test_clusters_separate_and_noise_does_not() -> None:
    clear, noise = numbers_of(blobs(0.01)), numbers_of(blobs(30.0))
    assert clear["label_agreement"] == 1
    assert clear["label_silhouette"] > 0.95
    assert clear["label_scatter"] > 0.99
    assert abs(noise["label_silhouette"]) < 0.1
    assert abs(noise["label_agreement"] - noise["label_agreement_chance"]) < 0.25


def test_the_numbers_equal_slow_references() -> None:
    features = blobs(0.5)
    found = numbers_of(features)
    unit = features.features / np.linalg.norm(features.features, axis=1, keepdims=True)
    hits = []
    for row in range(len(unit)):
        cosines = unit @ unit[row]
        cosines[row] = -np.inf
        hits.append(features.labels[cosines.argmax()] == features.labels[row])
    total, within = np.square(unit - unit.mean(0)).sum(), 0.0
    for label in range(3):
        own = unit[features.labels == label]
        within += np.square(own - own.mean(0)).sum()
    assert found["label_agreement"] == pytest.approx(np.mean(hits))
    assert found["label_scatter"] == pytest.approx(1 - within / total, abs=1e-6)
    assert found["label_silhouette"] == pytest.approx(
        silhouette_score(unit, features.labels, metric="cosine"), abs=1e-6
    )


def test_chance_equals_shuffled_names() -> None:
    features, rng = blobs(0.3), np.random.default_rng(0)
    dealt = []
    for _ in range(300):
        names = [str(label) for label in rng.permutation(features.labels)]
        dealt.append(values(separation(features, names, name="label", named=NAMED)))
    for metric in ("label_agreement", "label_scatter"):
        mean = np.mean([one[metric] for one in dealt])
        assert mean == pytest.approx(dealt[0][f"{metric}_chance"], abs=0.02)


def test_a_map_keeps_neighbours_and_depends_on_its_seed() -> None:
    features = blobs(0.05)
    one, again = (plane(features.features, "tsne", seed=1) for _ in range(2))
    assert np.array_equal(one, again)
    assert one.min() == 0
    assert one.max() == 1
    near = nearest_others(one - 0.5, 1)[:, 0]  # by angle around the centre: three blobs in three directions
    assert (features.labels[near] == features.labels).mean() > 0.8


def test_umap_keeps_neighbours() -> None:
    pytest.importorskip("umap", reason="umap-learn, an extra, is not installed")
    assert plane(blobs(0.05).features, "umap").shape == (36, 2)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of the same videos by two encoders; only the first videos exist as files."""
    folder = tmp_path_factory.mktemp("embedding")
    for number in range(3):
        frames = np.random.default_rng(number).integers(0, 255, (8, 32, 32, 3), dtype=np.uint8)
        write_video(folder / "v" / f"{number:03d}.mp4", frames)
    lines = [f"v/{row:03d}.mp4\tm\t{'<b>wall' if row % 2 else 'sea'}" for row in range(36)]
    (folder / "scenes.tsv").write_text("\n".join(["path\tmotion\tfamily", *lines]) + "\n")
    for name, spread in (("moco", 1.0), ("dsm", 0.1)):
        features = blobs(spread)
        meta = {"run": name, "seed": 3, "list": "test", "root": str(folder)}
        save_features(
            folder / f"{name}.npz", Features(features.features, features.labels, features.paths, meta)
        )
    return folder


@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_works_in_a_browser(files: Path, tmp_path: Path, width: int) -> None:
    out = tmp_path / "out"
    run(["embed", str(files / "moco.npz"), str(files / "dsm.npz"), "--out", str(out)])
    page = out / "embedding.html"
    text = page.read_text()
    assert "<b>wall" not in text
    keys = """<script>
    const map = document.querySelectorAll(".embedding .maps svg")[1];
    map.dispatchEvent(new Event("focus"));
    map.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight"}));
    const how = document.querySelector(".how"); how.value = "scene"; how.onchange();
    </script>"""
    walked = tmp_path / "walked.html"
    walked.write_text(text.replace("</body>", keys + "</body>"))
    document, errors = opened(walked, width=width)
    assert errors == []
    shapes = re.search(r"const shape = \{(.*?)\};", document, re.DOTALL)
    assert shapes
    assert set(re.findall(r'"(.)":', shapes[1])) == set(MARKS)
    assert document.count('class="ring here"') == 2  # in both maps
    assert document.count('class="ring near"') == 10
    assert "scene: sea" in document or "scene: &lt;b&gt;wall" in document
    assert (out / "embedding.png").stat().st_size > 5000
    fits(page, tmp_path, width=width)


def test_each_run_has_its_numbers(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(["embed", str(files / "moco.npz"), str(files / "dsm.npz"), "--out", str(out), "--clips", "0"])
    rows = read_results(out / "results.json")
    found = {(row.run, row.metric): row.value for row in rows}
    assert found["dsm", "label_silhouette"] > found["moco", "label_silhouette"] + 0.2
    assert found["dsm", "scene_silhouette"] < 0.1
    assert 0 < found["dsm", "effective_rank"] <= 8
    assert {row.seed for row in rows} == {3}


def test_videos_without_labels_are_mapped_by_their_folders(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = blobs(0.1)
    paths = [f"place{label}/{path}" for label, path in zip(whole.labels, whole.paths, strict=True)]
    save_features(files / "unlabelled.npz", Features(whole.features, 0 * whole.labels - 1, paths))
    run(["embed", str(files / "unlabelled.npz"), "--out", str(tmp_path), "--clips", "0"])
    metrics = {row.metric for row in read_results(tmp_path / "results.json")}
    assert {"effective_rank", "folder_agreement"} <= metrics
    assert not any("label" in metric for metric in metrics)
    document, errors = opened(tmp_path / "embedding.html")
    assert errors == []
    assert "folder: place0/v" in document or "place0/v" in document
    assert "correct nearest neighbours are left out" in capsys.readouterr().err
    alike = [path.split("/", 1)[1] for path in paths]
    save_features(files / "unlabelled.npz", Features(whole.features, 0 * whole.labels - 1, alike))
    run(["embed", str(files / "unlabelled.npz"), "--out", str(tmp_path), "--clips", "0", "--overwrite"])
    assert {row.metric for row in read_results(tmp_path / "results.json")} == {"effective_rank"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["one.npz"], "are too few for a map"),
        (["alike.npz"], "all videos have the label 0"),
        (["dsm.npz", "one.npz"], "holds different videos than"),
        (["dsm.npz", "--gallery", "narrow.npz"], "dimensions"),
        (["other.npz", "--gallery", "another.npz"], "extracted with other weights"),
        (["dsm.npz", "--colour", "places.tsv"], "must have the form NAME=TABLE"),
        (["dsm.npz", "--gallery", "dsm.npz", "dsm.npz"], "each needs its own"),
    ],
)
def test_wrong_input_raises_one_sentence(files: Path, tmp_path: Path, flags: list[str], message: str) -> None:
    whole = blobs(0.1)
    save_features(files / "one.npz", Features(whole.features[:2], np.array([0, 1]), whole.paths[:2]))
    save_features(files / "alike.npz", Features(whole.features, 0 * whole.labels, whole.paths))
    save_features(files / "narrow.npz", Features(whole.features[:, :4].copy(), whole.labels, whole.paths))
    for name in ("other", "another"):
        save_features(files / f"{name}.npz", replace(whole, meta={"encoder": name}))
    named = [str(files / flag) if flag.endswith(".npz") else flag for flag in flags]
    with pytest.raises(UserError, match=message):
        run(["embed", *named, "--out", str(tmp_path / "out")])


def test_local_class_names_are_not_used_for_features_without_a_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = blobs(0.1)
    save_features(tmp_path / "f.npz", Features(whole.features, 0 * whole.labels, whole.paths))
    (tmp_path / "classes.txt").write_text("cooking\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="all videos have the label 0"):
        run(["embed", "f.npz", "--out", "out"])


@pytest.mark.parametrize("feature", [np.zeros(8), np.full(8, 0.3), np.arange(8)])
def test_features_of_a_collapsed_encoder_are_refused(
    files: Path,
    tmp_path: Path,
    feature: np.ndarray,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = blobs(0.1)
    lengths = np.random.default_rng(0).uniform(1, 9, (len(whole), 1))
    same = replace(whole, features=(lengths * feature).astype(np.float32))  # one direction
    save_features(files / "collapsed.npz", same)
    output = refused(
        capsys, monkeypatch, "embed", files / "dsm.npz", files / "collapsed.npz", "--out", tmp_path / "out"
    )
    assert "collapsed.npz: all 36 videos have the same feature" in output
    with pytest.raises(UserError, match="the encoder has collapsed"):
        plane(same.features, "tsne")
