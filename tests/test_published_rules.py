"""Published models whose files differ from the usual: transformers' rules hold, or one sentence refuses."""

from __future__ import annotations

import hashlib
import http.client
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from published import FRAMES, SIZE, save_published
from test_adapters import TINY
from torch import nn

from dsm.errors import UserError
from dsm.evaluate.extract_to_file import digest
from dsm.models.adapters import FrameEncoder
from dsm.models.families import FAMILIES, HALF, IMAGENET, VIVIT, clip_settings
from dsm.models.fetch import read_preprocessor
from dsm.models.foreign import Renormalized
from dsm.models.preprocessor import parse_preprocessor
from dsm.models.sources import Normalization
from dsm.models.tuning import rows_of, tuned
from dsm.models.weights import load_classifier, load_weights
from dsm.models.zoo import create_model
from dsm.verbs.weights import inspect


def changed(folder: Path, file: str = "config.json", **values: Any) -> None:
    """Change settings in a model's file; None removes one."""
    config = {**json.loads((folder / file).read_text()), **values}
    (folder / file).write_text(json.dumps({name: one for name, one in config.items() if one is not None}))


def saved(kind: str, folder: Path, **settings: Any) -> Any:
    """Save a tiny model with random weights, by the name of its class."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    made = getattr(transformers, kind)
    model = made(made.config_class(**settings)).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape)
    model.save_pretrained(folder)
    return model


def test_a_classifier_with_a_pooler_of_its_own_is_not_put_on_the_mean(tmp_path: Path) -> None:
    saved("VJEPA2ForVideoClassification", tmp_path, **TINY["vjepa2"], num_labels=3)
    assert load_weights(f"hf:{tmp_path}").own_classifier is None
    with pytest.raises(UserError, match="has no classifier"):
        load_classifier(f"hf:{tmp_path}")


def test_a_videomae_that_classifies_its_first_token_has_it_as_feature(tmp_path: Path) -> None:
    settings = {**TINY["videomae"], "hidden_size": 192, "num_attention_heads": 3, "use_mean_pooling": False}
    model = saved("VideoMAEForVideoClassification", tmp_path, **settings, num_labels=3)
    clip = torch.randn(2, 3, FRAMES, SIZE, SIZE)
    module, _ = load_classifier(f"hf:{tmp_path}")
    encoder: Any = load_weights(f"hf:{tmp_path}").module
    with torch.no_grad():
        inner = encoder.converted(clip).transpose(1, 2)
        assert torch.allclose(module(clip), model(inner).logits, atol=1e-5)
        assert torch.allclose(encoder(clip), model.videomae(inner).last_hidden_state[:, 0], atol=1e-5)
    # The same tensors alone.
    bare: Any = load_weights(tmp_path / "model.safetensors", partial=True).module
    assert bare.encoder.readout == "class"


def test_a_bias_without_dimensions_is_no_classifier(tmp_path: Path) -> None:
    save_published("videomae", tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = {**safetensors.torch.load_file(file), "classifier.bias": torch.zeros(())}
    safetensors.torch.save_file(tensors, file)
    assert load_weights(f"hf:{tmp_path}").own_classifier is None


@pytest.mark.parametrize("channels", [[3], "x", {"a": 1}, 1])
def test_a_number_of_channels_that_is_none_is_refused(channels: Any, tmp_path: Path) -> None:
    save_published("videomae", tmp_path)
    changed(tmp_path, num_channels=channels)
    with pytest.raises(UserError, match="dsm can give it only 3"):
        load_weights(f"hf:{tmp_path}")


def test_what_a_config_leaves_out_is_its_familys(tmp_path: Path) -> None:
    settings = {name: one for name, one in TINY["vivit"].items() if name != "num_frames"}
    saved("VivitModel", tmp_path, **settings)
    changed(tmp_path, num_frames=None)
    assert load_weights(f"hf:{tmp_path}").config["clip"]["frames"] == 32
    transformers = pytest.importorskip("transformers")
    default = clip_settings(FAMILIES["vjepa2"], transformers.VJEPA2Config().to_dict())
    assert default == {"frames": 64, "stride": 2, "resize": 292, "size": 256}


def expected(scale: float, offset: float, mean: float, std: float) -> Normalization:
    """Of pixels x from 0 to 255: ((x scale - offset) - mean) / std."""
    m, s = (mean + offset) / (255 * scale), std / (255 * scale)
    return Normalization((m, m, m), (s, s, s))


def near(found: Normalization, wanted: Normalization) -> bool:
    return np.allclose([*found.mean, *found.std], [*wanted.mean, *wanted.std])


def test_vivits_processors_subtract_one() -> None:
    given = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "rescale_factor": 1 / 127.5}
    signed = expected(1 / 127.5, 1, 0.5, 0.5)
    plain = expected(1 / 127.5, 0, 0.5, 0.5)
    assert near(signed, VIVIT)
    for more, wanted in (
        ({"video_processor_type": "VivitVideoProcessor"}, signed),
        ({"video_processor_type": "VivitVideoProcessor", "offset": False}, signed),
        ({"image_processor_type": "VivitImageProcessor"}, signed),
        ({"image_processor_type": "VivitImageProcessor", "offset": False}, plain),
        ({"image_processor_type": "VideoMAEImageProcessor"}, plain),
        ({}, signed),
    ):
        assert near(parse_preprocessor({**given, **more}, VIVIT, signed=True).normalization, wanted)
    assert near(parse_preprocessor(given, IMAGENET).normalization, plain)


def test_a_mean_and_std_that_are_left_out_are_the_familys() -> None:
    for given in ({}, {"rescale_factor": 1 / 255}, {"do_normalize": True, "image_mean": None}):
        assert parse_preprocessor(given, IMAGENET).normalization == IMAGENET
    half = parse_preprocessor({"image_mean": 0.5}, IMAGENET).normalization
    assert (half.mean, half.std) == (HALF.mean, IMAGENET.std)
    none = parse_preprocessor({"do_normalize": False}, IMAGENET).normalization
    assert near(none, Normalization((0, 0, 0), (1, 1, 1)))


def test_the_settings_of_all_processors_in_one_file_come_first(tmp_path: Path) -> None:
    old, new = {"size": 224}, {"size": 256}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(old))
    (tmp_path / "processor_config.json").write_text(json.dumps({"processor_class": "X"}))
    assert read_preprocessor(tmp_path, "x") == old
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": new}))
    assert read_preprocessor(tmp_path, "x") == new
    video = {"size": 288}
    (tmp_path / "video_preprocessor_config.json").write_text(json.dumps(video))
    assert read_preprocessor(tmp_path, "x") == new
    (tmp_path / "processor_config.json").unlink()
    assert read_preprocessor(tmp_path, "x") == video


class Hub:
    """A stand-in for the library of the hub."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: Any) -> None:
        """``answers``: the folder of each download, or the error that it raises."""
        hub = pytest.importorskip("huggingface_hub")
        pytest.importorskip("transformers.utils.hub")  # before the patch, which it would keep
        self.asked: list[list[str]] = []
        self.answers = list(answers)
        monkeypatch.setattr(hub, "snapshot_download", self.download)
        monkeypatch.setattr(hub.HfApi, "list_repo_files", lambda _api, name: self.list_repo_files(name))

    def download(self, name: str, allow_patterns: list[str]) -> str:
        self.asked.append(allow_patterns)
        return str(self._answer())

    def list_repo_files(self, name: str) -> list[str]:
        return [str(self._answer())]

    def _answer(self) -> Any:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def of_type(folder: Path, **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_weights_of_models_that_cannot_be_used_are_not_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for config, library, match in (
        ({"model_type": "llama"}, "hf", "no adapter for the transformers model 'llama'"),
        ({"architectures": ["x"]}, "hf", "names no model_type; a run folder is given without `hf:`"),
        ({"model_type": "videomae", "image_size": [32, 48]}, "hf", "not square"),
        ({"architecture": "vit_tiny"}, "timm", "timm has no model 'vit_tiny'|needs timm"),
    ):
        hub = Hub(monkeypatch, of_type(tmp_path / "theirs", **config))
        with pytest.raises(UserError, match=match):
            load_weights(f"{library}:meta/model")
        assert len(hub.asked) == 1
        assert "model.safetensors" not in hub.asked[0]


def test_a_model_of_the_hub_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_published("videomae", tmp_path)
    for use in (load_weights, lambda weights: inspect(file=weights)):
        hub = Hub(monkeypatch, tmp_path, tmp_path)
        use("hf:a/b")
        assert len(hub.asked) == 2  # settings, then weights


def test_a_cache_without_the_weights_is_not_called_a_model_without_safetensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = of_type(tmp_path / "cache", model_type="videomae")
    Hub(monkeypatch, folder, folder, ConnectionError("offline"))
    with pytest.raises(
        UserError, match="cannot be reached and its cache does not have the weights of the model"
    ):
        load_weights("hf:a/b")
    Hub(monkeypatch, folder, folder, "pytorch_model.bin")
    with pytest.raises(UserError, match="dsm reads only safetensors"):
        load_weights("hf:a/b")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-1-of-1.safetensors"}}')
    Hub(monkeypatch, folder, folder)
    with pytest.raises(UserError, match=r"lacks model-1-of-1\.safetensors, a part of its weights"):
        load_weights("hf:a/b")


class ProxyError(Exception):
    """As the hub's HTTP library raises it: no OSError."""


def test_faults_on_the_way_to_the_hub_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = pytest.importorskip("huggingface_hub.errors")
    for error, match in (
        (ProxyError("403 Forbidden"), r"cannot be reached .* \(ProxyError\)"),
        (errors.HFValidationError("Repo id must …"), "is not an id of the hub"),
        (OSError(28, "No space left on device", "/cache/x"), "cache, which HF_HOME moves: .*disk is full"),
        (PermissionError(13, "Permission denied", "/cache/x"), "HF_HOME moves: /cache/x: Permission denied"),
    ):
        Hub(monkeypatch, error)
        with pytest.raises(UserError, match=match) as caught:
            load_weights("hf:a/b")
        assert "\n" not in str(caught.value)


def test_a_download_of_torchvisions_that_breaks_off_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for error, match in (
        (http.client.IncompleteRead(b"", 9), "cannot be fetched"),
        (OSError(28, "No space left on device"), "torch's cache, which TORCH_HOME moves"),
    ):

        def fail(*_args: Any, error: Exception = error, **_more: Any) -> None:
            raise error

        monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
        with pytest.raises(UserError, match=match):
            load_weights("tv:r3d_18")


def test_a_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    save_published("videomae", tmp_path / "models" / "x")
    assert load_weights("hf:~/models/x").name == "x"
    with pytest.raises(UserError, match="no such file, and no model of that name"):
        load_weights("tv:~/x.pth")


class TimmBlocks(nn.Module):
    """Built like a transformer of timm: its layers are called ``blocks``."""

    num_features = 8

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(nn.Sequential(nn.Linear(n, 8), nn.GELU()) for n in (3, 8)))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.blocks(pictures.mean((2, 3)))
        return features


class TimmConvolutions(TimmBlocks):
    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.stem = nn.Conv2d(3, 8, 1)


def test_transformers_of_timm_are_adapted_by_blocks() -> None:
    encoder = Renormalized(FrameEncoder(TimmBlocks(), {}), IMAGENET)
    assert len(rows_of(encoder)) == 2
    tuned(encoder, "last:1")
    assert [name for name, one in encoder.named_parameters() if one.requires_grad] == [
        "encoder.model.blocks.1.0.weight", "encoder.model.blocks.1.0.bias",
    ]  # fmt: skip
    adapted, _ = tuned(Renormalized(FrameEncoder(TimmBlocks(), {}), IMAGENET), "lora", rank=2)
    assert len([name for name, _ in adapted.named_parameters() if name.endswith("down")]) == 2
    with pytest.raises(UserError, match="use head or all for this encoder"):
        tuned(FrameEncoder(TimmConvolutions(), {}), "lora")
    with pytest.raises(UserError, match="use head, last:K or all for this encoder"):
        tuned(create_model("tiny"), "lora")


def test_encoders_with_the_same_tensors_that_compute_otherwise_have_other_digests(tmp_path: Path) -> None:
    save_published("videomae", tmp_path)

    def digest_with(file: str = "config.json", **settings: Any) -> str:
        before = (tmp_path / file).read_text()
        changed(tmp_path, file, **settings)
        loaded = load_weights(f"hf:{tmp_path}")
        (tmp_path / file).write_text(before)
        return digest(loaded.module)

    processor = "preprocessor_config.json"
    digests = [
        digest_with(), digest_with(num_attention_heads=4), digest_with(layer_norm_eps=1e-3),
        digest_with(processor, image_mean=[0.1, 0.2, 0.3]), digest_with(processor, image_std=[0.1] * 3),
    ]  # fmt: skip
    assert len(set(digests)) == len(digests)
    assert digest_with() == digests[0]
    vjepa = {"width": 48, "depth": 1, "hidden": 8}
    torch.manual_seed(0)
    one = create_model("vjepa2", **vjepa, heads=2)
    other = create_model("vjepa2", **vjepa, heads=4)
    other.load_state_dict(one.state_dict())
    assert digest(one) != digest(other)
    one, other = (FrameEncoder(TimmBlocks(), {"name": name}) for name in ("vit", "vit_quickgelu"))
    other.load_state_dict(one.state_dict())
    assert digest(one) != digest(other)


def test_an_encoder_of_dsm_has_the_digest_of_its_tensors_alone() -> None:
    """Features of earlier versions are still those of their runs."""
    encoder = create_model("tiny3d")
    sha = hashlib.sha256()
    for name, tensor in encoder.state_dict().items():
        sha.update(name.encode() + tensor.numpy().tobytes())
    assert digest(encoder) == sha.hexdigest()
