"""Video models of torchvision and transformers, as encoders of this project.

``tv:NAME`` is a model of ``torchvision.models.video`` without its classifier; ``hf:NAME`` is one of
transformers, with its tokens averaged. Both libraries are extras. Nothing is downloaded: weights are random.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dsm.errors import UserError, first_line, nearest
from dsm.extras import load_extra

# name -> (config class, model class, name of the clip argument, further arguments of forward)
TRANSFORMERS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "timesformer": ("TimesformerConfig", "TimesformerModel", "pixel_values", {}),
    "videomae": ("VideoMAEConfig", "VideoMAEModel", "pixel_values", {}),
    "vivit": ("VivitConfig", "VivitModel", "pixel_values", {}),
    "vjepa2": ("VJEPA2Config", "VJEPA2Model", "pixel_values_videos", {"skip_predictor": True}),
}
# Models whose token order has time innermost; in the others time is outermost.
_TIME_LAST = ("timesformer",)
# Parts after the tokens: no gradient reaches them, and several processes would wait for one.
_UNUSED = ("pooler", "predictor")
# Attribute names of the classifier in torchvision's models.
_CLASSIFIERS = ("fc", "classifier", "head")


class TokenMap(nn.Module):
    """Tokens (B, N, D) -> (B, D, T, H, W). A separate module, so that hooks find the map."""

    def forward(self, tokens: Tensor, sides: tuple[int, int, int], *, time_last: bool) -> Tensor:
        t, h, w = sides
        if time_last:
            return tokens.reshape(tokens.shape[0], h, w, t, -1).permute(0, 4, 3, 1, 2)
        return tokens.reshape(tokens.shape[0], t, h, w, -1).permute(0, 4, 1, 2, 3)


class TokenEncoder(nn.Module):
    """A transformer over tokens: clips (B, C, T, H, W) -> (B, D), the mean of the last layer's tokens."""

    def __init__(self, model: nn.Module, pictures: str, more: dict[str, Any]) -> None:
        super().__init__()
        self.model = model
        self.token_map = TokenMap()
        self.feature_dim = int(model.config.hidden_size)  # type: ignore[arg-type, union-attr]
        self._pictures, self._more = pictures, more
        self._time_last = getattr(model.config, "model_type", "") in _TIME_LAST
        for name in _UNUSED:
            if isinstance(part := getattr(model, name, None), nn.Module):
                part.requires_grad_(False)

    def forward(self, clip: Tensor) -> Tensor:
        output = self.model(**{self._pictures: clip.transpose(1, 2)}, **self._more)
        tokens: Tensor = output.last_hidden_state
        sides = self._sides(clip)
        first = tokens.shape[1] - sides[0] * sides[1] * sides[2]  # a class token comes first
        places = self.token_map(tokens[:, first:], sides, time_last=self._time_last)
        return torch.cat([tokens[:, :first], places.flatten(2).transpose(1, 2)], 1).mean(1)

    def _sides(self, clip: Tensor) -> tuple[int, int, int]:
        """Tokens along time, height and width."""
        config: Any = self.model.config
        tubelet = getattr(config, "tubelet_size", 1)
        if isinstance(tubelet, int):
            patch = config.patch_size
            tubelet = (tubelet, *((patch, patch) if isinstance(patch, int) else patch))
        t, h, w = (max(n // side, 1) for n, side in zip(clip.shape[2:], tubelet, strict=True))
        return t, h, w


class HeadlessEncoder(nn.Module):
    """A model of torchvision without its classifier: clips (B, C, T, H, W) -> (B, D)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        name = next(name for name in _CLASSIFIERS if hasattr(model, name))
        layers = [one for one in getattr(model, name).modules() if isinstance(one, nn.Linear | nn.Conv3d)]
        self.feature_dim = layers[-1].weight.shape[1]
        setattr(model, name, nn.Identity())
        self.model = model

    def forward(self, clip: Tensor) -> Tensor:
        features: Tensor = self.model(clip)
        return features.flatten(1)


def create_torchvision(name: str, **settings: Any) -> nn.Module:
    """A model of ``torchvision.models.video``, by the name of its function.

    Raises:
        UserError: torchvision is not installed, has no such model, or rejects these settings.
    """
    library = _library("torchvision.models", "torchvision")
    video = importlib.import_module("torchvision.models.video")
    names = library.list_models(module=video)
    if name not in names:
        raise UserError(f"torchvision has no video model '{name}'{nearest(name, names)}")
    if settings.pop("in_channels", 3) != 3:
        raise UserError(f"tv:{name} takes clips of 3 channels: use --clip.modality rgb or rgbdiff.")
    return HeadlessEncoder(_built("tv:" + name, lambda: library.get_model(name, weights=None, **settings)))


def create_transformers(name: str, **settings: Any) -> nn.Module:
    """A video model of transformers, with its config's settings.

    Raises:
        UserError: transformers is not installed, the model is unknown, or it rejects these settings.
    """
    if name not in TRANSFORMERS:
        raise UserError(f"no adapter for the transformers model '{name}'{nearest(name, TRANSFORMERS)}")
    library = _library("transformers", "transformers")
    config, model, pictures, more = TRANSFORMERS[name]
    if "in_channels" in settings:
        settings["in_chans" if name == "vjepa2" else "num_channels"] = settings.pop("in_channels")
    make = getattr(library, config)
    # A config also accepts unknown names, and some, such as an implementation, make it fetch and run code.
    known = {one for one in make().to_dict() if not one.startswith("_") and "implementation" not in one}
    for one in settings.keys() - known:
        raise UserError(f"hf:{name} has no setting '{one}'{nearest(one, known)}")
    built = _built("hf:" + name, lambda: getattr(library, model)(make(**settings)))
    return TokenEncoder(built, pictures, more)


ADAPTERS: dict[str, Callable[..., nn.Module]] = {"tv": create_torchvision, "hf": create_transformers}


def _library(module: str, package: str) -> Any:
    hint = ", in the version that fits torch"
    return load_extra(module, package, package=package, wanted_by="this backbone", hint=hint)


def _built(name: str, build: Callable[[], nn.Module]) -> nn.Module:
    try:
        return build()
    except (TypeError, ValueError, AttributeError, ImportError) as error:
        raise UserError(f"{name}: cannot be built with these settings ({first_line(error)}).") from None
