"""``dsm weights inspect``: what a checkpoint holds, and which part of it would be loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from rich.text import Text

from dsm.data.settings import ClipConfig
from dsm.errors import UserError, without_control
from dsm.models.bare import build_found
from dsm.models.checkpoint_file import Exported, chosen_in, read_file
from dsm.models.fetch import fetch_torchvision
from dsm.models.foreign import CHOICE, LoadReport
from dsm.models.inert import Foreign, find_tensors
from dsm.models.sources import Normalization
from dsm.models.weights import LoadedEncoder, is_ours, load_weights, recognise_in, transformer_in
from dsm.settings import takes_settings
from dsm.terminal import many
from dsm.verbs.result import Result
from dsm.verbs.settings.weights import InspectConfig
from dsm.weights_names import path_of, published


@takes_settings(InspectConfig)
def inspect(config: InspectConfig) -> Result:
    """Show what a checkpoint is, and which tensors would be loaded, left in the file, or missing."""
    # Names come from untrusted files: control characters are escaped, and markup is not interpreted.
    return Result(tables=[Text("\n".join(without_control(line) for line in _described(config)))])


def _described(config: InspectConfig) -> Iterator[str]:
    if found := published(config.file):
        if found[0] == "tv":
            yield from _described(replace(config, file=str(fetch_torchvision(found[1]))))
            return
        loaded = load_weights(config.file, partial=True)
        if loaded.report is None:  # of dsm export --to hub
            yield from _ours(config.file, loaded)
        else:
            yield from _read(config.file, loaded.report, loaded.config, config.names)
        return
    file, choice = chosen_in(path_of(config.file))
    state = read_file(file)
    if is_ours(state) or isinstance(state, Exported):
        yield from _ours(config.file, load_weights(file))
        return
    tensors = find_tensors(state.state if isinstance(state, Foreign) else state)
    if not tensors:
        raise UserError(f"{config.file}: contains no named tensors; give a checkpoint.")
    match = recognise_in(state, choice)
    if match is None and (bare := transformer_in(state, choice)):
        read = build_found(bare, name=str(file), partial=True)
        yield from _read(config.file, read.report, read.about, config.names)
        return
    if match is None:
        yield f"{config.file}: {many(len(tensors), 'tensor')} of no encoder known to dsm"
        yield from _listed("tensors", [f"{n} {tuple(t.shape)}" for n, t in tensors.items()], config.names)
        return
    report = match.report
    yield (
        f"{config.file}: {report.backbone} {match.settings}, in the format of {report.source}"
        + (f", with the prefix '{report.prefix}'" if report.prefix else "")
        + (f", under '{report.nest}'" if report.nest else "")
    )
    for other in report.others:
        yield f"also fits: {other}; load it with --weights {file}{CHOICE}{other}"
    if report.skipped:
        yield f"skipped, because they are not tensors: {', '.join(report.skipped)}"
    head = ", and a projection head" if match.head else ""
    yield f"fills {report.share:.1%} of the encoder: {many(len(report.loaded), 'tensor')}{head}"
    yield _clip(match.source.clip)
    yield _normalization(report.normalization)
    yield from _listed("missing", report.missing, config.names)
    yield from _listed("of another shape", report.unfit, config.names)
    yield from _listed("left in the file", report.left, config.names)


def _ours(file: str, loaded: LoadedEncoder) -> Iterator[str]:
    """Describe weights of dsm, and how their clips are made."""
    about = loaded.config
    settings = {one: value for one, value in about.get("model", {}).items() if one != "readout"}
    yield f"{file}: written by dsm; method {loaded.name}, {about['backbone']} {settings}"
    if about.get("clip"):
        yield _clip({one: value for one, value in about["clip"].items() if one in CLIP})
    if pictures := about.get("pictures"):
        yield _normalization(Normalization(tuple(pictures["mean"]), tuple(pictures["std"])))
    if pooling := _pooling(about):
        yield f"features: {pooling}"


CLIP = ("frames", "stride", "fps", "resize", "size")


def _read(name: str, report: LoadReport, about: Mapping[str, Any], names: int) -> Iterator[str]:
    """Describe a published model, and how its clips are made."""
    settings = {one: value for one, value in about["model"].items() if one != "readout"}
    yield f"{name}: {report.backbone} of {report.source}, {settings}"
    yield f"fills {report.share:.1%} of the encoder: {many(len(report.loaded), 'tensor')}"
    yield _clip(about["clip"])
    yield _normalization(report.normalization)
    yield f"features: {_pooling(about)}"
    yield from _listed("missing", report.missing, names)
    yield from _listed("of another shape", report.unfit, names)
    yield from _listed("left in the file", report.left, names)


POOLINGS = {
    "mean": "the mean of the tokens",
    "mean-norm": "the mean of the tokens, normalised by the weights of its classifier",
    "class": "the first token (the class token, where the model has one)",
    "pooled": "the model's own pooling",
}
"""Descriptions of how tokens become a feature, for ``dsm weights inspect``."""


def _pooling(about: Mapping[str, Any]) -> str | None:
    """How an encoder of another project makes a feature of its tokens; None for networks of dsm."""
    library, mark, _ = str(about["backbone"]).partition(":")
    if library == "hf":
        readout = about["model"].get("readout", "mean")
        return POOLINGS.get(readout, str(readout))
    if library == "vjepa2":
        return POOLINGS["mean"]
    return POOLINGS["pooled"] if mark else None


def _clip(clip: Mapping[str, int]) -> str:
    made = ClipConfig(**clip)  # type: ignore[arg-type]
    rate = f" at {made.fps:g} frames per second" if made.fps else ""
    return (
        f"clips: {many(made.frames, 'frame')}, every {made.stride}{rate}, {made.size} x {made.size} "
        f"pixels of a picture whose shorter side is {made.resize}"
    )


def _normalization(given: Normalization | None) -> str:
    if given is None:
        return "input: normalised as by dsm"
    mean, std = (", ".join(f"{one:.4g}" for one in values) for values in (given.mean, given.std))
    return f"input: mean ({mean}), std ({std}); converted when loaded"


def _listed(title: str, names: list[str], most: int) -> Iterator[str]:
    if names:
        yield f"{title} ({len(names)}):"
        for name in names[: most or None]:
            yield f"  {name}"
        if most and len(names) > most:
            yield f"  and {len(names) - most} more (--names 0 lists all)"
