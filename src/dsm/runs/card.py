"""Model cards, which describe weights: ``README.md`` of a run, ``NAME.md`` of an export.

A card is filled from the run's files: its checkpoint, ``config.json``, metrics and results. The text is in
``templates/card.md``. The last line has a hash of the text above it, so a card that was edited by hand is
recognised and kept. A run writes its results and its card when it ends.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from dsm.data.list_format import UNKNOWN
from dsm.data.lists import VideoList
from dsm.data.settings import clip_of
from dsm.errors import UserError
from dsm.files import write_text
from dsm.methods.registry import METHODS
from dsm.models.settings import RANDOM
from dsm.runs.folder import read_record
from dsm.runs.results import RESULTS, last_logged, read_recorded_results, write_run_results
from dsm.terminal import console, warn
from dsm.untrusted import read_text
from dsm.version import __version__


def as_flag(name: str, value: Any) -> str:
    """``--optim.lr 0.1``, ``--no-recompute``, ``--dsm.no-joint``."""
    if isinstance(value, bool):
        group, _, last = name.rpartition(".")
        return f"--{group + '.' if group else ''}{'' if value else 'no-'}{last}"
    words = value if isinstance(value, list) else [value]
    return " ".join([f"--{name}", *map(str, words)])


CARD = "README.md"
RATE = 25
"""Frames per second, assumed to convert frames to hours: lists have no times."""
MAX_CLASSES_NAMED = 10
"""Most classes that are named."""
_SEAL = re.compile(r"\n<!-- Written by dsm \S+; sha256 of the text above: ([0-9a-f]{64})\. [^\n]* -->\s*\Z")


def about_videos(videos: VideoList) -> dict[str, Any]:
    """The description of a training list for a run's ``config.json``."""
    known = len(videos) > 0 and bool((videos.frames != UNKNOWN).all())
    frames = int(videos.frames.sum()) if known else None
    return {"list": Path(videos.source).name, "videos": len(videos), "frames": frames}


def card_text(
    about: Mapping[str, Any],
    *,
    load: str,
    record: Mapping[str, Any] | None = None,
    step: int | None = None,
    results: Iterable[Path] = (),
    note: str = "",
    of_others: str = "",
) -> str:
    """A card, in Markdown.

    Args:
        about: the metadata of a checkpoint: ``backbone`` and, if known, ``method``, ``clip``, ``classes``,
            ``settings``.
        load: Python code that loads the weights.
        record: a run's ``config.json``.
        step: steps trained.
        results: ``results.json`` files whose rows the card lists.
        note: text that follows the first sentence.
        of_others: the name of weights published by others.

    Raises:
        UserError: a results file is missing or invalid.
    """
    measured = [read_recorded_results(file) for file in results]
    names = [code(name) for name in about.get("classes", [])]
    method = str(about.get("method", ""))
    what = f"A video {'classifier' if names else 'encoder'}"
    how = f", trained by {code(method)}" if method else ""
    after = f" for {step} steps" if step is not None else ""
    return _render(
        title=", ".join(map(code, (of_others, about["backbone"])))
        if of_others
        else " on ".join(code(name) for name in (method, about["backbone"]) if name),
        of_others=code(of_others) if of_others else "",
        what=f"{what}{how}{after}. {note}".strip(),
        load=load,
        clips=_clips(about.get("clip")),
        made=_made(about, record or {}, step),
        settings="\n".join(_settings(about)),
        results=[row for one in measured for row in one.rows],
        commands=list(dict.fromkeys(one.command for one in measured)),
        classes=", ".join(names[:MAX_CLASSES_NAMED]) + (", …" if len(names) > MAX_CLASSES_NAMED else ""),
        cite=_cite(method),
    )


def write_card(file: Path, text: str, *, overwrite: bool = False) -> bool:
    """Write a card and its seal; leave an edited card unchanged and return False."""
    if file.exists() and not overwrite and not is_untouched(file):
        return False
    text = f"{text.rstrip()}\n"
    seal = f"<!-- Written by dsm {__version__}; sha256 of the text above: {_hash(text)}. "
    write_text(file, f"{text}\n{seal}Edited cards are kept. -->\n")
    return True


def is_untouched(file: Path) -> bool:
    """Whether a card is unchanged since :func:`write_card` wrote it."""
    try:
        text = read_text(file, errors="replace")
    except ValueError:  # too long to be a card
        return False
    seal = _SEAL.search(text)
    return seal is not None and _hash(text[: seal.start()]) == seal[1]


def write_run_card(
    run: Path, about: Mapping[str, Any], step: int, results: Iterable[Path] = (), *, overwrite: bool = False
) -> bool:
    """Write a run's card into its folder, with the results inside the folder and these ``results``; see
    :func:`write_card`."""
    name = json.dumps(run.absolute().name, ensure_ascii=False)
    load = f"import dsm\n\nencoder = dsm.load_encoder({name})  # this folder; (B, C, T, H, W) -> (B, D)"
    if "classes" in about:
        load = (
            "from dsm.models.weights import load_classifier\n\n"
            f'classifier, about = load_classifier({name})  # this folder; about["classes"] names the logits'
        )
    files = dict.fromkeys([*results_in(run), *results])
    record = {**(read_record(run) or {}), "last": last_logged(run)}
    text = card_text(about, load=load, record=record, step=step, results=files)
    return write_card(run / CARD, text, overwrite=overwrite)


def results_in(run: Path) -> list[Path]:
    """The results files in subfolders of a run, without the run's own."""
    return sorted(file for file in run.rglob(RESULTS) if file.parent != run)


def code(text: object) -> str:
    """Any text as inline code in Markdown text, with nothing in it interpreted."""
    plain = " ".join(str(text).split())
    fence = "`" * (_longest_run(plain) + 1)
    space = " " if plain.startswith("`") or plain.endswith("`") else ""
    return f"{fence}{space}{plain}{space}{fence}" if plain else ""


def cell(text: str) -> str:
    """Markdown text for a cell of a table, which a ``|`` would end, also within code."""
    return text.replace("|", "\\|")


def fenced(text: object, language: str = "") -> str:
    """Any text as a block of code."""
    fence = "`" * max(_longest_run(str(text)) + 1, 3)
    return f"{fence}{language}\n{text}\n{fence}"


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)


def _hash(text: str) -> str:
    """Hash of a text, independent of its line endings and trailing whitespace."""
    lines = text.replace("\r\n", "\n").rstrip()
    return hashlib.sha256(lines.encode("utf-8")).hexdigest()


def _render(**facts: Any) -> str:
    environment = jinja2.Environment(
        autoescape=False, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"code": code, "cell": cell, "fenced": fenced}
    template = resources.files("dsm.runs").joinpath("templates", "card.md").read_text(encoding="utf-8")
    return environment.from_string(template).render(**facts)


def _clips(clip: Mapping[str, Any] | None) -> str:
    if not clip:
        return "The shape of the training clips is not known."
    of = clip_of(clip)
    nth = {1: "one", 2: "2nd", 3: "3rd"}.get(of.stride, f"{of.stride}th")
    rate = f" at {of.fps:g} frames per second" if of.fps else ""
    return (
        f"Clips have {of.frames} frames, every {nth} of the video{rate}, the shorter side scaled to "
        f"{of.resize} pixels and a {of.size} x {of.size} crop; "
        f"`dsm.render.to_network` converts them to `{of.modality}`."
    )


def _made(about: Mapping[str, Any], record: Mapping[str, Any], step: int | None) -> dict[str, str]:
    """The rows of the table, as far as they are known."""
    settings, config = about.get("settings", {}), record.get("config", {})
    data = record.get("data") or {"videos": settings.get("data.videos")}
    videos = data.get("videos") or ""
    start = config.get("weights") or ""
    rows = {
        "method": code(about.get("method", "")),
        "backbone": code(about["backbone"]),
        "started from": "random weights" if start == RANDOM else code(start),
        "list": code(data.get("list", "")),
        "videos": str(videos) if isinstance(videos, int) else code(videos),
    }
    if isinstance(frames := data.get("frames"), int) and frames:
        rows["frames"] = f"{frames} ({frames / RATE / 3600:.1f} hours at {RATE} frames per second)"
    rows |= {f"last {code(name)}": f"{value:.4g}" for name, value in record.get("last", {}).items()}
    rows["batch"] = code(settings.get("data.batch-size", ""))
    rows["steps"] = "" if step is None else str(step)
    rows["command"] = code(record.get("command", ""))
    rows["versions"] = ", ".join(code(f"{name} {one}") for name, one in record.get("versions", {}).items())
    rows["revision"] = code(record.get("revision") or "")
    return {name: value for name, value in rows.items() if value}


def _settings(about: Mapping[str, Any]) -> list[str]:
    """Settings as flags, without those of unused methods and those elsewhere in the card."""
    unused = tuple(f"{name}." for name in METHODS if name != about.get("method"))
    elsewhere = ("data.videos", "data.train", "method", "backbone", "weights")
    return [
        as_flag(name, value)
        for name, value in about.get("settings", {}).items()
        if value is not None and name not in elsewhere and not name.startswith(unused)
    ]


def _cite(method: str) -> str:
    """The first paragraph of the method's module, and what the software implements."""
    known = METHODS.get(method)
    first = (sys.modules[known.__module__].__doc__ or "").split("\n\n")[0] if known else ""
    sentence = f"The method is {' '.join(first.split())} " if first else ""
    return f"{sentence}The software is an independent implementation of:"


def is_ended(run: Path) -> bool:
    """Whether a run's card and results were written at its end."""
    return (run / RESULTS).is_file() and (run / CARD).is_file()


def write_end(
    run: Path,
    about: Mapping[str, Any],
    videos: VideoList,
    watched: VideoList | None,
    step: int,
    *,
    done: bool,
    batch: int,
    part: int,
) -> None:
    """Write a run's card and, if it is done, its results; a failure only warns, since both can be rewritten.

    Args:
        about: the metadata of the run's checkpoints.
        videos: the training list.
        watched: the monitored list, if any.
        step: the last step trained.
        batch, part: see :func:`dsm.runs.results.write_run_results`.
    """
    try:
        if done:
            write_run_results(run, about, videos, watched, batch=batch, part=part)
        if not write_run_card(run, dict(about), step):
            console.print(f"{run / CARD} was edited by hand; left unchanged.")
    except (OSError, UserError) as error:
        warn(f"{run}: {RESULTS} or {CARD} cannot be written ({error}).")
