"""What each part of `dsm` is worth: python studies/ablations.py --out runs/ranking [--only parts negatives …]

Each line of a table changes one setting of the demo's `dsm` on MotionScenes. With the ``--out`` of
``ranking.py``, what that has trained is not trained again. Writes ``ablations.json``, ``ablations.md`` and
``ablations.png`` there. What is done is not done again, so it can be stopped at any time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import ranking
from begin import begin
from matplotlib.figure import Figure
from tables import by_seed, mean_of, seeds_of, table
from trials import Trial, run_all

from dsm.demo import SLD, TESTS, TLD
from dsm.disturb.spatial_mix import SpatialMix
from dsm.disturb.temporal import TemporalMix
from dsm.engine.progress import console
from dsm.engine.runfolder import git_revision
from dsm.evaluate.results import Row, write_results
from dsm.files import write_text
from dsm.methods.dsm import DsmConfig

BOTH = DsmConfig(sld=SLD, tld=TLD, negatives=2)
STRENGTH = SLD.strength


def sld(kind: str) -> DsmConfig:
    return replace(BOTH, sld=SpatialMix.only(kind, STRENGTH))


def tld(kind: str) -> DsmConfig:
    return replace(BOTH, tld=TemporalMix.only(kind))


GROUPS: dict[str, dict[str, DsmConfig]] = {
    "parts": {
        "neither": replace(BOTH, sld=replace(SLD, strength=0.0), negatives=0),
        "SLD alone": replace(BOTH, negatives=0),
        "TLD alone": replace(BOTH, sld=replace(SLD, strength=0.0)),
    },
    "sld": {f"SLD {kind}": sld(kind) for kind in ("local", "tps", "affine", "background", "replace")},
    "tld": {
        f"TLD {kind}": tld(kind)
        for kind in ("shift", "shuffle", "reverse", "freeze", "speed", "swap", "flow")
    },
    "negatives": {f"{n} negative{'s' * (n > 1)}": replace(BOTH, negatives=n) for n in (1, 4)},
    "temperature": {f"temperature {t}": replace(BOTH, temperature=t) for t in (0.05, 0.2)},
    "queue": {
        "queue of 1024, momentum 0.99": replace(BOTH, queue=1024, in_batch=False, momentum=0.99),
        "queue of 256 and the batch": replace(BOTH, queue=256, momentum=0.9),
    },
    "strength": {
        f"warp {s:g} as strong": replace(BOTH, sld=replace(SLD, strength=s)) for s in (0.5, 1.0, 2.0)
    },
    "where": {
        "SLD on the positive": replace(BOTH, sld_on="positive"),
        "SLD on both": replace(BOTH, sld_on="both"),
        "negatives of their own look": replace(BOTH, look="own"),
    },
}


@dataclass(frozen=True)
class Options:
    out: Path = Path("runs/ranking")
    only: tuple[str, ...] = tuple(GROUPS)
    """Groups of settings to try."""
    seeds: tuple[int, ...] = (10, 11, 12)
    correlation: float = 0.9
    steps: int = 600
    jobs: int = 2
    """Encoders trained side by side; they share the cores."""
    quick: bool = False
    """Two seeds, three settings, 20 steps: numbers that mean nothing, by the same way."""


def trials_of(options: Options) -> list[Trial]:
    """`dsm` as it is first, then each change, seed by seed."""
    shared = ranking.Options(options.out, steps=options.steps, measures=("features",), quick=options.quick)
    wanted = {name: config for group in options.only for name, config in GROUPS[group].items()}
    found = []
    for seed in options.seeds:
        whole = ranking.trial(shared, options.correlation, "dsm", seed)
        found.append(whole)
        for name, config in wanted.items():
            folder = whole.folder.parent / "ablations" / f"{name.replace(' ', '-')}-{seed}"
            settings = replace(whole.config.settings, dsm=config)
            found.append(
                replace(whole, name=name, config=replace(whole.config, settings=settings, out=folder))
            )
    return found


def draw(rows: Sequence[Row], options: Options, file: Path) -> None:
    """R@1 less that of `dsm` as it is, on free and on conflicting scenes, with 95 % intervals."""
    found, names = by_seed(rows), list(dict.fromkeys(row.run for row in rows if row.run != "dsm"))
    figure = Figure(figsize=(7, 0.5 + 0.28 * len(names)), layout="constrained")
    panel = figure.subplots()
    for number, (test, colour) in enumerate(zip(TESTS[:2], ("#1f8fd6", "#d55e00"), strict=True)):
        test = f"{test}@{options.correlation:g}"
        for place, name in enumerate(names):
            ours, whole = found[name, test, "R@1"], found["dsm", test, "R@1"]
            gain = mean_of([ours[seed] - whole[seed] for seed in ours])
            panel.errorbar(gain.value, -place - 0.2 * number, xerr=gain.half, fmt="o", markersize=4,
                           color=colour, label=test.split("@")[0] if place == 0 else None)  # fmt: skip
    panel.axvline(0, color="grey", linewidth=0.8)
    panel.set_yticks([-place - 0.1 for place in range(len(names))], names)
    panel.set_xlabel("R@1 less that of dsm as it is, points")
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False, fontsize=8)
    figure.savefig(file, dpi=90)


def main(options: Options) -> None:
    if options.quick:
        options = replace(options, seeds=options.seeds[:2], only=("parts",), steps=ranking.QUICK_STEPS)
    trials = trials_of(options)
    ranking.write_scenes(options.out, options.correlation)
    rows = run_all(trials, options.jobs)
    tests = [f"{test}@{options.correlation:g}" for test in TESTS]
    names = list(dict.fromkeys(trial.name for trial in trials))
    against = [(name, "dsm") for name in names if name != "dsm"]
    text = f"Means over seeds {seeds_of(rows)} in %, ± half a 95 % t interval; `dsm` is the demo's.\n"
    for metric in ("R@1", "linear_probe"):
        text += f"\n{ranking.SHOWN[metric]}:\n\n"
        text += table(rows, metric, runs=names, tests=tests, against=against)
    write_results(options.out / "ablations.json", rows, revision=git_revision())
    write_text(options.out / "ablations.md", text)
    draw(rows, options, options.out / "ablations.png")
    console.print(f"{options.out}: ablations.json, ablations.md, ablations.png")


if __name__ == "__main__":
    begin(main, Options, __doc__)
