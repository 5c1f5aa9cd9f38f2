"""The encoder that training starts from."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import nn

from dsm.data.settings import ClipConfig, clip_of
from dsm.distributed import is_first
from dsm.errors import MachineError, UserError
from dsm.evaluate.extract_to_file import digest
from dsm.models.about import parse_about
from dsm.models.checkpoint_file import NoCheckpointError, list_checkpoints
from dsm.models.export import create_described
from dsm.models.fetch import origin_of
from dsm.models.foreign import Renormalized
from dsm.models.settings import RANDOM
from dsm.models.tuning import Mapped, merge
from dsm.models.weights import LoadedEncoder, load_weights, read_checkpoint
from dsm.models.zoo import check_takes, create_model
from dsm.terminal import console, note, warn
from dsm.train.config import FinetuneConfig, PretrainConfig, RunConfig
from dsm.views import MODALITIES


def starting_encoder(config: PretrainConfig | FinetuneConfig) -> tuple[nn.Module, dict[str, Any], ClipConfig]:
    """Build the encoder of ``--weights`` or, for ``none``, the one in the settings, with random weights.

    Returns:
        The encoder, and what checkpoints record about it: ``backbone``; ``model``, its settings;
        ``begun_with``, the name of the weights, and their ``digest``; ``pictures``, their normalisation if it
        is not dsm's; and ``base_model`` and ``license``, see :func:`dsm.models.fetch.origin_of`. And the
        clips to train on: those of the settings or, where these are the defaults, those of the weights.

    A run that resumes needs the weights no more, since its checkpoints hold all of its own: if they cannot be
    read, the encoder is built as its newest checkpoint describes it, and the run fills it.

    Raises:
        UserError: the weights cannot be read, or the network does not accept such clips.
    """
    if config.weights == RANDOM:
        return _with_random_weights(config)
    try:
        loaded = load_weights(config.weights)
    except MachineError:
        raise
    except UserError as error:
        saved = _newest_record(config.out) if config.resume else None
        if saved is None:
            raise
        note(f"the run goes on from its own checkpoint, without the weights that it began with: {error}")
        return _as_recorded(saved, config)
    return _with_weights(loaded, config)


def _with_random_weights(
    config: PretrainConfig | FinetuneConfig,
) -> tuple[nn.Module, dict[str, Any], ClipConfig]:
    channels = MODALITIES[config.clip.modality].channels
    settings: dict[str, Any] = {"in_channels": channels, **_pooling(config)}
    encoder: Any = create_model(config.backbone, **settings)
    if hasattr(encoder, "pooling"):
        settings["pooling"] = encoder.pooling
    if hasattr(encoder, "readout"):
        settings["readout"] = encoder.readout
    check_takes(encoder, config.clip.input_shape)
    return encoder, {"backbone": config.backbone, "model": settings, "begun_with": "random"}, config.clip


def _with_weights(
    loaded: LoadedEncoder, config: PretrainConfig | FinetuneConfig
) -> tuple[nn.Module, dict[str, Any], ClipConfig]:
    weights = config.weights
    clip = _clip_for(loaded, config)
    backbone, settings = str(loaded.config["backbone"]), {**loaded.config["model"], **_pooling(config)}
    if config.backbone not in (backbone, RunConfig.backbone) and is_first():
        warn(f"{weights} has the backbone {backbone}; --backbone {config.backbone} is ignored.")
    if settings.get("in_channels", 3) != MODALITIES[clip.modality].channels:
        raise UserError(f"{weights} was not trained on {clip.modality} clips; change --clip.modality.")
    about = {"backbone": backbone, "model": settings}
    module = merge(loaded.module)
    if isinstance(module, Mapped):
        about["tuned"] = {"kind": "head"}
    if clip.modality != "rgb":  # differences and flow have no such normalisation
        if isinstance(module, Mapped) and isinstance(module.encoder, Renormalized):
            module.encoder = module.encoder.encoder
        elif isinstance(module, Renormalized):
            module = module.encoder
    if loaded.config.get("pictures") and clip.modality == "rgb":
        about["pictures"] = loaded.config["pictures"]
    encoder = create_described(about)
    encoder.load_state_dict(module.state_dict())
    check_takes(encoder, clip.input_shape)
    fine_tuned = "classes" in loaded.config
    begun_with = str(loaded.config.get("begun_with", loaded.name)) if fine_tuned else loaded.name
    origin = origin_of(weights, loaded.config)
    return encoder, {**about, "begun_with": begun_with, "digest": digest(encoder), **origin}, clip


def _pooling(config: PretrainConfig | FinetuneConfig) -> dict[str, Any]:
    """The pooling among a model's settings, if one is given."""
    return {"pooling": config.pooling} if config.pooling else {}


def _clip_for(loaded: LoadedEncoder, config: PretrainConfig | FinetuneConfig) -> ClipConfig:
    """The clips to train on; tells where they are not those of the settings, or not those of the weights."""
    weights, trained_on = config.weights, loaded.config.get("clip", {})
    theirs = clip_of(trained_on)  # validates them: the file is not trusted
    clip = theirs if config.clip == ClipConfig() else config.clip
    if is_first():
        if loaded.report:
            console.print(f"{weights}: {loaded.report}")
        if clip != config.clip:
            console.print(
                f"clips as in {weights}: {clip.frames} frames of {clip.size} x {clip.size} pixels, stride "
                f"{clip.stride}; if you give one --clip setting, give them all: the others "
                "take their defaults, not the values of these weights"
            )
        _warn_of_other_clips(clip, weights, trained_on)
    return clip


RECORDED = ("backbone", "model", "tuned", "pictures", "begun_with", "digest", "base_model", "license")
"""What :func:`starting_encoder` returns about an encoder, and checkpoints record."""


def _newest_record(out: Path) -> dict[str, Any] | None:
    """What the newest readable checkpoint of a run records."""
    for path in reversed(list_checkpoints(out)):
        with suppress(NoCheckpointError, ValueError):
            return parse_about(read_checkpoint(path)["config"])
    return None


def _as_recorded(saved: dict[str, Any], config: Any) -> tuple[nn.Module, dict[str, Any], ClipConfig]:
    about = {name: saved[name] for name in RECORDED if name in saved}
    if getattr(config, "tune", None) == "lora":  # the run adds it to the encoder
        about.pop("tuned", None)
    clip = clip_of(saved.get("clip", {})) if config.clip == ClipConfig() else config.clip
    return create_described(about), about, clip


def _warn_of_other_clips(clip: ClipConfig, weights: str, trained_on: dict[str, Any]) -> None:
    """Warn if clip settings differ from those of the weights; this is usually a mistake."""
    names = ("frames", "stride", "fps", "resize", "size")
    different = [name for name in names if trained_on.get(name, getattr(clip, name)) != getattr(clip, name)]
    if different:
        flags = " ".join(f"--clip.{name} {trained_on[name]}" for name in different)
        warn(f"{weights} was trained on different clips; to use the same, set {flags}")
