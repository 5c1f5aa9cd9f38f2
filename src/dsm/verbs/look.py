"""``dsm look``: where a network looks, drawn over one video or scored over a list."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from dsm.data.lists import list_name, needed, read_list
from dsm.devices import best_device, reading_workers
from dsm.errors import UserError
from dsm.evaluate.altered_clips import alter
from dsm.evaluate.extract_to_file import digest
from dsm.evaluate.look import Looker, cosine, mass_csv, mass_of_list, mass_rows, read_frames_of
from dsm.files import write_text
from dsm.models.heads import Embedder
from dsm.models.weights import load_weights
from dsm.pages.film import Looked, write_look
from dsm.runs.claims import claim_by_settings, claim_files
from dsm.runs.folder import lasting
from dsm.runs.results import RESULTS, rows_table, seed_of, write_results
from dsm.settings import takes_settings
from dsm.terminal import console, many
from dsm.verbs.result import Result
from dsm.verbs.settings.evaluation import LookConfig
from dsm.weights_names import path_of


@takes_settings(LookConfig)
def look(config: LookConfig) -> Result:
    """Draw where a network looks in one video, or score over a list how much of that moves."""
    if not config.score:
        claim_files(config.out, overwrite=config.overwrite)
    looker, name, seed = build_looker(config)
    aim = take_aim(config, looker)
    console.print(f"{name}: {config.map} at {looker.layer}")
    if config.score:
        return _score(config, looker, run=name, seed=seed)
    return _draw(config, looker, name=name, aim=aim)


def _score(config: LookConfig, looker: Looker, *, run: str, seed: int) -> Result:
    """Measure every video of the list; write results.json and look.csv."""
    videos = read_list(config.video, config.root)
    groups = config.grouping.of(videos.paths)
    made_by = {"list_digest": videos.digest(rooted=False), "weights_digest": digest(looker.module)}
    settings = lasting(config) | made_by
    claim_by_settings(
        config.out, "look.json", settings, what="the output of dsm look",
        overwrite=config.overwrite, needed=needed(videos, path_of(config.weights), config.grouping.groups),
    )  # fmt: skip
    measured = mass_of_list(
        looker, videos, title=f"maps of {run}", alteration=config.alterations[0], share=config.mix,
        at=config.paste_at, windows=config.windows, motion=config.motion,
        workers=reading_workers(config.workers),
    )  # fmt: skip
    rows = mass_rows(measured, groups, run=run, seed=seed, test=list_name(config.video))
    files = [config.out / RESULTS, config.out / "look.csv"]
    write_results(files[0], rows)
    write_text(files[1], mass_csv(measured))
    left_out = sum(1 for one in measured if one.reason)
    counts = f"{many(len(measured) - left_out, 'video')}, {left_out} left out"
    return Result(rows, files, [rows_table(rows)], [f"{config.out}: results.json and look.csv; {counts}"])


def build_looker(config: LookConfig) -> tuple[Looker, str, int]:
    """The network, its name in tables, and the seed of its weights."""
    loaded = config.loading.load(config.weights, "classifier")
    module = loaded.module
    if loaded.classes is None and config.head == "projection":
        embedder = load_weights(config.weights, head="projection", partial=config.loading.partial).module
        # Not scaled to unit length: the similarity of a clip to itself would have no gradient.
        module = (
            nn.Sequential(embedder.encoder, embedder.head) if isinstance(embedder, Embedder) else embedder
        )
    clip = config.clip.of(loaded.config)
    looker = Looker(
        module.to(best_device()), clip, classes=loaded.classes, kind=config.map, layer=config.layer
    )
    return looker, loaded.name, seed_of(loaded.config, config.loading.seed)


def take_aim(config: LookConfig, looker: Looker) -> str:
    """Set the score that the map explains; return its description."""
    if config.target_class is not None:
        return f"the score of the class {looker.for_class(config.target_class)}"
    if config.target is None:
        of_class = looker.classes is not None
        return "the score of the predicted class" if of_class else "the similarity to the clip itself"
    if looker.classes is not None:
        raise UserError("--target is for encoders; for a classifier, use --target-class.")
    frames = read_frames_of(config.target, looker.clip)
    looker.towards(looker.look(frames[None]).outputs[0])
    return f"the similarity to {config.target.name}"


def _draw(config: LookConfig, looker: Looker, *, name: str, aim: str) -> Result:
    """Write the picture, and say how the network responds to each alteration."""
    frames = read_frames_of(config.video, looker.clip, config.start)
    other = frames
    if {"pasted", "mixed"} & set(config.alterations):
        other = read_frames_of(config.other or config.video, looker.clip, None if config.other else 0)
    clips = {
        alteration: alter(alteration, frames, other, share=config.mix, at=config.paste_at)
        for alteration in ("clip", *config.alterations)  # the others are compared with the first
    }
    answer = looker.look(np.stack(list(clips.values())))
    looks, lines = [], []
    for place, (alteration, changed) in enumerate(clips.items()):
        if alteration not in config.alterations:
            continue
        note = _note(looker, answer.outputs[place], answer.outputs[0] if place else None)
        if alteration != "clip" and answer.peaks[0] > 0:
            note += f", peak of the map {answer.peaks[place] / answer.peaks[0]:.2f} times that of the clip"
        looks.append(Looked(alteration, looker.covered(changed), answer.maps[place], note))
        if note:
            lines.append(f"{alteration}: {note}")
    write_look(
        config.out, looks,
        title=f"{name}: what raises {aim}",
        scale=f"{config.map} of layer {looker.layer}", colours=config.colours,
    )  # fmt: skip
    lines.append(f"{config.out}: {', '.join(one.name for one in looks)} of {config.video}")
    return Result(files=[config.out], lines=lines)


def _note(looker: Looker, output: torch.Tensor, clip: torch.Tensor | None) -> str:
    """How the network responds; ``clip`` is its output for the unchanged clip, None for that clip itself."""
    if looker.classes is not None:
        shares = output.softmax(0)
        best = int(shares.argmax())
        label = best if looker.label is None else looker.label
        note = f"{looker.classes[label]} {float(shares[label]):.0%}"
        return note if label == best else f"{note} (predicted: {looker.classes[best]}, {shares[best]:.0%})"
    if looker.target is not None:
        return f"similarity {cosine(output, looker.target):.2f}"
    return "" if clip is None else f"similarity to the clip {cosine(output, clip):.2f}"
