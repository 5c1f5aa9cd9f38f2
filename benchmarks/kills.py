"""Verbs killed at random moments, raced by a second one, and resumed from damaged checkpoints.

    python benchmarks/kills.py [--kills 25] [--signal KILL] [--races 10] [--corruptions 32]

Each verb runs once undisturbed. Then it is begun and killed again and again, at moments drawn over the time
that the undisturbed one took, until it ends: what it wrote must be equal, with nothing left over. In a race
two processes begin at once with one output: one must win, and the other say so. Every life is a fork of this
process, which has imported all modules once.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tyro

VERBS = ("pretrain", "finetune", "extract", "test", "pack", "frames", "check")
TIMES = ("clips_per_second", "wait_seconds", "work_seconds", "data_wait")
PATIENCE = 600
"""Seconds after which a life that does not end counts as hung."""


@dataclass(frozen=True)
class Options:
    kills: int = 25
    """For each verb."""
    signal: Literal["KILL", "TERM"] = "KILL"
    races: int = 10
    """For each verb."""
    corruptions: int = 32
    """Of a checkpoint."""
    verbs: tuple[str, ...] = VERBS
    steps: int = 24
    """Of a training."""
    seed: int = 0
    log: Path = field(default_factory=lambda: Path(tempfile.gettempdir()) / "kills.log")
    """What the verbs say."""


def begin(words: list[str], log: Path) -> int:
    """Run ``dsm WORDS`` in a fork; its process number."""
    child = os.fork()
    if child:
        return child
    os.setsid()
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    from dsm.cli.main import main

    sys.argv = ["dsm", *words]
    code = 1
    try:
        main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def end_of(process: int) -> int:
    """The exit code of a life, once it has ended; that of one that hangs is -9."""
    begun = time.monotonic()
    while True:
        number, status = os.waitpid(process, os.WNOHANG)
        if number:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() - begun > PATIENCE:
            os.kill(process, signal.SIGKILL)
        time.sleep(0.01)


def training(steps: int) -> list[str]:
    return [
        "--data.batch-size", "8", "--data.workers", "1", "--backbone", "tiny", "--clip.frames", "4",
        "--clip.size", "32", "--clip.resize", "40", "--steps", str(steps), "--log-every", "1",
        "--save-every", "4",
    ]  # fmt: skip


def commands(data: Path, steps: int) -> dict[str, list[str]]:
    """The words of each verb, without ``--out``."""
    train, test = str(data / "train.txt"), str(data / "test.txt")
    clip = ["--frames", "4", "--resize", "40", "--size", "32", "--workers", "1", "--batch-size", "2"]
    return {
        "pretrain": ["pretrain", "--data.train", train, *training(steps), "--dsm.queue", "32"],
        "finetune": ["finetune", "--data.train", train, "--data.test", test, "--test-every", "1",
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
    import torch

    from dsm.evaluate.features import load_features
    from dsm.models.weights import read_checkpoint
    from dsm.runs.folder import read_metrics

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
            tensors = {f"method.{k}": v for k, v in state["method"].items()}
            tensors |= {f"health.{i}": v for i, v in enumerate(state["health"]["newest"])}
            for key, tensor in tensors.items():
                found[f"{name} {key}"] = torch.as_tensor(tensor).numpy().tobytes()
            found[name] = [state["step"], state["best"], state["best_step"], state["owed"]]
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
    from dsm.cli.commands import VERBS as COMMANDS
    from dsm.data.lists import read_list, write_list
    from dsm.synthetic.motionscenes import write_motionscenes
    from dsm.synthetic.settings import MotionScenesConfig

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        data = work / "data"
        write_motionscenes(MotionScenesConfig(train=16, test=8), data, workers=1)
        write_list(data / "test.txt", read_list(data / "test.txt"))
        for module in (
            *(verb.module for verb in COMMANDS.values()),
            "torch.utils.tensorboard",
            "matplotlib.figure",
        ):
            importlib.import_module(module)
        gc.freeze()
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
            if options.races:
                tell(f"races: {raced(verb, words, reference, work, options)}")
            if verb == "pretrain" and options.corruptions:
                tell(f"corruptions: {corrupted(words, whole, reference[0], work, options)}")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
