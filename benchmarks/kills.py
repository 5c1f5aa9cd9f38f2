"""Verbs killed at random moments, raced by a second one, and resumed from damaged checkpoints.

    python benchmarks/kills.py [--kills 25] [--signal KILL] [--workers 10] [--races 10] [--corruptions 32]

Each verb runs once undisturbed. Then it is begun and killed again and again, at moments drawn over the time
that the undisturbed one took, until it ends: what it wrote must be equal, with nothing left over. Then one of
its worker processes is killed by SIGKILL: the verb goes on, or says so and is begun again, and ends equal. In
a race two processes begin at once with one output: one must win, and the other say so. Every life is a fork
of this process, which has imported all modules once.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tyro
from lives import begin, children, end_of, warm

VERBS = ("pretrain", "finetune", "extract", "test", "pack", "frames", "check")
TIMES = ("clips_per_second", "wait_seconds", "work_seconds", "data_wait")


@dataclass(frozen=True)
class Options:
    kills: int = 25
    """For each verb."""
    signal: Literal["KILL", "TERM"] = "KILL"
    workers: int = 10
    """Lives of each verb in which one of its workers is killed."""
    races: int = 10
    """For each verb."""
    corruptions: int = 32
    """Of a checkpoint."""
    verbs: tuple[str, ...] = VERBS
    steps: int = 12
    """Of a training."""
    figures: bool = False
    """Draw the figures of a training, which takes most of the time of so short a one."""
    seed: int = 0
    log: Path = field(default_factory=lambda: Path(tempfile.gettempdir()) / "kills.log")
    """What the verbs say."""


def training(steps: int) -> list[str]:
    return [
        "--data.batch-size", "8", "--data.workers", "1", "--backbone", "tiny", "--clip.frames", "4",
        "--clip.size", "32", "--clip.resize", "40", "--steps", str(steps), "--log-every", "1",
        "--save-every", "2",
    ]  # fmt: skip


def commands(data: Path, steps: int) -> dict[str, list[str]]:
    """The words of each verb, without ``--out``."""
    train, test = str(data / "train.txt"), str(data / "test.txt")
    clip = ["--frames", "4", "--resize", "40", "--size", "32", "--workers", "1", "--batch-size", "2"]
    return {
        "pretrain": ["pretrain", "--data.train", train, "--monitor.list", test, "--monitor.every", "2",
                     *training(steps), "--dsm.queue", "32"],
        "finetune": ["finetune", "--data.train", train, "--data.test", test, "--test-every", "2",
                     "--test-windows", "1", *training(steps)],
        "extract": ["extract", "--weights", "none", "--backbone", "tiny", "--data", train, *clip],
        "test": ["test", "--weights", str(data / "tuned"), "--data.test", test, "--windows", "2",
                 "--batch-size", "1", "--data.workers", "1"],
        "pack": ["data", "pack", train, "--short-side", "40", "--shard-videos", "4", "--workers", "1"],
        "frames": ["data", "frames", train, "--short-side", "40", "--workers", "1"],
        "check": ["data", "check", train, "--workers", "1"],
    }  # fmt: skip


def with_out(verb: str, words: list[str], folder: Path) -> list[str]:
    """The whole command that writes to a folder, begun or taken up."""
    out = folder / "out"
    if verb == "check":
        return [*words, "--clean", str(folder / "clean.txt"), "--json", str(folder / "verdicts.json")]
    if verb == "extract":
        return [*words, "--out", str(folder / "features.npz")]
    words = [*words, "--out", str(out)]
    if verb in ("pretrain", "finetune"):
        if any((out / "checkpoints").glob("step_*.pt")):
            return [*words, "--resume"]
        return [*words, "--overwrite"] if out.exists() else words
    return words


def written(verb: str, folder: Path) -> dict[str, Any]:
    """What a verb has written, to be compared."""
    from dsm.evaluate.feature_files import load_features
    from dsm.models.weights import read_checkpoint
    from dsm.runs.logs import read_metrics

    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if ".tfevents." not in path.name}
    found: dict[str, Any] = {"names": sorted(names)}
    out = folder / "out"
    if verb in ("pretrain", "finetune"):
        lines = [{k: str(v) for k, v in line.items() if k not in TIMES} for line in read_metrics(out)]
        found["lines"] = lines
        checkpoints = sorted((out / "checkpoints").glob("step_*.pt"))
        for path in checkpoints[:-1]:  # SIGTERM saves at other steps
            names.discard(str(path.relative_to(folder)))
        found["names"] = sorted(names)
        best = out / "checkpoints" / "best.pt"
        for name in [checkpoints[-1].name, *([best.name] if best.exists() else [])]:
            state = read_checkpoint(out / "checkpoints" / name)
            found |= {f"{name} {key}": value for key, value in flat(state).items()}
        found["rows"] = json.loads((out / "results.json").read_text())["rows"]
    elif verb == "extract":
        features = load_features(folder / "features.npz")
        found |= {"features": features.features.tobytes(), "paths": features.paths, "meta": features.meta}
    elif verb == "test":
        found |= {name: (out / name).read_bytes() for name in ("predictions.csv", "classes.csv")}
        found["rows"] = json.loads((out / "results.json").read_text())["rows"]
    else:
        files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".txt"]
        found |= {str(path.relative_to(folder)): path.read_bytes() for path in files}
        for path in folder.rglob("*.txt"):
            found[path.name] = path.read_text().replace(str(folder), "")
        if verb == "check":
            judged = json.loads((folder / "verdicts.json").read_text())["files"]
            found["verdicts.json"] = [{**one, "seconds": 0} for one in judged]  # that judging took
    return found


def flat(state: Any, name: str = "") -> dict[str, Any]:
    """All that a checkpoint holds, tensors as their bytes: weights, optimiser, best score, looks, health."""
    import torch

    if isinstance(state, torch.Tensor):
        return {name: state.numpy().tobytes()}
    if isinstance(state, (dict, list, tuple)):
        inside = state.items() if isinstance(state, dict) else enumerate(state)
        return {k: v for key, value in inside for k, v in flat(value, f"{name}.{key}").items()}
    return {name: state}


def differences(one: dict[str, Any], two: dict[str, Any]) -> list[str]:
    return [name for name in sorted(one.keys() | two.keys()) if one.get(name) != two.get(name)]


def killed(
    verb: str, words: list[str], reference: tuple[dict[str, Any], float], work: Path, options: Options
) -> str:
    """A verb killed as often as asked, and what became of it."""
    expected, seconds = reference
    at, number = random.Random(options.seed), getattr(signal, f"SIG{options.signal}")
    kills, ends, faults, codes = 0, 0, [], Counter[int]()
    while kills < options.kills or ends == 0:
        folder = work / "killed" / verb  # named as the undisturbed one, but for its parent
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        lives = 0
        while True:
            process = begin(with_out(verb, words, folder), options.log)
            last = kills >= options.kills or lives >= 12
            if not last:
                time.sleep(at.uniform(0, 0.8 * seconds))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, number)
            code = end_of(process)
            codes[code] += 1
            lives += 1
            if code in (-number, 128 + number):
                kills += 1
                continue
            if code == 2 and verb in ("extract", "check") and lives > 1:
                code = 0  # it was killed at the very end, and says that its output exists
            if code:
                faults.append(f"exit code {code}")
            break
        ends += 1
        faults += differences(expected, written(verb, folder))
    told = ", ".join(f"{code}: {count}" for code, count in sorted(codes.items()))
    return f"{kills} kills, {ends} ends, exit codes {told}; {'; '.join(faults) if faults else 'all equal'}"


def bereaved(
    verb: str, words: list[str], reference: tuple[dict[str, Any], float], work: Path, options: Options
) -> str:
    """A verb of which one worker is killed, as often as asked; where it ends with a sentence, again."""
    expected, seconds = reference
    at, faults, codes, killed = random.Random(options.seed), [], Counter[int](), 0
    while killed < options.workers:
        folder = work / "bereaved" / verb
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        process = begin(with_out(verb, words, folder), options.log)
        moment = time.monotonic() + at.uniform(0, 0.8 * seconds)
        while not (workers := children(process)) or time.monotonic() < moment:
            if os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                break
            time.sleep(0.01)
        for worker in workers[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
                killed += 1
        code = end_of(process)
        codes[code] += 1
        if code == 2:
            code = end_of(begin(with_out(verb, words, folder), options.log))
        faults += [f"exit code {code}"] if code else differences(expected, written(verb, folder))
    told = ", ".join(f"{code}: {count}" for code, count in sorted(codes.items()))
    return f"{killed} kills, exit codes {told}; {'; '.join(faults) if faults else 'all equal'}"


def raced(
    verb: str, words: list[str], reference: tuple[dict[str, Any], float], work: Path, options: Options
) -> str:
    """Two at once, as often as asked."""
    kinds, faults, longest = Counter[str](), [], 0.0
    for _ in range(options.races):
        folder = work / "raced" / verb
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        line, begun = with_out(verb, words, folder), time.monotonic()
        left = {begin(line, options.log), begin(line, options.log)}
        codes = []
        while left:
            for process in list(left):
                number, status = os.waitpid(process, os.WNOHANG)
                if number:
                    left.remove(process)
                    codes.append(os.waitstatus_to_exitcode(status))
                    if codes[-1] == 2:
                        longest = max(longest, time.monotonic() - begun)
            time.sleep(0.01)
        kinds["one won" if sorted(codes) == [0, 2] else f"exit codes {sorted(codes)}"] += 1
        faults += differences(reference[0], written(verb, folder))
    told = ", ".join(f"{kind}: {count}" for kind, count in kinds.items())
    return f"{told}; the other ended within {longest:.1f} s; {'; '.join(faults) if faults else 'all equal'}"


def corrupted(words: list[str], whole: Path, reference: dict[str, Any], work: Path, options: Options) -> str:
    """A run resumed after its newest checkpoint was damaged: a bit, a block of 4 kB, or the end cut off."""
    at, kinds, faults = random.Random(options.seed), Counter[str](), []
    for number in range(options.corruptions):
        folder = work / "corrupted" / "pretrain"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        checkpoints = sorted((folder / "out" / "checkpoints").glob("step_*.pt"))
        checkpoints[-1].unlink()
        newest = checkpoints[-2]
        (folder / "out" / "results.json").unlink()
        content = bytearray(newest.read_bytes())
        kind = ("bit", "block", "cut")[number % 3]
        place = at.randrange(len(content))
        if kind == "bit":
            content[place] ^= 1 << at.randrange(8)
        elif kind == "block":
            place -= place % 512
            size = len(content[place : place + 4096])
            content[place : place + 4096] = bytes(b ^ 255 for b in content[place : place + size])
        else:
            del content[place:]
        newest.write_bytes(content)
        code = end_of(begin(with_out("pretrain", words, folder), options.log))
        aside = newest.with_suffix(".unreadable")
        kinds[f"{kind} {'set aside' if aside.exists() else 'ACCEPTED'}"] += 1
        aside.unlink(missing_ok=True)
        faults += [f"exit code {code}"] if code else []
        faults += differences(reference, written("pretrain", folder))
    told = ", ".join(f"{kind}: {count}" for kind, count in kinds.items())
    return f"{told}; {'; '.join(faults) if faults else 'all ends equal'}"


def main(options: Options) -> None:
    from dsm.data.lists import read_list, write_list
    from dsm.synthetic.motionscenes import write_motionscenes
    from dsm.synthetic.settings import MotionScenesConfig

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        data = work / "data"
        write_motionscenes(MotionScenesConfig(train=16, test=8), data, workers=1)
        write_list(data / "test.txt", read_list(data / "test.txt"))
        warm()
        if not options.figures:
            importlib.import_module("dsm.verbs.train")._draw = lambda *_: []
        lines = commands(data, options.steps)
        tuned = [*lines["finetune"][:5], *training(4), "--out", str(data / "tuned")]
        assert end_of(begin(tuned, options.log)) == 0, options.log.read_text()
        for verb in options.verbs:
            whole = work / "whole" / verb
            whole.mkdir(parents=True)
            more = ["--keep", "3"] if verb == "pretrain" else []
            words, begun = [*lines[verb], *more], time.monotonic()
            code = end_of(begin(with_out(verb, words, whole), options.log))
            assert code == 0, options.log.read_text()[-3000:]
            reference = written(verb, whole), time.monotonic() - begun
            tell: Callable[[str], None] = lambda text, verb=verb: print(f"{verb}: {text}", flush=True)  # noqa: E731
            tell(f"undisturbed {reference[1]:.1f} s")
            if options.kills:
                tell(f"SIG{options.signal}: {killed(verb, words, reference, work, options)}")
            if options.workers:
                tell(f"workers killed: {bereaved(verb, words, reference, work, options)}")
            if options.races:
                tell(f"races: {raced(verb, words, reference, work, options)}")
            if verb == "pretrain" and options.corruptions:
                tell(f"corruptions: {corrupted(words, whole, reference[0], work, options)}")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
