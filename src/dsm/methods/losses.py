"""Contrastive losses as pure functions of embeddings.

Shapes: B clips, D dimensions, K keys in a queue, N negatives per clip. Embeddings are unit
vectors, so a dot product is a cosine.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from dsm.models.precision import compute_exactly

Arguments = ParamSpec("Arguments")
Loss = TypeVar("Loss")


def _exactly(loss: Callable[Arguments, Loss]) -> Callable[Arguments, Loss]:
    """Compute a loss in the precision of its embeddings, whatever the precision of the encoder."""

    @wraps(loss)
    def computed(*embeddings: Arguments.args, **settings: Arguments.kwargs) -> Loss:
        first = next(one for one in (*embeddings, *settings.values()) if isinstance(one, Tensor))
        with compute_exactly(first.device.type):
            return loss(*embeddings, **settings)

    return computed


@_exactly
def info_nce(
    query: Tensor,
    key: Tensor,
    *,
    temperature: float,
    queue: Tensor | None = None,
    in_batch: bool = False,
    negatives: Tensor | None = None,
) -> Tensor:
    """InfoNCE (van den Oord et al. 2018; MoCo, He et al. 2020, eq. 1) with any mix of negatives.

    The logits of a query are its positive, then the batch's other keys, the queue and its own
    intra-video negatives (DSM, eq. 5), all over the temperature; the positive is the target.

    Args:
        query: (B, D). key: (B, D), the positive of each.
        temperature: > 0.
        queue: (K, D) keys of earlier clips.
        in_batch: whether the other clips' keys are also negatives.
        negatives: (B, N, D), each query's own, such as its motion-broken versions.

    Returns:
        The mean loss, a scalar.
    """
    positive = (query * key).sum(1, keepdim=True)  # (B, 1)
    logits = [positive]
    if in_batch:
        others = query @ key.T  # (B, B)
        itself = torch.eye(len(query), dtype=torch.bool, device=query.device)
        logits.append(others.masked_fill(itself, -torch.inf))
    if queue is not None:
        logits.append(query @ queue.T)  # (B, K)
    if negatives is not None:
        logits.append(torch.einsum("bd,bnd->bn", query, negatives))  # (B, N)
    target = torch.zeros(len(query), dtype=torch.long, device=query.device)
    return F.cross_entropy(torch.cat(logits, dim=1) / temperature, target)


@_exactly
def motion_loss(query: Tensor, key: Tensor, negatives: Tensor, *, temperature: float) -> Tensor:
    """Logistic loss of whether the positive is nearer than each of the query's own negatives.

    The mean of ``log(1 + exp((q·n - q·k) / t))``. It falls to 0 once the pairs are distinguished, whatever
    the number of other videos; the softmax over other videos then only distinguishes videos.

    Args:
        query: (B, D). key: (B, D), the positive of each. negatives: (B, N, D), each query's own.
        temperature: t > 0.
    """
    near = (query * key).sum(1, keepdim=True)  # (B, 1)
    far = torch.einsum("bd,bnd->bn", query, negatives)  # (B, N)
    return F.softplus((far - near) / temperature).mean()


@_exactly
def nt_xent(one: Tensor, two: Tensor, *, temperature: float, rows: slice = slice(None)) -> Tensor:
    """SimCLR's loss (Chen et al. 2020, eq. 1): each clip's other version among all 2B - 1 other embeddings.

    Args:
        one, two: (B, D), two versions of each clip.
        temperature: > 0.
        rows: the clips to average the loss over: this process's own if ``one`` and ``two`` are those of all
            processes.
    """
    count = len(one)
    both = torch.cat([one, two])  # (2B, D)
    own = torch.arange(count, device=one.device)[rows]
    queries, target = torch.cat([own, own + count]), torch.cat([own + count, own])
    logits = both[queries] @ both.T / temperature
    itself = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, queries[:, None], True)
    return F.cross_entropy(logits.masked_fill(itself, -torch.inf), target)


@_exactly
def triplet(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    """Mean triplet loss on Euclidean distances (DSM, eq. 4): max(0, d(a, p) - d(a, n) + margin).

    Args:
        anchor, positive, negative: (B, D).
    """
    return F.triplet_margin_loss(anchor, positive, negative, margin=margin)


def temporal_consistency(feature_map: Tensor, of_reversed: Tensor) -> Tensor:
    """Distance of a clip's feature map from the time-reversed map of the clip played backwards (DSM's code).

    Args:
        feature_map, of_reversed: (B, C, T, H, W); their means over space are compared.
    """
    return F.mse_loss(feature_map.mean((3, 4)), of_reversed.mean((3, 4)).flip(2))
