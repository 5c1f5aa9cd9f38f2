"""Settings of `dsm pretrain` and `dsm finetune`."""

from __future__ import annotations

from dataclasses import dataclass

from dsm.errors import UserError
from dsm.train.config import FinetuneConfig, PretrainConfig

__all__ = ["FractionsConfig", "PretrainConfig"]


@dataclass(frozen=True)
class FractionsConfig(FinetuneConfig):
    """Settings of `dsm finetune`; the paper's are sgd, lr 0.001, 45 epochs of 64 frames, batch 4."""

    fractions: tuple[float, ...] = ()
    """Train one run on each of these shares of every class (0.01 for 1 %; smaller shares are parts of larger
    ones) and, if `data.test` is given, test it. The same command continues an interrupted sweep."""

    def __post_init__(self) -> None:
        super().__post_init__()
        wrong = [fraction for fraction in self.fractions if not 0 < fraction <= 1]
        if wrong:
            raise UserError(f"fractions must be above 0 and at most 1 (0.01 is 1 %), not {wrong[0]:g}.")
        if len(set(self.fractions)) < len(self.fractions):
            raise UserError("fractions: one is given twice; give each once.")
