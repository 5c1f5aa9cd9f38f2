"""Class activation maps: which places of a clip raise a score, for any network with a map of features.

Both kinds begin at a feature map A (B, K, T', H', W') and the gradient G = ds/dA of a score s:

``cam``: at each place the sum over channels of G * A. Behind A these networks pool and apply a linear
map, and every pooling is homogeneous of degree 1, so by Euler's theorem these sums over all places add
up to the score (without its bias): each is what its place contributes. With average pooling and a
classifier this is the class activation map of Zhou et al. (CVPR 2016), the last layer's weights applied
at every place; with max pooling a place gets what it holds the maximum of. For the similarity of
embeddings it is the decomposition of Stylianou et al. (WACV 2019). Where more than a linear map follows
(an ``mlp`` head) it is true to first order (HiResCAM, Draelos & Carin 2020).

``grad-cam``: the gradient is averaged over places before it weighs the channels (Selvaraju et al., ICCV
2017).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dsm.errors import UserError, nearest

MapKind = Literal["cam", "grad-cam"]
Score = Callable[[Tensor], Tensor]
"""What a network returns (B, D) -> one number a clip (B,)."""


@dataclass(frozen=True)
class Layer:
    """Where in a network there is a map of features."""

    name: str
    """Of the module, as ``named_modules`` has it."""
    before: bool = False
    """The map is what the module is given, not what it returns."""
    sides: tuple[int, ...] = ()
    """T', H', W' for the clip it was found with."""

    def __str__(self) -> str:
        size = "x".join(str(side) for side in self.sides)
        return f"{'input of ' if self.before else ''}{self.name or 'the network'} ({size})"


TOKENS = Layer("tokens")
"""In place of a layer: here a network is not a map of places but a row of tokens."""


def class_score(label: int | None = None) -> Score:
    """The logit of a class; None: of the class that the network holds most probable, clip by clip."""

    def score(logits: Tensor) -> Tensor:
        if label is not None:
            return logits[:, label]
        return logits.amax(1)

    return score


def similarity_score(target: Tensor | None = None) -> Score:
    """How far embeddings go in the direction of a target; None: each of itself.

    The dot product with the unit target, not the cosine: of a clip with itself the cosine is at its
    maximum, and its gradient is zero.

    Args:
        target: (D,) or (1, D).
    """

    def score(embedding: Tensor) -> Tensor:
        wanted = embedding if target is None else target.reshape(1, -1)
        return (embedding * F.normalize(wanted.detach(), dim=1)).sum(1)

    return score


def find_layer(module: nn.Module, clip: Tensor) -> Layer:
    """The last map of features in a network, found by running it once.

    That is the last tensor (B, K, T', H', W') with more than one place in the picture which a module with
    weights returns, or a global pooling is given.

    Args:
        clip: (B, C, T, H, W), as the network takes it; its size decides how many places a map has.

    Raises:
        UserError: there is none, or tokens without known places come after it.
    """
    found: list[Layer] = []

    def given(name: str, one: nn.Module, inputs: tuple[Any, ...]) -> None:
        if _is_map(inputs[0] if inputs else None) and isinstance(one, _GLOBAL_POOLS):
            found.append(Layer(name, True, tuple(inputs[0].shape[2:])))

    def returned(name: str, one: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if _is_map(output) and len(output) == 1 and not _only_shrinks(one, inputs, output):
            found.append(Layer(name, False, tuple(output.shape[2:])))
        elif _is_tokens(output) and any(True for _ in one.parameters()):
            found.append(TOKENS)

    with ExitStack() as hooks, torch.no_grad():
        for name, one in module.named_modules():
            hooks.callback(one.register_forward_pre_hook(partial(given, name)).remove)
            hooks.callback(one.register_forward_hook(partial(returned, name)).remove)
        module(clip[:1])
    if found and found[-1] is TOKENS:
        raise UserError(
            "the network goes on with tokens (B, N, D) after its last map, and where they lie is not known; "
            f"name a --layer that gives a map{nearest('', _mappers(module, clip))}"
        )
    if not found:
        raise UserError(
            "no layer of this network gives a map (B, K, T, H, W) with more than one place in the picture "
            f"for clips of {'x'.join(map(str, clip.shape[2:]))}; try a larger --size, or name a --layer."
        )
    return found[-1]


def named_layer(module: nn.Module, name: str, clip: Tensor) -> Layer:
    """A layer by the name of its module.

    Raises:
        UserError: there is no such module, or it returns no map.
    """
    modules = dict(module.named_modules())
    if name not in modules:
        raise UserError(f"the network has no layer '{name}'{nearest(name, _mappers(module, clip))}")
    seen: list[Any] = []
    handle = modules[name].register_forward_hook(lambda m, i, o: seen.append(o))
    try:
        with torch.no_grad():
            module(clip[:1])
    finally:
        handle.remove()
    if not seen or not isinstance(seen[-1], Tensor) or seen[-1].ndim != 5 or len(seen[-1]) != 1:
        raise UserError(f"layer '{name}' returns no map{nearest(name, _mappers(module, clip))}")
    return Layer(name, False, tuple(seen[-1].shape[2:]))


def activation_map(
    module: nn.Module, clip: Tensor, score: Score, layer: Layer | None = None, kind: MapKind = "cam"
) -> Tensor:
    """Where a clip raises the score of its output.

    Args:
        module: (B, C, T, H, W) -> (B, D); used in evaluation mode, where it lies.
        clip: as the network takes it, (B, C, T, H, W).
        layer: left out, :func:`find_layer`'s.

    Returns:
        (B, T, H, W), at least 0: the map brought to the clip's size, trilinear. What lowers the score is 0.

    Raises:
        UserError: there is no layer to begin at.
    """
    features, gradient = features_and_gradient(module, clip, score, layer)
    if kind == "grad-cam":
        gradient = gradient.mean((2, 3, 4), keepdim=True)
    raised = (gradient * features).sum(1, keepdim=True).clamp(min=0)
    return F.interpolate(raised, clip.shape[2:], mode="trilinear", align_corners=False)[:, 0]


def to_unit(maps: Tensor) -> Tensor:
    """Maps (B, T, H, W) in [0, 1]: 1 is the strongest place of each clip; a map of zeros stays so."""
    return maps / maps.amax((1, 2, 3), keepdim=True).clamp(min=torch.finfo(maps.dtype).tiny)


def features_and_gradient(
    module: nn.Module, clip: Tensor, score: Score, layer: Layer | None = None
) -> tuple[Tensor, Tensor]:
    """The feature map of a layer and the gradient of the score there, both (B, K, T', H', W')."""
    module.eval()
    layer = layer or find_layer(module, clip)
    kept: list[Tensor] = []

    def cut(features: Tensor) -> Tensor:
        # The graph begins here. A copy goes on, for the next step may work in place.
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
    """Is it a pooling: without weights, and with fewer places after than before?"""
    if any(True for _ in module.parameters()) or not inputs or not _is_map(inputs[0]):
        return False
    return cast(bool, output[0, 0].numel() < inputs[0][0, 0].numel())


def _mappers(module: nn.Module, clip: Tensor) -> list[str]:
    """Names of the modules that return a map; not of what is deep inside them."""
    names: list[str] = []

    def note(name: str, one: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 5 and len(output) == 1 and name:
            names.append(name)

    with ExitStack() as hooks, torch.no_grad():
        for name, one in module.named_modules():
            hooks.callback(one.register_forward_hook(partial(note, name)).remove)
        module(clip[:1])
    depth = min((name.count(".") for name in names), default=0) + 1
    return [name for name in names if name.count(".") <= depth]


@contextmanager
def _weights_fixed(module: nn.Module) -> Iterator[None]:
    """Without gradients of weights, nothing before the map is remembered for a backward pass."""
    wanting = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in wanting:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanting:
            parameter.requires_grad_(True)
