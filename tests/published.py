"""Tiny models of transformers with random weights, saved as their authors save them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_adapters import TINY
from torch import Tensor

RESIZE, SIZE, FRAMES = 36, 32, 4
CROPPED = {"size": {"shortest_edge": RESIZE}, "crop_size": {"height": SIZE, "width": SIZE}}
SQUARE = {"size": {"height": SIZE, "width": SIZE}}
TEXT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
        "vocab_size": 16}  # fmt: skip


@dataclass(frozen=True)
class Saved:
    """How a family is saved, and how its authors compute a feature from its outputs."""

    model: str
    """The class that is saved."""
    processor: str | None
    """The class of its processor, whose settings lie beside; None if it needs torchvision."""
    pictures: dict[str, Any]
    feature: Callable[[Any, dict[str, Tensor]], Tensor]
    """Of the saved model and its inputs."""
    settings: Callable[[str], dict[str, Any]] = lambda kind: TINY[kind]


def _frames(outputs: Tensor) -> Tensor:
    return outputs.mean(0, keepdim=True)


def _both(kind: str) -> dict[str, Any]:
    return {"vision_config": TINY[kind], "text_config": TEXT, "projection_dim": 32}


def _videomae(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    return model.fc_norm(model.videomae(**inputs).last_hidden_state.mean(1))


SAVED: dict[str, Saved] = {
    "videomae": Saved("VideoMAEForVideoClassification", "VideoMAEImageProcessor", CROPPED, _videomae),
    "videomae-pretrained": Saved(
        "VideoMAEForPreTraining", "VideoMAEImageProcessor", CROPPED,
        lambda model, inputs: model.videomae(**inputs).last_hidden_state.mean(1),
        lambda kind: {**TINY["videomae"], "decoder_hidden_size": 16, "decoder_num_hidden_layers": 1,
                      "decoder_num_attention_heads": 2, "decoder_intermediate_size": 16,
                      "use_mean_pooling": False},
    ),
    "timesformer": Saved(
        "TimesformerForVideoClassification", "VideoMAEImageProcessor", CROPPED,
        lambda model, inputs: model.timesformer(**inputs).last_hidden_state[:, 0],
    ),
    "vivit": Saved(
        "VivitForVideoClassification", "VivitImageProcessor", CROPPED,
        lambda model, inputs: model.vivit(**inputs).last_hidden_state[:, 0],
    ),
    "xclip": Saved(
        "XCLIPModel", "VideoMAEImageProcessor", CROPPED,
        lambda model, inputs: model.get_video_features(**inputs).pooler_output, _both,
    ),
    "vjepa2": Saved(
        "VJEPA2Model", None,
        {"crop_size": SIZE, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
         "video_processor_type": "VJEPA2VideoProcessor"},
        lambda model, inputs: model(
            pixel_values_videos=inputs["pixel_values"], skip_predictor=True
        ).last_hidden_state.mean(1),
    ),
    "dinov2": Saved(
        "Dinov2ForImageClassification", "BitImageProcessor", CROPPED,
        lambda model, inputs: _frames(model.dinov2(**inputs).last_hidden_state[:, 0]),
    ),
    "dinov2_with_registers": Saved(
        "Dinov2WithRegistersModel", "BitImageProcessor", CROPPED,
        lambda model, inputs: _frames(model(**inputs).last_hidden_state[:, 0]),
    ),
    "dinov3_vit": Saved(
        "DINOv3ViTModel", None, {**SQUARE, "image_mean": [0.485, 0.456, 0.406],
                                 "image_std": [0.229, 0.224, 0.225]},
        lambda model, inputs: _frames(model(**inputs).pooler_output),
    ),
    "clip": Saved(
        "CLIPModel", "CLIPImageProcessor", CROPPED,
        lambda model, inputs: _frames(model.vision_model(**inputs).pooler_output), _both,
    ),
    "siglip": Saved(
        "SiglipModel", "SiglipImageProcessor", SQUARE,
        lambda model, inputs: _frames(model.vision_model(**inputs).pooler_output),
        lambda kind: {"vision_config": TINY[kind], "text_config": TEXT},
    ),
    "vit": Saved(
        "ViTForImageClassification", "ViTImageProcessor", SQUARE,
        lambda model, inputs: _frames(model.vit(**inputs).last_hidden_state[:, 0]),
    ),
}  # fmt: skip
"""By family; ``videomae-pretrained`` is another of ``videomae``."""


def save_published(name: str, folder: Path, *, seed: int = 0) -> Any:
    """Save a tiny model and its processor's settings; return the model."""
    transformers = pytest.importorskip("transformers")
    saved, kind = SAVED[name], name.partition("-")[0]
    torch.manual_seed(seed)
    made = getattr(transformers, saved.model)
    config = made.config_class(**saved.settings(kind))
    model = made(config).eval()
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():  # biases, norms and positions begin at 0 or 1
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(folder)
    if saved.processor:
        getattr(transformers, saved.processor)(**saved.pictures).save_pretrained(folder)
    else:
        (folder / "preprocessor_config.json").write_text(json.dumps(saved.pictures))
    return model


def expected_feature(name: str, model: Any, frames: np.ndarray[Any, Any]) -> Tensor:
    """The feature that the library's own processor and model give for frames, uint8 (T, H, W, 3): (1, D)."""
    transformers = pytest.importorskip("transformers")
    saved = SAVED[name]
    if saved.processor:
        processor = getattr(transformers, saved.processor)(**saved.pictures)
        inputs = dict(processor(list(frames), return_tensors="pt"))
    else:  # resized and cropped already, as the processor that needs torchvision would
        mean, std = (torch.tensor(saved.pictures[one]) for one in ("image_mean", "image_std"))
        top, left = ((side - SIZE) // 2 for side in frames.shape[1:3])
        cut = torch.from_numpy(frames[:, top : top + SIZE, left : left + SIZE])
        inputs = {"pixel_values": ((cut / 255 - mean) / std).permute(0, 3, 1, 2)}
        if name == "vjepa2":
            inputs["pixel_values"] = inputs["pixel_values"][None]
    with torch.no_grad():
        return saved.feature(model, inputs)
