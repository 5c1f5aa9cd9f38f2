"""The page of ``dsm report``: the logs and measurements of one run, or of several side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from dsm.evaluate.bias import NUMBERS
from dsm.evaluate.features import Features
from dsm.evaluate.retrieval import chance, kept_apart
from dsm.pages.embedding import embedding_section, number_lines
from dsm.pages.figures import bar_chart, looks_of
from dsm.pages.film import Looked, enlarged, overlay
from dsm.pages.gallery import ShownClip, clips_of, compared, drawn, end_of
from dsm.pages.picture_texts import describe_bars
from dsm.pages.report_content import Embedding, Measured, ReportContent
from dsm.pages.run_figures import CURVES, HEALTH, curve_charts
from dsm.pages.run_pictures import ROOM, bias_pictures, given_pictures, gradients_picture
from dsm.pages.tables import Bar, ResultTable, bar_of, by_subject, result_tables, seed_tables
from dsm.pages.template import clip_uri, write_page
from dsm.runs.folder import versions_text
from dsm.runs.metrics import ACCURACY
from dsm.runs.record import PUBLISHED, RunRecord, differences, over_seeds
from dsm.runs.results import Row
from dsm.terminal import many, some
from dsm.untrusted import is_number

DOTS = 80
"""Number of videos in the embedding whose clips play."""
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
        "neighbours": gallery,
        "maps": maps or looked,
        "bias": scene,
        "embedding": content.embedding and content.embedding.embedded,
        "curves": curve_charts(metrics, CURVES),
        "health": curve_charts(metrics, health),
        "gradients": [(run.name, *found) for run in runs if (found := gradients_picture(run))],
        "trained": runs,
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
    by_chance, chance_text = _chance(features)
    write_page(
        path,
        "report.html",
        title=title,
        heading=_heading(runs, rows),
        headline=_result(runs, rows),
        bars=_bars(runs, rows),
        bar_chance=by_chance if _decisive(runs, rows)[:1] == ("R@1",) else None,
        progress=_progress(runs),
        terms=_terms(runs),
        sections=sections,
        has_clips=bool(gallery or maps or content.embedding),
        numbers=tables(good),
        looked=tables(looked),
        biased=tables([row for row in scene if row.metric in NUMBERS]),
        biased_all=tables(scene),
        by_groups=" over groups of videos" if content.by_groups else "",
        chance=chance_text,
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
        scene_chart=_scene_chart(scene, names),
        embedding=content.embedding and _embedding(content.embedding),
        embedding_lines=content.embedding and number_lines(content.embedding.rows, names),
        left_out=left_out,
        given=given,
        made=f"{versions_text()}.",
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
        fps = settings.get("clip.fps")
        if is_number(fps) and fps:
            clip["stride"] = f"{clip['stride']} at {fps:g} frames per second"
        planned = settings.get("steps") or f"{settings.get('epochs', '?')} epochs"
        unknown = None if run.method == PUBLISHED else "?"
        words = {
            "method": run.method,
            "backbone": settings.get("backbone", "?"),
            "started from": "random weights"
            if settings.get("weights") == "none"
            else settings.get("weights"),
            "training list": settings.get("data.train", unknown),
            "test list": settings.get("data.test"),
            "clips": "{frames} frames, stride {stride}, {size}² pixels, {modality}".format(**clip),
            "batch": settings.get("data.batch-size", unknown),
            "steps": f"{run.metrics[-1]['step']} of {planned}" if run.metrics else None,
            "seed": settings.get("seed", unknown),
            "unreadable videos": len(run.bad) if run.metrics else None,
            "damaged videos": len(run.damaged) or None,
            "versions": ", ".join(f"{name} {version}" for name, version in run.versions.items()) or None,
            "revision": run.revision or "–",
        }
        for name, word in words.items():
            rows.setdefault(name, []).append("–" if word is None else str(word))
    return [(name, "", words) for name, words in rows.items() if set(words) != {"–"}]


DECISIVE = {
    "top1": "the classifier's answer is right",
    "R@1": "the nearest training video is of the same class",
    "linear_probe": "a linear classifier on frozen features is right",
    "monitor/knn": "a vote of the nearest videos is right",
}
"""Results for the headline, the most informative first, and what counts as right."""


def _progress(runs: Sequence[RunRecord]) -> str:
    """How far each run is."""
    summaries = []
    comparable = len({(run.method, run.settings.get("backbone")) for run in runs}) == 1
    for run in runs[:8]:
        last = {name: value for line in run.metrics for name, value in line.items()}
        of = f" {run.settings.get('backbone')}" if run.method == PUBLISHED else ""
        words = [run.method + of, *([many(int(last["step"]), "step")] if last else [])]
        if "loss" in last and comparable:  # losses of different methods are different quantities
            words.append(f"loss {last['loss']:.3f}")
        if "motion" in last:
            words.append(f"motion {last['motion']:.0%}")
        if "monitor/balance" in last:
            words.append(f"balance {last['monitor/balance']:+.2f}")
        summaries.append(f"{run.name}: {', '.join(words)}")
    more = f" And {len(runs) - 8} more." if len(runs) > 8 else ""
    return f"{'; '.join(summaries)}.{more}"


def _terms(runs: Sequence[RunRecord]) -> str:
    """What the words of :func:`_progress` mean."""
    logged = {name for run in runs for line in run.metrics for name in line}
    words = {
        "motion": "Motion: how often the positive is nearer than its motion-broken negative.",
        "monitor/balance": "Balance: 1 if the run relies on motion, -1 if it relies on the scene.",
    }
    return " ".join(text for name, text in words.items() if name in logged)


def _decisive(runs: Sequence[RunRecord], rows: Sequence[Row]) -> tuple[str, list[Row]] | tuple[()]:
    """The most informative metric that most runs have, with a row of each, best first; empty if none."""
    names = [run.name for run in runs]
    choices = []
    for metric in DECISIVE:
        found = [row for row in rows if row.metric == metric and row.run in names]
        if not found:
            continue
        test = max(dict.fromkeys(row.test for row in found), key=[row.test for row in found].count)
        of_runs = {row.run: row for row in found if row.test == test}
        choices.append((metric, sorted(of_runs.values(), key=lambda row: -row.value)))
    return max(choices, key=lambda choice: len(choice[1]), default=())


def _bars(runs: Sequence[RunRecord], rows: Sequence[Row]) -> list[Bar]:
    found = _decisive(runs, rows)
    return [bar_of(row.run, row.measured, digits=1) for row in found[1]] if found else []


def _result(runs: Sequence[RunRecord], rows: Sequence[Row]) -> str:
    """The decisive result as a sentence; empty if nothing was measured."""
    chosen = _decisive(runs, rows)
    if not chosen:
        return ""
    metric, (best, *others) = chosen
    values = "".join(f", {row.value:.1%} with {row.run}" for row in others[:7])
    doubt, near = "", _near(best, others)
    if any(row.low is None for row in (best, *others)):
        doubt = " Without intervals, the order is uncertain." if others else ""
    elif near:
        doubt = f" The interval of {best.run} overlaps that of {some(near)}: the order is uncertain."
    return (
        f"On {best.test}, {DECISIVE[metric]} ({metric}) for {best.value:.1%} of the videos with {best.run}"
        f"{values}.{doubt}"
    )


def _near(best: Row, others: Sequence[Row]) -> list[str]:
    """The runs whose interval overlaps that of the best, or is not known."""
    return [row.run for row in others if row.high is None or best.low is None or row.high >= best.low]


def _heading(runs: Sequence[RunRecord], rows: Sequence[Row]) -> str:
    """The name of a single run; of several, the best if it is clearly so."""
    if len(runs) == 1:
        return runs[0].name
    chosen = _decisive(runs, rows)
    if chosen:
        _, (best, *others) = chosen
        if others and not _near(best, others):
            return f"{best.run} is best on {best.test}"
    return f"{len(runs)} runs side by side"


def _scene_chart(rows: Sequence[Row], names: Sequence[str]) -> str:
    """The accuracies of all runs in each variant, grouped; empty if there are none."""
    bars = [row for row in rows if row.metric.startswith(ACCURACY) and row.run in names]
    if not bars:
        return ""
    test = bars[0].test
    bars = [row for row in bars if row.test == test]
    runs = [name for name in names if any(row.run == name for row in bars)]
    of = {(row.run, row.metric.removeprefix(ACCURACY).replace("_", " ")): row.measured for row in bars}
    return bar_chart(
        list(dict.fromkeys(variant for _, variant in of)),
        runs,
        {place: [share.value] for place, share in of.items()},
        {place: share.ends for place, share in of.items()},
        title=f"Accuracy in each variant of {test}, mean over classes",
        chance=None,
        y_label="accuracy, %",
        description=describe_bars(bars),
        width=11.2,
    )


def _chance(features: Mapping[str, tuple[Features, Features]]) -> tuple[float | None, str]:
    """R@1 of random neighbours in %, and a sentence about it; None and empty without labels."""
    gallery, queries = next(iter(features.values()), (None, None))
    if gallery is None or queries is None or not (gallery.labelled and queries.labelled):
        return None, ""
    by_chance = chance(gallery, queries, kept_apart(gallery, queries), 1)
    most = np.bincount(queries.labels).max() / len(queries)
    return 100 * by_chance, (
        f"Random neighbours give R@1 {by_chance:.1%}; the most frequent class has {most:.1%} of the videos."
    )


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
                clips.append(ShownClip(clip_uri(look.frames), "the clip"))
            clips.append(ShownClip(clip_uri(overlay(look.frames, look.map)), name))
        room -= sum(len(clip.uri) for clip in clips)
        if room < 0:
            break
        shown.append((end_of(path), clips))
    return shown


def _embedding(embedding: Embedding) -> Markup:
    rows = drawn(len(embedding.features), DOTS)
    clips = clips_of(embedding.features, rows, room=ROOM["embedding"])
    return embedding_section(embedding.embedded, clips, name="dots")
