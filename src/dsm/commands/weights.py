"""``dsm weights inspect``: what a checkpoint holds, and what would be loaded of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from dsm.errors import UserError, without_control
from dsm.models.checkpoint_file import Exported, chosen_in, read_file
from dsm.models.inert import Foreign
from dsm.models.load_report import CHOICE, LoadReport
from dsm.models.places import find_tensors
from dsm.models.weights import is_ours, load_weights, recognise_in
from dsm.notes import many


@dataclass(frozen=True)
class InspectConfig:
    """Settings of `dsm weights inspect`."""

    file: tyro.conf.Positional[Path]
    """A checkpoint, of this project or another's, or a run folder."""
    names: int = 8
    """Tensors named of each kind; 0 names all."""

    def __post_init__(self) -> None:
        if self.names < 0:
            raise UserError("names must be 0 or more.")


def inspect(config: InspectConfig) -> None:
    """Print what it is, what of it would be loaded, what would be left, and what is missing."""
    console = Console(highlight=False, soft_wrap=True, markup=False)

    def tell(text: str) -> None:
        console.print(without_control(text))  # names are a stranger's

    file, choice = chosen_in(config.file)
    state = read_file(file)
    if is_ours(state) or isinstance(state, Exported):
        loaded = load_weights(config.file)
        settings = loaded.config.get("model", {})
        backbone = loaded.config["backbone"]
        tell(f"{config.file}: of dsm itself; method {loaded.name}, {backbone} {settings}")
        return
    tensors = find_tensors(state.state if isinstance(state, Foreign) else state)
    if not tensors:
        raise UserError(f"{config.file}: holds no tensors by name.")
    match = recognise_in(state, choice)
    if match is None:
        tell(f"{config.file}: {many(len(tensors), 'tensor')} of no encoder that dsm knows")
        _list(tell, "tensors", [f"{n} {tuple(t.shape)}" for n, t in tensors.items()], config.names)
        return
    report = match.report
    tell(
        f"{config.file}: {report.backbone} {match.settings}, as {report.source} writes it"
        + (f", behind '{report.prefix}'" if report.prefix else "")
        + (f", under '{report.nest}'" if report.nest else "")
    )
    for other in report.others:
        tell(f"fits as well: {other}, which --weights {file}{CHOICE}{other} takes")
    if report.skipped:
        tell(f"not built, as they are no tensors: {', '.join(report.skipped)}")
    head = ", and a projection head" if match.head else ""
    tell(f"fills {report.share:.1%} of the encoder: {many(len(report.loaded), 'tensor')}{head}")
    tell(_pictures(report))
    _list(tell, "missing", report.missing, config.names)
    _list(tell, "of another shape", report.unfit, config.names)
    _list(tell, "left in the file", report.left, config.names)


def _pictures(report: LoadReport) -> str:
    if report.normalization is None:
        return "pictures: normalised as by dsm"
    mean, std = report.normalization.mean, report.normalization.std
    return f"pictures: mean {mean}, spread {std}; converted when loaded"


def _list(tell: Callable[[str], None], title: str, names: list[str], most: int) -> None:
    if names:
        tell(f"{title} ({len(names)}):")
        for name in names[: most or None]:
            tell(f"  {name}")
        if most and len(names) > most:
            tell(f"  and {len(names) - most} more (--names 0 names all)")
