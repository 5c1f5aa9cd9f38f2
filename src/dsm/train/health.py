"""Watching a run: embeddings that collapse, and numbers that are not finite, traced to their source."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dsm.methods.health import alignment, effective_rank, margins, spread, uniformity
from dsm.methods.step import StepOutput
from dsm.models.precision import Precision, compute_in
from dsm.terminal import console


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


WINDOW = 256
"""Embeddings looked at together. A batch may be too small to tell a rank by."""

COLLAPSED_SPREAD = 0.01
"""Below it the mean cosine of two clips is above 0.99."""

COLLAPSED_RANK = 1.5

PATIENCE = 100
"""Steps that embeddings may lie on one spot before it is said: many runs begin with that."""


class Health:
    """Gathers what the steps give; reads it when a line is logged."""

    def __init__(self, step: int = 0) -> None:
        self._newest: list[Tensor] = []
        self._sound = step
        """The last step at which the embeddings were not collapsed."""
        self._told = False

    def add(self, output: StepOutput) -> None:
        """Take up one step's embeddings, and forget the oldest; what is not finite tells nothing."""
        if output.anchor is not None and torch.isfinite(output.anchor).all():
            self._newest.append(output.anchor)
        while len(self._newest) > 1 and sum(map(len, self._newest[1:])) >= WINDOW:
            del self._newest[0]

    def read(self, output: StepOutput, step: int) -> dict[str, float]:
        """The figures of a step, by the names they are logged under; a collapse is announced."""
        tensors = dict(output.metrics or {})
        if output.anchor is None or output.positive is None:
            return {name: float(value) for name, value in tensors.items()}
        tensors |= {
            **margins(output.anchor, output.positive, output.negatives),
            "alignment": alignment(output.anchor, output.positive),
        }
        if not self._newest:
            return {name: float(value) for name, value in tensors.items()}
        newest = torch.cat(self._newest)[-WINDOW:]
        tensors |= {
            "uniformity": uniformity(newest),
            "effective_rank": effective_rank(newest),
            "spread": spread(newest),
        }
        figures = {name: float(value) for name, value in tensors.items()}
        self._announce(figures, len(newest), step)
        return figures

    def _announce(self, figures: dict[str, float], count: int, step: int) -> None:
        rank, width = figures["effective_rank"], figures["spread"]
        if width >= COLLAPSED_SPREAD and (rank >= COLLAPSED_RANK or count < 8):
            if self._told:
                console.print(f"step {step}: the embeddings spread again.", style="green")
            self._sound, self._told = step, False
            return
        if step - self._sound < PATIENCE or self._told:
            return
        self._told = True
        console.print(
            f"step {step}: for {step - self._sound} steps all clips have looked nearly the same to the "
            f"encoder (spread {width:.4f} of at most 1, effective rank {rank:.1f}): it has "
            "collapsed. If this lasts, stop, and try a lower --optim.lr, a longer --optim.warmup, a larger "
            "--data.batch-size or temperature, or a head with BatchNorm (`mlp`).",
            style="bold yellow",
        )
