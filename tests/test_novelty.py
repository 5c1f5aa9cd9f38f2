"""New footage against an archive: rates of alarms, p-values, and how large an archive must be."""

from __future__ import annotations

import re

import numpy as np
import pytest

from dsm.errors import UserError
from dsm.evaluate.novelty import novelty


def clips(rng: np.random.Generator, videos: int) -> tuple[np.ndarray, list[str]]:
    """Clips of videos that differ in their middle, their spread and their number of clips."""
    rows, names = [], []
    for video in range(videos):
        many_clips = int(rng.integers(1, 9))
        middle, spread = rng.standard_normal(8), rng.uniform(0.1, 1)
        rows.append(middle + spread * rng.standard_normal((many_clips, 8)))
        names += [str(video)] * many_clips
    return np.concatenate(rows).astype(np.float32), names


def test_false_alarms_are_as_stated_over_many_archives() -> None:
    """The rate is of one clip of a new video; the mean over draws is within sampling of it, and not above."""
    rng = np.random.default_rng(0)
    rate, shares = 0.1, []
    for draw in range(60):
        archive, names = clips(rng, 60)
        new, of = clips(rng, 40)
        alarms = novelty(archive, names, new, rate=rate, seed=draw).alarms
        shares.append(np.mean([alarms[np.array(of) == video].mean() for video in set(of)]))
    error = np.std(shares) / np.sqrt(len(shares))
    assert rate - 0.03 - 3 * error < np.mean(shares) < rate + 3 * error


def test_p_values_equal_a_slow_reference_and_new_clips_are_alarms() -> None:
    rng = np.random.default_rng(1)
    archive, names = clips(rng, 80)
    new = np.concatenate([archive[:5] + 0.01, 30 * np.eye(8, dtype=np.float32)[:2] * [[1], [-1]]]).astype(
        np.float32
    )
    found = novelty(archive, names, new, rate=0.1, k=3, seed=4)
    order = np.random.default_rng(4).permutation(len(set(names)))[:40]
    held = set(np.unique(names)[order].tolist())
    base = np.array([name not in held for name in names])
    unit = archive / np.linalg.norm(archive, axis=1, keepdims=True)
    middle = unit[base].mean(0)

    def score(row: np.ndarray) -> float:
        others = unit[base] - middle
        row = row / np.linalg.norm(row) - middle
        cosines = others @ row / np.linalg.norm(others, axis=1) / np.linalg.norm(row)
        return float(1 - np.sort(cosines)[-3:].mean())

    for place, row in enumerate(new):
        own = score(row)
        assert found.scores[place] == pytest.approx(own, abs=1e-5)
        weight = 1.0
        for video in held:
            scores = [score(archive[at]) for at, name in enumerate(names) if name == video]
            weight += np.mean([one >= own - 1e-9 for one in scores])
        assert found.p_values[place] == pytest.approx(weight / 41, abs=0.01)
    assert (found.alarms == (found.p_values <= 0.1)).all()
    with pytest.raises(UserError, match="needs at least 197"):
        novelty(archive, names, new, rate=0.01)


@pytest.mark.parametrize("rate", [0.5, 0.4, 0.06, 0.05, 0.03, 0.021, 0.01])
def test_an_archive_of_the_size_that_is_asked_for_is_enough(rate: float) -> None:
    rows = np.random.default_rng(0).standard_normal((300, 4)).astype(np.float32)
    names = [str(number) for number in range(300)]
    with pytest.raises(UserError, match="needs at least") as refused:
        novelty(rows[:1], names[:1], rows, rate=rate)
    needed = int(re.findall(r"at least (\d+)", str(refused.value))[0])
    assert novelty(rows[:needed], names[:needed], rows, rate=rate).held == -(-needed // 2)
    with pytest.raises(UserError, match=f"needs at least {needed}"):
        novelty(rows[: needed - 1], names[: needed - 1], rows, rate=rate)
