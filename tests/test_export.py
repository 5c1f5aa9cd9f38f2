"""Export: reading it back gives the same encoder, and mistakes end with one sentence."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import zipfile
from functools import partial
from pathlib import Path

import pytest
import safetensors.torch
import torch
from test_adapters import save_small_transformer
from torch import Tensor, nn

from dsm.cli.main import main
from dsm.errors import UserError
from dsm.models.checkpoint_file import KEY
from dsm.models.export import (
    TOLERANCE,
    TOLERANCE_HALF,
    build_encoder,
    difference,
    export_onnx,
    export_program,
    export_safetensors,
    read_safetensors,
    save_safetensors,
)
from dsm.models.foreign import Renormalized
from dsm.models.heads import Embedder
from dsm.models.i3d import MaxPool, Mixed, Unit
from dsm.models.sources import Normalization
from dsm.models.weights import load_weights
from dsm.models.zoo import MODELS, create_model
from dsm.render import to_network
from dsm.runs.checkpoint import save_checkpoint
from dsm.verbs.export import NORMALISATION
from dsm.views import MODALITIES

ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))
needs_onnx = pytest.mark.skipif(not ONNX, reason="needs dsm-video[export]")
REPOSITORY = Path(__file__).parents[1]
ABOUT = {"backbone": "tiny", "model": {"pooling": "avgmax"}, "head": None}
HEAD = {"dim": 16, "kind": "mlp-bn"}
CLIP = {"frames": 4, "stride": 2, "resize": 40, "size": 32, "modality": "flow"}


def with_statistics(module: nn.Module, clip: Tensor) -> nn.Module:
    """A module whose BatchNorm has seen data, so that its statistics matter."""
    module.train()
    with torch.no_grad():
        module(torch.cat([clip, clip.flip(2)]))
    return module.eval()


@pytest.fixture
def encoder(request: pytest.FixtureRequest) -> tuple[nn.Module, Tensor]:
    """An encoder in evaluation mode, and two clips for it."""
    torch.manual_seed(0)
    clip = torch.randn(2, 3, 4, 33, 33)
    if request.param == "tiny with a head":
        return with_statistics(Embedder(create_model("tiny"), **HEAD), clip), clip
    if request.param == "parts of i3d":
        parts = (Unit(3, 8, 7, 2), MaxPool((1, 3, 3), (1, 2, 2)), Mixed(8, (4, 4, 8, 4, 8, 4)))
        ends = (MaxPool((3, 3, 3), (2, 2, 2)), nn.AdaptiveAvgPool3d(1), nn.Flatten())
        return with_statistics(nn.Sequential(*parts, *ends), clip), clip
    return with_statistics(create_model(request.param), clip), clip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder of an encoder of optical flow."""
    torch.manual_seed(0)
    model = {"in_channels": 2, "pooling": "avg"}
    module = with_statistics(Embedder(create_model("tiny", **model), **HEAD), torch.randn(2, 2, 4, 32, 32))
    config = {"method": "moco", "backbone": "tiny", "model": model, "clip": CLIP, "head": HEAD}
    state = {f"query.{name}": tensor for name, tensor in module.state_dict().items()}
    save_checkpoint(tmp_path / "run", 1, {"config": json.dumps(config), "method": state}, keep=1)
    return tmp_path / "run"


def export(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: object, code: int = 0
) -> str:
    """Run the command, and return its output."""
    monkeypatch.setattr(sys, "argv", ["dsm", "export", *map(str, words)])
    if code:
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == code
    else:
        main()
    return " ".join(capsys.readouterr().err.split())


def test_safetensors_round_trip_is_exact(tmp_path: Path) -> None:
    module = with_statistics(create_model("tiny", pooling="avgmax"), torch.randn(2, 3, 4, 32, 32))
    path = tmp_path / "new" / "tiny.safetensors"
    save_safetensors(path, module.to(memory_format=torch.channels_last_3d), ABOUT)
    tensors, about = read_safetensors(path)
    assert about == {"format": 1, **ABOUT}
    assert tensors.keys() == module.state_dict().keys()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in module.state_dict().items())
    assert difference(build_encoder(tensors, about), module, torch.randn(1, 3, 4, 32, 32)) <= 1e-5
    assert [p.name for p in path.parent.iterdir()] == ["tiny.safetensors"]


@pytest.mark.parametrize(
    "encoder", [pytest.param("r3d18", marks=pytest.mark.slow), "tiny with a head"], indirect=True
)
def test_an_exported_program_takes_any_batch_size(encoder: tuple[nn.Module, Tensor], tmp_path: Path) -> None:
    module, clip = encoder
    assert export_program(tmp_path / "x.pt2", module, clip[:1]) <= TOLERANCE
    loaded = torch.export.load(tmp_path / "x.pt2").module()
    assert difference(loaded, module, clip) <= TOLERANCE
    assert [p.name for p in tmp_path.iterdir()] == ["x.pt2"]
    with zipfile.ZipFile(tmp_path / "x.pt2") as archive:
        held = b"".join(archive.read(name) for name in archive.namelist())
    assert str(REPOSITORY).encode() not in held, "an exported file holds no path of this machine"


@needs_onnx
@pytest.mark.parametrize(
    "encoder",
    # Converting the whole I3D takes half a minute; here is each kind of its parts.
    ["parts of i3d", "tiny with a head", pytest.param("i3d", marks=pytest.mark.slow)],
    indirect=True,
)
def test_onnx_takes_any_batch_size(encoder: tuple[nn.Module, Tensor], tmp_path: Path) -> None:
    import onnxruntime

    module, clip = encoder
    found = export_onnx(tmp_path / "x.onnx", module, clip[:1])
    assert found is not None
    assert found <= TOLERANCE
    assert [p.name for p in tmp_path.iterdir()] == ["x.onnx"], "one file with the weights inside"
    assert str(REPOSITORY).encode() not in (tmp_path / "x.onnx").read_bytes()
    session = onnxruntime.InferenceSession(str(tmp_path / "x.onnx"), providers=["CPUExecutionProvider"])
    (given,), (returned,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.shape) == ("clip", ["batch", 3, 4, 33, 33])
    assert (returned.name, returned.shape[0]) == ("features", "batch")
    for size in (1, 2, 5):
        batch = torch.randn(size, *clip.shape[1:])
        features = session.run(None, {"clip": batch.numpy()})[0]
        with torch.no_grad():
            assert torch.allclose(torch.from_numpy(features), module(batch), rtol=0, atol=1e-4)


class Forgetful(nn.Module):
    """PyTorch computes something else than what was exported."""

    def forward(self, clip: Tensor) -> Tensor:
        return clip.mean((2, 3, 4)) * (1 if torch.compiler.is_compiling() else 2)


@pytest.mark.parametrize("ending", ["pt2", pytest.param("onnx", marks=needs_onnx)])
def test_an_export_with_different_outputs_is_not_written(ending: str, tmp_path: Path) -> None:
    write = export_onnx if ending == "onnx" else export_program
    with pytest.raises(UserError, match=r"not written, because its output differs from PyTorch's by 5.0e-01"):
        write(tmp_path / f"x.{ending}", Forgetful(), torch.randn(1, 3, 4, 8, 8))
    assert not list(tmp_path.iterdir())


@needs_onnx
@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_onnx_without_the_extra_is_refused(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # import finds nothing
    with pytest.raises(UserError, match=rf"needs {package}, .*dsm-video\[export\]"):
        export_onnx(tmp_path / "x.onnx", create_model("tiny").eval(), torch.randn(1, 3, 4, 32, 32))


@needs_onnx
@pytest.mark.slow
def test_onnx_without_onnxruntime_is_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    out = tmp_path / "x.onnx"
    output = export(
        capsys, monkeypatch, "--weights", "none", "--backbone", "tiny", "--out", out,
        "--frames", 4, "--size", 32,
    )  # fmt: skip
    assert "clips (B, 3, 4, 32, 32) -> (B, 128); not compared with PyTorch" in output
    assert out.is_file()


def test_a_foreign_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with pytest.raises(UserError, match="no such file"):
        read_safetensors(path)
    for content in (b"", b"text", b"\xff" * 100):
        path.write_bytes(content)
        with pytest.raises(UserError, match="is not a safetensors file"):
            read_safetensors(path)
    tensors = {"a": torch.zeros(2)}
    for metadata in (None, {"format": "pt"}, {KEY: "no json"}, {KEY: "[]"}, {KEY: "{}"}):
        safetensors.torch.save_file(tensors, path, metadata)
        with pytest.raises(UserError, match="does not say which encoder it holds"):
            read_safetensors(path)
    safetensors.torch.save_file(tensors, path, {KEY: '{"format": 99}'})
    with pytest.raises(UserError, match="has format 99, but this version of dsm reads 1"):
        read_safetensors(path)


def test_an_encoder_that_contradicts_its_description_is_not_written(tmp_path: Path) -> None:
    clip = torch.randn(1, 3, 4, 32, 32)
    for about in ({}, {**ABOUT, "model": {"in_channels": 2}}, {**ABOUT, "head": HEAD}):
        with pytest.raises(UserError, match="does not fit its file"):
            export_safetensors(tmp_path / "x.safetensors", create_model("tiny").eval(), about, clip)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("head", ["none", "projection"])
def test_export_writes_everything_a_reader_needs(
    head: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "mine.safetensors"
    output = export(capsys, monkeypatch, "--weights", run, "--out", out, "--head", head, "--size", 48)
    dim = 128 if head == "none" else 16
    assert re.search(
        rf"mine.safetensors: \d.\d MB, clips \(B, 2, 4, 48, 48\) -> \(B, {dim}\); "
        r"largest difference from PyTorch 0.0e\+00",
        output,
    )
    tensors, about = read_safetensors(out)
    assert about == {
        "format": 1, "backbone": "tiny", "model": {"in_channels": 2, "pooling": "avg"},
        "head": None if head == "none" else HEAD, "method": "moco",
        "mean": 0.0, "std": 20.0, "pictures": None,
        "clip": {**CLIP, "fps": 0.0, "resize": 48, "size": 48},
    }  # fmt: skip
    loaded = load_weights(run, head=None if head == "none" else "projection").module
    again = load_weights(out, head=None if head == "none" else "projection").module
    for module in (build_encoder(tensors, about), again):
        assert difference(module, loaded, torch.randn(1, 2, 4, 32, 32)) == 0


def test_weights_in_half_take_half_the_space_and_hardly_change_the_output(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    export(capsys, monkeypatch, "--weights", run, "--out", whole)
    export(capsys, monkeypatch, "--weights", run, "--out", half, "--half")
    assert 0.5 <= half.stat().st_size / whole.stat().st_size < 0.55
    module = load_weights(half).module
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}
    assert 0 < difference(module, load_weights(run).module, torch.randn(1, 2, 4, 32, 32)) < TOLERANCE_HALF
    said = export(capsys, monkeypatch, "--weights", run, "--out", tmp_path / "half.pt2", "--half", code=2)
    assert "--half writes .safetensors files only" in said


def test_export_writes_a_program(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "mine.pt2"
    out.write_text("old")
    assert "already exists" in export(capsys, monkeypatch, "--weights", run, "--out", out, code=2)
    assert out.read_text() == "old"
    output = export(capsys, monkeypatch, "--weights", run, "--out", out, "--overwrite")
    assert "clips (B, 2, 4, 32, 32) -> (B, 128); largest difference from PyTorch" in output
    clip = torch.randn(3, 2, 4, 32, 32)
    assert difference(torch.export.load(out).module(), load_weights(run).module, clip) <= TOLERANCE


def test_random_weights_follow_the_seed_and_initialisation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {}
    for init in ("own", "xavier"):
        out = tmp_path / f"{init}.safetensors"
        words = ("--weights", "none", "--backbone", "tiny", "--init", init, "--seed", 3, "--out", out)
        export(capsys, monkeypatch, *words)
        torch.manual_seed(3)
        found[init] = load_weights("none", backbone="tiny", init=init).module.state_dict()
        tensors, _ = read_safetensors(out)
        assert all(torch.equal(tensors[name], tensor) for name, tensor in found[init].items())
    assert any(not torch.equal(found["own"][name], tensor) for name, tensor in found["xavier"].items())


def test_a_card_does_not_describe_a_run_that_trained_other_weights(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    about = {"command": "dsm pretrain --of-another-run", "config": {}, "versions": {}, "revision": None,
             "data": {"list": "big.txt", "videos": 9000, "frames": None}}  # fmt: skip
    (run / "config.json").write_text(json.dumps(about))
    monkeypatch.chdir(run)
    export(
        capsys, monkeypatch, "--weights", "none", "--backbone", "tiny", "--out", tmp_path / "x.safetensors"
    )
    assert "9000" not in (tmp_path / "x.safetensors.md").read_text()
    newest = next((run / "checkpoints").glob("*.pt"))
    monkeypatch.chdir(newest.parent)
    export(capsys, monkeypatch, "--weights", newest.name, "--out", tmp_path / "y.safetensors")
    assert "9000" in (tmp_path / "y.safetensors.md").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--weights", "none", "--out", "x.pth"], "must end in .safetensors, .onnx or .pt2"),
        (["--weights", "nothing.pt", "--out", "x.pt2"], "nothing.pt"),
        (["--weights", "none", "--backbone", "tinny", "--out", "x.pt2"], "did you mean 'tiny'"),
        (["--weights", "none", "--backbone", "tiny", "--head", "projection", "--out", "x.pt2"], "head"),
        (["--weights", "none", "--backbone", "tiny", "--frames", "0", "--out", "x.pt2"], "at least 1"),
        (["--weights", "none", "--seed", "-1", "--out", "x.pt2"], "seed must be at least 0"),
    ],
)
def test_mistakes_end_with_one_sentence(
    words: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in export(capsys, monkeypatch, *words, code=2)
    assert not list(tmp_path.iterdir())


def test_a_size_that_the_network_cannot_take_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    save_small_transformer(tmp_path / "videomae.pt")
    words = ("--weights", tmp_path / "videomae.pt", "--out", tmp_path / "x.safetensors", "--size", 48)
    assert "does not take clips of 3x4x48x48" in export(capsys, monkeypatch, *words, code=2)


@pytest.mark.parametrize("modality", sorted(MODALITIES))
def test_the_documented_normalisation_is_the_applied_one(modality: str) -> None:
    assert NORMALISATION.keys() == MODALITIES.keys()
    mean, std = NORMALISATION[modality]
    clip = torch.rand(1, 2 if modality == "flow" else 3, 5, 4, 4)
    before = clip.diff(dim=2) if modality == "rgbdiff" else clip
    assert torch.allclose(to_network(clip, modality), (before - mean) / std, atol=1e-6)


def test_torch_hub_lists_every_backbone() -> None:
    for name in MODELS:
        with torch.device("meta"):  # saves the time for weights
            module = torch.hub.load(str(REPOSITORY), name, source="local")
            assert type(module) is type(create_model(name))
        assert not module.training


def test_torch_hub_returns_working_encoders(run: Path) -> None:
    hub = str(REPOSITORY)
    models = []
    for build in (create_model, partial(torch.hub.load, hub, source="local")):
        torch.manual_seed(3)
        models.append(build("tiny", pooling="avgmax").eval())
    assert difference(models[0], models[1], torch.randn(1, 3, 4, 32, 32)) == 0
    mine = torch.hub.load(hub, "encoder", run, head="projection", source="local")
    expected = load_weights(run, head="projection").module
    assert difference(mine, expected, torch.randn(1, 2, 4, 32, 32)) == 0


def test_a_foreign_encoder_is_exported_with_its_own_normalisation(tmp_path: Path) -> None:
    encoder = create_model("tiny")
    module = Renormalized(encoder, Normalization((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))).eval()
    about = {
        "backbone": "tiny", "model": {}, "head": None, "method": "theirs",
        "pictures": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]},
    }  # fmt: skip
    path = tmp_path / "theirs.safetensors"
    assert export_safetensors(path, module, about, torch.randn(1, 3, 4, 32, 32)) == 0
    clip = torch.randn(2, 3, 4, 32, 32)
    with torch.inference_mode():
        assert torch.equal(load_weights(path).module(clip), module(clip))
