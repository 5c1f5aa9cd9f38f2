"""Contrastive losses as pure functions of embeddings.

Shapes: B clips, D dimensions, K keys in a queue, N negatives a clip. Embeddings are unit
vectors, so a dot product is a cosine.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


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
        in_batch: whether the other clips' keys are negatives too.
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


def triplet(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    """Triplet loss on Euclidean distances (DSM, eq. 4): max(0, d(a, p) - d(a, n) + margin), meaned.

    Args:
        anchor, positive, negative: (B, D).
    """
    return F.triplet_margin_loss(anchor, positive, negative, margin=margin)
