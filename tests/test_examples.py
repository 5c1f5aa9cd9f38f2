"""The examples run as their first lines say."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from warm_dsm import run_line

import dsm
from dsm.disturb import spatial_kinds, spatial_mix, temporal
from dsm.methods import METHODS
from dsm.models.zoo import MODELS

EXAMPLES = Path(__file__).parents[1] / "examples"
PAGE = EXAMPLES.parent / "docs" / "extending.md"
NEW = ("new_method", "new_backbone", "new_disturbance")
Loader = Callable[[str], ModuleType]


def run_example(name: str, *words: object) -> str:
    done = run_line("python", EXAMPLES / name, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def encoder(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("example") / "run"
    output = run_example(
        "pretrain_folder.py", scenes / "videos" / "train", out, "--steps", 2, "--batch-size", 4
    )
    assert "load_encoder" in output
    return out


def test_classify_labels_every_video(encoder: Path, scenes: Path) -> None:
    output = run_example("classify.py", encoder, scenes / "train.txt", scenes / "videos" / "test_free")
    lines = output.splitlines()
    assert len(lines) == 10
    assert all(0 <= int(line.split("\t")[1]) < 10 for line in lines)


def test_search_finds_the_video_itself(encoder: Path, scenes: Path) -> None:
    video = sorted((scenes / "videos" / "train").rglob("*.mp4"))[3]
    output = run_example("search.py", encoder, scenes / "videos" / "train", video, "--k", 2)
    assert output.splitlines()[0].startswith("1.000")
    assert video.name in output.splitlines()[0]


def test_the_own_loop_example_learns(scenes: Path) -> None:
    output = run_example("own_loop.py", scenes / "videos" / "train", "--steps", 21, "--batch-size", 4)
    losses = [float(line.split("loss ")[1].split(",")[0]) for line in output.splitlines()]
    assert len(losses) == 3
    assert losses[-1] < losses[0]


def test_a_new_method_trains_and_logs_motion(scenes: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run_example("new_method.py", scenes / "train.txt", out, "--steps", 3, "--batch-size", 8)
    last = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    assert 0 <= last["motion"] <= 1
    assert dsm.load_encoder(out).feature_dim == 128, "its checkpoint loads without the example"
    assert '"redundancy": 0.01' in (out / "config.json").read_text()


def test_a_new_backbone_trains_and_loads_again(scenes: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    output = run_example("new_backbone.py", scenes / "train.txt", out, "--steps", 3, "--batch-size", 8)
    assert "features of 256 dimensions" in output


def test_the_example_network_is_sensitive_to_frame_order(load_example: Loader) -> None:
    example = load_example("new_backbone")
    encoder = example.ShiftNet().eval()
    clip = torch.rand(1, 3, 8, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert not torch.allclose(encoder(clip), encoder(clip.flip(2)), atol=1e-6)
    ramp = torch.arange(8.0).reshape(1, 1, 8, 1, 1).expand(1, 8, 8, 1, 1)
    lent = example.lend(ramp)[0, :, :, 0, 0]
    assert lent[0].tolist() == [0, 0, 1, 2, 3, 4, 5, 6]
    assert lent[1].tolist() == [1, 2, 3, 4, 5, 6, 7, 0]
    assert torch.equal(lent[2:], ramp[0, 2:, :, 0, 0])


def test_new_disturbances_are_previewed_and_trained_with(scenes: Path, tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    out = tmp_path / "run"
    output = run_example("new_disturbance.py", scenes / "train.txt", out, "--steps", 3, "--batch-size", 8)
    assert "negative" in output
    assert (tmp_path / "run.html").stat().st_size > 10_000
    settings = json.loads((out / "config.json").read_text())["config"]["settings"]["dsm"]
    assert settings["sld"]["tiles"] == settings["tld"]["there_and_back"] == 1


def test_the_example_disturbances_do_what_they_document(load_example: Loader) -> None:
    example = load_example("new_disturbance")
    clip = torch.arange(9.0).reshape(1, 1, 1, 3, 3).repeat_interleave(8, 3).repeat_interleave(8, 4)
    tiled = example.Tiles()(clip.expand(2, 1, 4, 24, 24), seed=0, padding="border")
    values = tiled[:, 0, :, 4::8, 4::8].reshape(2, 4, 9)
    assert torch.equal(values, values[:, :1].expand_as(values)), "all frames are changed alike"
    assert values[0, 0].sort().values.tolist() == list(range(9)), "no tile is lost"
    assert not torch.equal(values[0], values[1]), "each clip is changed differently"
    assert torch.equal(example.Tiles(strength=0)(clip, seed=0), clip)
    back = example.there_and_back(np.arange(10, 26, 2), 60, np.random.default_rng(0))
    assert back.tolist() == [10, 12, 14, 16, 16, 14, 12, 10]


@pytest.fixture
def load_example(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loader]:
    """Import an example; its entries in tables are removed at the end."""
    tables: list[dict[str, Any]] = [METHODS, MODELS, spatial_kinds.KINDS, temporal.KINDS]
    before = [dict(table) for table in tables]

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    yield load
    for table, old in zip(tables, before, strict=True):
        table.clear()
        table.update(old)


def test_an_added_kind_does_not_change_other_mixes(load_example: Loader) -> None:
    before = spatial_mix.SpatialMix(tps=1).draw(np.random.default_rng(0))
    load_example("new_disturbance")
    after = spatial_mix.SpatialMix(tps=1).draw(np.random.default_rng(0))
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in after)


@pytest.mark.parametrize("name", NEW)
def test_the_page_quotes_the_example_verbatim(name: str) -> None:
    text = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    shown = text.split("from __future__ import annotations\n")[1].split(
        "@dataclass(frozen=True)\nclass Options"
    )[0]
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert shown.strip() in [block.strip() for block in blocks]
