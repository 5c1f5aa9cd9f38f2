"""What each part of `dsm` is worth: python studies/ablations.py --out runs/ablations [--only GROUP …]

Each row of a table changes one setting of the ranking's `dsm` on MotionScenes. Settings may be chosen on
these seeds, and are then confirmed on others. Writes ``ablations.json``, ``ablations.md`` and a picture for
each group of settings. It can be stopped at any time; finished work is not repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ranking
from begin import begin
from light import light_table
from matplotlib.figure import Figure
from ranking_tables import TITLES_OF_METRICS
from tables import by_seed, caption, mean_of, paired, table
from trial import Trial
from trials import study_command

from dsm.demo import AUGMENT, SLD, TESTS
from dsm.disturb.spatial_mix import SpatialMix
from dsm.disturb.temporal import TemporalMix
from dsm.errors import UserError
from dsm.files import write_text
from dsm.methods.settings import PLUS, DsmConfig
from dsm.runs.results import Row
from dsm.terminal import console


@dataclass(frozen=True)
class Change:
    """The settings in which a training differs from the ranking's `dsm`."""

    dsm: DsmConfig = PLUS
    method: str = "dsm"
    light: float = AUGMENT.light


def of(**settings: Any) -> Change:
    """The ranking's `dsm` with these settings changed."""
    return Change(replace(PLUS, **settings))


def sld(kind: str) -> Change:
    return of(sld=SpatialMix.only(kind, SLD.strength))


def tld(kind: str) -> Change:
    return of(tld=TemporalMix.only(kind))


GROUPS: dict[str, dict[str, Change]] = {
    "parts": {
        "neither": of(sld=replace(SLD, strength=0.0), negatives=0),
        "SLD alone": of(negatives=0),
        "TLD alone": of(sld=replace(SLD, strength=0.0)),
    },
    "sld": {f"SLD {kind}": sld(kind) for kind in ("local", "tps", "affine", "background", "replace")},
    "tld": {
        f"TLD {kind}": tld(kind)
        for kind in ("shift", "shuffle", "reverse", "freeze", "speed", "swap", "insert", "delete", "flow")
    },
    "negatives": {f"{n} negative{'s' * (n > 1)}": of(negatives=n) for n in (1, 4)},
    "temperature": {f"temperature {t}": of(temperature=t) for t in (0.05, 0.2)},
    "queue": {
        "queue of 1024, momentum 0.99": of(queue=1024, in_batch=False, momentum=0.99),
        "queue of 256 and the batch": of(queue=256, momentum=0.9),
    },
    "strength": {
        f"warp {s:g} times as strong": of(sld=replace(SLD, strength=s * SLD.strength))
        for s in (0.5, 0.75, 1.5)
    },
    "where": {
        "SLD on the positive": of(sld_on="positive"),
        "SLD on both": of(sld_on="both"),
        "negatives with their own look": of(look="own"),
    },
    "views": {
        "views in one batch, without momentum": of(joint=True),
        "symmetric": of(symmetric=True),
    },
    "paper": {"the paper's disturbances": Change(ranking.PAPER)},
    "light": {
        "dsm, light unchanged": Change(light=0.0),
        "moco": Change(method="moco"),
        "moco, light unchanged": Change(method="moco", light=0.0),
    },
}


LEFT_OUT = ("where", "views")
"""Groups that are measured only if `--only` names them."""

PAIRS = {"light": [("moco, light unchanged", "moco")]}
"""Further differences to report, besides those to `dsm`."""

TITLES = {
    "parts": "SLD and TLD, alone and together",
    "sld": "One kind of SLD instead of the smooth warp",
    "tld": "One kind of TLD instead of shuffle, reverse and freeze",
    "negatives": "Motion-broken negatives per clip (two)",
    "temperature": "Temperature (0.1)",
    "queue": "A queue of keys instead of in-batch negatives, or in addition",
    "strength": f"Strength of the warp ({SLD.strength:g})",
    "where": "Which views get SLD, and the look of the negatives",
    "views": "How the views are encoded (positive and negatives: by the momentum encoder)",
    "paper": "The disturbances of the paper's scripts: local warp, one shifted window with its own look",
    "light": f"Light that drifts separately in each view (`--augment.light {AUGMENT.light:g}`)",
}


@dataclass(frozen=True)
class Options:
    out: Path = Path("runs/ablations")
    only: tuple[str, ...] = tuple(group for group in GROUPS if group not in LEFT_OUT)
    """Groups of settings to measure."""
    seeds: tuple[int, ...] = (3, 4, 5)
    correlation: float = ranking.DEMO_TIE
    steps: int = 600
    jobs: int = 2
    """Encoders to train at the same time; they share the cores."""
    known: tuple[Path, ...] = ()
    """Files ``measured/*.json``: measurements of the same settings are reused."""
    quick: bool = False
    """Two seeds, the first setting of each group, 20 steps, to test the study; the numbers mean nothing."""

    def __post_init__(self) -> None:
        if unknown := set(self.only) - set(GROUPS):
            raise UserError(f"--only {' '.join(sorted(unknown))}: groups are {', '.join(GROUPS)}.")
        if "tld" in self.only and find_spec("cv2") is None:
            raise UserError(
                "TLD flow needs OpenCV: pip install 'dsm-video[flow]'; or use --only without the group tld."
            )

    @property
    def settings(self) -> dict[str, dict[str, Change]]:
        """The changes to measure, group by group."""
        count = 1 if self.quick else None
        return {group: dict(list(GROUPS[group].items())[:count]) for group in self.only}


def trials_of(options: Options, seed: int) -> list[Trial]:
    """The unchanged `dsm` first, then each change."""
    base = ranking.trial(ranking.features_only(options, options.steps), "dsm", seed)
    more = ("features", "light")
    trials = [replace(base, measures=more) if "light" in options.only else base]
    for group, settings in options.settings.items():
        for name, change in settings.items():
            folder = base.folder.parent / f"{name.replace(' ', '-').replace(',', '')}-{seed}"
            changed = replace(
                base.config,
                method=change.method,
                settings=replace(base.config.settings, dsm=change.dsm),
                augment=replace(base.config.augment, light=change.light),
                out=folder,
            )
            measures = more if group == "light" else base.measures
            trials.append(replace(base, name=name, config=changed, measures=measures))
    return trials


def draw(rows: Sequence[Row], names: Sequence[str], options: Options, file: Path) -> None:
    """R@1 minus that of the unchanged `dsm`, on free and on conflicting scenes, with 95 % intervals."""
    values = by_seed(rows)
    figure = Figure(figsize=(7, 0.9 + 0.28 * len(names)), layout="constrained")
    panel = figure.subplots()
    for number, (test, colour) in enumerate(zip(TESTS[:2], ("#0072b2", "#d55e00"), strict=True)):
        test = f"{test}@{options.correlation:g}"
        for place, name in enumerate(names):
            gain = mean_of(paired(values, (name, test, "R@1"), ("dsm", test, "R@1")))
            panel.errorbar(gain.value, -place - 0.2 * number, xerr=gain.half, fmt="os"[number], markersize=4,
                           color=colour, label=test.split("@")[0] if place == 0 else None)  # fmt: skip
    panel.axvline(0, color="grey", linewidth=0.8)
    panel.set_ylim(0.4 - len(names), 0.4)
    panel.set_yticks([-place - 0.1 for place in range(len(names))], names)
    panel.set_xlabel("R@1 minus that of the unchanged dsm, points")
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    figure.savefig(file, dpi=90)


def write_groups(rows: Sequence[Row], options: Options) -> str:
    """Draw a picture for each group; return the tables and links to the pictures, as Markdown."""
    tests = [f"{test}@{options.correlation:g}" for test in TESTS]
    parts = [
        f"`{study_command()}`\n",
        f"{caption(rows)} `dsm` is that of the ranking, trained for {options.steps} steps.\n",
    ]
    for group, settings in options.settings.items():
        names = list(settings)
        against = [(name, "dsm") for name in names] + PAIRS.get(group, [])
        parts.append(f"## {TITLES[group]}\n")
        for metric in ("R@1", "linear_probe"):
            parts.append(f"{TITLES_OF_METRICS[metric]}:\n")
            parts.append(table(rows, metric, runs=["dsm", *names], tests=tests, against=against))
        draw(rows, names, options, options.out / f"ablations_{group}.png")
        parts.append(f"![{TITLES[group]}: gain over the unchanged dsm](ablations_{group}.png)\n")
    return "\n".join(parts)


def main(options: Options) -> None:
    if options.quick:
        options = replace(options, seeds=options.seeds[:2], steps=ranking.QUICK_STEPS)
    _, rows = ranking.measure_seeds(options, lambda seed: trials_of(options, seed), "ablations")
    write_text(options.out / "ablations.md", write_groups(rows, options))
    if light := options.settings.get("light"):
        lights = light_table(rows, ["dsm", *light], f"{TESTS[0]}@{options.correlation:g}")
        write_text(options.out / "light.md", f"`{study_command()}`\n\n{lights}")
    console.print(f"{options.out}: ablations.json, ablations.md, and a picture for each group")


if __name__ == "__main__":
    begin(main, Options, __doc__)
