"""Table of the models of other libraries that dsm adapts: their classes, clips, normalisation and pooling.

A family is a model type in transformers, as named in ``config.json``. A model's own files
(frames, size, mean and std) override the values here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from dsm.models.sources import Normalization

Readout = Literal["mean", "mean-norm", "class", "pooled"]
"""How tokens become a vector: their mean; their mean and a norm; the first token, which is the class token
where a model has one; the model's own pooling."""

IMAGENET = Normalization(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
HALF = Normalization(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
VIVIT = Normalization(mean=(0.75, 0.75, 0.75), std=(0.25, 0.25, 0.25))
"""Its processor's defaults: x -> 2x - 1, then minus 0.5, divided by 0.5."""
OPENAI = Normalization(mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711))


@dataclass(frozen=True)
class Family:
    """How dsm uses a model type of transformers."""

    config: str
    """Class of its config."""
    model: str
    """Class of the network, without task heads."""
    readout: Readout
    """The model's own pooling, as its authors use it for classification or retrieval."""
    normalization: Normalization
    """Normalisation, unless a preprocessor gives another."""
    resize: int | None = None
    """Shorter side before a crop of 224, unless a preprocessor gives another; None: the crop's side."""
    classifier: bool = False
    """Whether its classifier in transformers is a linear layer on a normalised mean or on the first token,
    the features of the readouts ``mean-norm`` and ``class``."""
    signed: bool = False
    """Whether its processor maps pixels to [-1, 1], not to [0, 1], before it subtracts a mean."""
    image: bool = False
    """An image model: processes each frame by itself and averages over frames, so it ignores motion."""
    stride: int | Mapping[int, int] = 4
    """Step between the frames of a clip, as in the authors' evaluation; if a mapping, by the number of
    frames. No file gives it."""
    frames: str = "num_frames"
    """Name of the setting for the frames of a clip."""
    size: str = "image_size"
    """Name of the setting for the side of a clip."""
    part: str | None = None
    """The encoder's part of ``config.json``, for models of images and text."""
    channels: str = "num_channels"
    """Name of the setting for the channels of a clip."""
    pictures: str = "pixel_values"
    """Name of the clip's argument in the forward pass."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of the forward pass."""
    unused: tuple[str, ...] = ("pooler", "mask_token")
    """Parts that features do not depend on: they are not loaded and have no gradients."""
    slim: Mapping[str, Any] = field(default_factory=dict)
    """Settings that shrink parts which features do not depend on."""

    def is_unused(self, tensor: str) -> bool:
        """Whether a tensor of this name belongs to one of the ``unused`` parts."""
        return any(tensor.startswith(part) or f".{part}" in tensor for part in self.unused)


FAMILIES: dict[str, Family] = {
    "videomae": Family("VideoMAEConfig", "VideoMAEModel", "mean", IMAGENET, classifier=True),
    "vjepa2": Family(
        "VJEPA2Config", "VJEPA2Model", "mean", IMAGENET, 256, stride={64: 2},
        frames="frames_per_clip", size="crop_size", channels="in_chans", pictures="pixel_values_videos",
        more={"skip_predictor": True}, unused=("predictor",),
        slim={"pred_num_hidden_layers": 0, "pred_hidden_size": 24, "pred_num_attention_heads": 1},
    ),
    "timesformer": Family(
        "TimesformerConfig", "TimesformerModel", "class", IMAGENET, classifier=True,
        stride={8: 32, 16: 16},
    ),
    "vivit": Family(
        "VivitConfig", "VivitModel", "class", VIVIT, 256, classifier=True, signed=True, stride=2
    ),
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
"""Families by the type in ``config.json``."""
ALIASES = {"clip_vision_model": "clip", "siglip_vision_model": "siglip"}
"""Types of the image parts alone."""
FRAMES = 8
"""Frames of a clip for an image model."""


def clip_settings(
    family: Family, settings: Mapping[str, Any], size: int | None = None, resize: int | None = None
) -> dict[str, int]:
    """The clips that a model takes, as fields of :class:`dsm.data.settings.ClipConfig`.

    Args:
        settings: the network's, with the family's defaults for those that its ``config.json`` leaves out.
        size, resize: from its preprocessor; None if it does not give them.
    """
    frames = FRAMES if family.image else int(settings[family.frames])
    size = size or int(settings[family.size])
    if isinstance(family.stride, int):
        stride = family.stride
    else:
        stride = family.stride.get(frames, 4)
    if resize is None:
        resize = size * family.resize // 224 if family.resize else size
    return {"frames": frames, "stride": stride, "resize": max(resize, size), "size": size}
