"""Class activation maps: which locations of a clip raise a score, for any network with a feature map.

Both kinds start from a feature map A (B, K, T', H', W') and the gradient G = ds/dA of a score s:

``cam``: at each location, the sum over channels of G * A. After A these networks pool and apply a linear map,
and every pooling is homogeneous of degree 1, so by Euler's theorem the sums at all locations add up to the
score (without its bias): each is the contribution of its location. With average pooling and a classifier this
is the class activation map of Zhou et al. (CVPR 2016), the last layer's weights applied at every location;
with max pooling, a location gets the contribution of the channels that are largest there. For the similarity
of embeddings, it is the decomposition of Stylianou et al. (WACV 2019). If more than a linear map follows (an
``mlp`` head), it holds to first order (HiResCAM, Draelos & Carin 2020).

``grad-cam``: the gradient is averaged over locations before it weights the channels (Selvaraju et al., ICCV
2017).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsm.errors import UserError, did_you_mean
from dsm.evaluate.settings import MapKind
from dsm.models.adapters import TokenMap

Score = Callable[[Tensor], Tensor]
"""A network's output (B, D) -> one number per clip (B,)."""


@dataclass(frozen=True)
class Layer:
    """A point in a network with a feature map."""

    name: str
    """The module's name in ``named_modules``."""
    before: bool = False
    """Whether the map is the module's input rather than its output."""
    sides: tuple[int, ...] = ()
    """T', H', W' for the clip that the layer was found with."""

    def __str__(self) -> str:
        size = "x".join(str(side) for side in self.sides)
        return f"{'input of ' if self.before else ''}{self.name or 'the network'} ({size})"


TOKENS = Layer("tokens")
"""Stands for a layer whose output is a row of tokens instead of a map."""


def class_score(label: int | None = None) -> Score:
    """The logit of a class; None: of each clip's most probable class."""

    def score(logits: Tensor) -> Tensor:
        if label is not None:
            return logits[:, label]
        return logits.amax(1)

    return score


def similarity_score(target: Tensor | None = None) -> Score:
    """The length of embeddings in the direction of a target; None: each in its own direction.

    This is the dot product with the unit target rather than the cosine: the cosine of a clip with itself is
    at its maximum, where the gradient is zero.

    Args:
        target: (D,) or (1, D).
    """

    def score(embedding: Tensor) -> Tensor:
        direction = embedding if target is None else target.reshape(1, -1)
        return (embedding * F.normalize(direction.detach(), dim=1)).sum(1)

    return score


def find_layer(module: nn.Module, clip: Tensor) -> Layer:
    """The last feature map in a network, found by running it once.

    It is the last tensor (B, K, T', H', W') with more than one spatial location that a module with weights
    returns, or that a global pooling receives. A transformer declares where its tokens form a map.

    Args:
        clip: (B, C, T, H, W), as the network takes it; its size determines the size of the maps.

    Raises:
        UserError: there is no such map, or tokens without known locations come after it.
    """
    layers: list[Layer] = []
    shown: list[Layer] = []

    def given(name: str, one: nn.Module, inputs: tuple[Any, ...]) -> None:
        if _is_map(inputs[0] if inputs else None) and isinstance(one, _GLOBAL_POOLS):
            layers.append(Layer(name, True, tuple(inputs[0].shape[2:])))

    def returned(name: str, one: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if _is_map(output) and len(output) == 1 and not _only_shrinks(one, inputs, output):
            layers.append(Layer(name, False, tuple(output.shape[2:])))
        elif _is_tokens(output) and any(True for _ in one.parameters()):
            layers.append(TOKENS)
        if isinstance(one, TokenMap) and _is_map(output):
            shown.append(layers[-1])

    with ExitStack() as hooks, torch.no_grad():
        for name, one in module.named_modules():
            hooks.callback(one.register_forward_pre_hook(partial(given, name)).remove)
            hooks.callback(one.register_forward_hook(partial(returned, name)).remove)
        module(clip[:1])
    if shown:
        return shown[-1]
    if layers and layers[-1] is TOKENS:
        raise UserError(
            "after its last map the network continues with tokens (B, N, D), whose locations are unknown; "
            f"name a --layer that returns a map{did_you_mean('', _outermost(_map_sizes(module, clip)))}"
        )
    if not layers:
        raise UserError(
            "no layer of this network returns a map (B, K, T, H, W) with more than one spatial location "
            f"for clips of {'x'.join(map(str, clip.shape[2:]))}; try a larger --size, or name a --layer."
        )
    return layers[-1]


def named_layer(module: nn.Module, name: str, clip: Tensor) -> Layer:
    """A layer by the name of its module.

    Raises:
        UserError: there is no such module, or it returns no map.
    """
    sizes = _map_sizes(module, clip)
    if name not in dict(module.named_modules()):
        raise UserError(f"the network has no layer '{name}'{did_you_mean(name, _outermost(sizes))}")
    if name not in sizes:
        raise UserError(f"layer '{name}' returns no map{did_you_mean(name, _outermost(sizes))}")
    return Layer(name, False, sizes[name])


def activation_map(
    module: nn.Module, clip: Tensor, score: Score, layer: Layer | None = None, kind: MapKind = "cam"
) -> Tensor:
    """Where a clip raises the score of its output.

    Args:
        module: (B, C, T, H, W) -> (B, D); used in evaluation mode, on its own device.
        clip: as the network takes it, (B, C, T, H, W).
        layer: by default that of :func:`find_layer`.

    Returns:
        (B, T, H, W), at least 0: the map scaled to the clip's size, trilinear. Locations that lower the score
        are 0.

    Raises:
        UserError: no suitable layer was found.
    """
    features, gradient = features_and_gradient(module, clip, score, layer)
    if kind == "grad-cam":
        gradient = gradient.mean((2, 3, 4), keepdim=True)
    raised = (gradient * features).sum(1, keepdim=True).clamp(min=0)
    return F.interpolate(raised, clip.shape[2:], mode="trilinear", align_corners=False)[:, 0]


def to_unit(maps: Tensor) -> Tensor:
    """Maps (B, T, H, W) scaled to [0, 1]: 1 is the maximum of each clip; a map of zeros is unchanged."""
    return maps / maps.amax((1, 2, 3), keepdim=True).clamp(min=torch.finfo(maps.dtype).tiny)


def features_and_gradient(
    module: nn.Module, clip: Tensor, score: Score, layer: Layer | None = None
) -> tuple[Tensor, Tensor]:
    """The feature map of a layer and the gradient of the score there, both (B, K, T', H', W')."""
    module.eval()
    layer = layer or find_layer(module, clip)
    kept: list[Tensor] = []

    def cut(features: Tensor) -> Tensor:
        # The graph starts here. The network continues with a copy, because its next step may work in place.
        kept.append(features.detach().requires_grad_())
        return kept[-1].clone()

    place = module.get_submodule(layer.name)
    if layer.before:
        handle = place.register_forward_pre_hook(lambda m, i: (cut(i[0]), *i[1:]))
    else:
        handle = place.register_forward_hook(lambda m, i, o: cut(o))
    try:
        with _weights_fixed(module), torch.enable_grad():
            (gradient,) = torch.autograd.grad(score(module(clip)).sum(), kept[-1])
    finally:
        handle.remove()
    return kept[-1].detach(), gradient


_GLOBAL_POOLS = (nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool3d, nn.AvgPool3d)


def _is_tokens(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim == 3 and value.shape[1] > 1


def _is_map(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim == 5 and value.shape[3] * value.shape[4] > 1


def _only_shrinks(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> bool:
    """Whether it is a pooling: without weights, and with fewer locations in its output than in its input."""
    if any(True for _ in module.parameters()) or not inputs or not _is_map(inputs[0]):
        return False
    return cast(bool, output[0, 0].numel() < inputs[0][0, 0].numel())


def _map_sizes(module: nn.Module, clip: Tensor) -> dict[str, tuple[int, ...]]:
    """The size (T', H', W') of the map that each module returns, by the module's name."""
    sizes: dict[str, tuple[int, ...]] = {}

    def note(name: str, one: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 5 and len(output) == 1:
            sizes[name] = tuple(output.shape[2:])

    with ExitStack() as hooks, torch.no_grad():
        for name, one in module.named_modules():
            hooks.callback(one.register_forward_hook(partial(note, name)).remove)
        module(clip[:1])
    return sizes


def _outermost(names: Iterable[str]) -> list[str]:
    """Names of the outermost modules, and of those one level deeper."""
    named = list(filter(None, names))
    depth = min((name.count(".") for name in named), default=0) + 1
    return [name for name in named if name.count(".") <= depth]


@contextmanager
def _weights_fixed(module: nn.Module) -> Iterator[None]:
    """Turn off the gradients of weights, so that nothing before the map is stored for the backward pass."""
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)
