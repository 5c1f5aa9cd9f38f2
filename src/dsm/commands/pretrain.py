"""``dsm pretrain``: a run, and pictures of how it went."""

from __future__ import annotations

from dataclasses import asdict

from dsm.commands.train import say_next, train_and_draw
from dsm.engine.pretrain import PretrainConfig, pretrain
from dsm.engine.runfolder import flat
from dsm.errors import UserError
from dsm.methods import MethodSettings

__all__ = ["PretrainConfig", "pretrain_as_typed", "pretrain_command"]


def pretrain_as_typed(config: PretrainConfig) -> None:
    """Pretrain, as somebody asked for it on the command line, and say what comes next.

    Raises:
        UserError: besides what :func:`pretrain` raises, a setting is of a method that is not chosen.
    """
    asked, default = flat(asdict(config.settings)), flat(asdict(MethodSettings()))
    for name, value in asked.items():
        method, _, setting = name.partition(".")
        if method != config.method and value != default[name]:
            raise UserError(
                f"--{name} is a setting of --method {method}, which {config.method} does not look at; leave "
                f"it out, or see whether there is a --{config.method}.{setting}."
            )
    pretrain_command(config)
    say_next(f"dsm extract --weights {config.out} --data LIST --out FEATURES.npz")


def pretrain_command(config: PretrainConfig) -> None:
    """Pretrain, and draw how it went."""
    train_and_draw(config.out, lambda: pretrain(config))
