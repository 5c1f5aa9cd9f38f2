"""Reads a model's ``preprocessor_config.json``: image size and normalisation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dsm.limits import CLIP_SIDE
from dsm.models.sources import Normalization
from dsm.untrusted import brief, is_number


@dataclass(frozen=True)
class Pictures:
    """How to prepare a model's images."""

    normalization: Normalization | None
    """Mean and std; None if not given."""
    size: int | None
    """Side of the square that the model sees."""
    resize: int | None
    """Shorter side before the crop."""


FILES = ("video_preprocessor_config.json", "preprocessor_config.json", "processor_config.json")
"""The file's names in transformers, newest first."""


def parse_preprocessor(config: Any) -> Pictures:
    """The size and normalisation in a preprocessor's settings.

    Processors compute ((x * rescale_factor - offset) - mean) / std of pixels x from 0 to 255, where
    ``offset`` is 1 or 0. That is (x / 255 - m) / s with the m and s that are returned. Where the processor
    squeezes an image into a square, dsm crops it to one.

    Raises:
        ValueError: a value is of a wrong type or beyond bounds.
    """
    if not isinstance(config, Mapping):
        raise ValueError(f"the preprocessor is {brief(config)}")
    for part in ("video_processor", "image_processor"):
        if isinstance(config.get(part), Mapping):
            config = config[part]
    crop = _side(config.get("crop_size")) if config.get("do_center_crop", "crop_size" in config) else None
    whole = _side(config.get("size")) if config.get("do_resize", True) else None
    if "VJEPA2" in str(config.get("video_processor_type", "")) and crop:
        whole = crop * 256 // 224  # this processor class computes it from the crop and ignores the file
    size = crop or whole
    return Pictures(_normalization(config), size, max(whole or 0, size or 0) or None)


def _side(value: Any) -> int | None:
    """A side in pixels, of a number or of an object such as ``{"shortest_edge": 224}``."""
    if isinstance(value, Mapping):
        sides = [value[name] for name in ("shortest_edge", "height", "width") if name in value]
        value = min(sides, default=None) if all(map(is_number, sides)) else brief(value)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < CLIP_SIDE:
        raise ValueError(f"the preprocessor's size is {brief(value)}")
    return value


def _normalization(config: Mapping[str, Any]) -> Normalization | None:
    if not {"image_mean", "image_std", "rescale_factor", "offset"} & config.keys():
        return None
    scale, offset = 255.0, 0.0  # for x / 255
    if config.get("do_rescale", True):
        scale *= _number(config.get("rescale_factor", 1 / 255))
        offset = 1.0 if config.get("offset", False) else 0.0
    mean, std = [0.0] * 3, [1.0] * 3
    if config.get("do_normalize", True):
        mean, std = _three(config.get("image_mean", 0.0)), _three(config.get("image_std", 1.0))
    if not scale or not all(std):
        raise ValueError("the preprocessor divides by zero")
    a, b, c = ((one + offset) / scale for one in mean)
    d, e, f = (one / scale for one in std)
    return Normalization((a, b, c), (d, e, f))


def _number(value: Any) -> float:
    if not is_number(value) or not abs(value) < 1e6:
        raise ValueError(f"a number of the preprocessor is {brief(value)}")
    return float(value)


def _three(value: Any) -> list[float]:
    values = value if isinstance(value, list) else [value] * 3
    if len(values) != 3:
        raise ValueError(f"the preprocessor is for {len(values)} channels")
    return [_number(one) for one in values]
