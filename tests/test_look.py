"""`dsm look`: pictures of one video, the score of a list, and what it refuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import moving_square
from PIL import Image
from test_adapters import save_small_transformer

from dsm.cli import main
from dsm.errors import UserError
from dsm.models.heads import Classifier
from dsm.models.zoo import create_model
from dsm.video.decode import probe as probe_video
from dsm.video.write import write_video


def run(*words: object) -> None:
    main.run(["look", *map(str, words)])


SMALL = ("--weights", "none", "--backbone", "tiny", "--frames", "6", "--stride", "2", "--resize", "48",
         "--size", "48")  # fmt: skip


@pytest.fixture
def square(tmp_path: Path) -> Path:
    path = tmp_path / "square.mp4"
    write_video(path, moving_square(16, 64))
    return path


@pytest.mark.parametrize("ending", [".png", ".jpg", ".gif", ".mp4"])
def test_maps_are_written_in_every_format(
    square: Path, tmp_path: Path, ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / f"look{ending}"
    run(*SMALL, square, "--out", out, "--probe", "all", "--map", "grad-cam")
    output = capsys.readouterr().err
    assert "random: grad-cam at stages (3x3x3)" in output
    for probe in ("frozen", "pasted", "mixed"):
        assert f"{probe}: similarity to the clip" in output
    if ending == ".mp4":
        assert probe_video(out).frames == 6
    else:
        picture = Image.open(out)
        assert getattr(picture, "n_frames", 1) == (6 if ending == ".gif" else 1)
        assert min(picture.size) > 2 * 176  # small clips are enlarged
    with pytest.raises(UserError, match="already exists"):
        run(*SMALL, square, "--out", out)


def test_a_video_shorter_than_the_clip_is_looped_in_every_probe(small_list: Path, tmp_path: Path) -> None:
    short = small_list.parent / "walk" / "clip 0.mp4"
    run(*SMALL, short, "--out", tmp_path / "a.png", "--probe", "all", "--stride", "4", "--start", "0")
    with pytest.raises(UserError, match="has 12 frames; a clip that spans 21 cannot start"):
        run(*SMALL, short, "--out", tmp_path / "b.png", "--stride", "4", "--start", "1")


@pytest.mark.parametrize("modality", ["rgbdiff", "flow"])
def test_maps_of_difference_and_flow_networks_are_drawn_over_rgb(
    square: Path, tmp_path: Path, modality: Any
) -> None:
    from dsm.data.settings import ClipConfig
    from dsm.evaluate.look import Looker, read_frames_of

    if modality == "flow":
        pytest.importorskip("cv2")
    clip = ClipConfig(frames=4, stride=2, resize=48, size=48, modality=modality)
    looker = Looker(create_model("tiny", in_channels=2 if modality == "flow" else 3), clip)
    frames = read_frames_of(square, clip)
    assert frames.shape == (5, 48, 48, 3)
    assert looker.covered(frames).shape == (4, 48, 48, 3)
    assert looker.look(frames[None]).maps.shape == (1, 4, 48, 48)


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small classifier of two classes."""
    path = tmp_path_factory.mktemp("weights") / "classifier.pt"
    model = {"widths": [4, 6, 8, 10], "pooling": "avgmax"}
    config = {
        "method": "finetune", "backbone": "tiny", "model": model, "classes": ["walk", "wave"],
        "settings": {"seed": 3},
        "clip": {"frames": 4, "stride": 2, "resize": 48, "size": 48},
    }  # fmt: skip
    torch.manual_seed(0)
    module = Classifier(create_model("tiny", **model), 2)
    state = {f"query.{name}": tensor for name, tensor in module.state_dict().items()}
    torch.save({"format": 1, "config": json.dumps(config), "method": state}, path)
    return path


def test_a_target_class_is_given_by_name_or_number(
    classifier: Path, square: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = []
    for place, aim in enumerate((["--target-class", "wave"], ["--target-class", "1"],
                                 ["--target-class", "walk"], [])):  # fmt: skip
        out = tmp_path / f"{place}.png"
        run("--weights", classifier, square, "--out", out, *aim)
        pictures.append(np.asarray(Image.open(out)))
    assert np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])
    output = capsys.readouterr().err
    assert "encoder.stages" in output
    assert "clip: w" in output


def test_rows_of_a_classifier_have_its_name_and_seed(classifier: Path, scenes: Path, tmp_path: Path) -> None:
    words = (
        "--weights", classifier, scenes / "test.txt", "--score", "--workers", "0", "--out", tmp_path / "a",
    )  # fmt: skip
    run(*words, "--target-class", "walk")
    rows = json.loads((tmp_path / "a" / "results.json").read_text())["rows"]
    assert {(row["run"], row["seed"], row["test"]) for row in rows} == {("finetune", 3, "test")}
    with pytest.raises(UserError, match="holds the output of dsm look with other settings"):
        run(*words, "--target-class", "wave")


def test_the_command_works_with_a_small_transformer(square: Path, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    weights = tmp_path / "videomae.pt"
    save_small_transformer(weights)
    run("--weights", weights, square, "--out", tmp_path / "a.gif", "--target", square)
    assert Image.open(tmp_path / "a.gif").n_frames == 4  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="does not take clips of 3x4x48x48"):
        run("--weights", weights, square, "--out", tmp_path / "b.gif", "--resize", "48", "--size", "48")


def test_the_score_of_a_list_leaves_out_bad_files(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (scenes / "test.txt").read_text().splitlines()[:5]
    one_frame, still = tmp_path / "one.mp4", tmp_path / "still.mp4"
    write_video(one_frame, moving_square(1, 64))
    write_video(still, np.repeat(moving_square(1, 64), 12, axis=0))
    listed = tmp_path / "some.txt"
    paths = [str(scenes / line.rsplit(" ", 2)[0]) for line in lines]
    listed.write_text("".join(f"{path}\n" for path in [*paths, "missing.mp4", str(one_frame), str(still)]))
    run(*SMALL, listed, "--score", "--out", tmp_path / "out", "--windows", "2", "--workers", "0")
    output = capsys.readouterr()
    assert "missing.mp4: no such file" in output.err.replace("\n", "")
    assert output.err.count("nothing moves in it") == 2
    assert "5 videos, 3 left out" in output.err
    record = json.loads((tmp_path / "out" / "results.json").read_text())
    rows = {row["metric"]: row for row in record["rows"]}
    assert list(rows) == ["map_mass_on_motion", "motion_area", "map_mass_above_area",
                          "other_map_mass_on_motion", "map_mass_above_other_map"]  # fmt: skip
    assert {(row["run"], row["test"], row["n"]) for row in rows.values()} == {("random", "some", 5)}
    with (tmp_path / "out" / "look.csv").open() as file:
        table = list(csv.DictReader(file))
    assert len(table) == 8
    masses = [float(one["map_mass_on_motion"]) for one in table if not one["left_out"]]
    areas = [float(one["motion_area"]) for one in table if not one["left_out"]]
    assert rows["map_mass_on_motion"]["value"] == pytest.approx(np.mean(masses), abs=1e-4)
    difference = rows["map_mass_above_area"]
    assert difference["value"] == pytest.approx(np.mean(masses) - np.mean(areas), abs=1e-4)
    assert difference["low"] <= difference["value"] <= difference["high"]


def test_a_single_video_has_no_interval(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = (scenes / "test.txt").read_text().split()[0]
    (tmp_path / "one.txt").write_text(f"{scenes / video}\n")
    run(*SMALL, tmp_path / "one.txt", "--score", "--out", tmp_path / "out", "--workers", "0")
    output = capsys.readouterr().out
    assert "map_mass_on_motion" in output
    assert "[" not in output
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert {(row["n"], row["low"], row["high"]) for row in rows} == {(1, None, None)}


def test_the_pasted_probe_works_for_every_video_of_a_list(scenes: Path, tmp_path: Path) -> None:
    words = (*SMALL, scenes / "test.txt", "--score", "--workers", "0")
    for probe in ("pasted", "mixed"):
        run(*words, "--probe", probe, "--out", tmp_path / probe)
    rows = [
        json.loads((tmp_path / probe / "results.json").read_text())["rows"] for probe in ("pasted", "mixed")
    ]
    assert rows[0][-1]["metric"] == "prefers_motion_to_still"
    assert 0 < rows[0][-1]["value"] < 1
    assert "prefers_motion_to_still" not in [row["metric"] for row in rows[1]]


def test_intervals_draw_whole_groups(scenes: Path, tmp_path: Path) -> None:
    words = (*SMALL, scenes / "test.txt", "--score", "--workers", "0")
    run(*words, "--out", tmp_path / "videos")
    run(*words, "--out", tmp_path / "groups", "--group-regex", r"(\d)\.mp4")  # one group per video
    run(*words, "--out", tmp_path / "one", "--group-regex", "test")  # one group of all
    found = {
        name: json.loads((tmp_path / name / "results.json").read_text())["rows"][0]
        for name in ("videos", "groups", "one")
    }
    assert len({row["value"] for row in found.values()}) == 1
    assert found["videos"]["low"] == pytest.approx(found["groups"]["low"])
    assert found["videos"]["low"] < found["videos"]["value"] - 0.001
    assert found["one"]["low"] is None  # one group has no interval
    assert found["one"]["high"] is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("square.mp4", "--out", "a.jpeg"), "must end in one of .png, .jpg, .gif, .mp4"),
        (("list.txt", "--out", "a.png"), "is a list; add --score"),
        (("list.txt", "--score", "--out", "a.png"), "--out is a folder"),
        (("square.mp4", "--score", "--out", "out"), "not a UTF-8 text file"),
        (("list.txt", "--score", "--out", "out", "--probe", "all"), "takes one --probe"),
        (("missing.mp4", "--out", "a.png"), "no such list, folder or video"),
        (("rubbish.mp4", "--out", "a.png"), "cannot be decoded"),
        (("one.mp4", "--out", "a.png"), "one.mp4: has only one frame"),
        (("square.mp4", "--out", "a.png", "--target", "one.mp4"), "one.mp4: has only one frame"),
        (("square.mp4", "--out", "a.png", "--target-class", "wave"), "encoder without classes"),
        (("square.mp4", "--out", "a.png", "--frames", "1"), "clips of one frame"),
        (("square.mp4", "--out", "a.png", "--mix", "1.5"), "mix must be from 0 to 1"),
        (("square.mp4", "--out", "a.png", "--layer", "stages.stage4"), "did you mean 'stages.stage3'"),
        (("square.mp4", "--out", "a.png", "--size", "2", "--resize", "2"), "try a larger --size"),
        (("square.mp4", "--out", "a.png", "--head", "projection"), "no projection head"),
    ],
)
def test_wrong_settings_raise_one_sentence(
    square: Path, words: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(square.parent)
    write_video("one.mp4", moving_square(1, 64))
    Path("rubbish.mp4").write_bytes(b"\x00\xff no video " * 100)
    Path("list.txt").write_text("square.mp4\n")
    with pytest.raises(UserError, match=message):
        run(*SMALL, *words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--target-class", "wavee"), "no class is named 'wavee'; did you mean 'wave'"),
        (("--target-class", "2"), "the classes are numbered 0 to 1"),
        (("--target", "square.mp4"), "for a classifier, use --target-class"),
    ],
)
def test_wrong_target_classes_raise_one_sentence(
    classifier: Path, square: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run("--weights", classifier, square, "--out", tmp_path / "a.png", *words)
