"""What the recipes cost: python studies/cost.py --out runs/costs

Writes ``costs.md``, a table. Operations, and the memory that the backward pass needs, are counted: one step
of each method on two clips, forward and backward, on PyTorch's meta device, which knows shapes and computes
nothing. Hours are an estimate: they follow from the operations and the assumed speed of a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from begin import begin
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dsm.data.official import OFFICIAL
from dsm.data.settings import ClipConfig
from dsm.files import write_text
from dsm.methods.registry import create_method
from dsm.methods.settings import MethodSettings
from dsm.models.zoo import create_model
from dsm.recipes import OWN, RECIPES, Recipe
from dsm.terminal import console
from dsm.train.config import RunConfig
from dsm.train.resuming import steps_of

CLIPS = 2
WINDOWS = 10
BYTES = 4
"""Per number, in single precision."""
KEPT = 3
"""Numbers stored per trained weight: the weight, its gradient, its momentum."""


@dataclass(frozen=True)
class Options:
    out: Path = Path("runs/costs")
    peak: float = 156
    """Peak TFLOP/s of the GPU: an A100's tensor cores in TF32."""
    share: float = 0.2
    """Share of the peak that 3-D convolutions are assumed to reach."""
    kinetics: int = 240_000
    """Training videos of Kinetics-400 that are still available; their number shrinks."""


@dataclass(frozen=True)
class Cost:
    """Per clip, in training or testing."""

    operations: float
    """FLOP, two per multiply-add."""
    activations: float = 0
    """Bytes kept for the backward pass."""
    weights: float = 0
    """Bytes of weights, gradients and momentum, whatever the batch."""


@lru_cache
def pretraining(method_name: str, backbone: str, clip: ClipConfig, settings: MethodSettings) -> Cost:
    """The cost of one clip with all its views."""
    with torch.device("meta"):
        encoder = create_model(backbone)
    method: Any = create_method(method_name, encoder, settings)
    # The meta device cannot normalise embeddings, so that is left out. A queue stays on its own device,
    # because it reads how full it is.
    method.query = nn.Sequential(method.query.encoder, method.query.head).to("meta")
    if hasattr(method, "key"):
        method.key.network = nn.Sequential(method.key.network.encoder, method.key.network.head).to("meta")
    views = {view.name: blank(clip) for view in method.views}
    return _count(method, lambda: method(views).loss)


@lru_cache
def finetuning(backbone: str, clip: ClipConfig) -> Cost:
    """The cost of one clip, without the classifier, which adds next to nothing."""
    with torch.device("meta"):
        encoder = create_model(backbone)
    return _count(encoder, lambda: encoder(blank(clip)).sum())


@lru_cache
def testing(backbone: str, clip: ClipConfig) -> Cost:
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        create_model(backbone).eval()(blank(clip))
    return Cost(counter.get_total_flops() / CLIPS)


def blank(clip: ClipConfig) -> Tensor:
    return torch.empty(CLIPS, 3, clip.frames, clip.size, clip.size, device="meta")


def _count(method: nn.Module, loss: Any) -> Cost:
    method.train()
    weights = list(method.parameters())
    with FlopCounterMode(display=False) as counter, _saved(weights) as saved:
        loss().backward()
    trained = sum(p.numel() for p in weights if p.requires_grad)
    others = sum(p.numel() for p in weights if not p.requires_grad)
    return Cost(
        counter.get_total_flops() / CLIPS, sum(saved.values()) / CLIPS, BYTES * (KEPT * trained + others)
    )


@contextmanager
def _saved(weights: list[nn.Parameter]) -> Iterator[dict[int, int]]:
    """Bytes of each storage that is kept for the backward pass, except the weights'."""
    known = {weight.untyped_storage()._cdata for weight in weights}
    saved: dict[int, int] = {}
    alive = []  # keeps the storages, or an address would be reused

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        alive.append(storage)
        if storage._cdata not in known:
            saved[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield saved


def data_sets(recipe: Recipe) -> tuple[str, str]:
    """The data sets of pretraining, and of fine-tuning and testing, read from the recipe's name."""
    names = {"kinetics": "kinetics", "something": "something-something-v1"} | {
        name: name for name in OFFICIAL
    }
    sets = [names[word] for word in recipe.name.split("-") if word in names] or ["ucf101"]  # of dsm-plus
    if recipe.name.startswith("table-") and recipe.pretrain:
        sets.insert(0, "ucf101")  # the paper's table pretrains on it
    return sets[0], sets[-1]


def videos(name: str, part: str, options: Options) -> int:
    """Number of videos, in split 1 if there are several."""
    if name == "kinetics":
        return options.kinetics if part == "train" else 0
    counts = OFFICIAL[name].published
    tested = "test1" if "test1" in counts else "val" if "val" in counts else "test"
    return counts["train1" if "train1" in counts else "train"] if part == "train" else counts[tested]


def samples(config: RunConfig, count: int) -> int:
    """Number of clips seen in training."""
    batch = config.data.batch_size
    return steps_of(config.steps, config.epochs, count, batch) * batch


def memory(cost: Cost, config: RunConfig, devices: int) -> float:
    """GB per GPU, not counting what libraries need."""
    return (cost.weights + cost.activations * config.data.batch_size / devices) / 1e9


def row(recipe: Recipe, options: Options) -> str:
    first, last = data_sets(recipe)
    pt, ft = recipe.pretrain, recipe.finetune
    spent = {"pretrain": 0.0, "finetune": 0.0, "test": 0.0}
    need = 0.0
    if pt and "pretrain" in recipe.stages:
        cost = pretraining(pt.method, pt.backbone, pt.clip, pt.settings)
        spent["pretrain"] = cost.operations * samples(pt, videos(first, "train", options))
        need = memory(cost, pt, recipe.devices)
    if ft and "finetune" in recipe.stages:
        cost = finetuning(ft.backbone, ft.clip)
        spent["finetune"] = cost.operations * samples(ft, videos(last, "train", options))
        need = max(need, memory(cost, ft, recipe.devices))
    if ft and {"test", "retrieve"} & set(recipe.stages):
        count = videos(last, "test", options)
        count += videos(last, "train", options) if "retrieve" in recipe.stages else 0
        spent["test"] = testing(ft.backbone, ft.clip).operations * count * WINDOWS
    hours = sum(spent.values()) / (options.peak * 1e12 * options.share) / 3600
    cells = [f"`{recipe.name}`", first if first == last else f"{first}, {last}"]
    cells += [f"{value / 1e15:,.0f}" if value else "" for value in spent.values()]
    cells += [f"{hours:,.1f}", str(recipe.devices), f"{need:.0f}" if need else ""]
    cells.append(f"{recipe.reported:.1%}" if recipe.reported is not None else "")
    return f"| {' | '.join(cells)} |"


COLUMNS = ("recipe", "data", "pretraining, PFLOP", "fine-tuning, PFLOP", "test, PFLOP", "GPU hours", "GPUs",
           "GB each", "paper")  # fmt: skip


def table(options: Options) -> str:
    """The Markdown table: one row per recipe, except those for the user's own data."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---|---" + "|---:" * (len(COLUMNS) - 2) + "|"]
    lines += [row(recipe, options) for recipe in RECIPES.values() if recipe.name not in OWN]
    return "\n".join(lines) + "\n"


def main(options: Options) -> None:
    write_text(options.out / "costs.md", table(options))
    console.print(
        f"{options.out / 'costs.md'}: written; studies/fill_docs.py {options.out} inserts it into the docs"
    )


if __name__ == "__main__":
    begin(main, Options, __doc__)
