"""Checkpoints of other projects: recognise the encoder, rename its tensors, report what was loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from dsm.errors import UserError
from dsm.models.heads import Embedder
from dsm.models.sources import SOURCES, Normalization, Source, renamed
from dsm.models.zoo import create_model
from dsm.render import MEAN, STD
from dsm.terminal import many

CHOICE = "::"
"""Separates a file's name from the part of it to load: ``byol.ckpt::target_network``."""


@dataclass(frozen=True)
class LoadReport:
    """Which of a file's tensors were loaded."""

    source: str
    """The project whose naming the file follows."""
    backbone: str
    prefix: str
    """The prefix of the encoder's tensor names in the file."""
    loaded: list[str]
    """Our names of the loaded tensors."""
    missing: list[str] = field(default_factory=list)
    """Our names and shapes of tensors that the file lacks."""
    unfit: list[str] = field(default_factory=list)
    """Our names of tensors with another shape in the file, with both shapes."""
    left: list[str] = field(default_factory=list)
    """The file's names and shapes of tensors that are not part of the encoder."""
    normalization: Normalization | None = None
    filled: int = 0
    """How many of the encoder's numbers the file has."""
    wanted: int = 0
    """How many numbers the encoder has."""
    nest: str = ""
    """Keys of the file that lead to the tensors, such as ``state_dict``."""
    others: list[str] = field(default_factory=list)
    """Other places in the file that fit equally well, such as moving averages of the trained encoder."""
    skipped: list[str] = field(default_factory=list)
    """Types of other objects in the file, which were not built: ``argparse.Namespace``."""

    def __str__(self) -> str:
        """A readable one-line summary."""
        name = f"{self.backbone} in the format of {self.source}"
        gaps = len(self.missing) + len(self.unfit)
        lacking = f", {gaps} stay random ({(self.unfit + self.missing)[0]}, …)" if gaps else ""
        behind = f" with the prefix '{self.prefix}'" if self.prefix else ""
        loaded = f"{many(len(self.loaded), 'tensor')} loaded"
        summary = f"{name}{behind}: {loaded}{lacking}, {len(self.left)} left in the file"
        if self.others:
            summary += (
                f"; {' and '.join(self.others[:3])} fit{'s' if len(self.others) == 1 else ''} as well as "
                f"{self.place}, which was loaded: --weights FILE{CHOICE}{self.others[0]} loads the other"
            )
        if self.skipped:
            summary += f"; skipped, because they are not tensors: {', '.join(self.skipped[:5])}"
        return summary

    def too_little(self, name: str, gaps: list[str]) -> UserError:
        """The error for a file that leaves part of the encoder random; it names the first gaps."""
        return UserError(
            f"{name}: its weights fill only {self.share:.1%} of {self.backbone} ({self.source}; "
            f"missing: {', '.join(gaps[:3])}); the rest would stay random. --partial loads it anyway."
        )

    @property
    def place(self) -> str:
        """Where in the file the encoder was found: keys and prefix."""
        return label_of(self.nest, self.prefix)

    @property
    def share(self) -> float:
        """Share of the encoder's numbers that the file has."""
        return self.filled / max(self.wanted, 1)

    @property
    def random_layers(self) -> list[str]:
        """Entries of :attr:`missing` and :attr:`unfit` whose layers would stay random: convolutions, and
        norms without any tensor in the file."""
        filled = {name.rpartition(".")[0] for name in self.loaded}
        random = []
        for gap in self.unfit + self.missing:
            name, _, shape = gap.partition(" ")
            layer, _, kind = name.rpartition(".")
            if (kind == "weight" and "x" in shape) or layer not in filled:
                random.append(gap)
        return random


def label_of(nest: str, prefix: str) -> str:
    """Keys and a prefix as one name, joined by dots."""
    return ".".join(part for part in (nest, prefix.strip(".")) if part)


ENOUGH = 0.9
"""Share of an encoder's numbers that a file must fill, unless partial loading is requested."""

_MOST_PREFIXES = 64
_MOST_CHANNELS = 16  # input channels of a first layer; inner layers have more
# Among wrappers that fit equally well, moving averages of the trained encoder come last.
_FOLLOWERS = re.compile(r"(^|[._])(ema|swa|momentum|target|student|key|k|teacher_ema)([._]|$)|averaged")
# A count of batches, which old versions of torch did not save and no forward pass uses.
_UNIMPORTANT = "num_batches_tracked"
_STEM = re.compile(r"stages\.conv1\.(.*\.)?weight$")


class Renormalized(nn.Module):
    """An encoder trained with another image normalisation; takes clips normalised as in this project."""

    def __init__(self, encoder: nn.Module, normalization: Normalization) -> None:
        super().__init__()
        self.encoder, self.normalization = encoder, normalization
        self.feature_dim = encoder.feature_dim
        self.not_in_tensors = asdict(normalization)
        mean, std = (
            torch.tensor(values).view(1, -1, 1, 1, 1) for values in (normalization.mean, normalization.std)
        )
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", STD / std, persistent=False)
        self.register_buffer("shift", (MEAN - mean) / std, persistent=False)

    @property
    def stages(self) -> nn.Module:
        """The encoder's stages."""
        return cast("nn.Module", self.encoder.stages)

    @property
    def blocks(self) -> Any:
        """The encoder's blocks, if it is a transformer."""
        return self.encoder.blocks

    def feature_map(self, clip: Tensor) -> Tensor:
        """The encoder's feature map."""
        return cast("Tensor", cast("Any", self.encoder).feature_map(self.converted(clip)))

    def tokens(self, clip: Tensor) -> Tensor:
        """The encoder's tokens, (B, N, D)."""
        return cast("Tensor", cast("Any", self.encoder).tokens(self.converted(clip)))

    def forward(self, clip: Tensor) -> Tensor:
        return cast("Tensor", self.encoder(self.converted(clip)))

    def converted(self, clip: Tensor) -> Tensor:
        """Convert a clip from this project's normalisation to the encoder's."""
        return torch.addcmul(self.shift, clip, self.scale)


@dataclass(frozen=True)
class Match:
    """An encoder that a file can fill."""

    source: Source
    settings: dict[str, Any]
    tensors: dict[str, Tensor]
    report: LoadReport
    head: tuple[Tensor, Tensor] | None
    likeness: float
    """Tensors in both file and encoder, as a share of those in either."""


def find_encoder(places: Mapping[str, dict[str, Tensor]], choice: str = "") -> Match | None:
    """The best match over all places, wrappers and known sources; None if nothing fits.

    A wrapper is any prefix of names that fit an encoder's.

    Args:
        places: see :func:`dsm.models.inert.find_places`.
        choice: name of a place or wrapper to restrict the search to: ``target_network``.
    """
    matches: list[Match] = []
    for nest, tensors in places.items():
        for source in SOURCES:
            for prefix in _prefixes(tensors, source):
                if choice and f".{choice.strip('.')}." not in f".{label_of(nest, prefix)}.":
                    continue
                inner = _without_wrappers(
                    {name.removeprefix(prefix): name for name in tensors if name.startswith(prefix)}
                )
                match = _match(source, nest, prefix, inner, tensors)
                if match and match.report.loaded:
                    matches.append(match)
    if not matches:
        return None
    # The first of the best matches in the file, but a trained encoder before its moving averages.
    best = max(matches, key=_rank)
    equal = [one for one in matches if _rank(one) == _rank(best)]
    equal.sort(key=lambda one: bool(_FOLLOWERS.search(one.report.place)))
    others = [one.report.place for one in equal[1:] if one.report.place != equal[0].report.place]
    return replace(equal[0], report=replace(equal[0].report, others=list(dict.fromkeys(others))))


def build(match: Match, *, partial: bool, head: bool, name: str) -> nn.Module:
    """Build the encoder and fill it from the file; tensors that the file lacks stay random.

    Raises:
        UserError: the file has too little of the encoder, or lacks the requested projection head.
    """
    report = match.report
    random = report.random_layers
    if (random or report.share < ENOUGH) and not partial:
        raise report.too_little(name, random or report.unfit + report.missing)
    encoder = create_model(match.source.backbone, **match.settings)
    encoder.load_state_dict(match.tensors, strict=False)
    if match.source.normalization and match.settings["in_channels"] == 3:
        encoder = Renormalized(encoder, match.source.normalization)
    if not head:
        return encoder
    if match.head is None:
        raise UserError(f"{name}: has no projection head; remove --head projection.")
    weight, bias = match.head
    if weight.shape != (len(bias), encoder.feature_dim):
        raise UserError(
            f"{name}: its projection head of {_shape(weight)} does not fit features of {encoder.feature_dim} "
            "numbers; remove --head projection."
        )
    embedder = Embedder(encoder, len(weight), "linear")
    embedder.head.load_state_dict({"weight": weight, "bias": bias})
    return embedder


def _prefixes(tensors: Mapping[str, Tensor], source: Source) -> list[str]:
    """Possible prefixes of a source's names: those after which the name of its first layer remains."""
    prefixes: dict[str, None] = {}
    for name, tensor in tensors.items():
        if tensor.dim() != 5 or tensor.shape[1] > _MOST_CHANNELS:
            continue
        parts = name.split(".")
        for start in range(min(len(parts) - 1, 12)):
            rest = ".".join(part for part in parts[start:] if not part.startswith("_"))
            if not parts[start].startswith("_") and _STEM.match(renamed(rest, source.renames)):
                prefixes[".".join(parts[:start]) + "." if start else ""] = None
        if len(prefixes) >= _MOST_PREFIXES:
            break
    return list(prefixes)


def _without_wrappers(names: dict[str, str]) -> dict[str, str]:
    """Names without wrappers of single layers, such as ``_orig_mod`` and ``_fsdp_wrapped_module``."""
    short = {
        ".".join(part for part in name.split(".") if not part.startswith("_")): whole
        for name, whole in names.items()
    }
    return short if len(short) == len(names) else names


def _match(
    source: Source, nest: str, prefix: str, names: dict[str, str], tensors: Mapping[str, Tensor]
) -> Match | None:
    """Match tensors of a file to the encoder of a source; None if the first layer is missing.

    Args:
        names: names without the prefix -> full names in ``tensors``.
    """
    inner = {name: tensors[whole] for name, whole in names.items()}
    theirs = {
        renamed(name, source.renames): name
        for name in inner
        if not any(re.match(pattern, name) for pattern in source.left)
    }
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
    # The filled share alone is not enough: a network of 34 layers contains all tensors of one of 18.
    either = len(report.loaded) + len(missing) + len(unfit)
    either += sum(not n.endswith(_UNIMPORTANT) and n not in ours for n in theirs)
    return Match(source, settings, fits, report, head, likeness=len(report.loaded) / max(either, 1))


@lru_cache(maxsize=64)
def _blank_state(backbone: str, settings: tuple[tuple[str, Any], ...]) -> dict[str, Tensor]:
    """The names and shapes of an encoder's tensors, which take no memory."""
    with torch.device("meta"):
        return create_model(backbone, **dict(settings)).state_dict()


def _rank(match: Match) -> tuple[float, bool, bool]:
    """Sort key: better matches are greater; ties go to sources whose head is found or which have none."""
    return match.likeness, match.head is not None, match.source.head is None


def _shape(tensor: Tensor) -> str:
    return "x".join(str(side) for side in tensor.shape) or "()"
