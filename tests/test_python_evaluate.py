"""The commands that measure, called from Python: keywords in, results out, nothing printed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from runs import CLIP

import dsm
from dsm.data.lists import read_list
from dsm.evaluate.feature_files import load_features
from dsm.runs.results import read_results
from dsm.synthetic.motionscenes import write_motionscenes
from dsm.synthetic.settings import MotionScenesConfig
from dsm.train.finetune import FinetuneConfig, FinetuneData, finetune

TINY = {"backbone": "tiny", "frames": 4, "stride": 3, "resize": 40, "size": 32}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lists in which each of three classes has several videos."""
    out = tmp_path_factory.mktemp("videos")
    write_motionscenes(MotionScenesConfig(motions=3, train=12, test=6, frames=16, size=40), out)
    return out


@pytest.fixture(scope="module")
def classifier(videos: Path) -> Path:
    return finetune(
        FinetuneConfig(
            data=FinetuneData(videos / "train.txt", batch_size=4, workers=0), out=videos / "tuned",
            backbone="tiny", steps=2, clip=CLIP, log_every=1,
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def features(videos: Path) -> dict[str, Path]:
    """Features of both lists, and of the clips of the first."""
    files = {name: videos / f"{name}.npz" for name in ("train", "test", "clips")}
    for name, file in files.items():
        data = videos / ("test.txt" if name == "test" else "train.txt")
        dsm.extract(
            weights="none", data=data, out=file, windows=2, workers=0, per_clip=name == "clips", **TINY
        )
    return files


@pytest.fixture
def quiet(classifier: Path, features: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Progress is off by default; afterwards, nothing must have been printed."""
    dsm.show_progress(False)
    capfd.readouterr()
    yield
    printed = capfd.readouterr()
    dsm.show_progress()
    assert (printed.out, printed.err) == ("", "")


@pytest.mark.usefixtures("quiet")
def test_encode_returns_what_extract_writes(classifier: Path, videos: Path, tmp_path: Path) -> None:
    listed = read_list(videos / "test.txt")
    written = tmp_path / "test.npz"
    dsm.extract(weights=str(classifier), data=videos / "test.txt", out=written, windows=2, workers=0)
    expected = load_features(written).features
    files = [listed.file(place) for place in range(len(listed))]
    for given in (videos / "test.txt", files):
        assert np.allclose(dsm.encode(given, classifier, windows=2), expected, atol=1e-6)
    assert dsm.encode(str(files[0]), classifier).shape == (1, expected.shape[1])


@pytest.mark.usefixtures("quiet")
def test_a_test_returns_accuracies_predictions_and_a_comparison(
    classifier: Path, videos: Path, tmp_path: Path
) -> None:
    settings = {"weights": str(classifier), "test": str(videos / "test.txt"), "workers": 0}
    result = dsm.test(**settings, out=tmp_path / "one", windows=1)
    assert list(result.rows) == read_results(tmp_path / "one" / "results.json")
    assert result.predictions is not None
    assert result.value("top1") == pytest.approx(result.predictions.top(1).mean())
    assert result.predictions.probabilities.shape == (6, 3)
    assert list(result.classes) == (videos / "classes.txt").read_text().splitlines()
    assert all(file.is_file() for file in result.files)
    assert result.comparison is None
    assert "top1" in str(result)

    again = dsm.test(**settings, out=tmp_path / "two", windows=2, against=tmp_path / "one")
    comparison = again.comparison
    assert comparison is not None
    counts = comparison.both, comparison.only_this, comparison.only_other, comparison.neither
    assert sum(counts) == 6
    assert tmp_path / "two" / "disagreements.csv" in again.files
    assert f"against {tmp_path / 'one'}, of 6 videos:" in str(again)


@pytest.mark.usefixtures("quiet")
def test_bias_returns_the_rows_of_its_report(videos: Path, tmp_path: Path) -> None:
    result = dsm.bias(
        weights="none", test=videos / "test.txt", train=videos / "train.txt", out=tmp_path / "bias",
        windows=1, workers=0, **TINY,
    )  # fmt: skip
    assert 0 <= result.value("scene_reliance") <= 1
    assert 0 <= result.value("acc_static", run="random", test="test") <= 1
    assert list(result.rows) == read_results(tmp_path / "bias" / "results.json")
    assert {"variants.png", "card.html", "badge.svg"} <= {file.name for file in result.files}
    assert all(file.is_file() for file in result.files)
    assert "scene reliance" in str(result)


@pytest.mark.usefixtures("quiet")
def test_look_draws_a_video_and_scores_a_list(videos: Path, tmp_path: Path) -> None:
    video = read_list(videos / "test.txt").file(0)
    drawn = dsm.look(video=video, weights="none", out=tmp_path / "look.png", probe="all", **TINY)
    assert drawn.files == [tmp_path / "look.png"]
    assert drawn.files[0].read_bytes().startswith(b"\x89PNG")
    assert [line.split(":")[0] for line in drawn.lines[:-1]] == ["frozen", "pasted", "mixed"]

    scored = dsm.look(
        video=videos / "test.txt", weights="none", out=tmp_path / "look", score=True, workers=0, **TINY
    )
    difference = scored.value("map_mass_on_motion") - scored.value("motion_area")
    assert scored.value("map_mass_above_area") == pytest.approx(difference)
    assert [file.name for file in scored.files] == ["results.json", "look.csv"]
    assert "map_mass_on_motion" in str(scored)


@pytest.mark.usefixtures("quiet")
def test_embed_returns_how_well_labels_are_separated(features: dict[str, Path], tmp_path: Path) -> None:
    result = dsm.embed(features=features["test"], gallery=features["train"], out=tmp_path / "map", clips=1)
    assert 0 <= result.value("label_agreement") <= 1
    assert result.value("effective_rank") >= 1
    assert [file.name for file in result.files] == ["results.json", "embedding.html", "embedding.png"]
    assert "label silhouette" in str(result)


@pytest.mark.usefixtures("quiet")
def test_search_returns_hits_with_times_and_cosines(features: dict[str, Path], tmp_path: Path) -> None:
    index = load_features(features["clips"])
    assert index.times is not None
    query = Path(str(index.meta["root"])) / index.paths[4]
    middle = float(index.times[4].mean())
    result = dsm.search(
        index=features["clips"], query=query, time=middle, k=3, itself=True, out=tmp_path / "found.png"
    )
    first = result.hits[0]
    assert (first.path, first.label) == (index.paths[4], index.labels[4])
    assert first.times == tuple(index.times[first.row])
    assert first.cosine > 0.999
    cosines = [hit.cosine for hit in result.hits]
    assert cosines == sorted(cosines, reverse=True)
    assert len({hit.path for hit in result.hits}) == 3
    assert result.files == [tmp_path / "found.png"]
    assert first.path in str(result)

    whole = dsm.search(index=features["train"], query=query, k=1)  # but for the query's own file
    assert whole.hits[0].path != index.paths[4]
    assert whole.hits[0].times is None
    assert whole.files == []


@pytest.mark.usefixtures("quiet")
def test_search_returns_duplicates(features: dict[str, Path], tmp_path: Path) -> None:
    index = load_features(features["clips"])
    result = dsm.search(index=features["clips"], duplicates=True, threshold=0.5, out=tmp_path / "pairs.tsv")
    assert result.hits == ()
    assert len(result.duplicates) == len((tmp_path / "pairs.tsv").read_text().splitlines()) - 1
    pair = result.duplicates[0]
    rows = index.features / np.linalg.norm(index.features, axis=1, keepdims=True)
    one, other = (rows - rows.mean(0))[list(pair.rows)]
    assert pair.cosine == pytest.approx(one @ other / np.linalg.norm(one) / np.linalg.norm(other), abs=1e-5)
    assert (pair.one, pair.other) == tuple(index.paths[row] for row in pair.rows)
    assert pair.one != pair.other
    assert f"{len(result.duplicates)} pairs" in str(result)


@pytest.mark.usefixtures("quiet")
def test_report_measures_runs_and_returns_all_numbers(classifier: Path, videos: Path, tmp_path: Path) -> None:
    result = dsm.report(
        runs=classifier, out=tmp_path / "report.html", train=videos / "train.txt", test=videos / "test.txt",
        measures=("retrieval", "probe", "test"), windows=1, shown=1, maps=0, workers=0,
        curves=tmp_path / "curves.png",
    )  # fmt: skip
    assert result.files == [tmp_path / "report.html", tmp_path / "curves.png"]
    assert all(file.is_file() for file in result.files)
    for metric in ("R@1", "linear_probe", "top1"):
        assert 0 <= result.value(metric, run="tuned", test="test") <= 1
    assert "1 run," in str(result)
