"""``dsm finetune``: a run, and pictures of how it went."""

from __future__ import annotations

from dsm.commands.train import train_and_draw
from dsm.engine.finetune import FinetuneConfig, finetune

__all__ = ["FinetuneConfig", "finetune_command"]


def finetune_command(config: FinetuneConfig) -> None:
    """Fine-tune, and draw how it went."""
    train_and_draw(config.out, lambda: finetune(config))
