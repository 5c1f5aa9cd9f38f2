"""Fields of the wrong type, in any file that a stranger may have written, are told where they are read."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
import pytest

from dsm.errors import UserError
from dsm.evaluate.feature_files import load_features, save_features
from dsm.evaluate.features import Features
from dsm.files import read_object
from dsm.limits import JSON_DEPTH, LAYERS
from dsm.pages.run_figures import draw_gradients
from dsm.runs.card import card_text
from dsm.runs.folder import read_record
from dsm.runs.logs import read_gradients, read_metrics
from dsm.runs.results import read_results
from dsm.untrusted import checked, parse_json, read_json
from dsm.video.ledger import read_ledger

DEEP = "[" * 100_000


@dataclass(frozen=True)
class Point:
    x: float
    kind: Literal["a", "b"]
    note: str | None = None


class Shape(TypedDict, total=False):
    points: list[Point]
    named: dict[str, int]


def test_json_of_bounded_depth_and_size(tmp_path: Path) -> None:
    assert parse_json('{"a": [1, 2.5, null, "x"]}') == {"a": [1, 2.5, None, "x"]}
    assert parse_json("[" * JSON_DEPTH + "]" * JSON_DEPTH)
    wide = "[" + "[]," * 1000 + "[]]"
    assert len(parse_json(wide)) == 1001
    for text in (DEEP, "[" * (JSON_DEPTH + 1) + "]" * (JSON_DEPTH + 1), "{", "9" * 5000, wide):
        with pytest.raises(ValueError, match=r"."):
            parse_json(text, most=2000 if text == wide else 10**6)
    (tmp_path / "x.json").write_text('{"a": 1}')
    assert read_json(tmp_path / "x.json") == {"a": 1}
    with pytest.raises(ValueError, match="more than 5 bytes"):
        read_json(tmp_path / "x.json", most=5)
    (tmp_path / "x.json").write_text(DEEP)
    assert read_object(tmp_path / "x.json") is None


def test_values_are_checked_against_type_hints() -> None:
    found = checked({"points": [{"x": 1, "kind": "a"}], "named": {"n": 3}, "other": [1]}, Shape)
    assert found["points"] == [Point(1, "a")]
    assert found["other"] == [1]  # type: ignore[typeddict-item]
    wrong: list[Any] = [
        [], {"points": {}}, {"points": [{"x": 1}]}, {"points": [{"x": "1", "kind": "a"}]},
        {"points": [{"x": True, "kind": "a"}]}, {"points": [{"x": 10**400, "kind": "a"}]},
        {"points": [{"x": 1, "kind": ["a"]}]}, {"points": [{"x": 1, "kind": "c"}]},
        {"points": [{"x": 1, "kind": "a", "more": 1}]}, {"points": [{"x": 1, "kind": "a", "note": 5}]},
        {"named": {"n": 1.5}}, {"named": [1]},
    ]  # fmt: skip
    for value in wrong:
        with pytest.raises(ValueError, match=r"is|has"):
            checked(value, Shape)


@pytest.mark.parametrize(
    "odd",
    [
        {"config": [1]},
        {"versions": 5},
        {"versions": {"dsm": 1}},
        {"revision": {"a": 1}},
        {"command": [1]},
        {"data": [1]},
        {"data": {"frames": "<script>"}},
        {"data": {"videos": {}}},
    ],
)
def test_a_record_of_a_run_has_the_right_types(tmp_path: Path, odd: dict[str, Any]) -> None:
    record = {"command": "dsm", "config": {}, "versions": {"dsm": "1"}, "revision": None}
    (tmp_path / "config.json").write_text(json.dumps(record))
    assert read_record(tmp_path) == record
    (tmp_path / "config.json").write_text(json.dumps(record | odd))
    assert read_record(tmp_path) is None


def test_lines_of_logs_that_make_no_sense_are_left_out(tmp_path: Path) -> None:
    lines = [
        '{"step": true, "loss": 1}', '{"step": -5, "loss": 1}', f'{{"step": {"9" * 300}, "loss": 1}}',
        f'{{"step": 1, "loss": {"9" * 400}, "lr": true, "motion": 0.5}}',
        f'{{"step": 2, "note": "{"a" * 3_000_000}"}}', DEEP, '{"step": 3, "loss": null}',
    ]  # fmt: skip
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    first, second = read_metrics(tmp_path)
    assert first == {"step": 1, "motion": 0.5}
    assert second["step"] == 3
    assert math.isnan(second["loss"])
    odd: list[Any] = ["xx", [1], [1, "x", 3], {"d": 1}, [1, [2], 3]]
    logged = [json.dumps({"step": step, "layers": {"a": one}}) for step, one in enumerate(odd)]
    many = {f"layer{place}": [1, 2, 3] for place in range(3 * LAYERS)}
    logged += ['{"step": 8, "layers": {"a": [1, null, 3]}}', json.dumps({"step": 9, "layers": many})]
    (tmp_path / "gradients.jsonl").write_text("\n".join(logged))
    assert [line["step"] for line in read_gradients(tmp_path)] == [8, 9]
    figure = draw_gradients(tmp_path)
    assert figure is not None
    assert len(figure.axes[1].get_xticks()) == LAYERS


@pytest.mark.parametrize(
    "text",
    [
        DEEP,
        "[]",
        '{"files": 5}',
        '{"files": [{"path": 5, "verdict": "ok"}]}',
        '{"files": [{"path": "a", "verdict": ["ok"]}]}',
        '{"files": [{"path": "a", "verdict": "ok", "frames": "many"}]}',
        '{"rows": {"a": 1}}',
        '{"rows": [{"run": "a"}]}',
        '{"rows": [{"run": null, "seed": 0, "test": "t", "metric": "m", "value": 0, "low": null, '
        '"high": null, "n": 1}]}',
        '{"rows": [{"run": "r", "seed": [0], "test": "t", "metric": "m", "value": 0, "low": null, '
        '"high": null, "n": 1}]}',
    ],
)
def test_ledgers_and_results_of_strangers(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match="is not a results file of dsm"):
        read_results(tmp_path / "x.json")
    with pytest.raises(UserError, match="is not a ledger"):
        read_ledger(tmp_path / "x.json")


def test_the_origin_of_features_has_the_right_types(tmp_path: Path) -> None:
    for odd in (
        {"classes": [[1]]},
        {"root": 5},
        {"run": {"a": 1}},
        {"seed": "x"},
        {"clip": [1]},
        {"weights": ["a"]},
        {"backbone": {"a": 1}},
    ):
        features = Features(np.ones((2, 3), np.float32), np.zeros(2, np.int64), ["a", "b"], odd)
        save_features(tmp_path / "f.npz", features)
        with pytest.raises(UserError, match="its meta is not as dsm writes it"):
            load_features(tmp_path / "f.npz")


def test_a_card_shows_what_a_stranger_wrote_as_it_is() -> None:
    """Markup in a checkpoint's words stays within code, so no page that shows the card runs it."""
    evil = "<script>alert(1)</script> ` | x\n# title"
    about = {
        "backbone": "tiny",
        "method": evil,
        "classes": [evil],
        "settings": {"data.batch-size": evil, "data.videos": evil, "seed": f"```\n{evil}"},
    }
    record = {
        "command": evil, "revision": evil, "versions": {evil: evil}, "config": {"weights": evil},
        "data": {"list": evil, "videos": evil, "frames": evil},
    }  # fmt: skip
    text = card_text(about, load=evil, record=record, step=1)
    inside, fence = False, ""
    for line in text.splitlines():
        if not inside and line.startswith("```"):
            inside, fence = True, line[: len(line) - len(line.lstrip("`"))]
        elif inside and line == fence:
            inside = False
        elif not inside:
            assert not line.startswith("# title")
            assert "<script>" not in outside_code(line), line


def outside_code(line: str) -> str:
    """A line of Markdown without its spans of code."""
    return re.sub(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", "", line)
