"""Model cards describe weights to whoever finds them: ``README.md`` of a run, ``NAME.md`` of an export.

Everything in a card comes from what the run has written: its checkpoint, ``config.json``, metrics and
results. The text is in ``templates/card.md``. The last line holds a hash of the text above it, so a card
that somebody has edited is recognised and never replaced. The end of a run writes its results and its
card.
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

from dsm.data.lists import UNKNOWN, VideoList
from dsm.data.reading import clip_of
from dsm.errors import UserError
from dsm.files import write_text
from dsm.methods import METHODS
from dsm.models.weights import RANDOM
from dsm.runs.folder import read_record
from dsm.runs.results import RESULTS, last_logged, read_told_results, write_run_results
from dsm.terminal import console, warn
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
"""Frames a second by which hours are told: lists know frames, not times."""
MOST = 10
"""Classes that are named."""
_SEAL = re.compile(r"\n<!-- Written by dsm \S+; sha256 of the text above: ([0-9a-f]{64})\. [^\n]* -->\s*\Z")


def about_videos(videos: VideoList) -> dict[str, Any]:
    """What a run's ``config.json`` says of its training list."""
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
) -> str:
    """A card, in Markdown.

    Args:
        about: what a checkpoint says of itself: ``backbone``, and as far as known ``method``, ``clip``,
            ``classes``, ``settings``.
        load: Python that loads the weights.
        record: a run's ``config.json``.
        step: steps trained.
        results: files ``results.json`` whose rows go in.
        note: said after the first sentence.

    Raises:
        UserError: a file of results is none.
    """
    told = [read_told_results(file) for file in results]
    names = [code(name) for name in about.get("classes", [])]
    method = str(about.get("method", ""))
    what = f"A video {'classifier' if names else 'encoder'}"
    how = f", trained by {code(method)}" if method else ""
    after = f" for {step} steps" if step is not None else ""
    return _render(
        title=" on ".join(code(name) for name in (method, about["backbone"]) if name),
        what=f"{what}{how}{after}. {note}".strip(),
        load=load,
        clips=_clips(about.get("clip")),
        made=_made(about, record or {}, step),
        settings="\n".join(_settings(about)),
        results=[row for one in told for row in one.rows],
        commands=list(dict.fromkeys(one.command for one in told)),
        classes=", ".join(names[:MOST]) + (", …" if len(names) > MOST else ""),
        cite=_cite(method),
    )


def write_card(file: Path, text: str, *, overwrite: bool = False) -> bool:
    """Write a card, sealed; False, and nothing is written, where one lies that is not as it was written."""
    if file.exists() and not overwrite and not is_untouched(file):
        return False
    text = f"{text.rstrip()}\n"
    seal = f"<!-- Written by dsm {__version__}; sha256 of the text above: {_hash(text)}. "
    write_text(file, f"{text}\n{seal}An edited card stays. -->\n")
    return True


def is_untouched(file: Path) -> bool:
    """Whether a card is as :func:`write_card` wrote it."""
    text = file.read_text(encoding="utf-8", errors="replace")
    seal = _SEAL.search(text)
    return seal is not None and _hash(text[: seal.start()]) == seal[1]


def write_run_card(
    run: Path, about: Mapping[str, Any], step: int, results: Iterable[Path] = (), *, overwrite: bool = False
) -> bool:
    """Write the card of a run into its folder, with what has been measured inside the folder and these
    ``results``; see :func:`write_card`."""
    name = json.dumps(run.absolute().name, ensure_ascii=False)
    load = f"import dsm\n\nencoder = dsm.load_encoder({name})  # this folder; (B, C, T, H, W) -> (B, D)"
    if "classes" in about:
        load = (
            "from dsm.models.weights import load_classifier\n\n"
            f'classifier, about = load_classifier({name})  # this folder; about["classes"] names the logits'
        )
    found = dict.fromkeys([*results_in(run), *results])
    record = {**(read_record(run) or {}), "last": last_logged(run)}
    text = card_text(about, load=load, record=record, step=step, results=found)
    return write_card(run / CARD, text, overwrite=overwrite)


def results_in(run: Path) -> list[Path]:
    """What has been measured inside a run's folder, beside what the run says of itself."""
    return sorted(file for file in run.rglob(RESULTS) if file.parent != run)


def code(text: object) -> str:
    """Any text as code in a line or table of Markdown, where nothing in it means anything."""
    plain = " ".join(str(text).split()).replace("|", "\\|")
    fence = "`" * (_longest_run(plain) + 1)
    space = " " if plain.startswith("`") or plain.endswith("`") else ""
    return f"{fence}{space}{plain}{space}{fence}" if plain else ""


def fenced(text: object, language: str = "") -> str:
    """Any text as a block of code."""
    fence = "`" * max(_longest_run(str(text)) + 1, 3)
    return f"{fence}{language}\n{text}\n{fence}"


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)


def _hash(text: str) -> str:
    """Of the text, whatever its line ends and the spaces at its end."""
    lines = text.replace("\r\n", "\n").rstrip()
    return hashlib.sha256(lines.encode("utf-8")).hexdigest()


def _render(**facts: Any) -> str:
    environment = jinja2.Environment(
        autoescape=False, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"code": code, "fenced": fenced}
    template = resources.files("dsm.runs").joinpath("templates", "card.md").read_text(encoding="utf-8")
    return environment.from_string(template).render(**facts)


def _clips(clip: Mapping[str, Any] | None) -> str:
    if not clip:
        return "What clips it was trained on is not known."
    of = clip_of(clip)
    rate = f"at {of.fps:g} a second" if of.fps else f"every {_nth(of.stride)} of the video"
    return (
        f"Clips are {of.frames} frames, {rate}, the shorter side brought to {of.resize} pixels, a "
        f"crop of {of.size} x {of.size}, as `{of.modality}` through `dsm.views.to_network`."
    )


def _nth(number: int) -> str:
    return {1: "one", 2: "2nd", 3: "3rd"}.get(number, f"{number}th")


def _made(about: Mapping[str, Any], record: Mapping[str, Any], step: int | None) -> dict[str, str]:
    """Rows of the table, those that are known."""
    settings, config = about.get("settings", {}), record.get("config", {})
    data = record.get("data") or {"videos": settings.get("data.videos")}
    videos = data.get("videos") or ""
    begun = config.get("weights", "")
    rows = {
        "method": code(about.get("method", "")),
        "backbone": code(about["backbone"]),
        "begun with": "random weights" if begun == RANDOM else code(begun),
        "list": code(data.get("list", "")),
        "videos": str(videos) if isinstance(videos, int) else code(videos),
    }
    if frames := data.get("frames"):
        rows["frames"] = f"{frames} ({frames / RATE / 3600:.1f} hours, if at {RATE} a second)"
    rows |= {f"last {code(name)}": f"{value:.4g}" for name, value in record.get("last", {}).items()}
    rows["batch"] = str(settings.get("data.batch-size", ""))
    rows["steps"] = "" if step is None else str(step)
    rows["command"] = code(record.get("command", ""))
    rows["versions"] = ", ".join(code(f"{name} {one}") for name, one in record.get("versions", {}).items())
    rows["revision"] = code(record.get("revision") or "")
    return {name: value for name, value in rows.items() if value}


def _settings(about: Mapping[str, Any]) -> list[str]:
    """As flags, without those of methods that were not used and of what is said elsewhere."""
    unused = tuple(f"{name}." for name in METHODS if name != about.get("method"))
    said = ("data.videos", "data.train", "method", "backbone", "weights")
    return [
        as_flag(name, value)
        for name, value in about.get("settings", {}).items()
        if value is not None and name not in said and not name.startswith(unused)
    ]


def _cite(method: str) -> str:
    """The method by the first words of its file, and the software."""
    known = METHODS.get(method)
    first = (sys.modules[known.__module__].__doc__ or "").split("\n\n")[0] if known else ""
    told = f"The method is {' '.join(first.split())} " if first else ""
    return f"{told}The software is an independent implementation of:"


def write_end(
    run: Path,
    about: Mapping[str, Any],
    videos: VideoList,
    watched: VideoList | None,
    step: int,
    *,
    done: bool,
) -> None:
    """Results, of a run that is done, and card; what can be written anew must not cost a run its end.

    Args:
        about: what the run's checkpoints say of it.
        videos: the training list.
        watched: the list that is watched, if any.
        step: how far it has come.
    """
    try:
        if done:
            write_run_results(run, about, videos, watched)
        if not write_run_card(run, dict(about), step):
            console.print(f"{run / CARD}: is edited, and stays as it is.")
    except (OSError, UserError) as error:
        warn(f"{run}: {RESULTS} or {CARD} cannot be written ({error}).")
