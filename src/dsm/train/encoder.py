"""The encoder that a training begins with."""

from __future__ import annotations

from typing import Any

from torch import nn

from dsm.data.reading import ClipConfig, clip_of
from dsm.distributed import is_first
from dsm.errors import UserError
from dsm.models.foreign import Renormalized
from dsm.models.weights import RANDOM, load_weights
from dsm.models.zoo import check_takes, create_model
from dsm.terminal import console, warn
from dsm.train.config import RunConfig
from dsm.views import MODALITIES


def starting_encoder(
    config: RunConfig, weights: str, *, frozen: bool = False
) -> tuple[nn.Module, dict[str, Any]]:
    """Build the encoder of ``weights``, or for ``none`` that of the settings with random weights.

    Args:
        frozen: whether a part of it will not be trained.

    Returns:
        The encoder, and what a checkpoint says of it: ``backbone``; ``model``, its settings; ``begun_with``,
        the name of the weights.

    Raises:
        UserError: the weights cannot be read, or the network takes no such clips; or are
            used to other pictures, and frozen.
    """
    channels = MODALITIES[config.clip.modality].channels
    pooling = {"pooling": config.pooling} if config.pooling else {}
    if weights == RANDOM:
        settings: dict[str, Any] = {"in_channels": channels, **pooling}
        encoder: Any = create_model(config.backbone, **settings)
        if hasattr(encoder, "pooling"):
            settings["pooling"] = encoder.pooling
        check_takes(encoder, config.clip.input_shape)
        return encoder, {"backbone": config.backbone, "model": settings, "begun_with": "random"}
    loaded = load_weights(weights)
    trained_on = loaded.config.get("clip", {})
    clip_of(trained_on)  # a stranger's file may say anything
    if is_first():
        if loaded.report:
            console.print(f"{weights}: {loaded.report}")
        _tell_of_other_clips(config.clip, weights, trained_on)
    backbone, settings = str(loaded.config["backbone"]), {**loaded.config["model"], **pooling}
    if config.backbone not in (backbone, RunConfig.backbone) and is_first():
        warn(f"{weights} is a {backbone} and stays one; --backbone {config.backbone} is ignored.")
    if settings.get("in_channels", 3) != channels:
        raise UserError(f"{weights}: was not trained on clips of --clip.modality {config.clip.modality}.")
    if frozen and isinstance(loaded.module, Renormalized):
        raise UserError(
            f"{weights}: is used to pictures of another normalisation, and what is frozen cannot get used to "
            "ours; train all of it, or take `dsm extract` and `dsm probe`, which show it its own."
        )
    encoder = create_model(backbone, **settings)
    # Weights trained on pictures of another normalisation get used to ours.
    inner: Any = getattr(loaded.module, "encoder", loaded.module)
    encoder.load_state_dict(inner.state_dict())
    check_takes(encoder, config.clip.input_shape)
    fine_tuned = "classes" in loaded.config
    begun_with = str(loaded.config.get("begun_with", loaded.name)) if fine_tuned else loaded.name
    return encoder, {"backbone": backbone, "model": settings, "begun_with": begun_with}


def _tell_of_other_clips(clip: ClipConfig, weights: str, trained_on: dict[str, Any]) -> None:
    """Clips unlike those that weights are used to may be meant; mostly they were forgotten, and cost time."""
    asked = ("frames", "stride", "fps", "resize", "size")
    other = [name for name in asked if trained_on.get(name, getattr(clip, name)) != getattr(clip, name)]
    if other:
        same = " ".join(f"--clip.{name} {trained_on[name]}" for name in other)
        warn(f"{weights} was trained on other clips than these; on the same: {same}")
