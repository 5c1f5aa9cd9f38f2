"""Reads the settings of a model's image processor: image size and normalisation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dsm.limits import CLIP_SIDE
from dsm.models.sources import Normalization
from dsm.untrusted import brief, is_number

Three = tuple[float, float, float]
"""A number for each colour channel."""


@dataclass(frozen=True)
class Pictures:
    """How to prepare a model's images."""

    normalization: Normalization
    size: int | None
    """Side of the square that the model sees."""
    resize: int | None
    """Shorter side before the crop."""


NESTED = "processor_config.json"
"""The file in which transformers 5 keeps the settings of all of a model's processors, each under a name."""
PARTS = ("video_processor", "image_processor")
"""Names of the processors there that prepare images."""
FILES = ("video_preprocessor_config.json", "preprocessor_config.json")
"""The files of these settings alone. Transformers reads the first that exists, after :data:`NESTED`."""


def parse_preprocessor(config: Any, default: Normalization, *, signed: bool = False) -> Pictures:
    """The size and normalisation in a preprocessor's settings.

    Processors compute ((x * rescale_factor - offset) - mean) / std of pixels x from 0 to 255, where
    ``offset`` is 1 or 0. That is (x / 255 - m) / s with the m and s that are returned. Where the processor
    squeezes an image into a square, dsm crops it to one.

    Args:
        default: the m and s of the model's family, for a mean or std that the settings leave out.
        signed: whether the family's processor has an offset, for settings that name no processor.

    Raises:
        ValueError: a value is of a wrong type or beyond bounds.
    """
    if not isinstance(config, Mapping):
        raise ValueError(f"the preprocessor is {brief(config)}")
    config = {name: value for name, value in config.items() if value is not None}  # null: the default
    crop = _side(config.get("crop_size")) if config.get("do_center_crop", "crop_size" in config) else None
    whole = _side(config.get("size")) if config.get("do_resize", True) else None
    if "VJEPA2" in str(config.get("video_processor_type", "")) and crop:
        whole = crop * 256 // 224  # this processor class computes it from the crop and ignores the file
    size = crop or whole
    normalization = _normalization(config, default, signed)
    return Pictures(normalization, size, max(whole or 0, size or 0) or None)


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


def _normalization(config: Mapping[str, Any], default: Normalization, signed: bool) -> Normalization:
    scale, offset = 255.0, 0.0  # for x / 255
    if config.get("do_rescale", True):
        video, image = (str(config.get(f"{one}_processor_type", "")) for one in ("video", "image"))
        if video or image:
            signed = "Vivit" in (video or image)
        scale *= _number(config.get("rescale_factor", 1 / 127.5 if signed else 1 / 255))
        # ViViT's video processor has no setting for the offset, but always subtracts it.
        offset = 1.0 if (signed and video) or config.get("offset", signed) else 0.0
    mean, std = config.get("image_mean"), config.get("image_std")
    if not config.get("do_normalize", True):
        mean, std = 0.0, 1.0
    divisors = None if std is None else _three(std)
    if not scale or (divisors and not all(divisors)):
        raise ValueError("the preprocessor divides by zero")
    return Normalization(
        default.mean if mean is None else _each(_three(mean), lambda one: (one + offset) / scale),
        default.std if divisors is None else _each(divisors, lambda one: one / scale),
    )


def _number(value: Any) -> float:
    if not is_number(value) or not abs(value) < 1e6:
        raise ValueError(f"a number of the preprocessor is {brief(value)}")
    return float(value)


def _three(value: Any) -> Three:
    values = value if isinstance(value, list) else [value] * 3
    if len(values) != 3:
        raise ValueError(f"the preprocessor is for {len(values)} channels")
    a, b, c = map(_number, values)
    return a, b, c


def _each(values: Three, change: Callable[[float], float]) -> Three:
    a, b, c = map(change, values)
    return a, b, c
