"""Shared parts of the studies: tables over seeds, finished trials, blocks of the docs, their order."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import agreement
import encoders
import everything
import fill_docs
import insight
import numpy as np
import places
import pytest
import reliance
import tables
import trials
from candidates import CANDIDATES
from trial import settings_of

from dsm.data.lists import read_list
from dsm.errors import UserError
from dsm.evaluate.features import Features
from dsm.runs.results import Row, write_results
from dsm.synthetic.motionscenes import write_motionscenes
from dsm.synthetic.settings import MotionScenesConfig
from dsm.video.decode import read_frames
from dsm.video.write import write_video

ROOT = Path(__file__).parents[1]


def rows_of(run: str, values: dict[int, float]) -> list[Row]:
    return [Row(run, seed, "test", "R@1", value, None, None, 10) for seed, value in values.items()]


def test_a_difference_pairs_the_same_seeds() -> None:
    """By hand: gains 10, 20 and 30 points; a t interval of three has a half of 4.303 * 10 / sqrt(3)."""
    rows = rows_of("dsm", {1: 0.5, 2: 0.7, 3: 0.9, 4: 1.0}) + rows_of("moco", {3: 0.6, 2: 0.5, 1: 0.4})
    text = tables.table(rows, "R@1", runs=["moco", "dsm"], tests=["test"], against=[("dsm", "moco")])
    assert text.splitlines()[-1] == "| dsm minus moco | +20.0 ± 24.8 |"
    clear = rows_of("dsm", {1: 0.8, 2: 0.9, 3: 1.0}) + rows_of("moco", {1: 0.1, 2: 0.2, 3: 0.3})
    text = tables.table(clear, "R@1", runs=["dsm"], tests=["test"], against=[("dsm", "moco")])
    assert text.splitlines()[-1] == "| dsm minus moco | **+70.0 ± 0.0** |"


def test_a_single_seed_has_the_interval_over_its_videos() -> None:
    rows = [Row("dsm", 7, "test", "R@1", 0.5, 0.25, 0.75, 10)]
    assert "| dsm | 50.0 [25.0, 75.0] |" in tables.table(rows, "R@1", runs=["dsm"], tests=["test"])
    assert tables.caption(rows).startswith("Seed 7 alone,")


def test_settings_of_a_trial_do_not_depend_on_its_folder_or_name(tmp_path: Path) -> None:
    def settings(folder: Path, candidate: str = "dsm", seed: int = 1, **changes: object) -> str:
        options = replace(places.Options(folder), **changes)
        prepared = places.prepare_generated(options, "dots", seed)
        return json.dumps(settings_of(places.trial(options, "dots", candidate, seed, prepared)))

    here = settings(tmp_path / "here")
    assert settings(tmp_path / "there") == settings(Path("runs")) == here
    others = [settings(tmp_path, "moco"), settings(tmp_path, seed=2), settings(tmp_path, steps=5)]
    assert len({here, *others}) == 4


def test_finished_measurements_are_reused_and_other_settings_refused(tmp_path: Path) -> None:
    options = places.Options(tmp_path, search=True)
    trial = places.trial(options, "dots", "dsm", 1, places.prepare_generated(options, "dots", 1))
    assert not trials.is_done(trial)
    trials._claim(trial)
    rows = rows_of("dsm", {1: 0.5})
    write_results(trial.folder / "features.json", rows)
    assert trials.is_done(trial)
    assert trials.run_trial(trial) == rows
    (row,) = trials.run_trial(replace(trial, name="another name"))
    assert (row.run, row.value) == ("another name", 0.5)
    assert not (trial.folder / "run").exists()  # nothing was trained
    longer = replace(trial, config=replace(trial.config, steps=7))
    with pytest.raises(UserError, match="holds a trial with other settings"):
        trials.run_trial(longer)


def test_blocks_are_filled_repeatedly(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("| 1 |\n")
    page = "Before\n<!-- from a.md -->\nold\n<!-- end -->\nbetween\n<!-- from b.md -->\nkept\n<!-- end -->\n"
    filled, missing = fill_docs.fill(page, (tmp_path,))
    assert filled == page.replace("old", "\n| 1 |\n")
    assert missing == ["b.md"]
    assert fill_docs.fill(filled, (tmp_path,))[0] == filled


def test_every_block_of_the_docs_is_written_by_a_study() -> None:
    studies = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "studies").glob("*.py"))
    for page in fill_docs.Options(()).pages:
        for _, name, _ in fill_docs.BLOCK.findall(page.read_text(encoding="utf-8")):
            written = f'"{name}"' in studies or f'"{Path(name).stem}"' in studies
            assert written, f"{page.name}: nothing writes {name}"


def test_quick_and_full_studies_use_separate_folders() -> None:
    whole, quick = everything.Options(gestures=Path("clips")), everything.Options(quick=True)
    assert whole.folder != quick.folder
    names = [command[0] for command in everything.commands(whole)]
    assert names[-1] == "studies/fill_docs.py"
    assert names[-1] not in [command[0] for command in everything.commands(quick)]
    assert all((ROOT / name).is_file() for name in names)
    assert everything.commands(whole)[-4][-2:] == ["--gestures", "clips"]
    assert {"studies/insight.py", "studies/adapt.py"} <= set(names)
    without = [command[0] for command in everything.commands(quick)]
    assert "studies/adapt.py" not in without, "it needs gestures"


def test_candidates_are_valid_and_differ(tmp_path: Path) -> None:
    options = places.Options(tmp_path)
    prepared = places.prepare_generated(options, "scenes", 3)
    every = [places.trial(options, "scenes", name, 3, prepared) for name in CANDIDATES]
    assert len({trial.folder for trial in every}) == len(CANDIDATES)
    assert len({json.dumps(settings_of(trial)) for trial in every}) == len(CANDIDATES)


def numbers(values: dict[str, tuple[float, float, float]]) -> dict[str, Row]:
    return {name: Row("r", 0, "test", name, *ends, 10) for name, ends in values.items()}


def test_the_findings_of_reliance_are_those_of_the_intervals() -> None:

    def scene(value: float, half: float = 0.05) -> dict[str, Row]:
        return numbers({"scene_reliance": (value, value - half, value + half)})

    right = {"tied-0": scene(0.05), "tied-0.5": scene(0.1), "tied-0.9": scene(0.3), "frozen": scene(0.9)}
    zero = {"motion_gain": (0.03, -0.1, 0.2), "order_sensitivity": (0.0, -0.1, 0.1)}
    right["pictures"] = numbers(zero)
    assert [check(right, False) for check in reliance.EXPECTED.values()] == [True] * 5
    assert [check(right, True) for check in reliance.EXPECTED.values()] == [None] * 3 + [True] * 2
    wrong = {**right, "tied-0.5": scene(0.4), "tied-0": scene(0.18), "frozen": scene(0.53)}
    wrong["pictures"] = numbers({"motion_gain": (0.2, 0.1, 0.3), "order_sensitivity": (-0.1, -0.2, -0.05)})
    assert [check(wrong, False) for check in reliance.EXPECTED.values()] == [False] * 5


def test_measures_that_leave_the_order_of_the_classifiers_are_told() -> None:
    given = {
        "scene_reliance": (0.1, 0.2, 0.4, 0.9),
        "motion_gain": (0.9, 0.5, 0.505, 0.0),  # equal, but for rounding
        "order_sensitivity": (0.9, 0.5, 0.6, 0.0),
        "opposites": (0.6, 0.7),
    }
    by_run = {
        run: numbers({name: (values[place],) * 3 for name, values in given.items() if place < len(values)})
        for place, run in enumerate(reliance.CLASSIFIERS)
    }
    rows = [line.split(" | ") for line in reliance.measures(by_run).splitlines()[2:]]
    assert [row[-2] for row in rows] == ["rise", "fall", "fall", "fall"]
    assert [row[-1].strip(" |") for row in rows] == ["yes", "yes", "**no**", ""]


def test_the_window_of_a_panning_camera_crosses_the_picture(tmp_path: Path) -> None:
    settings = MotionScenesConfig(train=12, test=2, size=reliance.WIDE, frames=8, motions=2)
    wide = write_motionscenes(settings, tmp_path / "wide", workers=1)
    reliance.pan(wide, tmp_path / "panned")
    for place, at in ((0, slice(0, 72)), (10, slice(36, 108))):
        name = f"videos/train/{place:05d}.mp4"
        seen = read_frames(tmp_path / "panned" / name, np.arange(8)).astype(int)
        whole = read_frames(wide / name, np.arange(8)).astype(int)[:, 18:90]
        assert np.abs(seen[0] - whole[0][:, at]).mean() < 6
        assert np.abs(seen[-1] - whole[-1][:, at]).mean() > 6
    assert read_list(tmp_path / "panned" / "test_conflict.txt").labels.tolist() == [0, 1]


def test_agreement_names_what_does_not_follow_the_loss() -> None:
    measured = {}
    for place in range(6):
        lost, near = place / 10, 0.4 + 0.01 * (place * 5 % 6)
        values = {
            "acc_clip": 0.9, "conflict": 0.9 - 0.8 * lost, "motion_gain": 1 - lost, "scene_reliance": lost,
            "conflfg_error": 1 - lost, "opposites": near,
        }  # fmt: skip
        measured[f"e{place}"] = numbers({name: (value, value, value) for name, value in values.items()})
    measured["unskilled"] = numbers({"acc_clip": (0.1, 0.1, 0.1), "conflict": (0.1, 0.1, 0.1)})
    text = agreement.agreement({"dots": [measured]})
    assert "| `scene_reliance` | rises | +1.00 | +1.00 | 6 |" in text
    assert "| `motion_gain` | falls | -1.00 | -1.00 | 6 |" in text
    assert text.endswith("in the right direction: `conflfg_error`, `opposites`.\n")
    assert "| dots | unskilled | 10 | 10 | no skill |  |" in agreement.losses({"dots": [measured]})


def test_pictures_that_show_motion_are_told() -> None:
    values = {"acc_clip": (0.8, 0.7, 0.9), "motion_gain": (0.03, -0.1, 0.1)}
    of = {name: numbers(values) for name in encoders.TITLES}
    told = encoders.verdict(of)
    assert "motion gain contains 0, as it must" in told
    assert "order sensitivity cannot be measured" in told
    of["pictures"] = numbers({"order_sensitivity": (0.3, 0.1, 0.5)})
    assert "order sensitivity **does not contain 0**" in encoders.verdict(of)
    assert "| `dsm` | 80.0 [70.0, 90.0] |  | 3.0 [-10.0, 10.0] |  |  |" in encoders.table(of)


def test_a_backdrop_of_the_gestures_is_for_training_or_for_the_test(tmp_path: Path) -> None:
    rows = [(f"{name}/{place}.mp4", label, place) for label, name in enumerate("ab") for place in range(6)]
    (tmp_path / "all.txt").write_text("".join(f"{path} {label} 20\n" for path, label, _ in rows))
    (tmp_path / "groups.tsv").write_text("path\tgroup\n" + "".join(f"{path}\tg{g}\n" for path, _, g in rows))
    (tmp_path / "classes.txt").write_text("a\nb\n")
    encoders.gesture_lists(tmp_path / "lists", encoders.Options(gestures=tmp_path))
    train, test = (read_list(tmp_path / "lists" / f"{part}.txt") for part in ("train", "test"))
    assert sorted(Path(path).stem for path in test.paths) == ["0", "0", "3", "3"]
    assert len(train) == 8
    assert (tmp_path / "lists" / "groups.tsv").read_text().count("\tg3\n") == 2


@pytest.mark.slow
def test_four_encoders_of_different_clips_are_compared_in_one_report(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    line = [sys.executable, ROOT / "studies" / "encoders.py", "--quick", "--out", tmp_path / "out"]
    subprocess.run(line, check=True, cwd=tmp_path)
    text = (tmp_path / "out-quick" / "encoders.md").read_text()
    assert [row.split(" | ")[0] for row in text.splitlines() if row.startswith("| ")][1:] == [
        "| VideoMAE, small", "| pictures, frame by frame", "| `moco`", "| `dsm`"
    ]  # fmt: skip
    assert "Frame by frame, its motion gain" in text


@pytest.mark.slow
def test_every_study_runs_with_quick(tmp_path: Path) -> None:
    line = [sys.executable, ROOT / "studies" / "everything.py", "--quick", "--out", tmp_path / "all"]
    subprocess.run(line, check=True, cwd=tmp_path)
    written = {file.name for file in (tmp_path / "all").glob("*/*.md")}
    assert {
        "demo.md",
        "reliance.md",
        "findings.md",
        "agreement.md",
        "places.md",
        "places_search.md",
        "look.md",
        "health.md",
    } <= written


def test_real_alarms_are_near_the_stated_rate_and_small_archives_are_told() -> None:
    rng = np.random.default_rng(0)
    cameras = np.repeat(np.arange(12), 20)
    backdrops = 4 * np.eye(12)[cameras]
    rows = (backdrops + rng.standard_normal((240, 12))).astype(np.float32)
    features = Features(rows, np.full(240, -1), [f"{row}.mp4" for row in range(240)])
    found, refused = insight.real_alarms(features, [str(one) for one in cameras], ("random", 0, "made"))
    by_metric = {row.metric: row for row in found}
    for rate in (0.05, 0.1):
        same, other = (by_metric[f"alarms at {rate:.0%}, {where}"] for where in insight.WHERE)
        assert same.low is not None
        assert same.high is not None
        assert same.low - 0.02 < rate < same.high + 0.03
        assert other.value > 3 * rate, "another camera is new"
    assert "alarms at 1%, same cameras" not in by_metric
    assert "made, same cameras, 1%" in refused
    archive, new = insight.halves([str(one) for one in cameras], "other cameras", rng)
    assert not set(cameras[archive]) & set(cameras[new])


def test_a_rare_motion_is_found_if_its_features_are_apart() -> None:
    rng = np.random.default_rng(0)
    motion = np.repeat(["hop", "pulse", "spin", "swing"], 60)
    axes = np.eye(4)[np.unique(motion, return_inverse=True)[1]]
    for apart, expected in ((1.0, 1.0), (0.0, 0.0)):
        rows = np.concatenate([apart * axes, 0.1 * rng.standard_normal((len(motion), 8))], axis=1)
        features = Features(
            rows.astype(np.float32), np.full(len(rows), -1), [f"v{row}.mp4" for row in range(len(rows))]
        )
        values = insight.oddities(features, motion, 0)
        assert set(values) == {"oddities", "oddities_chance", *(f"oddities, {one}" for one in set(motion))}
        assert values["oddities"] == pytest.approx(expected, abs=0.2)
        assert values["oddities_chance"] == pytest.approx(20 / 183)


def test_planted_copies_show_what_their_originals_show(tmp_path: Path) -> None:
    originals, lines = {}, []
    for place in range(6):
        at = np.arange(60)[:, None, None]
        frames = np.zeros((60, 80, 80, 3), np.uint8)  # a bar that moves by a pixel a frame
        frames[(np.arange(80) + 0 * np.arange(80)[:, None] - at) % (20 + place) < 8] = 200
        path = f"v{place}.mp4"
        originals[path] = frames
        write_video(tmp_path / path, frames, fps=insight.FPS)
        lines.append(f"{path} {place % 2} 60\n")
    (tmp_path / "train.txt").write_text("".join(lines))
    listed, of = insight.plant(tmp_path, insight.Options(copied=2), 0)
    videos = read_list(listed)
    assert len(of) == 6
    assert len(videos) == 6 + 6
    assert not videos.labelled
    for copy, (original, kind) in of.items():
        frames = originals[original]
        shown = {
            "encoded again": frames, "cropped": frames[:, 4:-4, 4:-4], "a second later": frames[insight.FPS :]
        }[kind]  # fmt: skip
        found = read_frames(tmp_path / copy, np.arange(len(shown)))
        assert found.shape == shown.shape
        assert np.abs(found.astype(int) - shown).mean() < 12
