"""What each part of `dsm` is worth: python studies/ablations.py --out runs/ablations [--only GROUP …]

Each line of a table changes one setting of the ranking's `dsm` on MotionScenes. The seeds are those that
settings may be chosen on; what is chosen is confirmed on others. Writes ``ablations.json``, ``ablations.md``
and a picture for each group of settings. What is done is not done again, so it can be stopped at any time.
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
from ranking_tables import SHOWN
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
    """A training that is not the ranking's `dsm`."""

    dsm: DsmConfig = PLUS
    method: str = "dsm"
    light: float = AUGMENT.light


def of(**settings: Any) -> Change:
    """The ranking's `dsm` with other settings of the method."""
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
        "negatives of their own look": of(look="own"),
    },
    "views": {
        "views in one batch, without momentum": of(joint=True),
        "symmetric": of(symmetric=True),
    },
    "paper": {"the paper's disturbances": Change(ranking.PAPER)},
    "light": {
        "dsm, light as it is": Change(light=0.0),
        "moco": Change(method="moco"),
        "moco, light as it is": Change(method="moco", light=0.0),
    },
}


LEFT_OUT = ("where", "views")
"""Groups that are measured only by name."""

PAIRS = {"light": [("moco, light as it is", "moco")]}
"""Differences of a group besides those from `dsm`."""

TITLES = {
    "parts": "SLD and TLD, alone and together",
    "sld": "One kind of SLD instead of the smooth warp",
    "tld": "One kind of TLD instead of shuffle, reverse and freeze",
    "negatives": "Motion-broken negatives a clip (two)",
    "temperature": "Temperature (0.1)",
    "queue": "A queue of keys instead of the batch, or beside it",
    "strength": f"Strength of the warp ({SLD.strength:g})",
    "where": "Whose scene is bent, and how a negative looks",
    "views": "How the views are encoded (the positive and the negatives by the momentum encoder)",
    "paper": "The disturbances of the paper's scripts: local warp, one shifted window of its own look",
    "light": f"Light that wanders in each view on its own (`--augment.light {AUGMENT.light:g}`)",
}


@dataclass(frozen=True)
class Options:
    out: Path = Path("runs/ablations")
    only: tuple[str, ...] = tuple(group for group in GROUPS if group not in LEFT_OUT)
    """Groups of settings to try."""
    seeds: tuple[int, ...] = (3, 4, 5)
    correlation: float = ranking.DEMO_TIE
    steps: int = 600
    jobs: int = 2
    """Encoders trained side by side; they share the cores."""
    known: tuple[Path, ...] = ()
    """Files ``measured/*.json``: what they hold of the same settings is taken, not measured again."""
    quick: bool = False
    """Two seeds, the first setting of each group, 20 steps: numbers that mean nothing, by the same way."""

    def __post_init__(self) -> None:
        if unknown := set(self.only) - set(GROUPS):
            raise UserError(f"--only {' '.join(sorted(unknown))}: groups are {', '.join(GROUPS)}.")
        if "tld" in self.only and find_spec("cv2") is None:
            raise UserError(
                "TLD flow wants OpenCV: pip install 'dsm-video[flow]'; or leave the group tld out by --only."
            )

    @property
    def settings(self) -> dict[str, dict[str, Change]]:
        """What is tried, group by group."""
        count = 1 if self.quick else None
        return {group: dict(list(GROUPS[group].items())[:count]) for group in self.only}


def trials_of(options: Options, seed: int) -> list[Trial]:
    """`dsm` as it is first, then each change."""
    whole = ranking.trial(ranking.features_only(options, options.steps), "dsm", seed)
    more = ("features", "light")
    found = [replace(whole, measures=more) if "light" in options.only else whole]
    for group, settings in options.settings.items():
        for name, change in settings.items():
            folder = whole.folder.parent / f"{name.replace(' ', '-').replace(',', '')}-{seed}"
            changed = replace(
                whole.config,
                method=change.method,
                settings=replace(whole.config.settings, dsm=change.dsm),
                augment=replace(whole.config.augment, light=change.light),
                out=folder,
            )
            measures = more if group == "light" else whole.measures
            found.append(replace(whole, name=name, config=changed, measures=measures))
    return found


def draw(rows: Sequence[Row], names: Sequence[str], options: Options, file: Path) -> None:
    """R@1 less that of `dsm` as it is, on free and on conflicting scenes, with 95 % intervals."""
    found = by_seed(rows)
    figure = Figure(figsize=(7, 0.9 + 0.28 * len(names)), layout="constrained")
    panel = figure.subplots()
    for number, (test, colour) in enumerate(zip(TESTS[:2], ("#0072b2", "#d55e00"), strict=True)):
        test = f"{test}@{options.correlation:g}"
        for place, name in enumerate(names):
            gain = mean_of(paired(found, (name, test, "R@1"), ("dsm", test, "R@1")))
            panel.errorbar(gain.value, -place - 0.2 * number, xerr=gain.half, fmt="os"[number], markersize=4,
                           color=colour, label=test.split("@")[0] if place == 0 else None)  # fmt: skip
    panel.axvline(0, color="grey", linewidth=0.8)
    panel.set_ylim(0.4 - len(names), 0.4)
    panel.set_yticks([-place - 0.1 for place in range(len(names))], names)
    panel.set_xlabel("R@1 less that of dsm as it is, points")
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    figure.savefig(file, dpi=90)


def write_groups(rows: Sequence[Row], options: Options) -> str:
    """Tables and a picture for each group, as Markdown; the pictures are drawn."""
    tests = [f"{test}@{options.correlation:g}" for test in TESTS]
    parts = [
        f"`{study_command()}`\n",
        f"{caption(rows)} `dsm` is the ranking's, for {options.steps} steps.\n",
    ]
    for group, settings in options.settings.items():
        names = list(settings)
        against = [(name, "dsm") for name in names] + PAIRS.get(group, [])
        parts.append(f"## {TITLES[group]}\n")
        for metric in ("R@1", "linear_probe"):
            parts.append(f"{SHOWN[metric]}:\n")
            parts.append(table(rows, metric, runs=["dsm", *names], tests=tests, against=against))
        draw(rows, names, options, options.out / f"ablations_{group}.png")
        parts.append(f"![{TITLES[group]}: gain over dsm as it is](ablations_{group}.png)\n")
    return "\n".join(parts)


def main(options: Options) -> None:
    if options.quick:
        options = replace(options, seeds=options.seeds[:2], steps=ranking.QUICK_STEPS)
    _, rows = ranking.measure_seeds(options, lambda seed: trials_of(options, seed), "ablations")
    write_text(options.out / "ablations.md", write_groups(rows, options))
    if light := options.settings.get("light"):
        table_ = light_table(rows, ["dsm", *light], f"{TESTS[0]}@{options.correlation:g}")
        write_text(options.out / "light.md", f"`{study_command()}`\n\n{table_}")
    console.print(f"{options.out}: ablations.json, ablations.md, and a picture for each group")


if __name__ == "__main__":
    begin(main, Options, __doc__)
