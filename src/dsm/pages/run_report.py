"""The page of ``dsm report``: the logs and measurements of one run, or of several side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from dsm.evaluate.features import Features
from dsm.evaluate.retrieval import chance, kept_apart
from dsm.pages.embedding import embedding_section, number_lines
from dsm.pages.figures import looks_of
from dsm.pages.film import FPS, Looked, enlarged, even, overlay
from dsm.pages.gallery import ShownClip, clips_of, compared, drawn
from dsm.pages.run_figures import CURVES, HEALTH, curve_charts
from dsm.pages.run_pictures import (
    ROOM,
    Embedding,
    Measured,
    ReportContent,
    bias_pictures,
    given_pictures,
    gradients_picture,
)
from dsm.pages.tables import ResultTable, by_subject, result_tables, seed_tables
from dsm.pages.template import clip_uri, write_page
from dsm.runs.folder import git_revision, versions
from dsm.runs.record import RunRecord, differences, over_seeds
from dsm.runs.results import Row, command_line
from dsm.terminal import many, some

MAX_BYTES = 25_000_000
"""Most bytes of a page."""
DOTS = 80
"""Number of the embedding's videos whose clips play."""
MOST_BAD = 20


def write_run_report(path: Path, content: ReportContent) -> None:
    """Write the page.

    Raises:
        UserError: a video of the gallery cannot be read.
    """
    runs, names = content.runs, [run.name for run in content.runs]
    measured = [content.measured.get(name, Measured()) for name in names]
    rows = [row for run, found in zip(runs, measured, strict=True) for row in (*run.rows, *found.rows)]
    rows += [row for given in content.given for row in given.rows]
    features = {name: found.features for name, found in zip(names, measured, strict=True) if found.features}
    gallery = compared(features, content.classes, content.shown, ROOM["neighbours"]) if features else []
    maps = _maps(dict(zip(names, measured, strict=True)))
    metrics = {run.name: run.metrics for run in runs}
    health = {name for name, _, _ in HEALTH} - set(CURVES)
    good, looked, scene = by_subject(rows)
    groups = over_seeds(runs)

    def tables(some: list[Row]) -> dict[str, list[ResultTable]]:
        return {"tables": result_tables(some), "over_seeds": seed_tables(some, groups)}

    parts: dict[str, Any] = {
        "numbers": good,
        "trained": runs,
        "curves": curve_charts(metrics, CURVES),
        "health": curve_charts(metrics, health),
        "gradients": [(run.name, *found) for run in runs if (found := gradients_picture(run))],
        "neighbours": gallery,
        "maps": maps or looked,
        "bias": scene,
        "embedding": content.embedding and content.embedding.embedded,
    }
    left_out = [
        f"{name}: {told}" for name, found in zip(names, measured, strict=True) for told in found.left_out
    ] + list(content.left_out)
    given = given_pictures(content.given)
    shown, left = bias_pictures(dict(zip(names, measured, strict=True)))
    left_out += left
    sections = [(key, SECTIONS[key]) for key, part in parts.items() if part]
    sections += [("left", "Left out")] if left_out else []
    sections += [(f"given{place}", one["name"]) for place, one in enumerate(given, start=1)]
    title = names[0] if len(names) == 1 else f"{len(names)} runs side by side"
    write_page(
        path,
        "report.html",
        title=f"{title} – dsm report",
        heading=title,
        headline=_headline(runs, rows),
        sections=sections,
        has_clips=bool(gallery or maps or content.embedding),
        numbers=tables(good),
        looked=tables(looked),
        biased=tables(scene),
        by_groups=" over groups of videos" if content.by_groups else "",
        chance=_chance(features),
        runs=runs,
        names=names,
        about=about(runs),
        differences=[(name, "", values) for name, values in differences(runs)] if len(runs) > 1 else [],
        most_bad=MOST_BAD,
        looks=list(zip(names, looks_of(names), strict=True)),
        watched=any("motion" in line for lines in metrics.values() for line in lines),
        curves=parts["curves"],
        health=parts["health"],
        gradients=parts["gradients"],
        gallery=gallery,
        maps=maps,
        raised=next((found.maps.raised for found in measured if found.maps), ""),
        bias=shown,
        embedding=content.embedding and _embedding(content.embedding),
        embedding_lines=content.embedding and number_lines(content.embedding.rows, names),
        left_out=left_out,
        given=given,
        command=command_line(),
        made=_made(),
    )


SECTIONS = {
    "numbers": "Numbers",
    "trained": "Training setup",
    "curves": "Training",
    "health": "Health",
    "gradients": "Gradient",
    "neighbours": "Neighbours",
    "maps": "Where they look",
    "bias": "Scene bias",
    "embedding": "Embedding",
}


def about(runs: Sequence[RunRecord]) -> list[tuple[str, str, list[str]]]:
    """Rows of the setup table: name, note (empty), and the text of each run."""
    rows: dict[str, list[str]] = {}
    for run in runs:
        settings = run.settings
        clip = {name: settings.get(f"clip.{name}", "?") for name in ("frames", "stride", "size", "modality")}
        planned = settings.get("steps") or f"{settings.get('epochs', '?')} epochs"
        words = {
            "method": run.method,
            "backbone": settings.get("backbone", "?"),
            "started from": "random weights"
            if settings.get("weights") == "none"
            else settings.get("weights"),
            "training list": settings.get("data.train", "?"),
            "test list": settings.get("data.test"),
            "clips": "{frames} frames, stride {stride}, {size}² pixels, {modality}".format(**clip),
            "batch": settings.get("data.batch-size", "?"),
            "steps": f"{run.metrics[-1]['step']} of {planned}",
            "seed": settings.get("seed", "?"),
            "unreadable videos": len(run.bad),
            "versions": ", ".join(f"{name} {version}" for name, version in run.versions.items()),
            "revision": run.revision or "–",
        }
        for name, word in words.items():
            rows.setdefault(name, []).append("–" if word is None else str(word))
    return [(name, "", words) for name, words in rows.items() if set(words) != {"–"}]


DECISIVE = ("top1", "R@1", "linear_probe", "monitor/knn")
"""Results for the headline, the most telling first."""


def _headline(runs: Sequence[RunRecord], rows: Sequence[Row]) -> str:
    """What was found: the decisive result, best run first; then how far each run is."""
    summaries = []
    comparable = len({(run.method, run.settings.get("backbone")) for run in runs}) == 1
    for run in runs[:8]:
        last = {name: value for line in run.metrics for name, value in line.items()}
        words = [run.method, many(int(last["step"]), "step")]
        if "loss" in last and comparable:  # losses of different methods are different quantities
            words.append(f"loss {last['loss']:.3f}")
        if "motion" in last:
            words.append(f"motion {last['motion']:.0%}")
        if "monitor/balance" in last:
            words.append(f"balance {last['monitor/balance']:+.2f}")
        summaries.append(f"{run.name}: {', '.join(words)}")
    more = f" And {len(runs) - 8} more." if len(runs) > 8 else ""
    return f"{_result(runs, rows)}{'; '.join(summaries)}.{more}"


def _result(runs: Sequence[RunRecord], rows: Sequence[Row]) -> str:
    """The decisive result as a sentence; empty if nothing was measured."""
    names = [run.name for run in runs]
    for metric in DECISIVE:
        found = [row for row in rows if row.metric == metric and row.run in names]
        if not found:
            continue
        test = max(dict.fromkeys(row.test for row in found), key=[row.test for row in found].count)
        best, *others = sorted((row for row in found if row.test == test), key=lambda row: -row.value)
        values = ", ".join(f"{row.run} {row.value:.1%}" for row in (best, *others[:7]))
        near = [row.run for row in others if (row.high or 0) >= (best.low if best.low is not None else 2)]
        doubt = f" The interval of {best.run} overlaps that of {some(near)}." if near else ""
        return f"{metric} on {test}: {values}.{doubt} "
    return ""


def _chance(features: Mapping[str, tuple[Features, Features]]) -> str:
    for gallery, queries in features.values():
        if not (gallery.labelled and queries.labelled):
            return ""
        by_chance = chance(gallery, queries, kept_apart(gallery, queries), 1)
        most = np.bincount(queries.labels).max() / len(queries)
        return (
            f"Random neighbours give R@1 {by_chance:.1%}; the most frequent class is {most:.1%} of the test."
        )
    return ""


def _maps(measured: Mapping[str, Measured]) -> list[tuple[str, list[ShownClip]]]:
    """For each video: its path, its clip, and the clip with the map of each run."""
    of = {name: results.maps for name, results in measured.items() if results.maps}
    room = ROOM["maps"]
    shown = []
    for path in dict.fromkeys(path for maps in of.values() for path in maps.paths):
        clips: list[ShownClip] = []
        for name, maps in of.items():
            if path not in maps.paths:
                continue
            frames, its = (some[maps.paths.index(path)] for some in (maps.frames, maps.maps))
            look = enlarged(Looked(name, frames, its))
            if not clips:
                clips.append(ShownClip(clip_uri(even(look.frames), fps=FPS), "the clip"))
            clips.append(ShownClip(clip_uri(even(overlay(look.frames, look.map)), fps=FPS), name))
        room -= sum(len(clip.uri) for clip in clips)
        if room < 0:
            break
        shown.append((path, clips))
    return shown


def _embedding(embedding: Embedding) -> Markup:
    rows = drawn(len(embedding.features), DOTS)
    clips = clips_of(embedding.features, rows, room=ROOM["embedding"])
    return embedding_section(embedding.embedded, clips, name="dots")


def _made() -> str:
    packages = ", ".join(f"{name} {version}" for name, version in versions().items())
    revision = git_revision()
    return f"{packages}{f', revision {revision}' if revision else ''}."
