"""Statistics of embeddings that show, without labels, whether training goes well.

All take unit vectors. Shapes: B clips, D dimensions, N negatives per clip.
"""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def margins(anchor: Tensor, positive: Tensor, negatives: Tensor | None) -> dict[str, Tensor]:
    """Mean cosines of the three, and how often the positive is nearer than a negative.

    Args:
        anchor, positive: (B, D). negatives: (B, N, D) or None.

    Returns:
        ``positive`` and, with negatives, ``negative`` (cosines in [-1, 1]) and ``motion``, the
        share of pairs in [0, 1]: as long as it stays at its initial value (near 0 if the negative shares the
        anchor's look, otherwise 0.5), the encoder ignores motion.
    """
    near = (anchor * positive).sum(1)
    if negatives is None:
        return {"positive": near.mean()}
    far = torch.einsum("bd,bnd->bn", anchor, negatives)
    return {
        "positive": near.mean(),
        "negative": far.mean(),
        "motion": (near[:, None] > far).float().mean(),
    }


@torch.no_grad()
def alignment(anchor: Tensor, positive: Tensor) -> Tensor:
    """Mean squared distance between two versions of a clip, in [0, 4] (Wang & Isola 2020, eq. 1, α = 2)."""
    return (anchor - positive).square().sum(1).mean()


@torch.no_grad()
def uniformity(embeddings: Tensor) -> Tensor:
    """How evenly embeddings (n, D), n > 1, fill the sphere (Wang & Isola 2020, eq. 2, t = 2).

    From 0, if all coincide, to about -4, if they are spread as evenly as possible.
    """
    squared = (2 - 2 * embeddings @ embeddings.T).clamp(min=0)
    pairs = ~torch.eye(len(embeddings), dtype=torch.bool, device=embeddings.device)
    return squared[pairs].mul(-2).exp().mean().log()


@torch.no_grad()
def effective_rank(embeddings: Tensor) -> Tensor:
    """Number of dimensions in which embeddings (n, D) vary about their mean (Roy & Vetterli 2007).

    The exponential of the entropy of the normalised singular values: from 1 to min(n - 1, D), and 0 if all
    embeddings are the same.
    """
    values = torch.linalg.svdvals(embeddings.float() - embeddings.float().mean(0))
    total = values.sum()
    if total <= 1e-6 * len(embeddings) ** 0.5:
        return torch.zeros(())
    shares = values / total
    return torch.special.entr(shares).sum().exp()


@torch.no_grad()
def spread(embeddings: Tensor) -> Tensor:
    """Variance of embeddings (n, D), summed over dimensions: 0 if collapsed, at most 1."""
    return embeddings.var(dim=0, correction=0).sum()
