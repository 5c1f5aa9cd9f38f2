"""How changes of scene and motion are measured and shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dsm.cli import main
from dsm.disturb import SpatialMix, identity_grid
from dsm.errors import UserError
from dsm.evaluate.preview import (
    as_trained,
    each_kind,
    flow_picture,
    motion_change,
    scene_change,
    seen_through,
    similarity,
)
from dsm.methods.settings import DsmConfig
from dsm.video.decode import probe


def similarity_slowly(one: np.ndarray, two: np.ndarray) -> float:
    """SSIM window by window: an 11x11 Gaussian of spread 1.5, as Wang et al. define it."""
    y, x = np.mgrid[-5:6, -5:6]
    weights = np.exp(-(x**2 + y**2) / (2 * 1.5**2))
    weights /= weights.sum()
    found = []
    for row in range(5, one.shape[0] - 5):
        for column in range(5, one.shape[1] - 5):
            a = one[row - 5 : row + 6, column - 5 : column + 6]
            b = two[row - 5 : row + 6, column - 5 : column + 6]
            mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
            var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
            both = (weights * (a - mean_a) * (b - mean_b)).sum()
            found.append(
                (2 * mean_a * mean_b + 1e-4) * (2 * both + 9e-4)
                / ((mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4))
            )  # fmt: skip
    return float(np.mean(found))


def test_similarity_equals_its_definition() -> None:
    rng = np.random.default_rng(0)
    one = rng.random((24, 20))
    for two in (one, one * 0.8, np.clip(one + rng.normal(0, 0.2, one.shape), 0, 1), rng.random((24, 20))):
        assert similarity(one, two) == pytest.approx(similarity_slowly(one, two), abs=1e-9)
    assert similarity(one, one) == pytest.approx(1)


def test_the_scene_measure_ignores_the_order_of_frames() -> None:
    clip = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)
    assert scene_change(clip, clip[::-1]) == pytest.approx(0, abs=1e-12)
    assert scene_change(clip, 255 - clip) > 0.5


def test_motion_change_of_equal_missing_and_reversed_motion() -> None:
    flow = np.random.default_rng(0).normal(0, 3, (5, 2, 8, 9)).astype(np.float32)
    assert motion_change(flow, flow) == 0
    assert motion_change(np.zeros_like(flow), flow) == pytest.approx(1)
    assert motion_change(-flow, flow) == pytest.approx(2, rel=1e-5)


def test_flow_follows_a_quarter_turn_and_a_zoom() -> None:
    flow = np.zeros((1, 2, 20, 20), np.float32)
    flow[:, 0] = 3.0  # to the right
    x, y = identity_grid(20, 20, torch.empty(0)).unbind(-1)
    turned, valid = seen_through(flow, torch.stack([-y, x], -1))  # a pixel shows the point a quarter turn on
    assert valid.all()
    assert np.allclose(turned[0, :, 10, 10], [0, -3], atol=1e-4)
    near, _ = seen_through(flow, torch.stack([x, y], -1) / 2)  # twice as large, so twice as fast
    assert np.allclose(near[0, :, 10, 10], [6, 0], atol=1e-4)
    outside = torch.stack([x + 1.0, y], -1)
    assert seen_through(flow, outside)[1].mean() == 0.5


def test_flow_colours_follow_direction_and_speed() -> None:
    flow = np.zeros((1, 2, 1, 5), np.float32)
    flow[0, :, 0] = np.array([[0, 4, -4, 0, 8], [0, 0, 0, 4, 0]])
    still, right, left, down, fast = flow_picture(flow, longest=4)[0, 0].astype(int)
    assert still.tolist() == [255, 255, 255]
    assert right.tolist() == fast.tolist() == [255, 0, 0]
    assert left[0] < 60
    assert left[1] > 180  # its opposite: cyan to blue
    assert down[1] > 150
    assert down[2] < 60


@pytest.fixture
def listed(scenes: Path) -> Path:
    return scenes / "train.txt"


def run(*words: str) -> None:
    main.run(["data", "preview", *words])


SMALL = ("--clip.frames", "6", "--clip.stride", "2", "--clip.resize", "48", "--clip.size", "48")


def test_each_kind_is_shown_as_strongly_as_it_trains() -> None:
    sld = SpatialMix(strength=0.5, mixing_strength=0.8, together=True, padding="zeros")
    shown = {one.name: one.sld for one in each_kind(["smooth", "exchange"], ["reverse"], sld) if one.sld}
    assert shown.keys() == {"smooth", "exchange"}
    for name, one in shown.items():
        assert one.kinds().keys() == {name}
        assert (one.strength, one.mixing_strength, one.padding) == (0.5, 0.8, "zeros")


@pytest.mark.parametrize("ending", [".png", ".gif", ".mp4", ".html"])
def test_a_preview_is_written_in_every_format(
    listed: Path, tmp_path: Path, ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out, numbers = tmp_path / f"preview{ending}", tmp_path / "numbers.json"
    run(str(listed), "--out", str(out), "--json", str(numbers), "--show", "2", *SMALL)
    output = capsys.readouterr()
    assert "2 clips shown, 2 measured" in output.err
    assert "anchor" in output.out
    clips = json.loads(numbers.read_text())["clips"]
    assert [one["version"] for one in clips] == ["anchor", "positive", "negative"] * 2
    assert all(one["scene_change"] > 0.05 for one in clips if one["version"] != "negative")
    if ending == ".html":
        assert out.read_text().count("data:video/mp4") == 8
        assert "http" not in out.read_text().replace("http://www.w3.org", "")
    elif ending == ".mp4":
        assert probe(out).frames == 6
    else:
        picture = Image.open(out)
        assert picture.size[0] >= 3 * 48
        assert getattr(picture, "n_frames", 1) == (6 if ending == ".gif" else 1)
    with pytest.raises(UserError, match="already exists"):
        run(str(listed), "--out", str(out), *SMALL)


def test_versions_are_those_that_dsm_compares() -> None:
    def versions(**settings: Any) -> list[tuple[str, int, str]]:
        """Of each version: its name, its draw (0 for an intact scene), and what it is compared with."""
        shown = as_trained(DsmConfig(**settings))
        return [(one.name, one.draw if one.sld else 0, shown[one.against].name) for one in shown]

    assert versions() == [
        ("clip", 0, "clip"), ("anchor", 1, "clip"), ("positive", 2, "clip"), ("negative", 2, "positive"),
    ]  # fmt: skip
    assert versions(sld_on="anchor", look="anchor") == [
        ("positive", 0, "positive"), ("anchor", 1, "positive"), ("negative", 1, "anchor"),
    ]  # fmt: skip
    assert versions(sld_on="positive", look="own") == [
        ("anchor", 0, "anchor"), ("positive", 2, "anchor"), ("negative", 0, "anchor"),
    ]  # fmt: skip
    assert versions(look="redrawn")[-1] == ("negative", 3, "clip")


def test_a_preview_may_measure_more_clips_than_it_shows(
    listed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "kinds.html"
    run(str(listed), "--out", str(out), "--kinds", "all", "--show", "1", "--measure", "3",
        *SMALL)  # fmt: skip
    output = capsys.readouterr()
    assert "1 clip shown, 3 measured" in output.err
    for kind in ("smooth", "local", "tps", "affine", "background", "replace", "shift", "delete", "flow"):
        assert kind in output.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--out", "a.txt"), "must end in one of"),
        (("--out", "a.png", "--kinds", "smoth"), "did you mean"),
        (("--out", "a.png", "--clip.modality", "flow"), "leave --clip.modality at rgb"),
        (("--out", "a.png", "--show", "0"), "at least 1"),
        (("--out", "a.png", "--clip.frames", "1"), "at least 2 frames and 11 pixels"),
        (("--out", "a.png", "--clip.size", "10"), "at least 2 frames and 11 pixels"),
    ],
)
def test_wrong_settings_raise_one_sentence(listed: Path, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(str(listed), *words)


def test_unreadable_videos_are_named_and_left_out(
    small_list: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_list.write_text(small_list.read_text() + "missing.mp4 0 12\n")
    run(str(small_list), "--out", str(tmp_path / "a.png"), "--show", "50", *SMALL)
    output = capsys.readouterr().err
    assert "left out" in output
    assert "missing.mp4" in output


@pytest.mark.parametrize("kind", ["local", "background"])
def test_a_preview_shows_readable_videos_despite_unreadable_ones(
    small_list: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    lines = small_list.read_text().splitlines()
    small_list.write_text(f"{lines[0]}\nmissing.mp4 0 12\n")
    run(str(small_list), "--out", str(tmp_path / "a.png"), "--kinds", kind, *SMALL)
    output = capsys.readouterr().err
    assert "1 clip shown" in output
    assert output.count("missing.mp4") <= 1
