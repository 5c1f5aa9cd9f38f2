"""Published models as encoders: ``hf:ID_OR_FOLDER`` and ``timm:NAME_OR_FOLDER``.

A model brings its own clips, normalisation and pooling. Its weights are read as safetensors and passed to the
library's own class, so that the library translates names of older versions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from dsm.errors import UserError, first_line
from dsm.limits import EXTRA_NUMBERS
from dsm.models.about import check_settings
from dsm.models.adapters import (
    TIMM_SETTINGS,
    as_encoder,
    create_timm,
    family_of,
    known_settings,
    make_config,
    model_class,
    timm_with,
)
from dsm.models.export import at_most
from dsm.models.families import ALIASES, IMAGENET, Family, Readout, clip_settings
from dsm.models.fetch import CONFIG, HUB_TYPE, Fetched, fetch, read_preprocessor, read_weights
from dsm.models.foreign import LoadReport, Renormalized
from dsm.models.preprocessor import Pictures, parse_preprocessor
from dsm.untrusted import brief

_UNNEEDED = 4 * EXTRA_NUMBERS
"""How many more numbers than its file a model may have: a pooler that features do not need."""


@dataclass(frozen=True)
class Published:
    """A model, and what runs and exports record to rebuild it."""

    module: nn.Module
    """Clips (B, C, T, H, W), normalised as by dsm -> (B, D); in evaluation mode."""
    about: dict[str, Any]
    """``backbone``, ``model`` (settings of ``create_model``), ``clip`` and ``pictures``."""
    report: LoadReport
    head: tuple[Tensor, Tensor] | None = None
    """Weights and bias of its own classifier, if it has one."""
    classes: list[str] | None = None
    """The names of that classifier's classes."""


def fetch_published(library: str, what: str) -> Fetched:
    """A model of transformers (``hf``) or timm (``timm``); its weights are fetched only if dsm can use it.

    Args:
        what: an id of the hub, or a folder.

    Raises:
        UserError: it cannot be found or read, asks to run code, or has no adapter.
    """
    if library == "timm":
        return fetch(what, library, _timm_settings, owner="timm")
    return fetch(what, library, _check_transformers)


def is_of_dsm(model: Fetched) -> bool:
    """Whether a model was written by ``dsm export --to hub``."""
    return model.settings.get("model_type") == HUB_TYPE


def read_published(model: Fetched, *, partial: bool = False) -> Published:
    """Read what :func:`fetch_published` gave.

    Args:
        partial: accept weights that fill only part of it.

    Raises:
        UserError: its settings or weights cannot be read, or it lacks weights.
    """
    timm = model.name.startswith("timm:")
    return _read_timm(model, partial=partial) if timm else _read_transformers(model, partial=partial)


def _check_transformers(given: dict[str, Any], name: str) -> None:
    if given.get("model_type") != HUB_TYPE:
        _settings_of(given, name)


def _read_transformers(model: Fetched, *, partial: bool) -> Published:
    name, given = model.name, model.settings
    kind, family, settings = _settings_of(given, name)
    tensors = read_weights(model.folder, name)
    pictures = _pictures(read_preprocessor(model.folder, name), family, name)
    read = build_transformers(kind, settings, tensors, name=name, partial=partial, pictures=pictures)
    weight, bias = tensors.get("classifier.weight"), tensors.get("classifier.bias")
    fits = family.classifier and read.about["model"]["readout"] in ("mean-norm", "class")
    if not fits or weight is None or bias is None or bias.dim() != 1:
        return read
    if weight.shape != (len(bias), read.module.feature_dim):
        return read
    return replace(read, head=(weight, bias), classes=_class_names(given, len(bias)))


def build_transformers(
    kind: str,
    settings: dict[str, Any],
    tensors: Mapping[str, Tensor],
    *,
    name: str,
    partial: bool = False,
    pictures: Pictures | None = None,
) -> Published:
    """Build a model of transformers from its settings, and fill it.

    Args:
        kind: a key of :data:`~dsm.models.families.FAMILIES`.
        tensors: named as in any version of transformers.
        name: name of the weights, for messages.

    Raises:
        UserError: settings and tensors do not fit.
    """
    family = family_of(kind)
    if settings.get(family.channels, 3) != 3:
        channels = brief(settings[family.channels])
        raise UserError(f"{name} takes frames of {channels} channels; dsm can give it only 3.")
    norm = {one: tensors.get(f"fc_norm.{one}") for one in ("weight", "bias")}
    readout = _readout(family, settings, tensors)
    needed = {one: t for one, t in tensors.items() if not family.is_unused(one)}
    with _explained(name), _quiet():
        config = make_config(kind, settings)
        with torch.device("meta"), at_most(sum(t.numel() for t in tensors.values()) + _UNNEEDED):
            model_class(kind)(config)
        model, told = model_class(kind).from_pretrained(
            None,
            config=config,
            state_dict=needed,
            output_loading_info=True,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
        )
        encoder = as_encoder(model, family, readout)
        if readout == "mean-norm":
            encoder.norm.load_state_dict(norm)
    missing = sorted(one for one in told["missing_keys"] if not family.is_unused(one))
    unfit = sorted(str(one[0]) if isinstance(one, tuple) else str(one) for one in told["mismatched_keys"])
    used = {f"fc_norm.{one}" for one in norm} if readout == "mean-norm" else set()
    state = encoder.state_dict()
    report = LoadReport(
        "transformers", f"hf:{kind}", "",
        loaded=[one for one in state if one.removeprefix("model.") not in {*missing, *unfit}],
        missing=missing, unfit=unfit,
        left=sorted((tensors.keys() - needed.keys()) | (set(told["unexpected_keys"]) - used)),
        normalization=pictures.normalization if pictures else family.normalization,
        filled=sum(t.numel() for one, t in state.items() if one.removeprefix("model.") not in missing),
        wanted=sum(t.numel() for t in state.values()),
    )  # fmt: skip
    if (missing or unfit) and not partial:
        raise report.too_little(name, unfit + missing)
    about = {
        "backbone": f"hf:{kind}",
        "model": {**settings, "readout": readout},
        "clip": clip_settings(
            family,
            getattr(config, family.part or "", config).to_dict(),
            *((pictures.size, pictures.resize) if pictures else (None, None)),
        ),
    }
    return _published(encoder, about, report)


def _readout(family: Family, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Readout:
    """How the library's classifier of this model makes a vector of its tokens."""
    if settings.get("vision_use_head") is False:
        return "mean"  # SigLIP without its pooling, whose classifier takes the mean
    if family.readout != "mean":
        return family.readout
    if {"fc_norm.weight", "fc_norm.bias"} <= tensors.keys():
        return "mean-norm"  # a classifier that normalises the mean
    by_first = family.classifier and settings.get("use_mean_pooling") is False
    return "class" if by_first and "classifier.weight" in tensors else "mean"


def _timm_settings(given: dict[str, Any], name: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The architecture in a model's ``config.json``, its settings, and how its pictures are made."""
    architecture, made = given.get("architecture"), given.get("pretrained_cfg", {})
    if not isinstance(architecture, str) or not isinstance(made, dict):
        raise UserError(f"{name}: its {CONFIG} names no architecture of timm; try hf: instead of timm:.")
    timm_with(architecture)
    extra = given.get("model_args", {})
    settings = {one: extra[one] for one in TIMM_SETTINGS if isinstance(extra, dict) and one in extra}
    return architecture, settings, made


def _read_timm(fetched: Fetched, *, partial: bool) -> Published:
    name = fetched.name
    architecture, settings, made = _timm_settings(fetched.settings, name)
    tensors = read_weights(fetched.folder, name)
    with _explained(name), at_most(sum(t.numel() for t in tensors.values()) + _UNNEEDED):
        check_settings(settings)
        encoder = create_timm(architecture, **settings)
    model: Any = encoder.model
    ours = model.state_dict()
    fits = {one: t for one, t in tensors.items() if one in ours and ours[one].shape == t.shape}
    missing = [one for one in ours if one not in fits and not one.endswith("num_batches_tracked")]
    model.load_state_dict(fits, strict=False)
    normalization = IMAGENET
    side, share = 224, 0.875
    try:
        if "mean" in made:
            given = {"image_mean": made["mean"], "image_std": made["std"]}
            normalization = parse_preprocessor(given, IMAGENET).normalization
        side = int((made.get("input_size") or [3, side])[-1])
        share = float(made.get("crop_pct") or share)
        if not (1 <= side < 65536 and 0.1 <= share <= 1):
            raise ValueError("the size of its pictures is beyond bounds")
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise UserError(f"{name}: its {CONFIG} cannot be read ({first_line(error)}).") from None
    report = LoadReport(
        "timm", f"timm:{architecture}", "", loaded=[f"model.{one}" for one in fits], missing=missing,
        left=[one for one in tensors if one not in fits], normalization=normalization,
        filled=sum(t.numel() for t in fits.values()), wanted=sum(t.numel() for t in ours.values()),
    )  # fmt: skip
    if missing and not partial:
        raise report.too_little(name, missing)
    about = {
        "backbone": f"timm:{architecture}",
        "model": settings,
        "clip": {"frames": 8, "stride": 4, "resize": int(side / share), "size": side},
    }
    return _published(encoder, about, report)


def _published(encoder: nn.Module, about: dict[str, Any], report: LoadReport) -> Published:
    assert report.normalization is not None
    about["pictures"] = {one: list(values) for one, values in asdict(report.normalization).items()}
    return Published(Renormalized(encoder, report.normalization).eval(), about, report)


def _settings_of(given: Mapping[str, Any], name: str) -> tuple[str, Family, dict[str, Any]]:
    """The type of the model in a ``config.json``, its family, and the settings of its encoder."""
    if given.get("model_type") is None:
        raise UserError(f"{name}: its {CONFIG} names no model_type; a run folder is given without `hf:`.")
    kind = ALIASES.get(str(given["model_type"]), str(given["model_type"]))
    try:
        family = family_of(kind)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    part = given.get(family.part, given) if family.part else given
    if not isinstance(part, Mapping):
        raise UserError(f"{name}: the {family.part} of its {CONFIG} is not an object.")
    known = known_settings(kind)
    settings = {one: value for one, value in part.items() if one in known and value is not None}
    if "projection_dim" in known and "projection_dim" in given:
        settings["projection_dim"] = given["projection_dim"]
    settings |= family.slim
    sides = settings.get(family.size)
    if isinstance(sides, list) and len(sides) == 2 and sides[0] == sides[1]:
        settings[family.size] = sides[0]  # how older versions write a square
    try:
        check_settings(settings)
        if isinstance(settings.get(family.size), list):
            raise ValueError("its pictures are not square, as clips are")
        int(settings.get(family.frames, 1)), int(settings.get(family.size, 1))
    except (ArithmeticError, TypeError, ValueError) as error:
        raise UserError(f"{name}: its {CONFIG} cannot be used ({first_line(error)}).") from None
    return kind, family, settings


def _class_names(given: Mapping[str, Any], count: int) -> list[str]:
    """The class names in a ``config.json``; numbers if it has none."""
    named = given.get("id2label")
    named = named if isinstance(named, dict) else {}
    return [str(named.get(str(label), label)) for label in range(count)]


def _pictures(config: Mapping[str, Any] | None, family: Family, name: str) -> Pictures | None:
    if config is None:
        return None
    try:
        return parse_preprocessor(config, family.normalization, signed=family.signed)
    except ValueError as error:
        raise UserError(f"{name}: {first_line(error)}.") from None


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn any error of a library into one sentence: settings and tensors do not fit."""
    try:
        yield
    except (UserError, MemoryError, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:
        raise UserError(
            f"{name}: no model can be built from its settings and weights ({first_line(error)[:200]})."
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers, whose progress bars and advice would mix with dsm's output."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
