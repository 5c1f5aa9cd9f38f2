"""``dsm pretrain``: a run, and pictures of how it went."""

from __future__ import annotations

from dsm.commands.train import train_and_draw
from dsm.engine.pretrain import PretrainConfig, pretrain

__all__ = ["PretrainConfig", "pretrain_command"]


def pretrain_command(config: PretrainConfig) -> None:
    hint = f"dsm extract --weights {config.out} --data LIST --out FEATURES.npz"
    train_and_draw(config.out, lambda: pretrain(config), hint)
