"""The card of `dsm bias`: its verdicts and mistakes, and cameras that move."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from conftest import moving_square
from matplotlib.figure import Figure
from test_bias import report_config

from dsm.data.lists import VideoList, write_list
from dsm.evaluate.bias import Judged
from dsm.evaluate.verdict import MOVING, STILL, Allowed, allowed, five, strictest, verdict
from dsm.intervals import Interval, chance_text
from dsm.pages.bias_card import VERDICTS, OnCard, badge, draw_card, worst
from dsm.pages.embedding import _message, number_table
from dsm.pages.tables import bar_of, by_subject
from dsm.pages.template import render_page
from dsm.runs.results import Row, read_results
from dsm.verbs.bias import bias
from dsm.verbs.settings.evaluation import BiasData
from dsm.video.write import write_video

GAIN = Interval(0.8, 0.7, 0.9)


@pytest.mark.parametrize(
    ("still", "numbers", "by"),
    [
        (True, {"motion_gain": GAIN, "scene_reliance": Interval(0.05, 0.0, 0.12)}, "motion"),
        (True, {"motion_gain": GAIN, "scene_reliance": Interval(0.12, 0.0, 0.3)}, "both"),
        (True, {"motion_gain": GAIN, "scene_reliance": Interval(0.9, 0.8, 1.0)}, "scene"),
        (True, {"motion_gain": None, "scene_reliance": Interval(0.05, 0.0, 0.12)}, "unknown"),
        (True, {"motion_gain": GAIN, "scene_reliance": None}, "motion"),
        (False, {"motion_gain": GAIN, "scene_reliance": Interval(0.9, 0.8, 1.0)}, "motion"),
        (False, {"motion_gain": Interval(0.1, -0.1, 0.25)}, "scene"),
        (False, {"motion_gain": Interval(0.1)}, "unknown"),
        (True, {"motion_gain": Interval(0.9), "scene_reliance": Interval(0.02)}, "unknown"),
        (False, {"motion_gain": Interval(0.5, 0.2, 0.8)}, "both"),
    ],
)
def test_a_verdict_passes_a_bound_only_with_its_whole_interval(
    still: bool, numbers: dict[str, Interval | None], by: str
) -> None:
    found = verdict(Allowed(still, ""), numbers)
    assert found.by == by
    assert ElementTree.fromstring(badge(found)).attrib["height"] == "20"


def test_the_footage_decides_which_numbers_are_shown() -> None:
    assert allowed(0.3, masked=True).still
    assert allowed(0.8, masked=False).still
    assert not allowed(0.3, masked=False).still
    assert allowed(0.8, masked=False, drift=0.04).still
    drifting = allowed(0.8, masked=False, drift=0.1)
    assert not drifting.still
    assert (
        "The camera moves: even the calmest parts of the picture shift by 10% of its longer side"
        in drifting.why
    )
    assert "blurred" not in allowed(0.8, masked=True).why
    for masked in (allowed(0.8, masked=True, drift=0.1), allowed(0.3, masked=True)):
        assert masked.still
        assert "so these scenes are blurred" in masked.why
    still = allowed(0.8, masked=False)
    assert strictest([still, drifting]) == strictest([drifting, still]) == drifting
    known = dict.fromkeys((*STILL, *MOVING, "arrow_of_time"), GAIN)
    known["contrasted_scenes_by_motion"] = known.pop("contrasted_scenes")
    assert list(five(Allowed(True, ""), [known])) == [
        "scene_reliance", "hat_scene_error_random", "contrasted_scenes_by_motion", "motion_gain",
        "hat_swap_random_ratio",
    ]  # fmt: skip
    assert list(five(Allowed(False, ""), [known])) == list(MOVING)
    less = {**known, "motion_gain": None, "hat_swap_random_ratio": None}
    assert list(five(Allowed(True, ""), [less]))[-2:] == ["order_sensitivity", "dimensions_static"]
    assert five(Allowed(True, ""), [{}]) == {}


def test_chance_is_never_rounded_to_nothing() -> None:
    assert [chance_text(1 / classes) for classes in (1, 2, 3, 10, 400)] == [
        "100%", "50%", "33%", "10%", "0.25%",
    ]  # fmt: skip
    bar = bar_of("dsm", Interval(0.01))
    page = render_page(
        "gallery.html", title="", rows=[], count=400, queries=400, recall=bar, chance=0.25, right=4
    )
    assert "right class for 4 of 400 queries; a random video would have it for 0.25%" in " ".join(
        page.split()
    )
    assert 'aria-label="dsm: 1%; chance 0.25%"' in page
    assert _message(("label", [bar], 0.25)).endswith("by chance it would for 0.25%.")


def test_only_chance_stands_beside_a_number() -> None:
    """A colouring may be called anything: its own numbers are not what is expected by chance."""
    rows = [Row("dsm", 0, "test", name, value, None, None, 400) for name, value in
            (("last_chance_agreement", 0.5), ("last_chance_agreement_chance", 0.0025),
             ("last_chance_scatter", 0.4))]  # fmt: skip
    cells = {line.metric: line.cells["dsm"] for line in number_table(rows)}
    assert cells["last_chance_agreement"].spread == "chance 0.25%"
    assert cells["last_chance_scatter"].spread == ""


def test_a_badge_keeps_the_doubt() -> None:
    def words(low: float, high: float) -> str:
        numbers = {"motion_gain": GAIN, "scene_reliance": Interval(0.3, low, high)}
        return badge(verdict(Allowed(True, ""), numbers))

    assert "both or too few videos, 30% scene" in words(0.05, 0.6)
    assert "relies on both, 30% scene" in words(0.25, 0.4)


def test_a_figure_holds_its_sentences_and_marks_intervals_that_go_on(tmp_path: Path) -> None:
    """A long name and a long sentence stay inside the picture; an arrow stands where an interval ends."""
    labels = np.arange(4) % 2
    one = Judged({"clip": np.eye(2, dtype=np.float32)[labels][:, None]}, np.arange(2), labels)
    wide = Interval(0.9, 0.4, 1.6)
    numbers = {"motion_gain": wide, "scene_reliance": Interval(0.6, 0.3, 0.9)}
    numbers["hat_swap_random_ratio"] = Interval(1.2, 0.9, 1.5)
    subjects = [OnCard("an encoder with a long name " * 3, one, [], numbers)]
    verdicts = {each.name: verdict(Allowed(True, ""), each.numbers) for each in subjects}
    drawn: list[Figure] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dsm.pages.bias_card.save_figure", lambda figure, path: drawn.append(figure))
        draw_card(tmp_path / "card.png", subjects, STILL, verdicts, "a test")
    (figure,) = drawn
    figure.draw_without_rendering()
    text = figure._suptitle.get_window_extent()
    assert figure.bbox.x0 <= text.x0
    assert text.x1 <= figure.bbox.x1
    for axis in figure.axes:
        assert axis._left_title.get_window_extent().x1 <= figure.bbox.x1
    gain = next(axis for axis in figure.axes if "Motion gain" in axis.get_title("left"))
    assert [line.get_marker() for line in gain.lines].count(">") == 1
    assert not any(line.get_marker() == "<" for line in gain.lines)


def test_the_worst_classes_come_with_a_typical_mistake() -> None:
    labels = np.repeat([0, 1, 2], 4)
    says = np.array([0, 0, 0, 0, 1, 1, 2, 0, 1, 1, 0, 1])
    probabilities = np.full((12, 1, 3), 0.1, np.float32)
    probabilities[np.arange(12), 0, says] = np.linspace(0.5, 0.9, 12)
    judged = Judged({"background": probabilities}, np.arange(3), labels)
    # Class 2 is never right and mostly taken for 1, most surely video 11; class 1 once for 2, once for 0.
    found = worst(judged, "background")
    assert found[0] == (2, 11, 0)
    assert [label for label, _, _ in found] == [2, 1]
    assert says[found[1][1]] in (0, 2)


def test_a_moving_camera_gets_clips_without_appearance_in_place_of_other_scenes(tmp_path: Path) -> None:
    """The square moves to the right or to the left while the camera pans over a patterned wall."""
    pytest.importorskip("cv2")
    labels, paths = np.arange(12) % 2, [f"{place}.mp4" for place in range(12)]
    rng = np.random.default_rng(0)
    for path, label in zip(paths, labels, strict=True):
        wall = np.kron(rng.integers(0, 255, (8, 30, 3)), np.ones((6, 6, 1))).astype(np.uint8)
        frames = np.stack([wall[:, 5 * number : 5 * number + 48] for number in range(16)])
        square = moving_square(8, 48)[:, :20].repeat(2, axis=0)
        frames[:, 14:34][square > 150] = 250
        write_video(tmp_path / path, frames if label else frames[::-1].copy())
    write_list(tmp_path / "pan.txt", VideoList(paths, labels, np.full(12, 16), tmp_path))
    (tmp_path / "classes.txt").write_text("pan-left\npan-right\n")
    config = report_config(tmp_path, tmp_path / "out", quick=False)
    data = BiasData(tmp_path / "pan.txt", train=tmp_path / "pan.txt", workers=0)
    bias(replace(config, data=data))
    rows = {row.metric: row for row in read_results(tmp_path / "out" / "results.json")}
    assert {"acc_appearance_free", "arrow_of_time", "opposites"} <= set(rows)
    quality, looks, scene = by_subject(list(rows.values()))
    assert (quality, looks, len(scene)) == ([], [], len(rows))
    page = (tmp_path / "out" / "card.html").read_text()
    assert "so scenes cannot be exchanged" in page
    assert "Clips without appearance, which need no still camera, are among all numbers." in page
    told = json.loads((tmp_path / "out" / VERDICTS).read_text())
    assert not told["still"]
    assert set(told["verdicts"]) == {"random"}
    assert (tmp_path / "out" / "opposites.tsv").read_text() == "pan-left\tpan-right\n"
    assert "compares 1 pair of classes" in page
    assert "noise that moves like the clip" in page
    assert "Scene reliance</h3>" not in page
    assert "Static dimensions</h3>" in page
