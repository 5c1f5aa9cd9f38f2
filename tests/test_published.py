"""Models that others have published: read with their own clips, normalisation and pooling, or refused."""

from __future__ import annotations

import importlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from published import FRAMES, RESIZE, SAVED, SIZE, expected_feature, save_published
from runs import small_run

from dsm import bias, export, extract, look, probe, report, retrieve, search
from dsm.data.clips import EvaluationClips
from dsm.data.lists import read_list
from dsm.data.reading import crop
from dsm.data.settings import clip_of
from dsm.errors import UserError
from dsm.evaluate.extract import to_input
from dsm.evaluate.feature_files import load_features
from dsm.evaluate.search import QueryEncoder
from dsm.methods.settings import ClassifyConfig
from dsm.models.families import IMAGENET
from dsm.models.fetch import read_preprocessor
from dsm.models.foreign import Renormalized
from dsm.models.preprocessor import parse_preprocessor
from dsm.models.weights import load_classifier, load_weights
from dsm.models.zoo import create_model
from dsm.train.config import MonitorConfig
from dsm.train.finetune import FinetuneConfig, FinetuneData, finetune
from dsm.train.pretrain import pretrain
from dsm.verbs.export import _front_matter
from dsm.verbs.settings.evaluation import BiasData, ReportData
from dsm.verbs.settings.weights import ExportConfig
from dsm.verbs.weights import inspect

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", sorted(SAVED))
def test_features_are_those_of_the_librarys_own_processor_and_model(name: str, tmp_path: Path) -> None:
    model = save_published(name, tmp_path)
    loaded = load_weights(f"hf:{tmp_path}")
    clip = clip_of(loaded.config["clip"])
    assert clip.size == SIZE
    assert clip.frames == (8 if loaded.module.encoder.family.image else FRAMES)
    rng = np.random.default_rng(0)
    height, width = clip.resize, clip.resize + 4
    frames = rng.integers(0, 256, (clip.frames, height, width, 3), dtype=np.uint8)
    if clip.resize == SIZE:  # its processor squeezes what is no square
        frames = np.ascontiguousarray(frames[:, :, 2:-2])
    expected = expected_feature(name, model, frames)
    cut = torch.from_numpy(crop(frames, clip.size, (0.5, 0.5)))[None]
    with torch.no_grad():
        features = loaded.module(to_input(cut, "rgb", CPU))
    assert features.shape == (1, loaded.module.feature_dim)
    assert (features - expected).abs().max() < 1e-5 * expected.abs().max()


def test_everything_takes_a_published_model_as_it_takes_a_run(scenes: Path, tmp_path: Path) -> None:
    save_published("videomae", tmp_path / "theirs")
    weights = f"hf:{tmp_path / 'theirs'}"
    clip = {"frames": FRAMES, "stride": 4, "resize": RESIZE, "size": SIZE}
    for part in ("train", "test"):
        extract(
            weights=weights, data=scenes / f"{part}.txt", out=tmp_path / f"{part}.npz", windows=1, workers=0
        )
    features = load_features(tmp_path / "test.npz")
    assert features.meta["weights"] == weights
    assert clip.items() <= features.meta["clip"].items()
    # A list's own first video, by the library from the frames that dsm reads.
    videos = read_list(scenes / "test.txt")
    uncropped = clip_of({**clip, "size": RESIZE})
    sample = EvaluationClips(videos, uncropped, 1).sample(0)["clips"][0].numpy()
    model = save_published("videomae", tmp_path / "again")
    expected = expected_feature("videomae", model, sample)[0].numpy()
    assert np.abs(features.features[0] - expected).max() < 1e-4 * np.abs(expected).max()

    retrieve(gallery=tmp_path / "train.npz", queries=tmp_path / "test.npz", out=tmp_path / "r", shown=0)
    probe(train=tmp_path / "train.npz", test=tmp_path / "test.npz", out=tmp_path / "p")
    copy = shutil.copy(videos.file(0), tmp_path / "copy.mp4")  # a video itself is not among its hits
    found = search(index=tmp_path / "test.npz", query=copy, k=10)
    # Of random weights all videos are alike; the query finds itself up to rounding.
    assert {hit.path: hit.cosine for hit in found.hits}[videos.paths[0]] > 0.99999
    look(video=videos.file(0), weights=weights, out=tmp_path / "look.png")
    assert (tmp_path / "look.png").stat().st_size > 1000
    lists = ReportData(scenes / "train.txt", scenes / "test.txt", workers=0)
    page = tmp_path / "report.html"
    told = report(runs=(weights,), out=page, data=lists, measures=("retrieval",), windows=1, maps=0, shown=0)
    assert {row.run for row in told.rows} == {"theirs"}
    assert "published" in page.read_text()
    assert ">Training</h2>" not in page.read_text()
    with pytest.raises(UserError, match="which logged nothing; give --data"):
        report(runs=(weights,), out=tmp_path / "bare.html")
    described = str(inspect(file=weights).tables[0])
    assert "clips: 4 frames, every 4, 32 x 32 pixels of a picture whose shorter side is 36" in described
    assert "mean (0.5, 0.5, 0.5), std (0.5, 0.5, 0.5)" in described

    # Exported, and trained on, it needs neither the folder nor the hub.
    export(weights=weights, out=tmp_path / "e.safetensors")
    card = (tmp_path / "e.safetensors.md").read_text()
    assert card.startswith("# `theirs`, `hf:videomae`\n")
    assert "`theirs` is the work of others" in card
    ours = str(inspect(file=tmp_path / "e.safetensors").tables[0])
    made = [line for line in described.splitlines() if line.startswith(("clips:", "input:", "features:"))]
    assert len(made) == 3
    assert set(made) <= set(ours.splitlines())
    tuned = finetune(
        FinetuneConfig(
            data=FinetuneData(scenes / "train.txt", batch_size=4, workers=0), out=tmp_path / "tuned",
            weights=weights, steps=2, clip=clip_of(clip), head=ClassifyConfig(linear_probe=True),
        )
    )  # fmt: skip
    (tmp_path / "theirs").rename(tmp_path / "gone")
    for copy in (tmp_path / "e.safetensors", tuned):
        extract(
            weights=str(copy),
            data=scenes / "test.txt",
            out=tmp_path / f"{copy.stem}.npz",
            windows=1,
            workers=0,
        )
        same = load_features(tmp_path / f"{copy.stem}.npz")
        assert np.array_equal(same.features, features.features)
    assert clip.items() <= same.meta["clip"].items()


@pytest.mark.slow
def test_encoders_with_clips_of_their_own_are_compared_in_one_report(scenes: Path, tmp_path: Path) -> None:
    names = ("videomae", "dinov2")
    for name in names:
        save_published(name, tmp_path / name)
    result = bias(
        weights=tuple(f"hf:{tmp_path / name}" for name in names),
        data=BiasData(scenes / "train.txt", train=scenes / "train.txt", workers=0),
        out=tmp_path / "bias", windows=1, quick=True,
    )  # fmt: skip
    assert {row.run for row in result.rows} == set(names)


def test_a_model_of_pictures_knows_nothing_of_the_order_of_frames(tmp_path: Path) -> None:
    save_published("dinov2", tmp_path)
    module = load_weights(f"hf:{tmp_path}").module
    clip = torch.randn(2, 3, 8, SIZE, SIZE)
    with torch.no_grad():
        assert torch.allclose(module(clip), module(clip.flip(2)), atol=1e-6)


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    save_published("videomae", tmp_path / "theirs")
    return tmp_path / "theirs"


def changed(folder: Path, **values: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))


def test_what_cannot_be_used_is_refused_in_one_sentence(theirs: Path, tmp_path: Path) -> None:
    def refused(match: str, weights: str = f"hf:{theirs}") -> None:
        with pytest.raises(UserError, match=match) as caught:
            load_weights(weights)
        assert "\n" not in str(caught.value)

    config = (theirs / "config.json").read_text()
    changed(theirs, auto_map={"AutoModel": "modeling_x.Model"})
    refused("asks to run its author's code")
    changed(theirs, auto_map={}, model_type="videomoe")
    refused("asks to run its author's code")
    (theirs / "config.json").write_text(config)
    changed(theirs, model_type="videomoe")
    refused("no adapter for the transformers model 'videomoe'; did you mean 'videomae'")
    (theirs / "config.json").write_text(config)
    changed(theirs, num_hidden_layers=2)
    refused(r"fill only \d\d.\d% of hf:videomae \(.*; missing: encoder.layer.1")
    changed(theirs, num_hidden_layers=10**5)
    refused("a larger network than its tensors fill")
    changed(theirs, num_hidden_layers=1, hidden_size=2**21)
    refused("a setting of its network is beyond")
    changed(theirs, hidden_size="wide")
    refused("no model can be built")
    changed(theirs, hidden_size=48)
    refused("no model can be built")
    changed(theirs, hidden_size=32, intermediate_size=48)
    refused(r"fill only .*missing: encoder.layer.0.intermediate")
    changed(theirs, intermediate_size=32, num_channels=1)
    refused("takes frames of 1 channels")
    changed(theirs, num_channels=3, image_size=[32, 48])
    refused("its pictures are not square, as clips are")
    (theirs / "config.json").write_text("[" * 100)
    refused("config.json cannot be read")
    (theirs / "config.json").write_text(config)
    (theirs / "preprocessor_config.json").write_text('{"image_mean": [1, 2], "image_std": [1, 1]}')
    refused("the preprocessor is for 2 channels")
    (theirs / "preprocessor_config.json").unlink()
    torch.save({}, theirs / "pytorch_model.bin")
    (theirs / "model.safetensors").unlink()
    refused(r"no weights as model.safetensors \(it has pytorch_model.bin, a pickle, which can run code\)")
    (theirs / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../other.safetensors"}}')
    refused("names '../other.safetensors'")
    (theirs / "config.json").unlink()
    refused("has no config.json")
    refused("neither a folder", f"hf:{tmp_path / 'nothing'}")
    refused("no such file, and no model of that name; did you mean 'r3d_18'", "tv:r3d_81")


def test_a_config_cannot_choose_code(theirs: Path) -> None:
    changed(theirs, _attn_implementation="somebody/kernel", attn_implementation="somebody/kernel",
            quantization_config={"quant_method": "gptq"}, torch_dtype="float16")  # fmt: skip
    module: Any = load_weights(f"hf:{theirs}").module
    assert module.encoder.model.config._attn_implementation in ("sdpa", "eager")
    assert next(module.parameters()).dtype == torch.float32


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("GatedRepoError", "is gated; accept its terms on https://huggingface.co/a/b"),
        ("RepositoryNotFoundError", "the hub has no such model; check its id"),
        ("HfHubHTTPError", "the hub answered: no"),
        ("LocalEntryNotFoundError", "cannot be reached and its cache does not have the model"),
        ("OfflineModeIsEnabled", "give its folder: hf:FOLDER"),
    ],
)
def test_what_the_hub_does_not_give_is_said(
    error: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    kind = getattr(hub.errors, error)

    def snapshot_download(name: str, allow_patterns: list[str]) -> str:
        assert not any(pattern.endswith((".bin", ".py")) for pattern in allow_patterns)
        made = kind.__new__(kind)  # some take a response, which only a server has
        Exception.__init__(made, "no")
        raise made

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    with pytest.raises(UserError, match=message):
        load_weights("hf:a/b")


def test_an_id_is_fetched_with_its_settings_first(theirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    asked: list[list[str]] = []

    def snapshot_download(name: str, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        return str(theirs)

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    assert load_weights("hf:a/b").name == "b"
    assert "model.safetensors" not in asked[0]
    assert "model.safetensors" in asked[1]
    changed(theirs, auto_map={"AutoModel": "x.Y"})
    asked.clear()
    with pytest.raises(UserError, match="asks to run its author's code"):
        load_weights("hf:a/b")
    assert len(asked) == 1


def test_an_index_of_a_stranger_fetches_nothing(scenes: Path, tmp_path: Path) -> None:
    save_published("dinov2", tmp_path / "theirs")
    extract(weights=f"hf:{tmp_path / 'theirs'}", data=scenes / "test.txt", out=tmp_path / "i.npz", windows=1,
            workers=0)  # fmt: skip
    index = load_features(tmp_path / "i.npz")
    index = replace(index, meta={**index.meta, "weights": "hf:some/where"})
    with pytest.raises(UserError, match="add --weights hf:some/where to use it"):
        QueryEncoder(index)


def test_a_folder_for_a_hub_is_read_back_to_the_last_bit(scenes: Path, tmp_path: Path) -> None:
    run = pretrain(small_run(scenes, tmp_path / "run", steps=2))
    own = tmp_path / "shared" / "model.safetensors.md"
    own.parent.mkdir()
    own.write_text("mine")
    export(weights=run, out=tmp_path / "shared", to="hub", head="projection")
    assert own.read_text() == "mine"
    assert {file.name for file in (tmp_path / "shared").iterdir()} == {
        "model.safetensors", "config.json", "README.md", own.name,
    }  # fmt: skip
    assert json.loads((tmp_path / "shared" / "config.json").read_text())["model_type"] == "dsm"
    card = (tmp_path / "shared" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: dsm\npipeline_tag: feature-extraction\ntags: [video]\n---\n")
    assert 'dsm.load_encoder("hf:…")' in card
    clip = torch.randn(2, 3, 4, 32, 32)
    ours = f"hf:{tmp_path / 'shared'}"
    with torch.no_grad():
        for head in (None, "projection"):
            before, after = load_weights(run, head=head), load_weights(ours, head=head)
            assert torch.equal(before.module(clip), after.module(clip))
    assert before.config["clip"] == after.config["clip"]
    assert "clips: 4 frames, every 3" in str(inspect(file=ours).tables[0])
    with pytest.raises(UserError, match="exists"):
        export(weights=run, out=tmp_path / "shared", to="hub")


def test_a_card_for_a_hub_names_the_base_model_and_a_stated_licence(tmp_path: Path) -> None:
    save_published("dinov2", tmp_path / "theirs")
    (tmp_path / "theirs" / "README.md").write_text(
        "---\ntags: [x]\nlicense: apache-2.0\n---\nlicense: mine\n"
    )
    export(weights=f"hf:{tmp_path / 'theirs'}", out=tmp_path / "shared", to="hub")
    front = (tmp_path / "shared" / "README.md").read_text().split("---\n")[1]
    assert "license: apache-2.0\n" in front
    assert "base_model" not in front  # a folder has no name on the hub
    run = tmp_path / "run"
    run.mkdir()
    for begun_with, line in (("hf:some/where", "base_model: some/where"), ("none", ""), ("hf:a/b\nx: y", "")):
        record = {"config": {"weights": begun_with}, "command": "", "versions": {}, "revision": ""}
        (run / "config.json").write_text(json.dumps(record))
        text = _front_matter(ExportConfig(str(run), tmp_path / "out"), {})
        assert ("base_model" in text) == bool(line)
        assert line in text
        assert "license" not in text


def test_the_base_model_is_known_after_several_trainings_and_exports(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    save_published("videomae", tmp_path / "theirs")
    monkeypatch.setattr(hub, "snapshot_download", lambda *_args, **_more: str(tmp_path / "theirs"))
    clip = clip_of({"frames": FRAMES, "stride": 2, "resize": RESIZE, "size": SIZE})

    def trained(weights: str, name: str) -> str:
        config = small_run(
            scenes, tmp_path / name, weights=weights, steps=1, clip=clip, monitor=MonitorConfig(videos=0)
        )
        return str(pretrain(config))

    first = trained("hf:some/where", "a")
    export(weights=first, out=tmp_path / "a.safetensors")
    second = trained(str(tmp_path / "a.safetensors"), "b")
    export(weights=second, out=tmp_path / "b.safetensors")
    for weights in (second, str(tmp_path / "b.safetensors")):
        export(weights=weights, out=tmp_path / "shared", to="hub", overwrite=True)
        front = (tmp_path / "shared" / "README.md").read_text().split("---\n")[1]
        assert "base_model: some/where\n" in front


def needs(module: str) -> Any:
    """A module, which an installation for another torch may break in any way."""
    try:
        return importlib.import_module(module)
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"{module} cannot be imported here ({error})")


@pytest.mark.parametrize("name", ["VJEPA2VideoProcessor", "DINOv3ViTImageProcessor"])
def test_clips_are_those_of_processors_that_need_torchvision(name: str, tmp_path: Path) -> None:
    needs("torchvision")
    transformers = needs("transformers")
    made = {"crop_size": SIZE} if name == "VJEPA2VideoProcessor" else {"size": {"height": 40, "width": 40}}
    processor = getattr(transformers, name)(**made)
    processor.save_pretrained(tmp_path)
    said = read_preprocessor(tmp_path, name)
    pictures = parse_preprocessor(said, IMAGENET)
    assert pictures.size is not None
    resize = pictures.resize or pictures.size
    assert (pictures.size, resize) == ((32, 36) if name == "VJEPA2VideoProcessor" else (40, 40))
    frames = np.random.default_rng(0).integers(0, 256, (4, resize, resize, 3), dtype=np.uint8)
    if name == "VJEPA2VideoProcessor":
        expected = processor(torch.from_numpy(frames).permute(0, 3, 1, 2), return_tensors="pt")
        expected = expected["pixel_values_videos"][0]
    else:
        expected = processor(list(frames), return_tensors="pt")["pixel_values"]
    cut = torch.from_numpy(crop(frames, pictures.size, (0.5, 0.5)))[None]
    module = Renormalized(create_model("tiny"), pictures.normalization)
    assert torch.allclose(module.converted(to_input(cut, "rgb", CPU))[0].transpose(0, 1), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "settings"), [("vit_tiny_patch16_224", {"img_size": 32}), ("resnet10t", {})]
)
def test_models_of_timm_give_the_mean_of_their_frames(
    name: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    timm = needs("timm")
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=7, **settings).eval()
    timm.models.save_for_hf(model, tmp_path, safe_serialization=True)
    loaded = load_weights(f"timm:{tmp_path}")
    made = json.loads((tmp_path / "config.json").read_text())["pretrained_cfg"]
    assert loaded.config["clip"]["size"] == made["input_size"][-1]
    frames = torch.randint(0, 256, (1, 4, 64, 64, 3), dtype=torch.uint8)[:, :, :32, :32]
    mean, std = torch.tensor(made["mean"]), torch.tensor(made["std"])
    with torch.no_grad():
        outputs = model.forward_features(((frames[0] / 255 - mean) / std).permute(0, 3, 1, 2))
        expected = model.forward_head(outputs, pre_logits=True).mean(0)
        feature = loaded.module(to_input(frames, "rgb", CPU))[0]
    assert (feature - expected).abs().max() < 1e-5 * expected.abs().max()
    with pytest.raises(UserError, match="has no setting 'checkpoint_path' that dsm passes on"):
        create_model(f"timm:{name}", checkpoint_path="x.pth")


def test_models_of_torchvision_come_from_its_cache_or_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    asked: list[str] = []

    def refuse(url: str, file: str, prefix: str, progress: bool) -> None:
        asked.append(f"{url} {prefix}")
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(UserError, match="tv:r3d_18: cannot be fetched"):
        load_weights("tv:r3d_18")
    assert asked == ["https://download.pytorch.org/models/r3d_18-b3b3357e.pth b3b3357e"]
    cached = tmp_path / "checkpoints" / "r3d_18-b3b3357e.pth"
    theirs = create_model("r3d18", stem="3x7x7").state_dict()
    renames = ((r"^stages\.", ""), (r"^conv1\.", "stem.0."), (r"^norm1\.", "stem.1."),
               (r"\.conv(\d)\.", r".conv\1.0."), (r"\.norm(\d)\.", r".conv\1.1."),
               (r"shortcut\.conv", "downsample.0"), (r"shortcut\.norm", "downsample.1"))  # fmt: skip
    state = {}
    for name, tensor in theirs.items():
        for pattern, replacement in renames:
            name = re.sub(pattern, replacement, name)
        state[name] = tensor
    torch.save(state, cached)
    for weights in ("tv:r3d_18", f"tv:{cached}"):
        loaded = load_weights(weights)
        assert loaded.report is not None
        assert loaded.report.source == "torchvision"
        assert loaded.config["clip"] == {"frames": 16, "stride": 2, "resize": 128, "size": 112}
        assert isinstance(loaded.module, Renormalized)


@pytest.mark.parametrize("name", ["videomae", "timesformer", "vivit"])
def test_a_published_classifier_is_tested_as_it_is(name: str, tmp_path: Path) -> None:
    model = save_published(name, tmp_path)
    changed(tmp_path, id2label={"0": "jump", "1": "run"})
    module, about = load_classifier(f"hf:{tmp_path}")
    assert about["classes"] == ["jump", "run"]
    clip = torch.randn(2, 3, FRAMES, SIZE, SIZE)
    with torch.no_grad():
        inner = module.encoder.converted(clip)
        expected = model(inner.transpose(1, 2)).logits
        assert torch.allclose(module(clip), expected, atol=1e-5)
    save_published("dinov2", tmp_path / "pictures")
    with pytest.raises(UserError, match="has no classifier"):
        load_classifier(f"hf:{tmp_path / 'pictures'}")


def test_a_model_of_pictures_is_exported_for_batches_of_any_size(tmp_path: Path) -> None:
    save_published("dinov2", tmp_path / "theirs")
    export(weights=f"hf:{tmp_path / 'theirs'}", out=tmp_path / "d.pt2")
    program = torch.export.load(tmp_path / "d.pt2").module()
    clip = torch.randn(3, 3, 8, SIZE, SIZE)
    with torch.no_grad():
        assert torch.allclose(
            program(clip), load_weights(f"hf:{tmp_path / 'theirs'}").module(clip), atol=1e-5
        )
