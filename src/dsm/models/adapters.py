"""Models of torchvision, transformers and timm as encoders of this project.

``tv:NAME`` is a model of ``torchvision.models.video`` without its classifier, ``hf:TYPE`` one of
transformers, ``timm:NAME`` one of timm. The libraries are extras. Image models process each frame by itself;
a clip's feature is the mean over its frames. Weights are random here; ``hub.py`` reads others.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from dsm.errors import UserError, did_you_mean, first_line
from dsm.extras import load_extra
from dsm.models.families import ALIASES, FAMILIES, Family, Readout

# Models whose token order has time innermost; in the others time is outermost.
_TIME_LAST = ("timesformer",)
# Attribute names of the classifier in torchvision's models.
_CLASSIFIERS = ("fc", "classifier", "head")
_TEXT = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
         "vocab_size": 8}  # fmt: skip
"""Settings of the smallest text model: X-CLIP builds one, which is then dropped."""


class TokenMap(nn.Module):
    """Tokens (B, N, D) -> (B, D, T, H, W). A separate module, so that hooks find the map."""

    def forward(self, tokens: Tensor, sides: tuple[int, int, int], *, time_last: bool) -> Tensor:
        t, h, w = sides
        if time_last:
            return tokens.reshape(-1, h, w, t, tokens.shape[-1]).permute(0, 4, 3, 1, 2)
        return tokens.reshape(-1, t, h, w, tokens.shape[-1]).permute(0, 4, 1, 2, 3)


class TokenEncoder(nn.Module):
    """A transformer over tokens: clips (B, C, T, H, W) -> (B, D).

    Args:
        readout: how the tokens become a vector. ``mean`` takes all tokens of the last layer.
    """

    def __init__(self, model: nn.Module, family: Family, readout: Readout = "mean") -> None:
        super().__init__()
        self.model = model
        self.token_map = TokenMap()
        self.family, self.readout = family, readout
        config: Any = model.config
        self._config = getattr(config, family.part or "", config)
        self._time_last = getattr(config, "model_type", "") in _TIME_LAST
        self._sides = (1, 1, 1)
        width = int(self._config.hidden_size)
        self.feature_dim = int(self._config.mit_hidden_size) if _is_xclip(config) else width
        self.not_in_tensors = _changes(config.model_type, self._config)
        if readout != family.readout:
            self.not_in_tensors["readout"] = readout
        self.norm = nn.LayerNorm(width) if readout == "mean-norm" else nn.Identity()
        for name, parameter in model.named_parameters():  # or several processes would wait for gradients
            if family.is_unused(name):
                parameter.requires_grad_(False)
        if readout in ("class", "pooled"):
            # Nothing uses the map after the last layer, so it is exposed before it.
            self.blocks[-1].register_forward_pre_hook(self._show, with_kwargs=True)

    def forward(self, clip: Tensor) -> Tensor:
        output = self._run(clip)
        if self.readout == "class":
            features = output.last_hidden_state[:, 0]
        elif self.readout == "pooled":
            features = output.pooler_output
        else:
            features = self.norm(self._through_map(output.last_hidden_state).mean(1))
        return _mean_of_frames(features, clip) if self.family.image else features

    def tokens(self, clip: Tensor) -> Tensor:
        """The tokens of the last layer, (B, N, D); for an image model, those of all frames."""
        tokens: Tensor = self._run(clip).last_hidden_state
        return tokens.reshape(clip.shape[0], -1, tokens.shape[-1])

    def _run(self, clip: Tensor) -> Any:
        self._sides = self._places(clip)
        pictures = clip.transpose(1, 2)
        if self.family.image:
            pictures = pictures.flatten(0, 1)
        run = self.model.get_video_features if _is_xclip(self.model.config) else self.model
        return cast("Any", run)(**{self.family.pictures: pictures}, **self.family.more)

    def _show(self, _block: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        if args:
            return (self._through_map(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": self._through_map(kwargs["hidden_states"])}

    def _through_map(self, tokens: Tensor) -> Tensor:
        """The same tokens, after those with a location have passed through the map."""
        t, h, w = self._sides
        apart = self.family.image or _is_xclip(self.model.config)  # each frame has its own row of tokens
        first = tokens.shape[1] - (h * w if apart else t * h * w)  # class and register tokens come first
        placed = tokens[:, first:]
        rows = placed.reshape(-1, t * h * w, placed.shape[-1]) if apart else placed
        places = self.token_map(rows, self._sides, time_last=self._time_last)
        order = (0, 3, 4, 2, 1) if self._time_last else (0, 2, 3, 4, 1)
        return torch.cat([tokens[:, :first], places.permute(order).reshape(placed.shape)], 1)

    @property
    def blocks(self) -> nn.ModuleList:
        """The layers that tokens pass through: the longest module list."""
        root = self.model.vision_model if _is_xclip(self.model.config) else self.model
        rows = [one for one in root.modules() if isinstance(one, nn.ModuleList)]  # type: ignore[union-attr]
        return max(rows, key=len)

    def _places(self, clip: Tensor) -> tuple[int, int, int]:
        """Number of tokens along time, height and width."""
        config: Any = self._config
        tubelet = getattr(config, "tubelet_size", 1)
        if isinstance(tubelet, int):
            patch = config.patch_size
            tubelet = (tubelet, *((patch, patch) if isinstance(patch, int) else patch))
        t, h, w = (max(n // side, 1) for n, side in zip(clip.shape[2:], tubelet, strict=True))
        return t, h, w


def _changes(name: str, config: Any) -> dict[str, Any]:
    """The settings of a model type that differ from its defaults; some, such as heads, are in no tensor."""
    known = known_settings(name)
    return {one: value for one, value in config.to_diff_dict().items() if one in known}


def _is_xclip(config: Any) -> bool:
    return getattr(config, "model_type", "") == "xclip"


class HeadlessEncoder(nn.Module):
    """A model of torchvision without its classifier: clips (B, C, T, H, W) -> (B, D).

    Args:
        made_by: the model's name and settings.
    """

    def __init__(self, model: nn.Module, made_by: Mapping[str, Any]) -> None:
        super().__init__()
        self.not_in_tensors = dict(made_by)
        name = next(name for name in _CLASSIFIERS if hasattr(model, name))
        layers = [one for one in getattr(model, name).modules() if isinstance(one, nn.Linear | nn.Conv3d)]
        self.feature_dim = layers[-1].weight.shape[1]
        setattr(model, name, nn.Identity())
        self.model = model

    def forward(self, clip: Tensor) -> Tensor:
        features: Tensor = self.model(clip)
        return features.flatten(1)


class FrameEncoder(nn.Module):
    """An image model of timm: clips (B, C, T, H, W) -> (B, D), the mean over frames.

    Args:
        made_by: the model's name and settings.
    """

    def __init__(self, model: nn.Module, made_by: Mapping[str, Any]) -> None:
        super().__init__()
        self.not_in_tensors = dict(made_by)
        self.model = model
        self.feature_dim = int(model.num_features)  # type: ignore[arg-type]

    def forward(self, clip: Tensor) -> Tensor:
        features: Tensor = self.model(clip.transpose(1, 2).flatten(0, 1))
        return _mean_of_frames(features, clip)

    @property
    def blocks(self) -> nn.Sequential | None:
        """The layers that tokens pass through, which timm's transformers call so; None for other models."""
        return cast("nn.Sequential | None", getattr(self.model, "blocks", None))


def _mean_of_frames(features: Tensor, clip: Tensor) -> Tensor:
    """Features of all frames (B T, D) of clips (B, C, T, H, W) -> (B, D)."""
    return features.reshape(-1, clip.shape[2], features.shape[-1]).mean(1)


def create_torchvision(name: str, **settings: Any) -> nn.Module:
    """A model of ``torchvision.models.video``, by the name of its function.

    Raises:
        UserError: torchvision is not installed, has no such model, or rejects these settings.
    """
    library = _library("torchvision.models", "torchvision")
    video = importlib.import_module("torchvision.models.video")
    names = library.list_models(module=video)
    if name not in names:
        raise UserError(f"torchvision has no video model '{name}'{did_you_mean(name, names)}")
    _only_colours("tv:" + name, settings)
    model = _built("tv:" + name, lambda: library.get_model(name, weights=None, **settings))
    return HeadlessEncoder(model, {"name": name, **settings})


def create_timm(name: str, **settings: Any) -> nn.Module:
    """A model of timm, by its name there, without its classifier.

    Raises:
        UserError: timm is not installed, has no such model, or rejects these settings.
    """
    library = timm_with(name)
    _only_colours("timm:" + name, settings)
    for one in settings.keys() - set(TIMM_SETTINGS):
        raise UserError(
            f"timm:{name} has no setting '{one}' that dsm passes on{did_you_mean(one, TIMM_SETTINGS)}"
        )
    make = library.create_model
    model = _built("timm:" + name, lambda: make(name, pretrained=False, num_classes=0, **settings))
    return FrameEncoder(model, {"name": name, **settings})


def timm_with(name: str) -> Any:
    """The library timm, which has a model of this name.

    Raises:
        UserError: it is not installed, or has no such model.
    """
    library = _library("timm", "timm")
    if not library.is_model(name):
        raise UserError(f"timm has no model '{name}'{did_you_mean(name, library.list_models())}")
    return library


TIMM_SETTINGS = (
    "img_size", "patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio", "init_values", "global_pool",
    "class_token", "reg_tokens", "no_embed_class", "dynamic_img_size",
)  # fmt: skip
"""Settings that files may pass to timm. Others, such as a path to weights, would make it read pickles."""


def _only_colours(name: str, settings: dict[str, Any]) -> None:
    if settings.pop("in_channels", 3) != 3:
        raise UserError(f"{name} takes clips of 3 channels; use --clip.modality rgb or rgbdiff.")


def create_transformers(name: str, *, readout: Readout | None = None, **settings: Any) -> nn.Module:
    """A model of transformers, with its config's settings and random weights.

    Args:
        readout: how tokens become a vector; by default, as its authors do.

    Raises:
        UserError: transformers is not installed, the model is unknown, or it rejects these settings.
    """
    family = family_of(name)
    for one in settings.keys() - known_settings(name) - {"in_channels"}:
        raise UserError(f"hf:{name} has no setting '{one}'{did_you_mean(one, known_settings(name))}")
    return _built(
        "hf:" + name,
        lambda: as_encoder(model_class(name)(make_config(name, settings)), family, readout or family.readout),
    )


def as_encoder(model: nn.Module, family: Family, readout: Readout) -> TokenEncoder:
    """A model of transformers as an encoder, without the parts that features do not need."""
    if _is_xclip(model.config):
        for part in ("text_model", "text_projection", "prompts_generator", "prompts_visual_layernorm",
                     "prompts_visual_projection", "logit_scale"):  # fmt: skip
            delattr(model, part)
    return TokenEncoder(model, family, readout)


def family_of(name: str) -> Family:
    """The family of a model type. Raises UserError if dsm has no adapter for it."""
    name = ALIASES.get(name, name)
    if name not in FAMILIES:
        raise UserError(
            f"dsm has no adapter for the transformers model '{name}'{did_you_mean(name, FAMILIES)}"
        )
    return FAMILIES[name]


def model_class(name: str) -> Any:
    """The class of a model type in transformers."""
    return getattr(_library("transformers", "transformers"), family_of(name).model)


@lru_cache(maxsize=32)
def known_settings(name: str) -> frozenset[str]:
    """The settings of a model type that files may set.

    A config of transformers also accepts unknown names, and some, such as an implementation, make it fetch
    and run code; so only these settings are passed to it.
    """
    family, library = family_of(name), _library("transformers", "transformers")
    common = library.PretrainedConfig().to_dict().keys()
    made = getattr(library, family.config)()
    settings = made.vision_config.to_dict() if _is_xclip(made) else made.to_dict()
    more = {"projection_dim"} if _is_xclip(made) else set()
    names = (settings.keys() | more) - common - {"model_type"}
    return frozenset(one for one in names if not one.startswith("_") and "implementation" not in one)


def make_config(name: str, settings: dict[str, Any]) -> Any:
    """The config object of a model type, from checked settings."""
    family, library = family_of(name), _library("transformers", "transformers")
    settings = dict(settings)
    if "in_channels" in settings:
        settings[family.channels] = settings.pop("in_channels")
    make = getattr(library, family.config)
    if family.part and family.part in make().to_dict():  # has a text model, which is not used
        width = settings.pop("projection_dim", settings.get("mit_hidden_size", 512))
        return make(text_config=dict(_TEXT), projection_dim=width, prompt_layers=0, **{family.part: settings})
    return make(**settings)


ADAPTERS: dict[str, Callable[..., nn.Module]] = {
    "tv": create_torchvision,
    "hf": create_transformers,
    "timm": create_timm,
}


def _library(module: str, package: str) -> Any:
    hint = ", in the version for your torch"
    return load_extra(module, package, package=package, wanted_by="this backbone", hint=hint)


def _built(name: str, build: Callable[[], nn.Module]) -> nn.Module:
    try:
        return build()
    except (TypeError, ValueError, AttributeError, ImportError) as error:
        raise UserError(f"{name}: cannot be built with these settings ({first_line(error)}).") from None
