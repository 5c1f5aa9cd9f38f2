"""What more training gains, for the demo's methods: python studies/budget.py --out runs/budget

Each length is a separate training, with a full cosine schedule of the learning rate. Writes ``budget.json``,
``budget.md`` and ``budget.png``: R@1 on free and conflicting scenes against the operations spent, counted as
in ``cost.py``. Finished work is not repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cost
import ranking
from begin import begin
from matplotlib.figure import Figure
from tables import by_seed, caption, mean_of, paired
from trial import Trial
from trials import study_command

from dsm.demo import CLIP, TESTS
from dsm.files import write_text
from dsm.pages.figures import COLOURS
from dsm.runs.results import Row
from dsm.terminal import console
from dsm.verbs.settings.training import DEMO_BATCH

METHODS = ("moco", "dsm")


@dataclass(frozen=True)
class Options:
    out: Path = Path("runs/budget")
    lengths: tuple[int, ...] = (150, 300, 600, 900)
    """Steps of each training."""
    seeds: tuple[int, ...] = (15, 16, 17)
    correlation: float = ranking.DEMO_TIE
    jobs: int = 2
    """Encoders to train at the same time; they share the cores."""
    known: tuple[Path, ...] = ()
    """Files ``measured/*.json``: measurements of the same settings are reused."""
    quick: bool = False
    """Two seeds, 10 and 20 steps, to test the study; the numbers mean nothing."""


def named(method: str, steps: int) -> str:
    return f"{method}, {steps} steps"


def trials_of(options: Options, seed: int) -> list[Trial]:
    trials = []
    for steps in options.lengths:
        shared = ranking.features_only(options, steps)
        for method in METHODS:
            one = ranking.trial(shared, method, seed)
            folder = one.folder.with_name(f"{method}-{steps}-{seed}")
            trials.append(replace(one, name=named(method, steps), config=replace(one.config, out=folder)))
    return trials


def operations(method: str, trial: Trial) -> float:
    """PFLOP per step with the demo's batch."""
    per_clip = cost.pretraining(method, trial.config.backbone, CLIP, trial.config.settings).operations
    return per_clip * DEMO_BATCH / 1e15


def write_table(rows: Sequence[Row], spent: dict[str, float], options: Options) -> str:
    """One row per length: cost, R@1 of both methods on free and conflicting scenes, gain of `dsm`."""
    values, tests = by_seed(rows), [f"{test}@{options.correlation:g}" for test in TESTS[:2]]
    lines = [f"`{study_command()}`\n", f"{caption(rows)}\n"]
    lines.append("| steps | PFLOP, moco / dsm | " + " | ".join(
        f"`{test}`: moco | dsm | dsm minus moco" for test in tests) + " |")  # fmt: skip
    lines.append("|---" * (2 + 3 * len(tests)) + "|")
    for steps in options.lengths:
        cells = [str(steps), " / ".join(f"{spent[method] * steps:.2g}" for method in METHODS)]
        for test in tests:
            keys = [(named(method, steps), test, "R@1") for method in METHODS]
            cells += [mean_of(list(values[key].values())).text() for key in keys]
            cells.append(mean_of(paired(values, keys[1], keys[0])).text(signed=True))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw(rows: Sequence[Row], spent: dict[str, float], options: Options, file: Path) -> None:
    """R@1 against operations: one panel per test, one dot per seed, a line through the means."""
    by_key = by_seed(rows)
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for panel, test in zip(figure.subplots(1, 2, sharey=True), TESTS[:2], strict=True):
        for method, marker in zip(METHODS, "so", strict=True):
            at = [spent[method] * steps for steps in options.lengths]
            keys = [
                (named(method, steps), f"{test}@{options.correlation:g}", "R@1") for steps in options.lengths
            ]
            values = [[100 * value for value in by_key[key].values()] for key in keys]
            panel.plot(
                at, [sum(v) / len(v) for v in values], f"-{marker}", color=COLOURS[method], label=method
            )
            for place, some in zip(at, values, strict=True):
                panel.plot([place] * len(some), some, ".", color=COLOURS[method], markersize=4, alpha=0.6)
        panel.set_xscale("log")
        ticks = [min(spent.values()) * steps for steps in options.lengths]
        panel.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
        panel.minorticks_off()
        panel.set_title(test)
        panel.set_xlabel("PFLOP spent in training")
        panel.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("R@1, %")
    figure.axes[0].legend(frameon=False)
    figure.savefig(file, dpi=90)


def main(options: Options) -> None:
    if options.quick:
        options = replace(options, seeds=options.seeds[:2], lengths=(10, ranking.QUICK_STEPS))
    trials, rows = ranking.measure_seeds(options, lambda seed: trials_of(options, seed), "budget")
    spent = {method: operations(method, trials[0]) for method in METHODS}
    write_text(options.out / "budget.md", write_table(rows, spent, options))
    draw(rows, spent, options, options.out / "budget.png")
    console.print(f"{options.out}: budget.json, budget.md, budget.png")


if __name__ == "__main__":
    begin(main, Options, __doc__)
