"""``dsm pretrain``: a run, and pictures of how it went."""

from __future__ import annotations

import os

from dsm.engine.interrupt import Interrupted
from dsm.engine.pretrain import PretrainConfig, pretrain
from dsm.engine.progress import console

__all__ = ["PretrainConfig", "pretrain_command"]


def pretrain_command(config: PretrainConfig) -> None:
    """Train; draw what there is also when stopped; say where everything is and what to do next."""
    try:
        pretrain(config)
    except (Interrupted, SystemExit):
        _draw(config)
        raise
    if os.environ.get("RANK", "0") != "0":
        return
    pictures = _draw(config)
    console.print(f"{config.out}: the run; its health in {' and '.join(pictures)}.")
    console.print(f"Next: dsm extract --weights {config.out} --data LIST --out FEATURES.npz")


def _draw(config: PretrainConfig) -> list[str]:
    """Pictures must not cost a run its end."""
    from dsm.analyse.run_figures import draw_run

    if os.environ.get("RANK", "0") != "0" or not config.out.is_dir():
        return []
    try:
        return [str(path) for path in draw_run(config.out)]
    except OSError as error:
        console.print(f"pictures cannot be written: {error.strerror}.", style="yellow")
        return []
