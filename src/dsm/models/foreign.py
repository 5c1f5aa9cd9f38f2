"""Checkpoints that others wrote: recognise what a file holds, rename its tensors, report what was loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from dsm.errors import UserError
from dsm.models.heads import Embedder
from dsm.models.sources import SOURCES, Normalization, Source
from dsm.models.zoo import create_model
from dsm.terminal import many
from dsm.views import MEAN, STD

CHOICE = "::"
"""Between a file's name and what in it is to be taken: ``byol.ckpt::target_network``."""


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
    filled: int = 0
    """Numbers of the encoder that the file holds."""
    wanted: int = 0
    """Numbers that the encoder has."""
    nest: str = ""
    """Under which keys of the file the tensors lie, such as ``state_dict``."""
    others: list[str] = field(default_factory=list)
    """What else in the file fits as well: copies that follow the trained encoder, and the like."""
    skipped: list[str] = field(default_factory=list)
    """What lies in the file beside tensors and was not built: ``argparse.Namespace``."""

    def __str__(self) -> str:
        """One line for a person."""
        name = f"{self.backbone} as {self.source} writes it"
        gaps = len(self.missing) + len(self.unfit)
        lacking = f", {gaps} stay random ({(self.unfit + self.missing)[0]}, …)" if gaps else ""
        behind = f" behind '{self.prefix}'" if self.prefix else ""
        loaded = f"{many(len(self.loaded), 'tensor')} loaded"
        told = f"{name}{behind}: {loaded}{lacking}, {len(self.left)} left in the file"
        if self.others:
            told += (
                f"; {' and '.join(self.others[:3])} fit{'s' if len(self.others) == 1 else ''} as well as "
                f"{self.place}, which was taken: --weights FILE{CHOICE}{self.others[0]} takes the other"
            )
        if self.skipped:
            told += f"; not built, as they are no tensors: {', '.join(self.skipped[:5])}"
        return told

    @property
    def place(self) -> str:
        """Where in the file the encoder was found: keys and prefix."""
        return label_of(self.nest, self.prefix)

    @property
    def share(self) -> float:
        """Of the encoder's numbers, those that were filled."""
        return self.filled / max(self.wanted, 1)

    @property
    def random_layers(self) -> list[str]:
        """Layers with weights that would stay random, by :attr:`missing` and :attr:`unfit`: convolutions,
        and norms of which nothing was found."""
        filled = {name.rpartition(".")[0] for name in self.loaded}
        found = []
        for gap in self.unfit + self.missing:
            name, _, shape = gap.partition(" ")
            layer, _, kind = name.rpartition(".")
            if (kind == "weight" and "x" in shape) or layer not in filled:
                found.append(gap)
        return found


def label_of(nest: str, prefix: str) -> str:
    """Keys and a prefix as one name, joined by dots."""
    return ".".join(part for part in (nest, prefix.strip(".")) if part)


ENOUGH = 0.9
"""Share of an encoder's numbers that a file must fill, unless part of it is asked for."""

_MOST_PREFIXES = 64
_MOST_CHANNELS = 16  # of what a first layer takes; others are of blocks inside
# Of two wrappers that fit alike, copies that follow the trained one come last.
_FOLLOWERS = re.compile(r"(^|[._])(ema|swa|momentum|target|student|key|k|teacher_ema)([._]|$)|averaged")
# A count of batches, which old versions of torch did not keep; no forward pass uses it.
_UNIMPORTANT = "num_batches_tracked"
_STEM = re.compile(r"stages\.conv1\.(.*\.)?weight$")


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
class Match:
    """An encoder that a file fills."""

    source: Source
    settings: dict[str, Any]
    tensors: dict[str, Tensor]
    report: LoadReport
    head: tuple[Tensor, Tensor] | None
    likeness: float
    """Tensors that both have, as a share of those that either has."""


def recognise(tensors: Mapping[str, Tensor]) -> Match | None:
    """As :func:`find_encoder`, of tensors that lie in one place."""
    return find_encoder({"": dict(tensors)})


def find_encoder(places: Mapping[str, dict[str, Tensor]], choice: str = "") -> Match | None:
    """Of all places, wrappers and known sources, that which fills most of its encoder; None if nothing fits.

    A wrapper is whatever stands in front of names that fit an encoder's, called as it may be.

    Args:
        places: see :func:`dsm.models.inert.find_places`.
        choice: what the place or the wrapper is called, where only some are meant: ``target_network``.
    """
    best: list[Match] = []
    for nest, tensors in places.items():
        for source in SOURCES:
            for prefix in _prefixes(tensors, source):
                if choice and f".{choice.strip('.')}." not in f".{label_of(nest, prefix)}.":
                    continue
                inner = _without_wrappers(
                    {name.removeprefix(prefix): name for name in tensors if name.startswith(prefix)}
                )
                found = _match(source, nest, prefix, inner, tensors)
                if found and found.report.loaded:
                    best.append(found)
    if not best:
        return None
    # The first of those that fit best, as they stand in the file; of followers the one they follow.
    taken = max(best, key=_rank)
    alike = [one for one in best if _rank(one) == _rank(taken)]
    alike.sort(key=lambda one: bool(_FOLLOWERS.search(one.report.place)))
    others = [one.report.place for one in alike[1:] if one.report.place != alike[0].report.place]
    return replace(alike[0], report=replace(alike[0].report, others=list(dict.fromkeys(others))))


def build(match: Match, *, partial: bool, head: bool, name: str) -> nn.Module:
    """The encoder, filled; what the file does not hold stays random.

    Raises:
        UserError: too little of the encoder is in the file, or it has no projection head and one is wanted.
    """
    report = match.report
    random = report.random_layers
    if (random or report.share < ENOUGH) and not partial:
        gaps = (random or report.unfit + report.missing)[:3]
        raise UserError(
            f"{name}: looks like {report.backbone} of {report.source}, but fills only {report.share:.1%} of "
            f"it (not {', '.join(gaps)}), and the rest would be random; --partial loads what there is."
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


def _prefixes(tensors: Mapping[str, Tensor], source: Source) -> list[str]:
    """What may stand in front of a source's names: whatever leaves the name of its first layer behind it."""
    found: dict[str, None] = {}
    for name, tensor in tensors.items():
        if tensor.dim() != 5 or tensor.shape[1] > _MOST_CHANNELS:
            continue
        parts = name.split(".")
        for start in range(min(len(parts) - 1, 12)):
            rest = ".".join(part for part in parts[start:] if not part.startswith("_"))
            if not parts[start].startswith("_") and _STEM.match(_renamed(rest, source)):
                found[".".join(parts[:start]) + "." if start else ""] = None
        if len(found) >= _MOST_PREFIXES:
            break
    return list(found)


def _without_wrappers(names: dict[str, str]) -> dict[str, str]:
    """Names without what wraps single layers, as ``_orig_mod`` and ``_fsdp_wrapped_module`` do."""
    short = {
        ".".join(part for part in name.split(".") if not part.startswith("_")): whole
        for name, whole in names.items()
    }
    return short if len(short) == len(names) else names


def _match(
    source: Source, nest: str, prefix: str, names: dict[str, str], tensors: Mapping[str, Tensor]
) -> Match | None:
    """How an encoder of a source is filled.

    Args:
        names: those behind the prefix, and what the file calls them, of ``tensors``.
    """
    inner = {name: tensors[whole] for name, whole in names.items()}
    theirs = {_renamed(name, source): name for name in inner if not _is_head(name, source)}
    settings = dict(source.settings)
    stem = next((name for name in theirs if _STEM.match(name)), None)
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
    used = {names[theirs[n]] for n in fits}
    report = LoadReport(
        source.name,
        source.backbone,
        prefix,
        loaded=[n for n in fits if not n.endswith(_UNIMPORTANT)],
        missing=missing,
        unfit=unfit,
        left=[f"{n} {_shape(t)}" for n, t in tensors.items() if n not in used],
        normalization=source.normalization,
        filled=sum(t.numel() for n, t in fits.items() if not n.endswith(_UNIMPORTANT)),
        wanted=sum(t.numel() for n, t in ours.items() if not n.endswith(_UNIMPORTANT)),
        nest=nest,
    )
    weight, bias = (inner.get(f"{source.head}.{part}") for part in ("weight", "bias"))
    head = (weight, bias) if weight is not None and bias is not None else None
    # Not the share alone: a network of 18 layers is wholly inside one of 34.
    either = len(report.loaded) + len(missing) + len(unfit)
    either += sum(not n.endswith(_UNIMPORTANT) and n not in ours for n in theirs)
    return Match(source, settings, fits, report, head, likeness=len(report.loaded) / max(either, 1))


@lru_cache(maxsize=64)
def _blank_state(backbone: str, settings: tuple[tuple[str, Any], ...]) -> dict[str, Tensor]:
    """The names and shapes of an encoder's tensors, which take no memory."""
    with torch.device("meta"):
        return create_model(backbone, **dict(settings)).state_dict()


def _rank(match: Match) -> tuple[float, bool, bool]:
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
