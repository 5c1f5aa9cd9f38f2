"""Near-duplicates: pairs, groups of which one is kept, and lists without them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dsm
from dsm.cli.main import run
from dsm.data.lists import read_list
from dsm.errors import UserError
from dsm.evaluate.duplicates import find_duplicates, keep_one
from dsm.evaluate.explore import duplicate_groups, explore
from dsm.evaluate.feature_files import save_features
from dsm.evaluate.features import Features
from dsm.video.write import write_video

PAIRS = st.sets(st.tuples(st.integers(0, 11), st.integers(0, 11)).filter(lambda pair: pair[0] < pair[1]))


@given(PAIRS, st.permutations(range(12)))
@settings(deadline=None)
def test_what_is_kept_has_no_pair_and_what_is_left_out_has_one(
    pairs: set[tuple[int, int]], order: list[int]
) -> None:
    cosine = {pair: 0.9 + 0.001 * number for number, pair in enumerate(sorted(pairs))}
    inside = [row for row in order if any(row in pair for pair in pairs)]
    groups = keep_one([(*pair, cosine[pair]) for pair in pairs], inside)
    left_out = {row for group in groups for row, _ in group.left_out}
    assert len(left_out) == sum(len(group.left_out) for group in groups), "nothing is left out twice"
    kept = set(range(12)) - left_out
    assert not any(one in kept and two in kept for one, two in pairs)
    for group in groups:
        assert group.row in kept
        for row, known in group.left_out:
            assert known == cosine[min(row, group.row), max(row, group.row)]
            assert inside.index(group.row) < inside.index(row), "the one more worth keeping is kept"


def test_cosines_are_of_features_less_their_mean() -> None:
    rng = np.random.default_rng(0)
    rows = 5 + rng.normal(size=(5000, 16)).astype(np.float32)  # two blocks in a narrow cone
    rows[4990] = rows[7] + 0.01 * rng.normal(size=16)
    features = Features(rows, np.zeros(5000, np.int64), [f"{place}.mp4" for place in range(5000)])
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    rest = unit - unit.mean(0, dtype=np.float64)
    rest /= np.linalg.norm(rest, axis=1, keepdims=True)
    cosines = np.triu(rest @ rest.T, 1)
    found = {(one, two): cosine for one, two, cosine in find_duplicates(features, 0.9)}
    expected = {(int(a), int(b)) for a, b in zip(*np.nonzero(cosines >= 0.9), strict=True)}
    assert found.keys() == expected
    assert (7, 4990) in expected
    assert found[7, 4990] == pytest.approx(cosines[7, 4990], abs=1e-5)
    same = Features(np.ones((3, 4), np.float32), np.zeros(3, np.int64), ["a.mp4", "b.mp4", "c.mp4"])
    assert len(list(find_duplicates(same, 1))) == 3, "rows that all are the mean"


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_copies_are_found_though_most_videos_are_copies_of_one(share: float) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 64))
    copies = int(300 * share)
    rows[:copies] = rows[0] + 0.02 * rng.normal(size=(copies, 64))
    features = Features(rows.astype(np.float32), np.zeros(300, np.int64), [f"{i}.mp4" for i in range(300)])
    expected = {(one, two) for two in range(copies) for one in range(two)}
    assert {pair[:2] for pair in find_duplicates(features, 0.95)} == expected
    found = explore(features.features, features.paths)
    assert duplicate_groups(found.across, 0.95) == [list(range(copies))]


def test_copies_have_a_cosine_of_one_whatever_rounding_does() -> None:
    rows = np.random.default_rng(0).normal(size=(100, 64)).astype(np.float32)
    rows[50:] = rows[:50]
    found = explore(rows, [f"{place}.mp4" for place in range(100)])
    assert len(duplicate_groups(found.across, 1)) == 50


def test_duplicates_are_pairs_of_different_videos() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 16)).astype(np.float32)
    rows[40], rows[13] = 3 * rows[2], rows[12]
    paths = [f"{place}.mp4" for place in range(50)]
    paths[13] = paths[12]  # two clips of one video
    found = list(find_duplicates(Features(rows, np.zeros(50, np.int64), paths), 0.999))
    assert [(one, two) for one, two, _ in found] == [(2, 40)]


def test_exact_copies_are_found_at_a_threshold_of_one() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 256)).astype(np.float32)
    paths = [f"{place}.mp4" for place in range(100)]
    copies = Features(np.tile(rows, (2, 1)), np.zeros(100, np.int64), paths)
    assert [(one, two) for one, two, _ in find_duplicates(copies, 1)] == [
        (one, one + 50) for one in range(50)
    ]


def test_duplicates_are_sorted_and_grouped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(12, 64)).astype(np.float32)
    rows[[4, 9]] = rows[1] + np.array([[0.02], [0.03]]) * rng.normal(size=(2, 64))
    rows[7] = rows[2] + 0.001 * rng.normal(size=64)
    for place, side in enumerate((32, 32, 32, 32, 32, 32, 32, 64, 32, 48, 32, 32)):
        frames = rng.integers(0, 255, (6, side, side, 3), dtype=np.uint8)
        write_video(tmp_path / "v" / f"<{place}>.mp4", frames)
    paths = [f"v/<{place}>.mp4" for place in range(12)]
    save_features(tmp_path / "f.npz", Features(rows, np.zeros(12, np.int64), paths, {"root": str(tmp_path)}))
    words = ["search", "--index", str(tmp_path / "f.npz"), "--duplicates"]
    run(words)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == ["1", "2", "2", "2"]
    assert lines[0][2:] == [paths[2], paths[7]]
    assert {path for line in lines[1:] for path in line[2:]} == {paths[1], paths[4], paths[9]}
    for group in (lines[:1], lines[1:]):
        cosines = [float(line[1]) for line in group]
        assert cosines == sorted(cosines, reverse=True)
    run([*words, "--out", str(tmp_path / "twice.html")])
    text = (tmp_path / "twice.html").read_text()
    assert "2 groups of near-duplicates" in text
    assert "v/<7>" not in text
    assert text.index("v/&lt;7&gt;.mp4") < text.index("v/&lt;2&gt;.mp4"), "the larger picture is kept"
    assert text.count("data:video/mp4") == 5


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """Videos 0 to 19; 3 is a copy of 1 and larger, 4 is near 3 but not near 1, 7 has the label of no copy."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(20, 64))
    rows[3] = rows[1] + 0.35 * rng.normal(size=64)
    rows[4] = 2 * rows[3] - rows[1]
    rows[7] = rows[6] + 0.01 * rng.normal(size=64)
    labels = np.arange(20) % 3
    for place in range(20):
        side = 48 if place == 3 else 32
        write_video(tmp_path / f"v/{place}.mp4", np.full((4, side, side, 3), 9 * place, np.uint8))
    lines = [f"v/{place}.mp4 {labels[place]}\n" for place in range(20)]
    (tmp_path / "all.txt").write_text("".join(lines))
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    paths = [f"v/{place}.mp4" for place in range(20)]
    features = Features(rows.astype(np.float32)[:19], labels[:19], paths[:19], {"root": str(tmp_path)})
    save_features(tmp_path / "f.npz", features)
    return tmp_path


def test_a_list_loses_its_near_duplicates_and_says_which(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = copied / "lists" / "clean.txt"
    words = [
        "data", "dedup", str(copied / "all.txt"), "--features", str(copied / "f.npz"), "--out", str(out),
    ]  # fmt: skip
    run([*words, "--threshold", "0.9"])
    told = " ".join(capsys.readouterr().err.split())
    left = [Path(path).name for path in read_list(out).paths]
    assert left == [f"{place}.mp4" for place in range(20) if place not in (1, 4, 7)]
    assert all(Path(path).is_file() for path in read_list(out).paths), (
        "paths lead to the videos from anywhere"
    )
    assert (out.parent / "classes.txt").read_text() == "a\nb\nc\n"
    lines = [line.split("\t") for line in (copied / "lists/clean.txt.left-out.tsv").read_text().splitlines()]
    assert [line[:4] for line in lines[1:]] == [
        ["1", "yes", "v/3.mp4", "0"], ["1", "no", *lines[2][2:4]], ["1", "no", *lines[3][2:4]],
        ["2", "yes", "v/6.mp4", "0"], ["2", "no", "v/7.mp4", "1"],
    ]  # fmt: skip
    assert {lines[2][2], lines[3][2]} == {"v/1.mp4", "v/4.mp4"}
    assert float(lines[2][4]) >= float(lines[3][4]) >= 0.9
    assert "1 video has no features; kept: v/19.mp4." in told
    assert "although the label differs" in told
    assert "v/7.mp4 (1, kept 0)" in told
    assert "3 left out of 2 groups" in told
    with pytest.raises(UserError, match="already exists"):
        run(words)


def test_a_list_without_features_is_refused_and_one_without_duplicates_stays(copied: Path) -> None:
    other = copied / "elsewhere" / "all.txt"
    other.parent.mkdir()
    other.write_text("x.mp4\ny.mp4\n")
    with pytest.raises(UserError, match="has features of no video of"):
        dsm.data.dedup(videos=other, features=copied / "f.npz", out=copied / "a.txt")
    moved = other.with_name("moved.txt")
    moved.write_text((copied / "all.txt").read_text())
    result = dsm.data.dedup(
        videos=moved, features=copied / "f.npz", out=other.with_name("a.txt"), threshold=0.9
    )
    assert len(result.videos) == 17, "of a list that has moved, the paths as written are the same"
    twice = copied / "twice.txt"
    twice.write_text("v/0.mp4 0\nv/0.mp4 0\nv/2.mp4 1\n")
    result = dsm.data.dedup(videos=twice, features=copied / "f.npz", out=copied / "b.txt")
    assert result.videos.paths == ["v/0.mp4", "v/0.mp4", "v/2.mp4"]
    assert result.groups == []
    twice.write_text("v/6.mp4 0\nv/7.mp4 1\nv/6.mp4 0\nv/0.mp4 0\nv/7.mp4 2\n")
    result = dsm.data.dedup(videos=twice, features=copied / "f.npz", out=copied / "c.txt")
    assert result.videos.paths == ["v/6.mp4", "v/6.mp4", "v/0.mp4"], "both listings of 7 are left out"
    assert [row for row, _ in result.groups[0].left_out] == [1, 4]
