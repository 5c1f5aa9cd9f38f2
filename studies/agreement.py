"""Do the measures of `dsm bias` tell what is lost in other scenes? python studies/agreement.py

Tests the encoders that ``places.py`` trained on made videos: `dsm bias` on `test_free`, scenes that training
never showed, with a probe trained on the training videos. The truth is the share of the skill that is lost on
`test_conflict`, where every scene belongs to another motion; only made videos have such a list, so places of
real video are left out. Random weights are tested in every place, and the reports of ``reliance.py`` are
added. Writes ``agreement.md``: each measure's rank correlation with the truth, over all encoders and
within each place, and the names of those that do not correlate. Finished reports are not repeated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from begin import begin
from command import dsm_command
from health import trials_of
from places import BACKBONE, FREE
from reliance import LEFT_OUT, RISES, Numbers, lost_in, numbers_of
from scipy.stats import spearmanr
from trials import study_command

from dsm.data.lists import read_list, write_list
from dsm.demo import CLIP
from dsm.errors import UserError
from dsm.files import write_text
from dsm.runs.results import RESULTS, Row
from dsm.synthetic.settings import WORLDS
from dsm.terminal import console

CONFLICT = "test_conflict"
CHANCE_OF = 0.05
"""A correlation counts if its p-value is below this (of n encoders, as if they were independent)."""


@dataclass(frozen=True)
class Options:
    runs: tuple[Path, ...] = (Path("runs/places"),)
    """Output folders of ``places.py``; they are only read."""
    reliance: tuple[Path, ...] = ()
    """Output folders of ``reliance.py``, whose reports are added."""
    out: Path = Path("runs/agreement")
    videos: int = 200
    """Videos of each test."""
    train: int = 600
    """Videos to train the probes on."""
    encoders: int | None = None
    """Only the first so many encoders of each place and seed."""
    quick: bool = False
    """Few videos and one encoder of each place, to test the study; the numbers mean nothing."""


def reports_of(options: Options) -> dict[Path, Numbers]:
    """A bias report for each place and seed: folder -> numbers."""
    by_list: dict[Path, list[Path]] = {}
    for folder in options.runs:
        for trial, listed in trials_of(folder):
            if (listed.parent / f"{CONFLICT}.txt").exists():
                by_list.setdefault(listed, []).append(trial)
            else:
                console.print(f"{trial}: left out, its place has no {CONFLICT} list.", style="yellow")
    reports = {}
    for listed, trials in by_list.items():
        source = listed.parent
        out = options.out / source.parent.parent.name / source.parent.name / source.name
        if not (out / "report" / RESULTS).exists():
            report(out, source, trials[: options.encoders], options)
        reports[out / "report"] = numbers_of(out / "report")
    for folder in options.reliance:
        reports |= {file.parent: numbers_of(file.parent) for file in folder.glob(f"**/report/{RESULTS}")}
    if not reports:
        raise UserError("no encoder to test; give --runs, the output folders of places.py.")
    return reports


def report(out: Path, source: Path, trials: Sequence[Path], options: Options) -> None:
    """`dsm bias` of a place's encoders and of random weights, on the first videos of its lists."""
    out.mkdir(parents=True, exist_ok=True)
    for name, count in (("train", options.train), (FREE, options.videos), (CONFLICT, options.videos)):
        videos = read_list(source / f"{name}.txt")
        write_list(out / f"{name}.txt", videos.part(np.arange(min(count, len(videos))), out))
    weights = [str(trial / "run") for trial in trials]
    dsm_command(
        f"bias --weights {' '.join(weights)} none --names {' '.join(trial.name for trial in trials)} random "
        f"--data.train {out}/train.txt --data.test {out}/{FREE}.txt --data.conflict {out}/{CONFLICT}.txt "
        f"--data.workers 0 --backbone {BACKBONE} --frames {CLIP.frames} --stride {CLIP.stride} "
        f"--resize {CLIP.resize} --size {CLIP.size} --windows 1 --batch-size 16 "
        f"--out {out}/report --overwrite"
    )


def rank_correlation(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Spearman's, and its p-value; NaN for fewer than three pairs, or if one side does not vary."""
    if len(pairs) < 3 or any(len(set(side)) == 1 for side in zip(*pairs, strict=True)):
        return float("nan"), float("nan")
    found = spearmanr(*zip(*pairs, strict=True))
    return float(found.statistic), float(found.pvalue)


def agreement(reports: Mapping[str, Sequence[Numbers]]) -> str:
    """One row a measure: its rank correlation with what is lost, over all and within each place.

    Args:
        reports: by place.
    """
    pairs: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for place, some in reports.items():
        for of in (of for numbers in some for of in numbers.values() if np.isfinite(lost_in(of))):
            for metric in (name for name in of if not name.startswith(LEFT_OUT)):
                pairs.setdefault(metric, {}).setdefault(place, []).append((lost_in(of), of[metric].value))
    rows, silent = [], []
    for metric, places in pairs.items():
        every = [pair for some in places.values() for pair in some]
        ranks, chance = rank_correlation(every)
        wanted = 1 if metric.startswith(RISES) else -1
        if not (wanted * ranks > 0 and chance < CHANCE_OF):
            silent.append(metric)
        cells = [ranks, *(rank_correlation(places.get(place, []))[0] for place in reports)]
        texts = " | ".join(f"{one:+.2f}" if np.isfinite(one) else "" for one in cells)
        rows.append(
            (
                wanted * ranks,
                f"| `{metric}` | {'rises' if wanted > 0 else 'falls'} | {texts} | {len(every)} |",
            )
        )
    if not rows:
        return "No encoder is clearly better than chance, so nothing is lost that could be measured.\n"
    rows.sort(key=lambda row: -row[0] if np.isfinite(row[0]) else np.inf)
    lines = ["| measure | with the loss it should | all | " + " | ".join(reports) + " | encoders |",
             "|---" * (4 + len(reports)) + "|", *(line for _, line in rows)]  # fmt: skip
    told = ", ".join(f"`{one}`" for one in sorted(silent)) or "none"
    return "\n".join(lines) + f"\n\nWithout a clear correlation in the right direction: {told}.\n"


def losses(reports: Mapping[str, Sequence[Numbers]]) -> str:
    """One row an encoder: what it loses, beside accuracies and scene reliance."""
    lines = ["| place | encoder | accuracy | `test_conflict` | lost | scene reliance |", "|---" * 6 + "|"]
    for place, some in reports.items():
        for name, of in ((name, of) for numbers in some for name, of in numbers.items()):
            lost, reliance = lost_in(of), of.get("scene_reliance")
            cells = [text(of["acc_clip"]), text(of["conflict"])]
            cells += [f"{100 * lost:.0f}" if np.isfinite(lost) else "no skill", text(reliance)]
            lines.append(f"| {place} | {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def text(row: Row | None) -> str:
    return "" if row is None else f"{100 * row.value:.0f}"


def place_of(report: Path, options: Options) -> str:
    """The name of a report's place: that of the data, or ``reliance.py`` with its world."""
    folder = report.parent.parent
    if report.is_relative_to(options.out):
        return folder.name
    return f"reliance.py, {next(iter(WORLDS)) if folder in options.reliance else folder.name}"


def main(options: Options) -> None:
    if options.quick:
        options = replace(options, videos=40, train=60, encoders=1)
    reports: dict[str, list[Numbers]] = {}
    for report, numbers in reports_of(options).items():
        reports.setdefault(place_of(report, options), []).append(numbers)
    found = f"`{study_command()}`\n\n{agreement(reports)}\n{losses(reports)}"
    write_text(options.out / "agreement.md", found)
    console.print(f"{options.out}: agreement.md")


if __name__ == "__main__":
    begin(main, Options, __doc__)
