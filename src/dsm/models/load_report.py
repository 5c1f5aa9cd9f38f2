"""What became of the tensors of another's checkpoint, for people to read."""

from __future__ import annotations

from dataclasses import dataclass, field

from dsm.models.sources import Normalization
from dsm.notes import many

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
