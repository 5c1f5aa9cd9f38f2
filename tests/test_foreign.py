"""Checkpoints of other projects: exact by golden files, with their parameter names mapped."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from runs import CLIP
from test_models import filled
from torch import Tensor

import dsm
from dsm.cli import main
from dsm.data.settings import ClipChanges
from dsm.errors import UserError
from dsm.methods.classify import ClassifyConfig
from dsm.models.foreign import Renormalized, build, find_encoder
from dsm.models.inert import find_tensors
from dsm.models.settings import LoadSettings
from dsm.models.sources import SOURCES
from dsm.models.weights import load_weights
from dsm.models.zoo import create_model
from dsm.train.finetune import FinetuneConfig, FinetuneData, finetune
from dsm.verbs.export import ExportConfig, export

ORIGINAL = {
    "i3d": "i3d",
    "c3d": "c3d",
    "r3d18": "r3d18",
    "r3d34": "r3d34",
    "r2p1d": "r2plus1d10",
    "s3d": "s3dg",
}


def formula(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """Tensors computed from their index and name, like those of the golden files."""
    return {
        name: filled(place, name, shape).float() if shape else torch.tensor(0)
        for place, (name, shape) in enumerate(shapes.items())
    }


@pytest.mark.parametrize(
    "arch", [pytest.param(a, marks=[pytest.mark.slow] * (a in ("r3d34", "c3d", "r2p1d"))) for a in ORIGINAL]
)
def test_checkpoints_of_the_published_code_give_its_embeddings(
    arch: str, shared: Path, tmp_path: Path
) -> None:
    shapes = json.loads((shared / "golden" / "original_state_dicts.json").read_text())[arch]["keys"]
    golden = np.load(shared / "golden" / f"model_{arch}.npz")
    state = {f"module.{name}": tensor for name, tensor in formula(shapes).items()}
    path = tmp_path / "original.pth"
    torch.save({"model": state, "epoch": 7}, path)
    loaded = load_weights(path, head="projection")
    assert loaded.report is not None
    assert loaded.report.backbone == ORIGINAL[arch]
    assert loaded.report.missing == loaded.report.unfit == []
    clip = torch.from_numpy(
        np.sin(0.0137 * np.arange(2 * 3 * 16 * 112 * 112)).reshape(2, 3, 16, 112, 112)
    ).float()
    with torch.no_grad():
        embedding = loaded.module.eval()(clip).numpy()
    assert np.abs(embedding - golden["embedding"]).max() < 1e-4
    if "map_mean" in golden:
        encoder: Any = dsm.load_encoder(path)
        with torch.no_grad():
            feature_map = encoder.feature_map(clip)
        assert tuple(feature_map.shape) == tuple(golden["map_shape"])
        assert np.abs(feature_map.mean((2, 3, 4)).numpy() - golden["map_mean"]).max() < 1e-4


def as_hara(name: str) -> str:
    name = (
        name.removeprefix("stages.")
        .replace("shortcut.conv", "downsample.0")
        .replace("shortcut.norm", "downsample.1")
    )
    return name.replace("norm", "bn")


def as_piergiaj(name: str) -> str:
    name = name.removeprefix("stages.")
    for ours, theirs in {
        "conv1.": "Conv3d_1a_7x7.", "conv2b.": "Conv3d_2b_1x1.", "conv2c.": "Conv3d_2c_3x3.",
        "mixed": "Mixed_", "branch0": "b0",
        "branch1.0": "b1a", "branch1.1": "b1b", "branch2.0": "b2a", "branch2.1": "b2b",
        "branch3.1": "b3b", ".conv.": ".conv3d.", ".norm.": ".bn.",
    }.items():  # fmt: skip
        name = name.replace(ours, theirs)
    return name


CASES: dict[str, tuple[str, dict[str, Any], Callable[[str], str]]] = {
    "hara r3d18": ("r3d18", {}, as_hara),
    "hara r3d50": ("r3d50", {}, as_hara),
    "hara r3d18, shortcut A": ("r3d18", {"shortcut": "A"}, as_hara),
    "piergiaj i3d": ("i3d", {"norm_eps": 1e-3}, as_piergiaj),
    "piergiaj i3d, flow": ("i3d", {"norm_eps": 1e-3, "in_channels": 2}, as_piergiaj),
}


@cache
def random_tensors(backbone: str, **settings: Any) -> dict[str, Tensor]:
    """The tensors of our backbone. They are large, so they are made once, and not to be changed."""
    with torch.device("meta"):
        model = create_model(backbone, **settings)
    return formula({name: list(tensor.shape) for name, tensor in model.state_dict().items()})


def random_state(backbone: str, settings: dict[str, Any], named: Callable[[str], str]) -> dict[str, Tensor]:
    return {named(name): tensor for name, tensor in random_tensors(backbone, **settings).items()}


@pytest.mark.parametrize(
    ("case", "prefix"),
    [
        *(pytest.param(case, "module.", marks=[pytest.mark.slow] * (case == "hara r3d50")) for case in CASES),
        *(("hara r3d18", prefix) for prefix in ("", "module.encoder_q.", "backbone.", "encoder_q.0.")),
    ],
)
def test_parameter_names_and_wrappers_of_other_projects_are_read(
    case: str, prefix: str, tmp_path: Path
) -> None:
    backbone, settings, named = CASES[case]
    state = random_state(backbone, settings, named)
    extra = {"fc.weight": torch.zeros(400, 8), "fc.bias": torch.zeros(400)}
    wrapped = {prefix + name: tensor for name, tensor in {**state, **extra}.items()}
    path = tmp_path / "theirs.pth"
    torch.save({"state_dict": wrapped, "arch": "x", "epoch": 200}, path)
    loaded = load_weights(path)
    report = loaded.report
    assert report is not None
    assert (report.backbone, report.share, report.prefix) == (backbone, 1.0, prefix)
    assert len(report.left) == 2
    with torch.device("meta"):
        ours = create_model(backbone, **settings).eval()
    ours.load_state_dict(random_tensors(backbone, **settings), assign=True)
    clip = torch.rand(1, settings.get("in_channels", 3), 8, 32, 32)
    assert report.normalization is not None
    if clip.shape[1] == 3:
        assert isinstance(loaded.module, Renormalized)
        mean, std = (
            torch.tensor(v).view(3, 1, 1, 1) for v in (report.normalization.mean, report.normalization.std)
        )
        theirs = (clip - mean) / std
        clip = (clip - 0.45) / 0.225
    else:
        theirs = clip
    with torch.no_grad():
        assert torch.allclose(loaded.module(clip), ours(theirs), atol=1e-4)


def test_safetensors_of_other_projects_are_read(tmp_path: Path) -> None:
    state = random_state("r3d18", {}, as_hara)
    safetensors.torch.save_file(
        {name: t.contiguous() for name, t in state.items()}, tmp_path / "a.safetensors"
    )
    report = load_weights(tmp_path / "a.safetensors").report
    assert report is not None
    assert (report.source, report.share) == ("3D-ResNets-PyTorch", 1.0)


def test_a_file_that_fills_too_little_is_refused_unless_partial_is_set(tmp_path: Path) -> None:
    state = random_state("r3d18", {}, as_hara)
    half = {name: t for name, t in state.items() if "layer4" not in name}
    half["layer1.0.conv1.weight"] = torch.zeros(8, 8, 3, 3, 3)
    torch.save(half, tmp_path / "half.pth")
    with pytest.raises(
        UserError,
        match=r"fill only \d+\.\d% of \w+ \(.*missing: stages.layer1.0.conv1.weight 8x8x3x3x3 for",
    ):
        load_weights(tmp_path / "half.pth")
    report = load_weights(tmp_path / "half.pth", partial=True).report
    assert report is not None
    assert 0.1 < report.share < 0.3  # the last stage has most of the parameters
    assert any("layer4" in name for name in report.missing)
    exported = ExportConfig(str(tmp_path / "half.pth"), tmp_path / "half.safetensors", frames=4, size=32)
    with pytest.raises(UserError, match="fill only"):
        export(exported)
    export(replace(exported, loading=LoadSettings(partial=True)))
    assert (tmp_path / "half.safetensors").is_file()


def test_an_unfit_head_is_refused_and_a_self_referencing_file_holds_no_tensors() -> None:
    match = find_encoder({"": random_state("r3d18", {}, as_hara)})
    assert match
    wrong = replace(match, head=(torch.zeros(128, 7), torch.zeros(128)))
    with pytest.raises(UserError, match=r"x\.pth: its projection head of 128x7 does not fit features of 512"):
        build(wrong, partial=False, head=True, name="x.pth")
    endless: dict[str, Any] = {}
    endless["model"] = endless["state_dict"] = endless
    assert not find_tensors(endless)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("evil-was-here",)


def test_malicious_broken_and_unrelated_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Evil()}, "evil.pth")
    whole = tmp_path / "whole.pth"
    torch.save(random_state("r3d18", {}, as_hara), whole)
    Path("cut.pth").write_bytes(whole.read_bytes()[:100_000])
    Path("cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    torch.save(
        {"conv1.weight": torch.zeros(64, 3, 7, 7), "layer1.0.conv1.weight": torch.zeros(64, 64, 1, 1)},
        "2d.pth",
    )
    for name, message in (
        ("evil.pth", "cannot be read safely|not a checkpoint"),
        ("cut.pth", "not a checkpoint that can be read safely"),
        ("cut.safetensors", "not a safetensors file"),
        ("2d.pth", "no encoder known to dsm"),
        ("none.pth", "no such checkpoint"),
    ):
        with pytest.raises(UserError, match=message):
            load_weights(name)
    assert not Path("evil-was-here").exists()


def test_inspect_lists_loaded_ignored_and_missing_parameters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = random_state("r3d18", {}, as_hara)
    state.pop("layer3.1.conv2.weight")
    state["fc.weight"] = torch.zeros(400, 512)
    torch.save({"state_dict": state}, tmp_path / "theirs.pth")
    main.run(["weights", "inspect", str(tmp_path / "theirs.pth")])
    output = capsys.readouterr().out
    for words in (
        "r3d18",
        "3D-ResNets-PyTorch",
        "fills 94.7%",
        "stages.layer3.1.conv2.weight 512",
        "fc.weight 400x512",
    ):
        assert words.replace(" 512", " 256") in output
    torch.save({"a.b": torch.zeros(3)}, tmp_path / "other.pth")
    main.run(["weights", "inspect", str(tmp_path / "other.pth")])
    assert "no encoder known to dsm" in capsys.readouterr().out
    torch.save({"red\x1b[31m.[/b]": torch.zeros(3)}, tmp_path / "[b]a.pth")
    main.run(["weights", "inspect", str(tmp_path / "[b]a.pth")])
    output = capsys.readouterr().out
    assert "[b]a.pth: 1 tensor" in output
    assert "red\\x1b[31m.[/b] (3,)" in output


def test_every_source_maps_to_an_existing_backbone() -> None:
    with torch.device("meta"):
        for source in SOURCES:
            create_model(source.backbone, **source.settings)


def test_a_file_without_an_encoder_gives_none() -> None:
    assert find_tensors(3) == {}
    assert find_tensors({"state_dict": {"lr": 0.1}}) == {}
    assert find_encoder({"": {}}) is None


def test_features_are_extracted_with_a_foreign_encoder(
    small_list: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": random_state("r3d18", {}, as_hara)}, tmp_path / "theirs.pth")
    main.run(
        ["extract", "--weights", str(tmp_path / "theirs.pth"), "--data", str(small_list),
         "--out", str(tmp_path / "a.npy"), "--frames", "4", "--resize", "48", "--size", "48",
         "--workers", "0"]
    )  # fmt: skip
    assert "r3d18 in the format of 3D-ResNets-PyTorch: 100 tensors loaded" in capsys.readouterr().err
    features = np.load(tmp_path / "a.npy")
    assert features.shape == (4, 512)
    assert np.isfinite(features).all()


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(ClassifyConfig(linear_probe=True), id="probe", marks=pytest.mark.slow),
        pytest.param(ClassifyConfig(train_from="layer4"), id="last stage"),
    ],
)
def test_a_run_keeps_the_normalisation_that_it_began_with(
    scenes: Path, tmp_path: Path, head: ClassifyConfig
) -> None:
    path = tmp_path / "theirs.pth"
    torch.save(random_state("r3d18", {}, as_hara), path)
    theirs: Any = load_weights(path).module
    assert isinstance(theirs, Renormalized)
    data = FinetuneData(scenes / "train.txt", batch_size=8, workers=0)
    config = FinetuneConfig(data, tmp_path / "run", weights=str(path), clip=CLIP, head=head, steps=1)
    ours: Any = load_weights(finetune(config)).module
    assert ours.normalization == theirs.normalization
    frozen, now = (one.stages.layer3.state_dict() for one in (theirs, ours))
    assert all(torch.equal(tensor, frozen[name]) for name, tensor in now.items())


def test_an_encoder_with_two_input_channels_gets_flow(tmp_path: Path) -> None:
    path = tmp_path / "flow.pt"
    torch.save(random_state("i3d", {"in_channels": 2}, as_piergiaj), path)
    assert ClipChanges().of(load_weights(path).config).modality == "flow"
