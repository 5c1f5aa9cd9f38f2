"""Which clips a network takes: some of others' take but one size, or one number of frames."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dsm.errors import UserError, first_line

REFUSALS = (RuntimeError, ValueError, IndexError, AssertionError)
"""What networks raise for clips that they do not take."""


def check_takes(network: nn.Module, shape: Sequence[int]) -> Tensor:
    """Show a network one clip of zeros.

    Args:
        shape: of the clip, (C, T, H, W).

    Returns:
        What it says of it: (1, D).

    Raises:
        UserError: it does not take such clips.
    """
    was_training = network.training
    clip = torch.zeros(1, *shape, device=next(network.parameters()).device)
    try:
        with torch.no_grad():
            said: Tensor = network.eval()(clip)
            return said
    except torch.cuda.OutOfMemoryError:
        raise
    except REFUSALS as error:
        raise refusal(shape, error) from None
    finally:
        network.train(was_training)


def refusal(shape: Sequence[int], error: Exception) -> UserError:
    """The sentence for what a network said of a clip of a shape (C, T, H, W)."""
    size = "x".join(str(side) for side in shape)
    return UserError(
        f"the network does not take clips of {size} ({first_line(error)}); see the flags of clips "
        "that end in frames and size."
    )
