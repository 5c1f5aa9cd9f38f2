"""dsm: motion-aware video encoders from unlabelled video.

Every verb of the command line is a function here, with the same settings::

    dsm.extract(weights="runs/mine", data="test.txt", out="test.npz")

It returns a :class:`~dsm.verbs.result.Result`. Verbs on lists are in ``dsm.data``. Functions are imported
on first use, so ``import dsm`` is fast. The library prints nothing;
:func:`show_progress` shows progress bars and notes on stderr.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

# Threads that sleep rather than spin while they wait leave the core to other processes, and get it back
# sooner: beside one busy process, training on two cores keeps 58 % of its speed, not 35 %
# (benchmarks/busy.py). Torch reads this when it is imported, which is later, unless the user did it before.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from dsm.commands import VERBS
from dsm.version import __version__

if TYPE_CHECKING:
    from dsm import data, disturb
    from dsm.evaluate.feature_files import load_features
    from dsm.models.weights import load_encoder
    from dsm.models.zoo import create_model
    from dsm.terminal import show_progress
    from dsm.verbs.bias import bias
    from dsm.verbs.card import card
    from dsm.verbs.embed import embed
    from dsm.verbs.explore import explore
    from dsm.verbs.export import export
    from dsm.verbs.extract import encode, extract
    from dsm.verbs.look import look
    from dsm.verbs.probe import probe
    from dsm.verbs.report import report
    from dsm.verbs.retrieve import retrieve
    from dsm.verbs.run_recipe import run
    from dsm.verbs.search import search
    from dsm.verbs.train import finetune, pretrain
    from dsm.verbs.video_test import test
    from dsm.video.decode import read_clip

_HOMES = {
    "create_model": "dsm.models.zoo",
    "encode": "dsm.verbs.extract",
    "load_encoder": "dsm.models.weights",
    "load_features": "dsm.evaluate.feature_files",
    "read_clip": "dsm.video.decode",
    "show_progress": "dsm.terminal",
}
"""The module of each function that is not a verb; ``commands.py`` has those of the verbs."""

__all__ = [
    "__version__", "bias", "card", "create_model", "data", "disturb", "embed", "encode", "explore",
    "export", "extract", "finetune", "load_encoder", "load_features", "look", "pretrain", "probe",
    "read_clip", "report", "retrieve", "run", "search", "show_progress", "test",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in ("data", "disturb"):
        return importlib.import_module(f"dsm.{name}")
    if name in __all__:
        return VERBS[name].find_function()
    raise AttributeError(f"module 'dsm' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*__all__, *(name for name in globals() if name.startswith("__"))]
