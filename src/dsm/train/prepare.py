"""Preparing a method for its devices: memory layout, synchronised norms, recomputation, compilation.

Recomputation (activation checkpointing; Chen et al. 2016, Training Deep Nets with Sublinear Memory Cost)
drops a stage's activations after the forward pass and computes them again in the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from dsm.distributed import check_norms, synchronise_norms
from dsm.methods.momentum import MomentumTwin
from dsm.models.precision import channels_last as store_channels_last
from dsm.models.precision import compute_in
from dsm.models.settings import Precision
from dsm.models.tuning import rows_of, settle
from dsm.train.config import RunConfig


def recompute_stages(encoder: nn.Module, precision: Precision, device_type: str) -> nn.Module:
    """Make the stages of an encoder recompute their activations, in place; the results stay the same.

    A stage is a block of a transformer, a stage of another encoder, or else one of its children.
    """
    stages = rows_of(encoder) or list(encoder.children())
    while len(stages) == 1:
        stages = list(stages[0].children())
    for stage in stages:
        if any(True for _ in stage.parameters()):
            _recompute(stage, precision, device_type)
    return encoder


def _recompute(stage: nn.Module, precision: Precision, device_type: str) -> None:
    plain: Callable[..., Any] = stage.forward

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _second_time(stage, precision, device_type)

    def forward(*inputs: Any, **named: Any) -> Any:
        return checkpoint(plain, *inputs, use_reentrant=False, context_fn=contexts, **named)

    stage.forward = forward


@contextmanager
def _second_time(stage: nn.Module, precision: Precision, device_type: str) -> Iterator[None]:
    """Context of the second forward pass: same precision, and BatchNorm statistics are not updated twice."""
    norms = [module for module in stage.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    counts = [norm.num_batches_tracked for norm in norms]
    for norm in norms:
        norm.momentum = 0.0  # keeps the running statistics unchanged
        norm.num_batches_tracked = (
            None if norm.num_batches_tracked is None else torch.zeros_like(norm.num_batches_tracked)
        )
    try:
        with compute_in(precision, device_type):
            yield
    finally:
        for norm, momentum, count in zip(norms, momenta, counts, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count


def train_mode(method: Any) -> None:
    """Put a method into training mode, and the frozen parts of its encoder into evaluation mode."""
    method.train()
    settle(method.query.encoder)
    if isinstance(twin := getattr(method, "key", None), MomentumTwin):
        settle(method.query.encoder, twin.network.encoder)  # type: ignore[arg-type]


def check_processes(method: Any, processes: int) -> None:
    """Raise UserError if so many processes cannot train a method together."""
    if processes > 1:
        train_mode(method)
        check_norms(method)


def prepare(method: Any, config: RunConfig, fabric: Fabric, *, channels_last: bool = True) -> None:
    """Adapt a method in place to a run's settings and processes; the results stay the same.

    Args:
        channels_last: store weights of 3-D convolutions with channels last, as the clips are.
    """
    device = fabric.device.type
    if channels_last:
        store_channels_last(method)
    if fabric.world_size > 1:
        synchronise_norms(method, fabric.device)
    if config.recompute:
        recompute_stages(method.query.encoder, config.precision, device)
    if config.compile:  # at the first call: never, where the twin is not used
        method.query.encoder.compile()
        if isinstance(twin := getattr(method, "key", None), MomentumTwin):
            twin.network.encoder.compile()  # type: ignore[union-attr]
