"""Transformers in files without a ``config.json``: recognised by the names and shapes of their tensors.

:data:`NAMINGS` is a table, as ``sources.py`` is for convolutional networks: how to rename each project's
tensors to those of transformers, or of our own ``vjepa2``, and what their shapes say about the network's
sizes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from torch import Tensor

from dsm.errors import UserError
from dsm.models.export import build_filled
from dsm.models.families import HALF, IMAGENET
from dsm.models.foreign import LoadReport, Renormalized, label_of
from dsm.models.hub import Published, build_transformers
from dsm.models.preprocessor import Pictures
from dsm.models.sources import Normalization, Rename, renamed
from dsm.models.vjepa import PATCH, VJepa
from dsm.models.zoo import create_model
from dsm.render import MEAN, STD

Tensors = Mapping[str, Tensor]
Settings = dict[str, Any]
_VIT_HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16, 1408: 16}
_VJEPA_HEADS = {**_VIT_HEADS, 1408: 22, 1664: 26}
_TIMESFORMER_PICTURES = Normalization((MEAN, MEAN, MEAN), (STD, STD, STD))
"""The default of TimeSformer's own code, which is also that of dsm."""


def _unchanged(tensors: Tensors) -> dict[str, Tensor]:
    return dict(tensors)


@dataclass(frozen=True)
class Naming:
    """How one project names one transformer."""

    project: str
    kind: str
    """A key of ``FAMILIES``, or ``vjepa2.pt`` for our own network."""
    stem: str
    """Name of the weights of its first layer."""
    marks: tuple[str, ...]
    """Names that distinguish it from others."""
    sizes: Callable[[Tensors], Settings]
    """Computes its settings from the shapes of renamed tensors."""
    renames: tuple[Rename, ...] = ()
    """(pattern, replacement), applied in order."""
    not_marks: tuple[str, ...] = ()
    """Names that rule it out: they belong to others."""
    normalization: Normalization | None = None
    """Normalisation; None for the family's."""
    heads: Mapping[int, int] = field(default_factory=lambda: _VIT_HEADS)
    """Number of heads by width, for the published sizes: shapes do not reveal it."""
    finish: Callable[[Tensors], dict[str, Tensor]] = _unchanged
    """Changes the renamed tensors further."""

    def settings_of(self, tensors: Tensors) -> Settings:
        """The settings of the network with these renamed tensors; without ``heads`` for an unknown width."""
        settings = self.sizes(tensors)
        width, name = settings.get("hidden_size"), "num_attention_heads"
        if width is None:  # of our own network
            width, name = settings["width"], "heads"
        return {**settings, name: self.heads[width]} if width in self.heads else settings


def _layers(tensors: Tensors, row: str) -> int:
    found = [re.match(rf"{row}\.?(\d+)\.", name) for name in tensors]
    return 1 + max((int(one[1]) for one in found if one), default=-1)


def _side(places: int, patch: int) -> int | None:
    """Side in pixels of a square picture with this many patches."""
    side = round(places**0.5)
    return side * patch if side**2 == places else None


def _known(**settings: Any) -> Settings:
    return {name: value for name, value in settings.items() if value is not None}


def _common(t: Tensors, row: str = "encoder.layer", inner: str = "intermediate.dense.weight") -> Settings:
    stem = t["embeddings.patch_embeddings.projection.weight"].shape
    return _known(
        hidden_size=stem[0],
        num_hidden_layers=_layers(t, row),
        intermediate_size=t[f"{row}.0.{inner}"].shape[0],
        num_channels=stem[1],
        patch_size=stem[-1],
    )


def _videomae(t: Tensors) -> Settings:
    tubelet = t["embeddings.patch_embeddings.projection.weight"].shape[2]
    return {**_common(t), "tubelet_size": tubelet, "use_mean_pooling": "layernorm.weight" not in t}


def _videomae_own(t: Tensors) -> Settings:
    return {**_videomae(t), "layer_norm_eps": 1e-6}


def _timesformer(t: Tensors) -> Settings:
    common = _common(t)
    at = t.get("embeddings.position_embeddings")
    side = None if at is None else _side(at.shape[1] - 1, common["patch_size"])
    return {**common, **_known(num_frames=t["embeddings.time_embeddings"].shape[1], image_size=side)}


def _vivit(t: Tensors) -> Settings:
    stem = t["embeddings.patch_embeddings.projection.weight"].shape
    places = t["embeddings.position_embeddings"].shape[1] - 1
    frames = places // (224 // stem[-1]) ** 2 * stem[2]
    common = {name: value for name, value in _common(t).items() if name != "patch_size"}
    return {**common, "tubelet_size": list(stem[2:]), "num_frames": frames}


def _xclip(t: Tensors) -> Settings:
    stem = t["vision_model.embeddings.patch_embedding.weight"].shape
    frames, mit = t["mit.position_embedding"].shape[1:]
    places = t["vision_model.embeddings.position_embedding.weight"].shape[0] - 1
    return _known(
        hidden_size=stem[0],
        num_hidden_layers=_layers(t, r"vision_model\.encoder\.layers"),
        intermediate_size=t["vision_model.encoder.layers.0.mlp.fc1.weight"].shape[0],
        patch_size=stem[-1],
        image_size=_side(places, stem[-1]),
        num_frames=frames,
        mit_hidden_size=mit,
        mit_num_hidden_layers=_layers(t, r"mit\.encoder\.layers"),
        mit_num_attention_heads=max(mit // 64, 1),
        mit_intermediate_size=t["mit.encoder.layers.0.mlp.fc1.weight"].shape[0],
        projection_dim=t["visual_projection.weight"].shape[0],
    )


def _vjepa(t: Tensors) -> Settings:
    stem = t["stages.patches.proj.weight"].shape
    return _known(
        in_channels=stem[1],
        width=stem[0],
        depth=_layers(t, r"stages\.block"),
        hidden=t["stages.block0.mlp.fc1.weight"].shape[0],
        version="2.1" if "stages.patches.offset" in t else "2",
    )


def _split(tensors: Tensors) -> dict[str, Tensor]:
    """Split combined weights of query, key and value into three tensors."""
    whole = ".attention.attention.qkv.weight"
    split = {name: t for name, t in tensors.items() if not name.endswith(whole)}
    for name in tensors.keys() - split.keys():
        for part, piece in zip(("query", "key", "value"), tensors[name].chunk(3), strict=True):
            split[name.replace("qkv", part)] = piece
    return split


def _last_norm(tensors: Tensors) -> dict[str, Tensor]:
    """Keep only the last of 2.1's norms at four depths: it normalises the features."""
    norms = _layers(tensors, "norms_block")
    last = f"norms_block.{norms - 1}."
    return {name.replace(last, "stages.norm.norm."): t for name, t in tensors.items()}


_ATTENTION: tuple[Rename, ...] = (
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^blocks\.", "encoder.layer."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
    (r"\.attn\.qkv\.", ".attention.attention.qkv."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.attn\.([qv]_bias)$", r".attention.attention.\1"),
    (r"^norm\.", "layernorm."),
    (r"^head\.", "classifier."),
)
_TIMESFORMER: tuple[Rename, ...] = (
    *_ATTENTION,
    (r"^cls_token$", "embeddings.cls_token"),
    (r"^pos_embed$", "embeddings.position_embeddings"),
    (r"^time_embed$", "embeddings.time_embeddings"),
    (r"\.temporal_norm1\.", ".temporal_layernorm."),
    (r"\.temporal_attn\.qkv\.", ".temporal_attention.attention.qkv."),
    (r"\.temporal_attn\.proj\.", ".temporal_attention.output.dense."),
    (r"\.temporal_fc\.", ".temporal_dense."),
)
# mmaction2 (vit_mae.py, timesformer.py) takes layers from mmcv, whose FFN holds `layers.0.0` and `layers.1`.
_MMACTION_VIDEOMAE: tuple[Rename, ...] = (
    (r"^patch_embed\.projection\.", "patch_embed.proj."),
    (r"\.mlp\.layers\.0\.0\.", ".mlp.fc1."),
    (r"\.mlp\.layers\.1\.", ".mlp.fc2."),
    *_ATTENTION,
)
_MMACTION_TIMESFORMER: tuple[Rename, ...] = (
    (r"^patch_embed\.projection\.", "patch_embed.proj."),
    (r"^transformer_layers\.layers\.", "blocks."),
    (r"\.attn\.in_proj_", ".attn.qkv."),
    (r"\.attn\.out_proj\.", ".attn.proj."),
    (r"\.attentions\.0\.norm\.", ".temporal_norm1."),
    (r"\.attentions\.0\.attn\.", ".temporal_attn."),
    (r"\.attentions\.0\.temporal_fc\.", ".temporal_fc."),
    (r"\.attentions\.1\.norm\.", ".norm1."),
    (r"\.attentions\.1\.attn\.", ".attn."),
    (r"\.ffns\.0\.norm\.", ".norm2."),
    (r"\.ffns\.0\.layers\.0\.0\.", ".mlp.fc1."),
    (r"\.ffns\.0\.layers\.1\.", ".mlp.fc2."),
    *_TIMESFORMER,
)
_VJEPA: tuple[Rename, ...] = (
    (r"^patch_embed\.proj\.", "stages.patches.proj."),
    (r"^video_mod_embed$", "stages.patches.offset"),
    (r"^blocks\.", "stages.block"),
    (r"^norm\.", "stages.norm.norm."),
)
_HF = r"embeddings\.patch_embeddings\.projection\.weight"
_OWN = r"patch_embed\.proj\.weight"
_MMACTION = r"patch_embed\.projection\.weight"

NAMINGS: tuple[Naming, ...] = (
    Naming("transformers", "videomae", _HF, ("encoder.layer.0.attention.attention.query.weight",), _videomae,
           not_marks=("embeddings.cls_token",), finish=_split),
    Naming("transformers", "timesformer", _HF, ("embeddings.time_embeddings",), _timesformer),
    Naming("transformers", "vivit", _HF, ("embeddings.cls_token", "embeddings.position_embeddings"), _vivit,
           not_marks=("embeddings.time_embeddings",)),
    Naming("transformers", "xclip", r"vision_model\.embeddings\.patch_embedding\.weight",
           ("mit.position_embedding",), _xclip),
    Naming("VideoMAE's own code", "videomae", _OWN, ("encoder.layer.0.attention.attention.q_bias",),
           _videomae_own, _ATTENTION, finish=_split),
    Naming("TimeSformer's own code", "timesformer", _OWN, ("embeddings.time_embeddings",), _timesformer,
           _TIMESFORMER, normalization=_TIMESFORMER_PICTURES),
    Naming("mmaction2", "videomae", _MMACTION, ("encoder.layer.0.attention.attention.q_bias",), _videomae_own,
           _MMACTION_VIDEOMAE, finish=_split),
    Naming("mmaction2", "timesformer", _MMACTION,
           ("embeddings.time_embeddings", "encoder.layer.0.temporal_dense.weight"), _timesformer,
           _MMACTION_TIMESFORMER, normalization=HALF),
    Naming("V-JEPA 2's own code", "vjepa2.pt", _OWN, ("stages.block0.attn.qkv.weight",), _vjepa, _VJEPA,
           not_marks=("cls_token", "stages.block0.attn.q_bias", "stages.block0.ls1.gamma"),
           heads=_VJEPA_HEADS, finish=_last_norm),
)  # fmt: skip
_TRAILS = ("target_encoder", "ema_encoder")
"""In V-JEPA's files, the moving average of the trained encoder, which its authors use."""


@dataclass(frozen=True)
class Found:
    """A transformer in a file."""

    naming: Naming
    nest: str
    prefix: str
    tensors: dict[str, Tensor]
    settings: Settings
    others: tuple[str, ...] = ()
    """Other places in the file that also hold one."""

    @property
    def place(self) -> str:
        return label_of(self.nest, self.prefix)


def recognise_transformer(places: Mapping[str, dict[str, Tensor]], choice: str = "") -> Found | None:
    """The transformer in a file; None if there is none that dsm knows.

    Args:
        places, choice: see :func:`dsm.models.foreign.find_encoder`.
    """
    found = [
        one
        for nest, tensors in places.items()
        for one in _in_place(nest, tensors)
        if not choice or f".{choice.strip('.')}." in f".{one.place}."
    ]
    if not found:
        return None
    found.sort(key=lambda one: not any(trail in one.place for trail in _TRAILS))  # stable
    others = tuple(dict.fromkeys(one.place for one in found[1:] if one.place != found[0].place))
    return replace(found[0], others=others)


_BESIDE = ("fc_norm.weight", "fc_norm.bias", "classifier.weight")
"""Tensors of a classifier, stored beside the encoder, that say how its tokens become a vector."""


def _in_place(nest: str, tensors: Tensors) -> Iterator[Found]:
    for naming in NAMINGS:
        for stem in tensors:
            prefix = re.fullmatch(rf"(|.*\.){naming.stem}", stem)
            if prefix is None:
                continue
            inner = {
                ".".join(part for part in name.removeprefix(prefix[1]).split(".") if part != "_orig_mod"): t
                for name, t in tensors.items()
                if name.startswith(prefix[1])
            }
            ours = {renamed(name, naming.renames): t for name, t in inner.items()}
            if any(mark not in ours for mark in naming.marks) or ours.keys() & set(naming.not_marks):
                continue
            outer = prefix[1].rpartition(".")[0].rpartition(".")[0]
            for part in _BESIDE:
                whole = f"{outer}.{part}" if outer else part
                if part not in ours and whole in tensors:
                    ours[part] = tensors[whole]
            try:
                ours = naming.finish(ours)
                settings = naming.settings_of(ours)
            except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError):
                continue  # shapes of another network
            yield Found(naming, nest, prefix[1], ours, settings)


def build_found(found: Found, *, name: str, partial: bool = False) -> Published:
    """Build the transformer of a file, and fill it.

    Raises:
        UserError: its sizes cannot be determined, it only looks alike, or it lacks weights.
    """
    naming, settings = found.naming, found.settings
    if not settings.keys() & {"heads", "num_attention_heads"}:
        width = settings.get("hidden_size", settings.get("width"))
        raise UserError(
            f"{name}: looks like {naming.kind} of {naming.project}, but its width of {width} does not "
            "determine the number of heads; give the folder with its config.json: hf:FOLDER."
        )
    if naming.kind == "vjepa2.pt":
        read = _build_vjepa(found, name)
    else:
        pictures = Pictures(naming.normalization, None, None) if naming.normalization else None
        read = build_transformers(
            naming.kind, settings, found.tensors, name=name, partial=partial, pictures=pictures
        )
    report = replace(
        read.report, source=naming.project, prefix=found.prefix, nest=found.nest, others=list(found.others)
    )
    return replace(read, report=report)


def _build_vjepa(found: Found, name: str) -> Published:
    tensors, settings = found.tensors, found.settings
    frames, side = 64, 384 if settings["version"] == "2.1" else 256
    positions = tensors.get("pos_embed")  # version 2 keeps it, unused
    if positions is not None and positions.dim() == 3 and settings["version"] == "2":
        places = positions.shape[1]
        # 8 x 14 x 14 and 8 x 24 x 24: 16 frames of 224 and 384 pixels.
        if places in (1568, 4608) or tensors["stages.patches.proj.weight"].shape[-1] != PATCH:
            raise UserError(
                f"{name} is the V-JEPA of 2024, which adds positions to its patches, not V-JEPA 2; dsm "
                "cannot read it."
            )
        sides = [_side(places // depth, PATCH) for depth in (8, 32) if places % depth == 0]
        side = next((one for one in sides if one in (256, 384)), side)
    with_ours = {"backbone": "vjepa2", "model": settings, "pictures": asdict(IMAGENET)}
    wanted = {one: t for one, t in tensors.items() if one.startswith("stages.")}
    try:
        encoder = build_filled(lambda: create_model("vjepa2", **settings), wanted, with_ours)
    except RuntimeError as error:
        raise UserError(f"{name}: looks like V-JEPA 2, but {error}.") from None
    assert isinstance(encoder, VJepa)
    numbers = sum(t.numel() for t in wanted.values())
    report = LoadReport(
        "", "vjepa2", "", loaded=list(wanted), left=[one for one in tensors if one not in wanted],
        normalization=IMAGENET, filled=numbers, wanted=numbers,
    )  # fmt: skip
    about = {**with_ours, "clip": {"frames": frames, "stride": 2, "resize": side * 256 // 224, "size": side}}
    return Published(Renormalized(encoder, IMAGENET).eval(), about, report)
