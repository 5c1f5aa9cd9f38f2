"""How much is scene: variants against slow references, classifiers made to rely on it, the whole command."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import CLIP
from scipy import stats
from torch import Tensor, nn

from dsm.analyse.bias import (
    SKILLS,
    Judged,
    accuracy,
    class_shares,
    fit_line,
    four_numbers,
    scene_reliance,
    skill_lost,
)
from dsm.analyse.label_places import overlap, place_labels
from dsm.commands.bias import BiasConfig, BiasData, bias
from dsm.datasets.lists import VideoList, read_list, write_list
from dsm.datasets.reading import ClipChanges, ClipConfig
from dsm.disturb.scene import moving_mask, stripes, swap_scene, temporal_median
from dsm.engine.finetune import FinetuneConfig, FinetuneData, finetune
from dsm.errors import UserError
from dsm.evaluate.extract import extract_by_all
from dsm.evaluate.variants import SCENES, VARIANTS, Seen, draw_others, features_of_variants
from dsm.models.zoo import create_model
from dsm.normalization import MEAN, STD
from dsm.video.write import write_video

SIDE = 32
SCENE_COLOURS = np.array([[60, 60, 130], [130, 60, 60], [60, 130, 60], [120, 120, 40]])
DIRECTIONS = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
"""(x, y) a class: each is another one played backwards."""


def moving_square(label: int, scene: int, rng: np.random.Generator, frames: int = 24) -> np.ndarray:
    """A white square that goes one of four ways before a plain scene: uint8 (T, S, S, 3)."""
    video = np.empty((frames, SIDE, SIDE, 3), np.uint8)
    video[:] = SCENE_COLOURS[scene] + rng.integers(-8, 9, 3)
    for number in range(frames):
        x, y = 13 + DIRECTIONS[label] * (number - frames // 2) * 0.9 + rng.integers(-1, 2, 2) * (number == 0)
        video[number, round(y) : round(y) + 6, round(x) : round(x) + 6] = 245
    return video


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four motions, each before a scene of its own (``tied.txt``) and before another's (``crossed.txt``)."""
    out = tmp_path_factory.mktemp("squares")
    rng = np.random.default_rng(0)
    for name, shift in (("tied", 0), ("crossed", 1)):
        labels = np.arange(24) % 4
        paths = [f"{name}/{index:02d}.mp4" for index in range(len(labels))]
        for path, label in zip(paths, labels, strict=True):
            write_video(out / path, moving_square(label, (label + shift) % 4, rng))
        write_list(out / f"{name}.txt", VideoList(paths, labels, np.full(24, 24), out))
    return out


SQUARE_CLIP = ClipConfig(frames=8, stride=3, resize=SIDE, size=SIDE)


class Made(nn.Module):
    """A classifier by rule; its parameter is there to say where it lies."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.zeros(1))

    def forward(self, clip: Tensor) -> Tensor:
        return self.logits(clip * STD + MEAN).softmax(1)

    def logits(self, clip: Tensor) -> Tensor:
        raise NotImplementedError


class MeanColour(Made):
    """Whose scene is nearest to the mean colour?"""

    def logits(self, clip: Tensor) -> Tensor:
        # The square takes a 28th of the picture, and its white is known.
        colour = (clip.mean((2, 3, 4)) - 36 / SIDE**2) / (1 - 36 / SIDE**2)
        return -40 * torch.cdist(colour, torch.from_numpy(SCENE_COLOURS).float() / 255)


class SquaresWay(Made):
    """Which way does what is white go?"""

    def logits(self, clip: Tensor) -> Tensor:
        white = (clip.amin(1) > 0.75).float()
        amount = white.sum((2, 3)).clamp(min=1)
        line = torch.arange(SIDE).float()
        x = (white.sum(2) * line).sum(2) / amount
        y = (white.sum(3) * line).sum(2) / amount
        way = torch.stack([x[:, -1] - x[:, 0], y[:, -1] - y[:, 0]], dim=1)
        return 5 * way @ torch.from_numpy(DIRECTIONS).float().T


def judge(classifiers: list[nn.Module], videos: VideoList, **changes: Any) -> list[Judged]:
    found = features_of_variants(classifiers, videos, SQUARE_CLIP, VARIANTS, workers=0, **changes)
    return [Judged(one, np.arange(4), videos.labels, found.others) for one in found.features]


def test_a_classifier_of_scenes_relies_on_them_wholly_and_one_of_motion_not_at_all(squares: Path) -> None:
    for name in ("tied", "crossed"):  # the measure knows no labels
        by_colour, by_motion = judge([MeanColour(), SquaresWay()], read_list(squares / f"{name}.txt"))
        assert scene_reliance(by_colour).value == pytest.approx(1, abs=0.02)
        assert scene_reliance(by_motion).value == pytest.approx(0, abs=0.02)
    by_colour, by_motion = judge([MeanColour(), SquaresWay()], read_list(squares / "tied.txt"))
    numbers = four_numbers(by_colour)
    assert [numbers[name].value for name in SKILLS] == [0, 0, 0]
    assert accuracy(by_colour, "no_foreground").value == 1
    assert accuracy(by_colour, "background").value == 0
    numbers = four_numbers(by_motion)
    assert accuracy(by_motion, "clip").value == accuracy(by_motion, "background").value == 1
    assert accuracy(by_motion, "stripes").value > 0.8
    assert numbers["motion_gain"].value == 1
    assert numbers["direction_sensitivity"].value == pytest.approx(1 / 0.75)  # always the opposite way
    assert 0.3 < numbers["order_sensitivity"].value < 1.4


def test_scene_reliance_grows_with_the_weight_of_the_scene(squares: Path) -> None:
    class Mixed(Made):
        def __init__(self, share: float) -> None:
            super().__init__()
            self.share, self.parts = share, (MeanColour(), SquaresWay())

        def forward(self, clip: Tensor) -> Tensor:
            return self.share * self.parts[0](clip) + (1 - self.share) * self.parts[1](clip)

    shares = [0.0, 0.25, 0.5, 0.75, 1.0]
    found = judge([Mixed(share) for share in shares], read_list(squares / "tied.txt"))
    assert [scene_reliance(one).value for one in found] == pytest.approx(shares, abs=0.05)


def a_video(seed: int = 0) -> tuple[Seen, Tensor]:
    """Three windows of a grey disc that moves before a picture of noise, and the picture."""
    rng = np.random.default_rng(seed)
    scene = torch.from_numpy(rng.random((3, 1, 40, 40), np.float32) * 0.4)
    clips = scene.expand(3, 3, 5, 40, 40).clone()
    for window in range(3):
        for frame in range(5):
            clips[window, :, frame, 8 * window : 8 * window + 7, 7 * frame : 7 * frame + 7] = 0.95
    found = temporal_median(clips.transpose(0, 1).flatten(1, 2)[None])
    others = torch.from_numpy(rng.random((SCENES, 3, 1, 40, 40), np.float32))
    return Seen(clips, found, moving_mask(clips, found), others), scene


def test_the_scene_is_what_is_seen_most_and_what_moves_is_kept_before_another() -> None:
    seen, scene = a_video()
    assert torch.equal(seen.scene[0], scene)
    mixed = VARIANTS["background"](seen, np.random.default_rng(0))
    assert mixed.shape == (SCENES, 3, 3, 5, 40, 40)
    for window in range(3):
        for frame in range(5):
            y, x = 8 * window, 7 * frame
            inside = (slice(None), slice(y + 1, y + 6), slice(x + 1, x + 6))
            assert seen.moving[window, 0, frame][inside[1:]].min() == 1
            far = torch.ones(40, 40, dtype=torch.bool)
            far[max(y - 2, 0) : y + 9, max(x - 2, 0) : x + 9] = False
            assert seen.moving[window, 0, frame][far].max() == 0
            for part in range(SCENES):
                assert torch.equal(
                    mixed[part, window, :, frame][inside], seen.clips[window, :, frame][inside]
                )
                expected = seen.others[part, :, 0][:, far]
                assert torch.equal(mixed[part, window, :, frame][:, far], expected)


def test_a_flickering_light_is_no_movement() -> None:
    clip = torch.full((1, 3, 8, 24, 24), 0.5)
    clip[:, :, 4:] += 0.2
    assert moving_mask(clip, temporal_median(clip)).max() == 0


def test_swapping_by_a_mask_is_a_mean_weighted_by_it() -> None:
    clip, other = torch.rand(2, 3, 4, 8, 8), torch.rand(2, 3, 1, 8, 8)
    mask = torch.rand(2, 1, 4, 8, 8)
    torch.testing.assert_close(swap_scene(clip, mask, other), mask * clip + (1 - mask) * other)


def test_stripes_stay_in_range_and_lie_between_two_colours() -> None:
    made = stripes(3, 48, 64, np.random.default_rng(3))[0, :, 0].double()
    assert made.shape == (3, 48, 64)
    assert made.min() >= 0
    assert made.max() <= 1
    line = made.flatten(1).T - made.flatten(1).T.mean(0)
    spread = torch.linalg.svdvals(line)
    assert spread[1] < 1e-4 * spread[0]  # colours on one line
    assert spread[0] > 0


def test_single_frames_orders_and_the_scene_alone_are_what_they_say() -> None:
    seen, scene = a_video()
    made = {name: variant(seen, np.random.default_rng(1)) for name, variant in VARIANTS.items()}
    assert torch.equal(made["clip"][0], seen.clips)
    originals = [frame.tolist() for clip in seen.clips for frame in clip.transpose(0, 1)]
    for view in made["static"][0]:
        assert all(torch.equal(view[:, 0], view[:, frame]) for frame in range(5))
        assert view[:, 0].tolist() in originals
    assert made["static"].shape[:2] == (1, 12)
    for before, after in zip(seen.clips, made["reversed"][0], strict=True):
        assert all(torch.equal(before[:, frame], after[:, 4 - frame]) for frame in range(5))
    for before, after in zip(seen.clips, made["shuffled"][0], strict=True):
        frames = [frame.tolist() for frame in before.transpose(0, 1)]
        order = [frames.index(frame.tolist()) for frame in after.transpose(0, 1)]
        assert sorted(order) == [0, 1, 2, 3, 4]
        assert order not in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0])
    assert torch.equal(made["no_foreground"][0, 0], scene.expand(3, 5, 40, 40))
    assert all(views.shape[2:] == (3, 5, 40, 40) for views in made.values())


@pytest.mark.parametrize("labels", [[0] * 30 + [1], [0, 1, 2] * 5, [1, 0], [2, 2, 1, 1, 0]])
def test_every_video_finds_scenes_of_other_labels_behind_it(labels: list[int]) -> None:
    of = np.array(labels)
    for seed in range(5):
        order, behind = draw_others(of, seed)
        assert sorted(order[1:]) == list(range(len(of)))
        for place in range(1, len(order)):
            assert (behind[place] < place).all()
            assert (of[order[behind[place]]] != of[order[place]]).all()


def test_encoders_see_the_clips_that_extraction_gives_them_whatever_the_batch(scenes: Path) -> None:
    torch.manual_seed(0)
    encoder = create_model("tiny").eval()
    videos = read_list(scenes / "test_free.txt")
    clip = ClipConfig(frames=8, stride=3, resize=40, size=32)
    found = features_of_variants([encoder], videos, clip, VARIANTS, workers=0, batch_size=4)
    (plain,) = extract_by_all([encoder], videos, clip, workers=0)
    np.testing.assert_allclose(found.features[0]["clip"][:, 0], plain.features, atol=1e-4)
    alone = features_of_variants([encoder], videos, clip, VARIANTS, workers=0, batch_size=1)
    assert (found.others == alone.others).all()
    assert (videos.labels[found.others] != videos.labels[:, None]).all()
    for name in VARIANTS:
        np.testing.assert_allclose(found.features[0][name], alone.features[0][name], atol=1e-4)


def test_single_frames_are_clips_too_and_changes_of_colour_can_be_asked(scenes: Path) -> None:
    videos = read_list(scenes / "test_free.txt")
    encoder = create_model("tiny").eval()
    for clip in (
        ClipConfig(frames=1, stride=1, resize=40, size=32),
        ClipConfig(frames=4, stride=3, resize=40, size=32, modality="rgbdiff"),
    ):
        found = features_of_variants([encoder], videos, clip, VARIANTS, workers=0, windows=1).features[0]
        assert all(np.isfinite(each).all() for each in found.values())
        if clip.frames == 1:
            np.testing.assert_array_equal(found["clip"], found["static"])
        else:
            assert np.ptp(found["static"], axis=0).max() == 0  # where nothing changes all look alike


def certain(labels: np.ndarray, classes: int) -> np.ndarray:
    return np.eye(classes, dtype=np.float32)[labels][:, None]


def test_accuracies_weigh_classes_alike_and_who_is_no_better_than_chance_has_no_skill_to_lose() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    always = {name: certain(np.zeros(100, int), 2) for name in VARIANTS}
    judged = Judged(always, np.arange(2), labels, np.zeros((100, 1), int))
    assert accuracy(judged, "clip").value == judged.chance == 0.5
    assert list(four_numbers(judged).values()) == [None] * 4


def test_the_skill_lost_is_its_formula() -> None:
    labels = np.repeat(np.arange(4), 20)
    wrong = (labels + 1) % 4
    half = np.where(np.arange(80) % 2, labels, wrong)
    probabilities = {"clip": certain(labels, 4), "static": certain(half, 4), "reversed": certain(wrong, 4)}
    judged = Judged(probabilities, np.arange(4), labels, np.zeros((80, 1), int))
    found = skill_lost(judged, "static")
    assert found.value == pytest.approx((1 - 0.5) / (1 - 0.25))
    assert found.low < found.value < found.high
    assert skill_lost(judged, "reversed").value == pytest.approx(1 / 0.75)


def test_scene_reliance_is_least_squares_over_all_mixtures() -> None:
    rng = np.random.default_rng(4)
    own = rng.dirichlet(np.ones(5), 60).astype(np.float32)
    others = rng.integers(0, 60, (60, 3))
    mixed = 0.3 * own[:, None] + 0.5 * own[others] + 0.2 * rng.dirichlet(np.ones(5) / 2, (60, 3))
    judged = Judged(
        {"clip": own[:, None], "background": mixed.astype(np.float32)},
        np.arange(5), rng.integers(0, 5, 60), others,
    )  # fmt: skip
    # Each class about its mean: one column of ones a class.
    rows = [
        (*np.eye(5)[k], own[i, k], own[others[i, part], k], mixed[i, part, k])
        for i in range(60) for part in range(3) for k in range(5)
    ]  # fmt: skip
    table = np.array(rows)
    *_, m, s = np.linalg.lstsq(table[:, :-1], table[:, -1], rcond=None)[0]
    found = scene_reliance(judged)
    assert found.value == pytest.approx(s / (m + s), rel=1e-4)
    assert found.low < 5 / 8 < found.high


def test_mixtures_that_mean_nothing_have_no_reliance() -> None:
    own = np.random.default_rng(5).dirichlet(np.ones(3), 30).astype(np.float32)[:, None]
    odd = np.broadcast_to(np.float32([0.2, 0.7, 0.1]), (30, 2, 3))
    others = (np.arange(30)[:, None] + [1, 2]) % 30
    assert (
        scene_reliance(Judged({"clip": own, "background": odd}, np.arange(3), np.arange(30) % 3, others))
        is None
    )


def test_a_class_that_no_single_frame_tells_has_a_finite_gain() -> None:
    labels = np.array([0, 0, 1, 1])
    said = {"clip": certain(labels, 2), "static": certain(np.array([1, 1, 1, 0]), 2)}
    first, second = class_shares(Judged(said, np.arange(2), labels, np.zeros((4, 1), int)))
    assert (first.accuracy["static"], first.gain) == (0, pytest.approx(2.5 / 0.5 - 1))
    assert (second.accuracy["static"], second.gain) == (0.5, pytest.approx(2.5 / 1.5 - 1))


def test_the_band_of_a_line_is_the_textbooks() -> None:
    rng = np.random.default_rng(6)
    x = rng.random(17) * 100
    y = 3 - 0.02 * x + rng.normal(0, 0.4, 17)
    line, known = fit_line(x, y), stats.linregress(x, y)
    assert line is not None
    assert (line.slope, line.intercept) == (pytest.approx(known.slope), pytest.approx(known.intercept))
    # The same by matrices: var(line at x0) = s² x0' (X'X)^-1 x0.
    design = np.column_stack([np.ones(17), x])
    residuals = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    at = np.array([0.0, 30.0, 140.0])
    places = np.column_stack([np.ones(3), at])
    variance = (
        residuals
        @ residuals
        / 15
        * np.einsum("ij,jk,ik->i", places, np.linalg.inv(design.T @ design), places)
    )
    np.testing.assert_allclose(line.half_band(at), 2.131449546 * np.sqrt(variance), rtol=1e-6)
    assert fit_line(x[:2], y[:2]) is None
    assert fit_line(np.ones(9), y[:9]) is None


@pytest.mark.parametrize("count", [10, 101])
def test_names_lie_over_no_name_and_no_point(count: int) -> None:
    rng = np.random.default_rng(count)
    points = rng.random((count, 2)) * [600, 450]
    points[: count // 5] = points[0]  # several classes at one place
    sizes = np.column_stack([rng.uniform(20, 100, count), np.full(count, 10.0)])
    boxes = place_labels(points, sizes, (0, 0, 700, 500), 6)
    placed = [box for box in boxes if box is not None]
    assert len(placed) >= 0.9 * count
    for at, box in enumerate(placed):
        assert min(box) >= 0
        assert box[2] <= 700
        assert box[3] <= 500
        assert not any(overlap(box, other) for other in placed[:at])
        assert not any(overlap(box, (x - 1, y - 1, x + 1, y + 1)) for x, y in points)


def report_config(scenes: Path, out: Path, **changes: Any) -> BiasConfig:
    data = BiasData(
        scenes / "test.txt", train=scenes / "train.txt", conflict=scenes / "test_conflict.txt", workers=0
    )
    clip = ClipChanges(frames=4, stride=3, resize=40, size=32)
    return replace(
        BiasConfig(("none",), data, out, backbone="tiny", clip=clip, windows=1),
        **changes,
    )


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MotionScenes of which every test has each class twice."""
    from dsm.datasets.motionscenes import MotionScenesConfig, write_motionscenes

    out = tmp_path_factory.mktemp("pairs")
    write_motionscenes(MotionScenesConfig(motions=4, train=24, test=8, frames=24, size=40), out)
    return out


def test_the_report_of_a_classifier_beside_random_weights(pairs: Path, tmp_path: Path) -> None:
    run = finetune(
        FinetuneConfig(
            data=FinetuneData(pairs / "train.txt", batch_size=8, workers=0), out=tmp_path / "tuned",
            backbone="tiny", steps=2, clip=CLIP,
        )
    )  # fmt: skip
    out = tmp_path / "report"
    config = report_config(pairs, out, weights=(str(run), "none"))
    rows = bias(config)
    found = json.loads((out / "results.json").read_text())["rows"]
    assert len(found) == len(rows)
    for name in ("tuned", "random"):
        metrics = {row["metric"] for row in found if row["run"] == name and row["test"] == "test"}
        assert metrics >= {f"acc_{variant}" for variant in VARIANTS}
        assert {row["metric"] for row in found if row["run"] == name and row["test"] == "test_conflict"} == {
            "acc_clip"
        }
    with (out / "classes.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 8
    assert lines[0]["class"] == "swing-sideways"
    with (out / "predictions.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 16
    for picture in ("bias.png", "bars.png", "variants.png"):
        assert (out / picture).read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UserError, match="other settings"):
        bias(replace(config, seed=1))


def test_groups_are_drawn_whole(pairs: Path, tmp_path: Path) -> None:
    alone, together = (
        bias(report_config(pairs, tmp_path / name, group_regex=regex))
        for name, regex in (("alone", ""), ("together", "videos"))
    )
    of = {row.metric: row for row in together if row.test == "test"}
    assert of["acc_clip"].low == of["acc_clip"].high == of["acc_clip"].value
    assert [row.value for row in alone if row.metric == "acc_clip"] == [
        row.value for row in together if row.metric == "acc_clip"
    ]


def test_others_models_pass_through(pairs: Path) -> None:
    pytest.importorskip("transformers")
    encoder = create_model(
        "hf:videomae", image_size=32, num_frames=4, hidden_size=32, num_hidden_layers=1,
        num_attention_heads=2, intermediate_size=32,
    )  # fmt: skip
    videos = read_list(pairs / "test.txt")
    found = features_of_variants([encoder], videos, CLIP, VARIANTS, workers=0)
    assert {name: each.shape for name, each in found.features[0].items()} == {
        name: (8, SCENES if name == "background" else 1, 32) for name in VARIANTS
    }


def test_wrong_inputs_are_told_in_a_sentence(pairs: Path, tmp_path: Path) -> None:
    videos = read_list(pairs / "test.txt")

    def listed(labels: np.ndarray, places: np.ndarray | None = None) -> Path:
        path = pairs / "wrong.txt"
        part = replace(videos, labels=labels).part(np.arange(8) if places is None else places, videos.root)
        write_list(path, part)
        return path

    def told(match: str, data: dict[str, Any] | None = None, **changes: Any) -> None:
        config = report_config(pairs, tmp_path / "out", **changes)
        with pytest.raises(UserError, match=match):
            bias(replace(config, data=replace(config.data, **(data or {}))))
        assert not (tmp_path / "out").exists()

    told("8 of its videos have no label", {"test": listed(np.full(8, -1))})
    told("all its videos are of class 2", {"test": listed(np.full(8, 2))})
    told("class 3 has a single video", {"test": listed(videos.labels, np.array([0, 1, 2, 3, 4, 5, 6]))})
    told("class 9 is none of the 4", {"test": listed(np.where(videos.labels == 3, 9, videos.labels))})
    told("needs --data.train", {"train": None})
    told("no such checkpoint", weights=("nowhere.pt",))
    told("the same weights twice", weights=("none", "none"))
    told("finds no group", group_regex="camera[0-9]")
    told("no such list", {"conflict": pairs / "none.txt"})
    with pytest.raises(UserError, match="1 --names for 2"):
        report_config(pairs, tmp_path, weights=("a", "b"), names=("one",))
