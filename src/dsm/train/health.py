"""Health of a run: detects collapsed embeddings, and traces non-finite numbers to their source."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dsm.methods.embedding_health import alignment, effective_rank, margins, spread, uniformity
from dsm.methods.step import StepOutput
from dsm.models.precision import compute_in
from dsm.models.settings import Precision
from dsm.terminal import console


def where_broken(
    method: nn.Module, views: dict[str, Tensor], *, precision: Precision, device_type: str, alone: bool
) -> str:
    """Name the weight, view, layer or gradient in which numbers first became non-finite.

    Args:
        method: after the failed backward pass of ``views``.
        precision, device_type: as in the failed pass; with others the fault may not appear.
        alone: whether this is the only process; the forward pass is then repeated to inspect the layers.
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
        return f"first in the output of the layer {layer}"
    return f"first in the gradient of {first_bad_gradient(method)}"


def first_bad_layer(module: nn.Module, call: Callable[[], Any]) -> str | None:
    """The first layer with a finite input and an output that is not, when ``call`` runs the module once.

    Returns:
        Its name; None if all layers' outputs are finite, so that the fault is in the loss itself.
    """
    bad: list[str] = []

    def collect(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def hook(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if not bad and _finite(inputs) and not _finite((output,)):
                bad.append(name)

        return hook

    layers = [(name, layer) for name, layer in module.named_modules() if not list(layer.children())]
    hooks = [layer.register_forward_hook(collect(name)) for name, layer in layers]
    try:
        # Compiled code calls no hooks.
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            call()
    finally:
        for hook in hooks:
            hook.remove()
    return bad[0] if bad else None


def first_bad_gradient(module: nn.Module) -> str | None:
    """The weight nearest to the loss with a non-finite gradient: where the backward pass first failed."""
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
"""Number of embeddings to assess together; one batch may be too small to estimate a rank."""

COLLAPSED_SPREAD = 0.01
"""Below this spread the mean cosine of two clips is above 0.99."""

COLLAPSED_RANK = 1.5

PATIENCE = 100
"""Steps of collapse before the warning: many runs start collapsed."""


def on_cpu(tensors: list[Tensor]) -> list[Tensor]:
    """Floating-point tensors on the CPU, copied all at once: at each copy the CPU waits for a GPU."""
    if all(one.device.type == "cpu" for one in tensors):
        return tensors
    together = torch.cat([one.detach().flatten() for one in tensors]).cpu()
    parts = torch.split(together, [one.numel() for one in tensors])
    return [part.view(one.shape).to(one.dtype) for part, one in zip(parts, tensors, strict=True)]


class Health:
    """Collects the embeddings of steps, and computes their statistics when a line is logged."""

    def __init__(
        self, step: int = 0, state: dict[str, Any] | None = None, device: torch.device | None = None
    ) -> None:
        """Start at a step, with the :meth:`state` from a checkpoint if it has one."""
        state = state or {"newest": [], "last_healthy": step, "warned": False}
        self._newest: list[Tensor] = [embeddings.to(device) for embeddings in state["newest"]]
        self._last_healthy = int(state["last_healthy"])
        """The last step at which the embeddings were not collapsed."""
        self._warned = bool(state["warned"])

    def state(self) -> dict[str, Any]:
        """State for a checkpoint, so that a resumed run logs and warns as if it had never stopped."""
        newest = [embeddings.detach().cpu().clone() for embeddings in self._newest]
        return {"newest": newest, "last_healthy": self._last_healthy, "warned": self._warned}

    def add(self, output: StepOutput) -> None:
        """Add one step's embeddings, which must be finite, and drop the oldest."""
        if output.anchor is not None:
            self._newest.append(output.anchor)
        while len(self._newest) > 1 and sum(map(len, self._newest[1:])) >= WINDOW:
            del self._newest[0]

    def read(self, output: StepOutput, step: int) -> dict[str, float]:
        """A step's statistics by their log names; warns of a collapse.

        All is computed on the CPU: a GPU would be waited for once a number, and is slow at singular values.
        """
        of_step = (output.anchor, output.positive, output.negatives)
        there = [one for one in of_step if one is not None]
        metrics = output.metrics or {}
        here = iter(on_cpu([*metrics.values(), *there, *self._newest]))
        tensors = {name: next(here) for name in metrics}
        anchor, positive, negatives = (None if one is None else next(here) for one in of_step)
        if anchor is None or positive is None:
            return {name: float(value) for name, value in tensors.items()}
        tensors |= {**margins(anchor, positive, negatives), "alignment": alignment(anchor, positive)}
        if not self._newest:
            return {name: float(value) for name, value in tensors.items()}
        newest = torch.cat(list(here))[-WINDOW:]
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
            if self._warned:
                console.print(f"step {step}: the embeddings are spread out again.", style="green")
            self._last_healthy, self._warned = step, False
            return
        if step - self._last_healthy < PATIENCE or self._warned:
            return
        self._warned = True
        console.print(
            f"step {step}: for {step - self._last_healthy} steps the encoder has given nearly the same "
            f"embedding for all clips (spread {width:.4f} of at most 1, effective rank {rank:.1f}): it has "
            "collapsed. If this lasts, stop, and try a lower "
            "--optim.lr, a longer --optim.warmup, a larger --data.batch-size or temperature, or a projection "
            "head with BatchNorm (`mlp-bn`).",
            style="bold yellow",
        )
