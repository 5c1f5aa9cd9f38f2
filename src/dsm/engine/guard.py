"""Numbers that are not finite: found before they spoil the weights, and traced to where they come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dsm.models.precision import Precision, compute_in


def where_broken(
    method: nn.Module, views: dict[str, Tensor], *, precision: Precision, device_type: str, alone: bool
) -> str:
    """In words: in which weight, view, layer or gradient numbers first were not finite.

    Args:
        method: after a backward pass of ``views`` that went wrong.
        precision, device_type: what the pass was computed in, and where: in another nothing may be wrong.
        alone: whether this is the only process; the forward pass is then made once more, to look at layers.
    """
    weight = first_bad_weight(method)
    if weight:
        return f"in the weights, first in {weight}"
    for name, clips in views.items():
        if not _finite((clips,)):
            return f"in the clips of the view {name}"

    def again() -> None:
        with compute_in(precision, device_type):
            method(views)

    layer = first_bad_layer(method, again) if alone else None
    if layer:
        return f"first in what the layer {layer} gives"
    return f"first in the gradient of {first_bad_gradient(method)}"


def first_bad_layer(module: nn.Module, call: Callable[[], Any]) -> str | None:
    """The first layer whose output is not finite while its input is, when ``call`` runs the module once.

    Returns:
        Its name; None where all layers' outputs are finite, so that it is the loss itself.
    """
    found: list[str] = []

    def look(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def hook(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if not found and _finite(inputs) and not _finite((output,)):
                found.append(name)

        return hook

    layers = [(name, layer) for name, layer in module.named_modules() if not list(layer.children())]
    hooks = [layer.register_forward_hook(look(name)) for name, layer in layers]
    try:
        # Compiled code calls no hooks.
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            call()
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else None


def first_bad_gradient(module: nn.Module) -> str | None:
    """The weight nearest to the loss whose gradient is not finite: where backward went wrong first."""
    bad = [
        name
        for name, parameter in module.named_parameters()
        if parameter.grad is not None and not torch.isfinite(parameter.grad).all()
    ]
    return bad[-1] if bad else None


def first_bad_weight(module: nn.Module) -> str | None:
    """The first parameter that is not finite."""
    return next((name for name, weight in module.named_parameters() if not _finite((weight,))), None)


def _finite(values: tuple[Any, ...]) -> bool:
    tensors = [value for value in values if isinstance(value, Tensor) and value.is_floating_point()]
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)
