"""``dsm weights inspect``: what a checkpoint holds, and which part of it would be loaded."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from dsm.errors import UserError, without_control
from dsm.models.checkpoint_file import Exported, chosen_in, read_file
from dsm.models.foreign import CHOICE, LoadReport
from dsm.models.inert import Foreign, find_tensors
from dsm.models.weights import is_ours, load_weights, recognise_in
from dsm.settings import takes_settings
from dsm.terminal import many
from dsm.verbs.result import Result
from dsm.verbs.settings.weights import InspectConfig


@takes_settings(InspectConfig)
def inspect(config: InspectConfig) -> Result:
    """Show what a checkpoint is, and which tensors would be loaded, left in the file, or missing."""
    # Names come from other people's files: control characters are escaped, and markup is not interpreted.
    return Result(tables=[Text("\n".join(without_control(line) for line in _described(config)))])


def _described(config: InspectConfig) -> Iterator[str]:
    file, choice = chosen_in(config.file)
    state = read_file(file)
    if is_ours(state) or isinstance(state, Exported):
        loaded = load_weights(config.file)
        settings = loaded.config.get("model", {})
        yield f"{config.file}: written by dsm; method {loaded.name}, {loaded.config['backbone']} {settings}"
        return
    tensors = find_tensors(state.state if isinstance(state, Foreign) else state)
    if not tensors:
        raise UserError(f"{config.file}: holds no named tensors.")
    match = recognise_in(state, choice)
    if match is None:
        yield f"{config.file}: {many(len(tensors), 'tensor')} of no encoder that dsm knows"
        yield from _listed("tensors", [f"{n} {tuple(t.shape)}" for n, t in tensors.items()], config.names)
        return
    report = match.report
    yield (
        f"{config.file}: {report.backbone} {match.settings}, as {report.source} writes it"
        + (f", behind '{report.prefix}'" if report.prefix else "")
        + (f", under '{report.nest}'" if report.nest else "")
    )
    for other in report.others:
        yield f"fits as well: {other}; load it with --weights {file}{CHOICE}{other}"
    if report.skipped:
        yield f"skipped, because they are not tensors: {', '.join(report.skipped)}"
    head = ", and a projection head" if match.head else ""
    yield f"fills {report.share:.1%} of the encoder: {many(len(report.loaded), 'tensor')}{head}"
    yield _normalization(report)
    yield from _listed("missing", report.missing, config.names)
    yield from _listed("of another shape", report.unfit, config.names)
    yield from _listed("left in the file", report.left, config.names)


def _normalization(report: LoadReport) -> str:
    if report.normalization is None:
        return "input: normalised as by dsm"
    mean, std = report.normalization.mean, report.normalization.std
    return f"input: mean {mean}, std {std}; converted when loaded"


def _listed(title: str, names: list[str], most: int) -> Iterator[str]:
    if names:
        yield f"{title} ({len(names)}):"
        for name in names[: most or None]:
            yield f"  {name}"
        if most and len(names) > most:
            yield f"  and {len(names) - most} more (--names 0 lists all)"
