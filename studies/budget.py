"""What more compute buys: the demo's methods at other lengths: python studies/budget.py --out runs/budget

Each length is a training of its own, with the whole cosine of its rate. Writes ``budget.json``, ``budget.md``
and ``budget.png``: R@1 on free and conflicting scenes over the operations that were spent, which are
counted as ``cost.py`` counts them. What is done is not done again.
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
from dsm.verbs.settings.demo import BATCH

METHODS = ("moco", "dsm")


@dataclass(frozen=True)
class Options:
    out: Path = Path("runs/budget")
    lengths: tuple[int, ...] = (150, 300, 600, 900)
    """Steps of each training."""
    seeds: tuple[int, ...] = (15, 16, 17)
    correlation: float = ranking.DEMO_TIE
    jobs: int = 2
    """Encoders trained side by side; they share the cores."""
    known: tuple[Path, ...] = ()
    """Files ``measured/*.json``: what they hold of the same settings is taken, not measured again."""
    quick: bool = False
    """Two seeds, 10 and 20 steps: numbers that mean nothing, by the same way."""


def named(method: str, steps: int) -> str:
    return f"{method}, {steps} steps"


def trials_of(options: Options, seed: int) -> list[Trial]:
    found = []
    for steps in options.lengths:
        shared = ranking.features_only(options, steps)
        for method in METHODS:
            one = ranking.trial(shared, method, seed)
            folder = one.folder.with_name(f"{method}-{steps}-{seed}")
            found.append(replace(one, name=named(method, steps), config=replace(one.config, out=folder)))
    return found


def operations(method: str, trial: Trial) -> float:
    """PFLOP of a step of the demo's batch."""
    spent = cost.pretraining(method, trial.config.backbone, CLIP, trial.config.settings).operations
    return spent * BATCH / 1e15


def write_table(rows: Sequence[Row], spent: dict[str, float], options: Options) -> str:
    """A line a length: what it costs, R@1 of both on free and conflicting scenes, and what dsm gains."""
    found, tests = by_seed(rows), [f"{test}@{options.correlation:g}" for test in TESTS[:2]]
    lines = [f"`{study_command()}`\n", f"{caption(rows)}\n"]
    lines.append("| steps | PFLOP, moco / dsm | " + " | ".join(
        f"`{test}`: moco | dsm | dsm less moco" for test in tests) + " |")  # fmt: skip
    lines.append("|---" * (2 + 3 * len(tests)) + "|")
    for steps in options.lengths:
        cells = [str(steps), " / ".join(f"{spent[method] * steps:.2g}" for method in METHODS)]
        for test in tests:
            keys = [(named(method, steps), test, "R@1") for method in METHODS]
            cells += [mean_of(list(found[key].values())).told() for key in keys]
            cells.append(mean_of(paired(found, keys[1], keys[0])).told(signed=True))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw(rows: Sequence[Row], spent: dict[str, float], options: Options, file: Path) -> None:
    """R@1 over operations, a panel a test, a dot a seed and a line through the means."""
    found = by_seed(rows)
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for panel, test in zip(figure.subplots(1, 2, sharey=True), TESTS[:2], strict=True):
        for method, marker in zip(METHODS, "so", strict=True):
            at = [spent[method] * steps for steps in options.lengths]
            keys = [
                (named(method, steps), f"{test}@{options.correlation:g}", "R@1") for steps in options.lengths
            ]
            values = [[100 * value for value in found[key].values()] for key in keys]
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
