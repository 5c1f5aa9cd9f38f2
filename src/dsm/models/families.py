"""Table of the models of other libraries that dsm adapts: their classes, clips, normalisation and pooling.

A family is a type of model in transformers, as ``config.json`` names it. What a model's own files say
(frames, size, mean and std) comes before what is said here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from dsm.models.sources import Normalization

Readout = Literal["mean", "mean-norm", "class", "pooled"]
"""How tokens become a vector: their mean; their mean and a norm; the class token; the model's own pooling."""

IMAGENET = Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
HALF = Normalization(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
VIVIT = Normalization(mean=(0.75, 0.75, 0.75), std=(0.25, 0.25, 0.25))
"""Of its processor's defaults: x -> 2x - 1, and then minus 0.5, divided by 0.5."""
OPENAI = Normalization(mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711))


@dataclass(frozen=True)
class Family:
    """How dsm uses one type of model of transformers."""

    config: str
    """Class of its settings."""
    model: str
    """Class of the network, without heads of tasks."""
    readout: Readout
    """The model's own pooling, as its authors classify or compare with."""
    normalization: Normalization
    """Where no preprocessor says another."""
    resize: int | None = None
    """Shorter side before the crop, for a crop of 224, where no preprocessor says another; None: the crop."""
    image: bool = False
    """It takes pictures: each frame by itself, and the mean over frames. What it knows is not motion."""
    stride: int | Mapping[int, int] = 4
    """Frames of the video between two of the clip, as in the authors' evaluation; by frames a clip if a
    mapping. No file says it."""
    frames: str = "num_frames"
    """The setting that holds the frames of a clip."""
    size: str = "image_size"
    """The setting that holds the side of a clip."""
    part: str | None = None
    """The part of ``config.json`` that is the encoder's, for models of pictures and text."""
    channels: str = "num_channels"
    """The setting that holds the channels of a clip."""
    pictures: str = "pixel_values"
    """The argument of the clip."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of the forward pass."""
    unused: tuple[str, ...] = ("pooler", "mask_token")
    """Parts that the features do not depend on: they are not read, and have no gradients."""
    slim: Mapping[str, Any] = field(default_factory=dict)
    """Settings that make parts small which the features do not depend on."""


FAMILIES: dict[str, Family] = {
    "videomae": Family("VideoMAEConfig", "VideoMAEModel", "mean", IMAGENET),
    "vjepa2": Family(
        "VJEPA2Config", "VJEPA2Model", "mean", IMAGENET, 256, stride={64: 2},
        frames="frames_per_clip", size="crop_size", channels="in_chans", pictures="pixel_values_videos",
        more={"skip_predictor": True}, unused=("predictor",),
        slim={"pred_num_hidden_layers": 0, "pred_hidden_size": 24, "pred_num_attention_heads": 1},
    ),
    "timesformer": Family(
        "TimesformerConfig", "TimesformerModel", "class", IMAGENET, stride={8: 32, 16: 16}
    ),
    "vivit": Family("VivitConfig", "VivitModel", "class", VIVIT, 256, stride=2),
    "xclip": Family(
        "XCLIPConfig", "XCLIPModel", "pooled", IMAGENET, stride=8, part="vision_config",
        unused=("text_model", "text_projection", "prompts", "logit_scale"),
    ),
    "dinov2": Family("Dinov2Config", "Dinov2Model", "class", IMAGENET, 256, image=True),
    "dinov2_with_registers": Family(
        "Dinov2WithRegistersConfig", "Dinov2WithRegistersModel", "class", IMAGENET, 256, image=True
    ),
    "dinov3_vit": Family("DINOv3ViTConfig", "DINOv3ViTModel", "class", IMAGENET, image=True),
    "clip": Family(
        "CLIPVisionConfig", "CLIPVisionModel", "pooled", OPENAI, image=True, part="vision_config", unused=()
    ),
    "siglip": Family(
        "SiglipVisionConfig", "SiglipVisionModel", "pooled", HALF, image=True, part="vision_config",
        unused=(),
    ),
    "vit": Family("ViTConfig", "ViTModel", "class", HALF, image=True),
}  # fmt: skip
"""By the type that ``config.json`` names."""
ALIASES = {"clip_vision_model": "clip", "siglip_vision_model": "siglip"}
"""Types of the parts of pictures alone."""
FRAMES = 8
"""Frames of a clip of a model of pictures."""


def clip_settings(
    family: Family, settings: Mapping[str, Any], size: int | None = None, resize: int | None = None
) -> dict[str, int]:
    """The clips that a model takes, as fields of :class:`dsm.data.settings.ClipConfig`.

    Args:
        settings: the model's own; a setting that is missing has the family's default.
        size, resize: as its preprocessor says; None if it says nothing.
    """
    frames = FRAMES if family.image else int(settings.get(family.frames, 16))
    size = size or int(settings.get(family.size, 224))
    if isinstance(family.stride, int):
        stride = family.stride
    else:
        stride = family.stride.get(frames, 4)
    if resize is None:
        resize = size * family.resize // 224 if family.resize else size
    return {"frames": frames, "stride": stride, "resize": max(resize, size), "size": size}
