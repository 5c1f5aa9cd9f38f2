"""Checkpoints that others wrote: find out what a file holds, and bring its tensors under our names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from dsm.errors import UserError
from dsm.models.heads import Embedder
from dsm.models.sources import SOURCES, Normalization, Source
from dsm.models.zoo import create_model
from dsm.normalization import MEAN, STD

ENOUGH = 0.9
"""Share of an encoder's tensors that a file must fill, unless part of it is asked for."""

# Under which key trainers keep the tensors, and what they put in front of an encoder's names.
_DEEPEST = 4
_NESTS = ("state_dict", "model_state_dict", "model_state", "model", "net", "encoder", "teacher", "student")
_WRAPPERS = (
    "module", "model", "encoder_q", "query", "backbone", "encoder", "net", "base_encoder", "0"
)  # fmt: skip
# A count of batches, which old versions of torch did not keep; no forward pass uses it.
_UNIMPORTANT = "num_batches_tracked"


@dataclass(frozen=True)
class LoadReport:
    """What became of a file's tensors."""

    source: str
    """Who writes so."""
    backbone: str
    prefix: str
    """What stood in front of the encoder's names."""
    loaded: list[str]
    """Our names."""
    missing: list[str] = field(default_factory=list)
    """Our names with their shapes, for which the file has nothing."""
    unfit: list[str] = field(default_factory=list)
    """Our names with both shapes, where these differ."""
    left: list[str] = field(default_factory=list)
    """The file's names with their shapes that are no part of the encoder."""
    normalization: Normalization | None = None

    def __str__(self) -> str:
        """One line for a person."""
        name = f"{self.backbone} as {self.source} writes it"
        gaps = len(self.missing) + len(self.unfit)
        lacking = f", {gaps} stay random ({(self.unfit + self.missing)[0]}, …)" if gaps else ""
        behind = f" behind '{self.prefix}'" if self.prefix else ""
        return (
            f"{name}{behind}: {len(self.loaded)} tensors loaded{lacking}, {len(self.left)} left in the file"
        )

    @property
    def share(self) -> float:
        """Of the encoder's tensors, those that were filled."""
        return len(self.loaded) / max(len(self.loaded) + len(self.missing) + len(self.unfit), 1)


class Renormalized(nn.Module):
    """An encoder that was trained on pictures of another normalisation; takes those of this project."""

    def __init__(self, encoder: nn.Module, normalization: Normalization) -> None:
        super().__init__()
        self.encoder, self.normalization = encoder, normalization
        self.feature_dim = encoder.feature_dim
        mean, std = (
            torch.tensor(values).view(1, -1, 1, 1, 1) for values in (normalization.mean, normalization.std)
        )
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", STD / std, persistent=False)
        self.register_buffer("shift", (MEAN - mean) / std, persistent=False)

    def feature_map(self, clip: Tensor) -> Tensor:
        """As the encoder's."""
        return cast("Tensor", cast("Any", self.encoder).feature_map(clip * self.scale + self.shift))

    def forward(self, clip: Tensor) -> Tensor:
        return cast("Tensor", self.encoder(clip * self.scale + self.shift))


@dataclass(frozen=True)
class _Match:
    source: Source
    settings: dict[str, Any]
    tensors: dict[str, Tensor]
    report: LoadReport
    head: tuple[Tensor, Tensor] | None
    likeness: float
    """Tensors that both have, as a share of those that either has."""


def find_tensors(state: Any, depth: int = 0) -> dict[str, Tensor]:
    """The tensors of a checkpoint, wherever its trainer keeps them; empty if there are none."""
    if not isinstance(state, Mapping) or depth > _DEEPEST:  # one may hold itself
        return {}
    for nest in _NESTS:
        if isinstance(state.get(nest), Mapping):
            found = find_tensors(state[nest], depth + 1)
            if found:
                return found
    return {str(name): value for name, value in state.items() if isinstance(value, Tensor)}


def recognise(tensors: Mapping[str, Tensor]) -> _Match | None:
    """Of all known sources and wrappers, that which fills most of its encoder; None if nothing fits."""
    best: _Match | None = None
    for prefix in _prefixes(tensors):
        inner = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
        for source in SOURCES:
            found = _match(source, prefix, inner, tensors)
            if found and (best is None or _rank(found) > _rank(best)):
                best = found
    return best if best and best.report.loaded else None


def build(match: _Match, *, partial: bool, head: bool, name: str) -> nn.Module:
    """The encoder, filled; what the file does not hold stays random.

    Raises:
        UserError: too little of the encoder is in the file, or it has no projection head and one is wanted.
    """
    report = match.report
    if report.share < ENOUGH and not partial:
        gaps = (report.unfit + report.missing)[:3]
        raise UserError(
            f"{name}: looks like {report.backbone} of {report.source}, but fills only {report.share:.0%} "
            f"of it (not {', '.join(gaps)}); --partial loads what there is."
        )
    encoder = create_model(match.source.backbone, **match.settings)
    encoder.load_state_dict(match.tensors, strict=False)
    if match.source.normalization and match.settings["in_channels"] == 3:
        encoder = Renormalized(encoder, match.source.normalization)
    if not head:
        return encoder
    if match.head is None:
        raise UserError(f"{name}: holds no projection head; leave head out.")
    weight, bias = match.head
    if weight.shape != (len(bias), encoder.feature_dim):
        raise UserError(
            f"{name}: its projection head of {_shape(weight)} does not fit features of {encoder.feature_dim} "
            "numbers; leave head out."
        )
    embedder = Embedder(encoder, len(weight), "linear")
    embedder.head.load_state_dict({"weight": weight, "bias": bias})
    return embedder


def _prefixes(tensors: Mapping[str, Tensor]) -> Iterator[str]:
    """Every chain of wrappers that names begin with, the empty one first."""
    seen = [""]
    for prefix in seen:
        yield prefix
        for wrapper in _WRAPPERS:
            longer = f"{prefix}{wrapper}."
            if len(seen) < 64 and any(name.startswith(longer) for name in tensors):
                seen.append(longer)


def _match(
    source: Source, prefix: str, inner: dict[str, Tensor], tensors: Mapping[str, Tensor]
) -> _Match | None:
    theirs = {_renamed(name, source): name for name in inner if not _is_head(name, source)}
    settings = dict(source.settings)
    stem = next((name for name in theirs if re.match(r"stages\.conv1\.(.*\.)?weight$", name)), None)
    if stem is None or inner[theirs[stem]].dim() != 5:
        return None
    settings["in_channels"] = inner[theirs[stem]].shape[1]
    ours = _blank_state(source.backbone, tuple(settings.items()))
    fits = {n: inner[theirs[n]] for n, t in ours.items() if n in theirs and inner[theirs[n]].shape == t.shape}
    unfit = [
        f"{n} {_shape(inner[theirs[n]])} for {_shape(t)}"
        for n, t in ours.items()
        if n in theirs and n not in fits
    ]
    missing = [
        f"{n} {_shape(t)}" for n, t in ours.items() if n not in theirs and not n.endswith(_UNIMPORTANT)
    ]
    used = {prefix + theirs[n] for n in fits}
    report = LoadReport(
        source.name,
        source.backbone,
        prefix,
        loaded=[n for n in fits if not n.endswith(_UNIMPORTANT)],
        missing=missing,
        unfit=unfit,
        left=[f"{n} {_shape(t)}" for n, t in tensors.items() if n not in used],
        normalization=source.normalization,
    )
    weight, bias = (inner.get(f"{source.head}.{part}") for part in ("weight", "bias"))
    head = (weight, bias) if weight is not None and bias is not None else None
    # Not the share alone: a network of 18 layers is wholly inside one of 34.
    either = len(report.loaded) + len(missing) + len(unfit)
    either += sum(not n.endswith(_UNIMPORTANT) and n not in ours for n in theirs)
    return _Match(source, settings, fits, report, head, likeness=len(report.loaded) / max(either, 1))


@lru_cache(maxsize=64)
def _blank_state(backbone: str, settings: tuple[tuple[str, Any], ...]) -> dict[str, Tensor]:
    """The names and shapes of an encoder's tensors, which take no memory."""
    with torch.device("meta"):
        return create_model(backbone, **dict(settings)).state_dict()


def _rank(match: _Match) -> tuple[float, bool, bool]:
    """Better matches are greater. Of two that fit alike: the one whose head is there, or that has none."""
    return match.likeness, match.head is not None, match.source.head is None


def _renamed(name: str, source: Source) -> str:
    for pattern, replacement in source.renames:
        name = re.sub(pattern, replacement, name)
    return name


def _is_head(name: str, source: Source) -> bool:
    return any(re.match(pattern, name) for pattern in source.left)


def _shape(tensor: Tensor) -> str:
    return "x".join(str(side) for side in tensor.shape) or "()"
