"""Transformers in files that hold nothing but tensors: told by names and shapes of real checkpoints."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dsm.errors import UserError
from dsm.models.bare import NAMINGS, build_found, recognise_transformer
from dsm.models.export import build_filled
from dsm.models.foreign import find_encoder
from dsm.models.weights import load_weights
from dsm.models.zoo import create_model
from dsm.verbs.weights import inspect

VIT = {"num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072, "hidden_size": 768}
LARGE = {"num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096, "hidden_size": 1024}
TIMES = {**VIT, "patch_size": 16}
XCLIP = {
    **VIT,
    "mit_hidden_size": 512,
    "mit_num_attention_heads": 8,
    "projection_dim": 512,
    "image_size": 224,
}
LISTS: dict[str, tuple[str, dict[str, Any]]] = {
    "JackWong0911_timesformer-base-finetuned-k400-finetuned-kinetic400-subset-epoch6-num_frame_10": (
        "timesformer", {**TIMES, "num_frames": 10}),
    "JackWong0911_vivit-b-16x2-kinetics400-finetuned-kinectic": ("vivit", {**VIT, "num_frames": 10}),
    "MCG-NJU_videomae-base-finetuned-kinetics": ("videomae", {**VIT, "use_mean_pooling": True}),
    "MCG-NJU_videomae-base-short": ("videomae", {**VIT, "use_mean_pooling": False}),
    "MCG-NJU_videomae-large-finetuned-kinetics": ("videomae", {**LARGE, "use_mean_pooling": True}),
    "MCG-NJU_videomae-large": ("videomae", {**LARGE, "use_mean_pooling": False}),
    "facebook_timesformer-base-finetuned-k400": ("timesformer", {**TIMES, "num_frames": 8}),
    "fcakyon_timesformer-base-finetuned-k400": ("timesformer", {**TIMES, "num_frames": 8}),
    "fcakyon_timesformer-hr-finetuned-k400": ("timesformer", {**TIMES, "num_frames": 16}),
    "fcakyon_timesformer-large-finetuned-k400": ("timesformer", {**TIMES, "num_frames": 96}),
    "hf-tiny-model-private_tiny-random-TimesformerForVideoClassification": (
        "timesformer", {"hidden_size": 32}),
    "hf-tiny-model-private_tiny-random-VideoMAEForVideoClassification": ("videomae", {"hidden_size": 32}),
    "mc3_18": ("r3d18", {"stem": "3x7x7", "flat_from": 2}),
    "microsoft_xclip-base-patch16-zero-shot": ("xclip", {**XCLIP, "patch_size": 16, "num_frames": 32}),
    "microsoft_xclip-base-patch16": ("xclip", {**XCLIP, "patch_size": 16, "num_frames": 8}),
    "microsoft_xclip-base-patch32-16-frames": ("xclip", {**XCLIP, "patch_size": 32, "num_frames": 16}),
    "microsoft_xclip-base-patch32": ("xclip", {**XCLIP, "patch_size": 32, "num_frames": 8}),
    "microsoft_xclip-large-patch14": (
        "xclip", {**LARGE, "patch_size": 14, "mit_hidden_size": 768, "mit_num_attention_heads": 12}),
    "prathameshdalal_vivit-b-16x2-kinetics400-UCF-Crime": ("vivit", VIT),
    "r3d_18": ("r3d18", {"stem": "3x7x7"}),
}  # fmt: skip


def listed(file: Path) -> dict[str, Tensor]:
    """The names and shapes of a list, as tensors of zeros that take no memory."""
    rows = [line.split("\t") for line in file.read_text().splitlines()[1:]]
    return {row[0]: torch.zeros(()).expand([int(n) for n in re.findall(r"\d+", row[2])]) for row in rows}


@pytest.mark.parametrize("name", sorted(LISTS))
def test_real_checkpoints_are_recognised(name: str, shared: Path) -> None:
    kind, settings = LISTS[name]
    tensors = listed(shared / "keylists" / f"{name}.tsv")
    if kind == "r3d18":
        match = find_encoder({"": tensors})
        assert match is not None
        assert (match.source.name, match.source.backbone) == ("torchvision", kind)
        assert settings.items() <= match.settings.items()
        assert match.settings.get("flat_from") == settings.get("flat_from")
        assert not match.report.unfit
        # Statistics of most norms are not in the list.
        assert {one.partition(" ")[0].rpartition(".")[2] for one in match.report.missing} <= {
            "running_mean", "running_var", "bias",
        }  # fmt: skip
        return
    found = recognise_transformer({"": tensors})
    assert found is not None
    assert (found.naming.project, found.naming.kind) == ("transformers", kind)
    assert settings.items() <= found.settings.items()
    if found.settings["hidden_size"] == 32:
        with pytest.raises(UserError, match="determine the number of heads"):
            build_found(found, name="tiny")


@pytest.mark.parametrize(
    "name",
    ["facebook_timesformer-base-finetuned-k400", "MCG-NJU_videomae-base-short",
     "microsoft_xclip-base-patch32", "prathameshdalal_vivit-b-16x2-kinetics400-UCF-Crime"],
)  # fmt: skip
def test_names_of_real_checkpoints_fill_the_model(name: str, shared: Path) -> None:
    """Every tensor of the first layer finds its place, whatever the version of transformers."""
    pytest.importorskip("transformers")
    few = {
        one: tensor
        for one, tensor in listed(shared / "keylists" / f"{name}.tsv").items()
        if not re.search(r"layers?\.([1-9]|\d\d)\.", one) and not one.startswith("text_")
    }
    found = recognise_transformer({"": few})
    assert found is not None
    read = build_found(found, name=name, partial=True)
    assert not read.report.unfit
    # The list of TimeSformer lacks them.
    assert {one.rpartition(".")[2] for one in read.report.missing} <= {"position_embeddings"}
    outside = ("classifier", "logit_scale", "prompts", "pooler", "position_ids")
    assert not [one for one in read.report.left if not any(part in one for part in outside)]


def renamed(state: dict[str, Tensor], names: dict[str, str]) -> dict[str, Tensor]:
    """The tensors with each pattern in their names replaced, one after the other."""
    theirs = {}
    for name, tensor in state.items():
        for pattern, replacement in names.items():
            name = re.sub(pattern, replacement, name)
        theirs[name] = tensor
    return theirs


def own_videomae(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names of VideoMAE's own code for a model of transformers, query, key and value in one tensor."""
    own = {
        r"embeddings\.patch_embeddings\.projection": "patch_embed.proj", r"encoder\.layer": "blocks",
        "layernorm_before": "norm1", "layernorm_after": "norm2", r"intermediate\.dense": "mlp.fc1",
        r"attention\.output\.dense": "attn.proj", r"output\.dense": "mlp.fc2",
        r"attention\.attention\.query\.bias": "attn.q_bias",
        r"attention\.attention\.value\.bias": "attn.v_bias",
    }  # fmt: skip
    theirs = renamed(state, own)
    for name in [one for one in theirs if one.endswith("attention.attention.query.weight")]:
        parts = [theirs.pop(name.replace("query", part)) for part in ("query", "key", "value")]
        theirs[name.replace("attention.attention.query", "attn.qkv")] = torch.cat(parts)
    return theirs


def own_timesformer(state: dict[str, Tensor]) -> dict[str, Tensor]:
    own = {
        r"embeddings\.patch_embeddings\.projection": "patch_embed.proj",
        r"embeddings\.cls_token": "cls_token",
        r"embeddings\.position_embeddings": "pos_embed", r"embeddings\.time_embeddings": "time_embed",
        r"encoder\.layer": "blocks", "temporal_layernorm": "temporal_norm1", "temporal_dense": "temporal_fc",
        r"temporal_attention\.attention\.qkv": "temporal_attn.qkv",
        r"temporal_attention\.output\.dense": "temporal_attn.proj", r"attention\.attention\.qkv": "attn.qkv",
        r"attention\.output\.dense": "attn.proj", "layernorm_before": "norm1", "layernorm_after": "norm2",
        r"intermediate\.dense": "mlp.fc1", r"\.output\.dense": ".mlp.fc2", "^layernorm": "norm",
    }  # fmt: skip
    return renamed(state, own)


def shaken(module: Any) -> Any:
    """The module with random biases, norms and positions too."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return module.eval()


SMALL = {"hidden_size": 192, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 64}


def test_own_files_of_videomae_and_timesformer_are_read(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    clip = torch.randn(1, 3, 16, 32, 32)
    config = transformers.VideoMAEConfig(**SMALL, image_size=32, layer_norm_eps=1e-6)
    model = shaken(transformers.VideoMAEModel(config))
    norm = {"fc_norm.weight": torch.rand(192), "fc_norm.bias": torch.rand(192)}
    # As Lightning saves a wrapped encoder; the size of the pictures is in no tensor.
    state = {f"model.encoder.{name}": t for name, t in (own_videomae(model.state_dict()) | norm).items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "videomae.ckpt")
    loaded = load_weights(tmp_path / "videomae.ckpt")
    assert loaded.report is not None
    assert (loaded.report.source, loaded.report.place) == ("VideoMAE's own code", "state_dict.model.encoder")
    assert loaded.config["clip"] == {"frames": 16, "stride": 4, "resize": 224, "size": 224}
    ours: Any = loaded.module.encoder
    for name, tensor in model.state_dict().items():
        assert torch.equal(ours.model.state_dict()[name], tensor)
    assert torch.equal(ours.norm.weight, norm["fc_norm.weight"])

    config = transformers.TimesformerConfig(**SMALL, image_size=32, num_frames=4)
    model = shaken(transformers.TimesformerModel(config))
    # As PySlowFast saves it.
    state = {f"model.{name}": t for name, t in own_timesformer(model.state_dict()).items()}
    torch.save(
        {"model_state": {**state, "model.head.weight": torch.zeros(4, 192)}, "cfg": "…"}, tmp_path / "t.pyth"
    )
    loaded = load_weights(tmp_path / "t.pyth")
    ours = loaded.module.encoder
    assert loaded.config["clip"] == {"frames": 4, "stride": 4, "resize": 32, "size": 32}
    assert loaded.config["pictures"] == {"mean": [0.45] * 3, "std": [0.225] * 3}
    clip = torch.randn(1, 3, 4, 32, 32)
    with torch.no_grad():
        expected = model(clip.transpose(1, 2)).last_hidden_state[:, 0]
        assert torch.allclose(ours(clip), expected, atol=1e-6)


def test_the_same_width_has_other_heads_in_another_project(tmp_path: Path) -> None:
    zeros = {  # VideoMAE v2, giant
        "patch_embed.proj.weight": (1408, 3, 2, 14, 14), "blocks.0.attn.q_bias": (1408,),
        "blocks.39.norm1.weight": (1408,), "blocks.0.mlp.fc1.weight": (6144, 1408),
    }  # fmt: skip
    found = recognise_transformer({"": {name: torch.zeros(()).expand(s) for name, s in zeros.items()}})
    assert found is not None
    assert found.naming.project == "VideoMAE's own code"
    wanted = {"num_attention_heads": 16, "num_hidden_layers": 40, "patch_size": 14, "intermediate_size": 6144}
    assert wanted.items() <= found.settings.items()
    zeros = {
        "patch_embed.proj.weight": (1408, 3, 2, 16, 16), "blocks.0.attn.qkv.weight": (4224, 1408),
        "blocks.39.norm1.weight": (1408,), "blocks.0.mlp.fc1.weight": (6144, 1408),
    }  # fmt: skip
    found = recognise_transformer({"": {name: torch.zeros(()).expand(s) for name, s in zeros.items()}})
    assert found is not None
    assert {"heads": 22, "depth": 40}.items() <= found.settings.items()


def test_names_with_shapes_of_another_network_are_passed_over() -> None:
    own = {
        "patch_embed.proj.weight": (192, 3, 2, 16, 16), "blocks.0.attn.q_bias": (192,),
        "blocks.0.mlp.fc1.weight": (64, 192),
    }  # fmt: skip
    assert recognise_transformer({"": {name: torch.zeros(shape) for name, shape in own.items()}})
    vivit = {
        "embeddings.patch_embeddings.projection.weight": (192, 3, 2, 300, 300),
        "embeddings.cls_token": (1, 1, 192), "embeddings.position_embeddings": (1, 9, 192),
        "encoder.layer.0.intermediate.dense.weight": (64, 192),
    }  # fmt: skip
    for shapes in ({**own, "blocks.0.attn.qkv.weight": ()}, {**own, "blocks.0.mlp.fc1.weight": ()}, vivit):
        tensors = {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}
        assert recognise_transformer({"": tensors}) is None


def in_mmaction2(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names that mmaction2 gives to what the authors' own code names otherwise, in a whole recogniser."""
    names = {
        r"patch_embed\.proj\b": "patch_embed.projection", r"mlp\.fc1": "mlp.layers.0.0",
        r"mlp\.fc2": "mlp.layers.1",
    }  # fmt: skip
    if "time_embed" in state:
        names |= {
            r"^blocks": "transformer_layers.layers", "temporal_norm1": "attentions.0.norm",
            "temporal_fc": "attentions.0.temporal_fc", r"temporal_attn\.": "attentions.0.attn.",
            r"(layers\.\d+)\.attn\.": r"\1.attentions.1.attn.", r"\.norm1": ".attentions.1.norm",
            r"\.norm2": ".ffns.0.norm", r"\.mlp\.": ".ffns.0.", r"attn\.qkv\.": "attn.in_proj_",
            r"attn\.proj\.": "attn.out_proj.",
        }  # fmt: skip
    inner = {f"backbone.{name}": tensor for name, tensor in renamed(state, names).items()}
    return {**inner, "cls_head.fc_cls.weight": torch.zeros(4, 192), "cls_head.fc_cls.bias": torch.zeros(4)}


def test_videomae_and_timesformer_of_mmaction2_are_read(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.VideoMAEConfig(**SMALL, image_size=32, layer_norm_eps=1e-6)
    model = shaken(transformers.VideoMAEModel(config))
    own = own_videomae(model.state_dict())
    own = {name: t for name, t in own.items() if not name.startswith("layernorm")}
    norm = {"fc_norm.weight": torch.rand(192), "fc_norm.bias": torch.rand(192)}
    state = in_mmaction2(own | norm | {"pos_embed": torch.zeros(1, 1568, 192)})
    assert "backbone.blocks.1.mlp.layers.0.0.weight" in state
    assert "backbone.patch_embed.projection.bias" in state
    torch.save({"meta": {"epoch": 1}, "state_dict": state}, tmp_path / "v.pth")
    loaded = load_weights(tmp_path / "v.pth")
    assert loaded.report is not None
    assert (loaded.report.source, loaded.report.place) == ("mmaction2", "state_dict.backbone")
    ours: Any = loaded.module.encoder
    for name, tensor in model.state_dict().items():
        if not name.startswith("layernorm"):
            assert torch.equal(ours.model.state_dict()[name], tensor)
    assert torch.equal(ours.norm.weight, norm["fc_norm.weight"])

    config = transformers.TimesformerConfig(**SMALL, image_size=32, num_frames=4)
    model = shaken(transformers.TimesformerModel(config))
    state = in_mmaction2(own_timesformer(model.state_dict()))
    assert {
        "backbone.transformer_layers.layers.1.attentions.0.attn.in_proj_weight",
        "backbone.transformer_layers.layers.0.attentions.1.attn.out_proj.bias",
        "backbone.transformer_layers.layers.0.attentions.0.temporal_fc.weight",
        "backbone.transformer_layers.layers.0.ffns.0.layers.1.weight",
        "backbone.transformer_layers.layers.0.ffns.0.norm.bias",
        "backbone.norm.weight",
    } <= set(state)
    torch.save({"state_dict": state}, tmp_path / "t.pth")
    loaded = load_weights(tmp_path / "t.pth")
    assert loaded.report is not None
    assert loaded.report.source == "mmaction2"
    assert loaded.config["pictures"]["mean"] == [0.5, 0.5, 0.5]
    clip = torch.randn(1, 3, 4, 32, 32)
    ours = loaded.module.encoder
    with torch.no_grad():
        expected = model(clip.transpose(1, 2)).last_hidden_state[:, 0]
        assert torch.allclose(ours(clip), expected, atol=1e-6)


VJEPA = {"width": 192, "depth": 2, "heads": 3, "hidden": 64}


def as_vjepa(state: dict[str, Tensor], *, prefix: str = "module.backbone.") -> dict[str, Tensor]:
    """The names of V-JEPA's own code."""
    theirs = {}
    for name, tensor in state.items():
        name = name.removeprefix("stages.").replace("patches.proj", "patch_embed.proj")
        name = name.replace("patches.offset", "video_mod_embed").replace("norm.norm.", "norm.")
        theirs[prefix + re.sub(r"^block(\d+)", r"blocks.\1", name)] = tensor
    return theirs


def test_own_files_of_vjepa_2_give_the_features_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.VJEPA2Config(
        hidden_size=192, num_hidden_layers=2, num_attention_heads=3, mlp_ratio=1 / 3, crop_size=32,
        frames_per_clip=8, pred_hidden_size=24, pred_num_hidden_layers=1, pred_num_attention_heads=1,
    )  # fmt: skip
    model = shaken(transformers.VJEPA2Model(config))
    theirs = {}
    for name, tensor in model.encoder.state_dict().items():
        name = name.replace("embeddings.patch_embeddings", "patch_embed").replace("layer.", "blocks.")
        theirs[name.replace("attention.proj", "attn.proj").replace("layernorm", "norm")] = tensor
    for name in [one for one in theirs if "attention.query" in one]:
        parts = [theirs.pop(name.replace("query", part)) for part in ("query", "key", "value")]
        theirs[name.replace("attention.query", "attn.qkv")] = torch.cat(parts)
    named = {f"module.backbone.{name}": t for name, t in theirs.items()}
    student = {name: torch.zeros_like(t) for name, t in named.items()}
    positions = {"module.backbone.pos_embed": torch.zeros(1, 32 * 24 * 24, 192)}
    torch.save({"encoder": student, "target_encoder": {**named, **positions}, "epoch": 1}, tmp_path / "v.pt")
    assert "features: the mean of the tokens" in str(inspect(file=str(tmp_path / "v.pt")).tables[0])
    loaded = load_weights(tmp_path / "v.pt")
    assert loaded.report is not None
    assert loaded.report.place == "target_encoder.module.backbone"
    assert loaded.report.others == ["encoder.module.backbone"]
    assert loaded.config["clip"] == {"frames": 64, "stride": 2, "resize": 438, "size": 384}
    clip = torch.randn(2, 3, 8, 32, 32)
    with torch.no_grad():
        expected = model(clip.transpose(1, 2), skip_predictor=True).last_hidden_state
        tokens = loaded.module.encoder.tokens(clip)
        assert torch.allclose(tokens, expected, atol=1e-5)
        assert torch.allclose(loaded.module.encoder(clip), expected.mean(1), atol=1e-5)


def slow_attention(block: Any, tokens: Tensor, sides: tuple[int, int, int]) -> Tensor:
    """V-JEPA 2.1's attention, a token, a head and a pair of numbers at a time."""
    query, key, value = block.attn.qkv(block.norm1(tokens)).double().chunk(3, 1)
    heads, size = block.attn.heads, tokens.shape[1] // block.attn.heads
    part = 2 * (size // 3 // 2)
    places = [(t, y, x) for t in range(sides[0]) for y in range(sides[1]) for x in range(sides[2])]

    def turned(x: Tensor) -> Tensor:
        out = x.clone()
        for n, (t, row, column) in enumerate(places):
            at = (t, row * 15 / (sides[1] - 1), column * 15 / (sides[2] - 1))
            for head in range(heads):
                for axis in range(3):
                    for pair in range(part // 2):
                        angle = torch.tensor(at[axis] / 10000 ** (2 * pair / part))
                        i = head * size + axis * part + 2 * pair
                        a, b = x[n, i], x[n, i + 1]
                        out[n, i] = a * angle.cos() - b * angle.sin()
                        out[n, i + 1] = b * angle.cos() + a * angle.sin()
        return out

    query, key = turned(query), turned(key)
    out = torch.zeros_like(value)
    for head in range(heads):
        own = slice(head * size, (head + 1) * size)
        out[:, own] = (query[:, own] @ key[:, own].T / size**0.5).softmax(1) @ value[:, own]
    tokens = tokens + block.attn.proj(out.float())
    return tokens + block.mlp(block.norm2(tokens))


def test_vjepa_2_1_is_computed_as_its_authors_do(tmp_path: Path) -> None:
    encoder: Any = shaken(create_model("vjepa2", **VJEPA, version="2.1"))
    state = as_vjepa(encoder.state_dict())
    last = {name.replace("norm.", "norms_block.3."): t for name, t in state.items() if ".norm." in name}
    others = {
        f"module.backbone.norms_block.{n}.{part}": torch.rand(192)
        for n in range(3)
        for part in ("weight", "bias")
    }
    state = {name: t for name, t in state.items() if ".norm." not in name} | last | others
    state["module.backbone.img_mod_embed"] = torch.rand(1, 1, 192)
    torch.save({"ema_encoder": state}, tmp_path / "v21.pt")
    loaded = load_weights(tmp_path / "v21.pt")
    assert loaded.config["model"]["version"] == "2.1"
    assert loaded.config["clip"]["size"] == 384
    clip = torch.randn(1, 3, 4, 32, 48)
    patches = encoder.stages.patches
    with torch.no_grad():
        tokens = (patches.proj(clip).flatten(2).transpose(1, 2) + patches.offset)[0]
        for block in encoder.blocks:
            tokens = slow_attention(block, tokens, (2, 2, 3))
        expected = encoder.stages.norm.norm(tokens).mean(0)
        assert torch.allclose(loaded.module.encoder(clip)[0], expected, atol=1e-4)


def test_the_vjepa_of_2024_is_not_taken_for_vjepa_2(tmp_path: Path) -> None:
    encoder = create_model("vjepa2", **VJEPA)
    state = as_vjepa(encoder.state_dict())
    for frames, grid in ((8, 14), (8, 24)):
        places = torch.zeros(1, frames * grid * grid, 192)
        torch.save({"target_encoder": {**state, "module.backbone.pos_embed": places}}, tmp_path / "v1.pt")
        with pytest.raises(UserError, match="is the V-JEPA of 2024"):
            load_weights(tmp_path / "v1.pt")
    torch.save(
        {"target_encoder": {**state, "module.backbone.pos_embed": places[:, :2048]}}, tmp_path / "v2.pt"
    )
    assert load_weights(tmp_path / "v2.pt").config["clip"]["size"] == 256
    del state["module.backbone.blocks.1.norm2.weight"]
    torch.save({"target_encoder": state}, tmp_path / "part.pt")
    with pytest.raises(UserError, match=r"looks like V-JEPA 2, but stages\.block1\.norm2\.weight"):
        load_weights(tmp_path / "part.pt")


def test_a_vjepa_survives_a_file_of_its_own() -> None:
    encoder = create_model("vjepa2", **VJEPA).eval()
    again = build_filled(
        lambda: create_model("vjepa2", **VJEPA), encoder.state_dict(), {"backbone": "vjepa2"}
    )
    clip = torch.randn(1, 3, 1, 32, 32)
    assert torch.equal(again(clip), encoder(clip))
    assert {one.kind for one in NAMINGS} == {"videomae", "timesformer", "vivit", "xclip", "vjepa2.pt"}
