"""Every verb on a machine that lacks something: open files, memory, disk, a folder to write to, a reader.

    python benchmarks/limits.py [--verbs pretrain extract] [--limits files full] [--json limits.json]

Prints a table of verbs and limits, and below it what was said. A verb may do its work (`done`), or end with
one sentence and exit code 2 (`told`). In capitals is what must not be: a TRACE of Python, another CODE,
HALF of an output under its final name, something LEFT (a temporary file, a lock or a process), or it HUNG.
Nobody reads what a verb prints to a closed pipe: there any code will do that has no trace.

Disks are small tmpfs, which only root can mount; for others the size of files is limited instead.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import tyro
from lives import begin, end_of, left_of, warm

OUT = "OUT"
"""Stands for the output of a verb among its words."""
NO_OUTPUT = ("doctor", "models", "recipes", "data leaks", "weights inspect")


@dataclass(frozen=True)
class Options:
    verbs: tuple[str, ...] = ()
    """Some verbs only."""
    limits: tuple[str, ...] = ()
    """Some limits only."""
    patience: int = 240
    """Seconds after which a command counts as hung."""
    json: Path | None = None
    """File for what was said."""


def commands(data: Path) -> dict[str, list[str]]:
    """The words of each verb; OUT is what it writes."""
    train, test, tuned, run = (str(data / name) for name in ("train.txt", "test.txt", "tuned", "run"))
    features, video = str(data / "f.npz"), str(next((data / "videos").rglob("*.mp4")))
    encoder = ["--backbone", "tiny", "--frames", "4", "--resize", "40", "--size", "32"]
    clip = ["--clip.frames", "4", "--clip.size", "32", "--clip.resize", "40"]
    loop = ["--data.batch-size", "4", "--data.workers", "1", "--steps", "4", "--save-every", "2", *clip]
    weights = ["--weights", tuned]
    lines = {
        "doctor": [],
        "models": [],
        "recipes": [],
        "weights inspect": [tuned],
        "card": [OUT],
        "demo": ["--out", OUT, "--steps", "4", "--videos", "32", "--tests", "8"],
        "data synth": [OUT, "--train", "8", "--test", "4", "--motions", "4", "--workers", "1"],
        "data index": [str(data / "videos"), "--out", OUT + ".txt", "--unlabelled", "--workers", "1"],
        "data check": [train, "--clean", OUT + ".txt", "--json", OUT + ".json", "--workers", "1"],
        "data convert": [str(data / "theirs.csv"), "--columns", "path,label", "--out", OUT + ".txt"],
        "data subset": [train, "--fraction", "0.5", "--out", OUT + ".txt"],
        "data split": [train, "--group-regex", "[0-9]+", "--out", OUT],
        "data leaks": [train, test, "--group-regex", "[0-9]+"],
        "data dedup": [train, "--features", features, "--out", OUT + ".txt"],
        "data export": [features, "--to", "projector", "--out", OUT],
        "data features": [str(data / "theirs.npz"), "--features", "x", "--paths", "p", "--out", OUT + ".npz"],
        "data frames": [train, "--out", OUT, "--short-side", "40", "--workers", "1"],
        "data pack": [train, "--out", OUT, "--short-side", "40", "--workers", "1"],
        "data preview": [train, "--out", OUT + ".html", *clip, "--show", "1"],
        "pretrain": ["--data.train", train, "--backbone", "tiny", "--out", OUT, *loop],
        "finetune": ["--data.train", train, "--data.test", test, *weights, "--out", OUT, *loop],
        "test": [*weights, "--data.test", test, "--windows", "1", "--data.workers", "1", "--out", OUT],
        "run": ["still-camera", "--data.train", train, "--data.test", test, "--data.workers", "1",
                "--backbone", "tiny", "--pretrain.steps", "2", "--pretrain.batch-size", "4",
                "--pretrain.frames", "4", "--pretrain.size", "32", "--finetune.steps", "2",
                "--finetune.batch-size", "4", "--finetune.frames", "4", "--finetune.size", "32",
                "--windows", "1", "--out", OUT],
        "extract": ["--weights", "none", *encoder, "--data", train, "--out", OUT + ".npz", "--workers", "1"],
        "retrieve": ["--gallery", features, "--queries", features, "--out", OUT, "--shown", "1"],
        "look": [video, *weights, "--out", OUT + ".gif"],
        "probe": ["--train", features, "--test", features, "--out", OUT],
        "embed": [features, "--gallery", features, "--out", OUT],
        "search": ["--index", features, "--query", video, "--weights", run, "--out", OUT + ".png"],
        "explore": [train, "--weights", run, "--out", OUT + ".html", "--workers", "1"],
        "bias": [*weights, "--data.test", test, "--quick", "--windows", "1", "--data.workers", "1",
                 "--out", OUT],
        "report": [run, "--out", OUT + ".html"],
        "export": [*weights, "--out", OUT + ".safetensors"],
    }  # fmt: skip
    return {verb: [*verb.split(), *words] for verb, words in lines.items()}


def make_inputs(data: Path, log: Path) -> None:
    """Lists, a pretraining, a fine-tuning and features."""
    import numpy as np

    from dsm.synthetic.motionscenes import write_motionscenes
    from dsm.synthetic.settings import MotionScenesConfig

    write_motionscenes(MotionScenesConfig(train=12, test=6, motions=3), data, workers=1)
    made = commands(data)
    for verb, out in (("pretrain", "run"), ("finetune", "tuned"), ("extract", "f")):
        words = [word.replace(OUT, str(data / out)) for word in made[verb]]
        if verb == "finetune":
            words[words.index("--weights") + 1] = str(data / "run")
        if verb == "extract":
            words[words.index("--weights") + 1] = str(data / "run")
            del words[words.index("--backbone") :][:8]
        assert end_of(begin(words, log)) == 0, log.read_text()
    lines = [line.split() for line in (data / "train.txt").read_text().splitlines() if line[0] != "#"]
    (data / "theirs.csv").write_text("\n".join(f"{line[0]},{line[1]}" for line in lines) + "\n")
    names = [line[0] for line in lines]
    np.savez(data / "theirs.npz", x=np.random.default_rng(0).normal(size=(len(names), 8)), p=names)


def memory_more(mb: int) -> None:
    """Allow this process so much more address space than it has."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
    resource.setrlimit(resource.RLIMIT_AS, (size + mb * 2**20,) * 2)


def closed_pipe() -> None:
    read, write = os.pipe()
    os.dup2(write, 1)
    os.close(read)
    os.close(write)


@contextlib.contextmanager
def disk(place: Path, size: str, *, read_only: bool = False) -> Iterator[bool]:
    """A small disk mounted at a folder; False where that is not allowed."""
    place.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    good = subprocess.run(mount, capture_output=True).returncode == 0
    if good and read_only:
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    try:
        yield good
    finally:
        if good:
            subprocess.run(["umount", "-l", str(place)], check=True)


def fresh(words: list[str], log: Path, limit: str) -> int:
    """Run ``dsm WORDS`` in a new Python process under a shell's limit; its process number."""
    line = ["bash", "-c", f'{limit} && exec "$@"', "bash", sys.executable, "-m", "dsm", *words]
    with log.open("ab") as file:
        return subprocess.Popen(line, stdout=file, stderr=file, start_new_session=True).pid


def file_size(size: int) -> Callable[[], object]:
    return lambda: (
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )


SHELL = {
    "files": "ulimit -n 24",
    "1 GB": "ulimit -v 1000000",
    "1.5 GB": "ulimit -v 1500000",
    "3 GB": "ulimit -v 3000000",
    "6 GB": "ulimit -v 6000000",
    "no stderr": "exec 2>&-",
}
"""Limits of a process that has not imported anything."""
FORKED: dict[str, Callable[[], object]] = {
    "+16 MB": lambda: memory_more(16),
    "+64 MB": lambda: memory_more(64),
    "+256 MB": lambda: memory_more(256),
    "no stdin": lambda: os.close(0),
    "no reader": closed_pipe,
    "16 files": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16)),
}
DISKS = {"full": "8k", "half": "", "read-only": "1m"}
"""Sizes; that of "half" is half of what the verb writes."""
LIMITS = (*SHELL, *FORKED, *DISKS)


def written_by(words: list[str], folder: Path) -> list[str]:
    """The outputs that there are."""
    outputs = [Path(word) for word in words if word.startswith(f"{folder}/")]
    return [str(path) for path in outputs if path.exists()]


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def verdict(
    verb: str, limit: str, code: int, said: str, words: list[str], folder: Path, session: int, seconds: float,
    patience: int,
) -> str:  # fmt: skip
    """What became of a command."""
    faults = []
    if seconds > patience:
        faults.append("HUNG")
    elif "Traceback" in said or "Exception ignored" in said:
        faults.append("TRACE")
    if code not in (0, 2) and not (limit == "no reader" and code in (1, 141)) and "HUNG" not in faults:
        faults.append(f"CODE {code}")
    sentences = len(re.findall("^dsm: ", said, re.MULTILINE))
    if code == 2 and limit != "no stderr" and sentences != 1:
        faults.append("TWICE" if sentences else "SILENT")
    names = [path.name for path in folder.rglob(".*")]
    time.sleep(0.2)
    running = left_of(session)
    if any(name.endswith((".dsm-part", ".dsm-lock")) for name in names) or running:
        faults.append("LEFT")
    for one in running:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)
    whole = [path for path in written_by(words, folder) if Path(path).is_file()]
    if code and verb != "card" and whole and limit not in ("no reader", "no stderr"):
        faults.append("HALF")  # one of several, or a file that should not be there
    return " ".join(faults) or ("done" if code == 0 else "told")


def main(options: Options) -> None:
    table: dict[str, dict[str, str]] = {}
    told: dict[str, dict[str, str]] = {}
    chosen = [one for one in LIMITS if not options.limits or one in options.limits]
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        data, log = work / "data", work / "log"
        log.touch()
        warm()
        make_inputs(data, log)
        print("verb".ljust(16), *(limit.ljust(9) for limit in chosen), flush=True)
        for verb, line in commands(data).items():
            if options.verbs and verb not in options.verbs:
                continue
            table[verb], told[verb] = {}, {}
            print(verb.ljust(16), end=" ", flush=True)
            written = 0
            for limit in chosen:
                if limit in DISKS and verb in NO_OUTPUT:
                    print("-".ljust(9), end=" ", flush=True)
                    continue
                folder = work / "out"
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                words = [word.replace(OUT, str(folder / "out")) for word in line]
                if limit == "half" and not written:
                    if verb == "card":
                        shutil.copytree(data / "tuned", folder / "out")
                    assert end_of(begin(words, log)) == 0, log.read_text()[-3000:]
                    written = size_of(folder)
                    shutil.rmtree(folder)
                    folder.mkdir()
                size = f"{written // 2048}k" if limit == "half" else DISKS.get(limit, "")
                if verb == "card" and size:
                    size = f"{size_of(data / 'tuned') // 1024 + 100}k"
                log.write_text("")
                with disk(folder, size) if size else contextlib.nullcontext(True) as mounted:
                    if verb == "card":
                        shutil.copytree(data / "tuned", folder / "out")
                    if limit == "full" and mounted:
                        with contextlib.suppress(OSError), (folder / "filler").open("wb", 0) as filler:
                            while True:
                                filler.write(bytes(2**10))
                    if limit == "read-only" and mounted:
                        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
                    begun = time.monotonic()
                    if limit in SHELL:
                        process = fresh(words, log, SHELL[limit])
                    elif mounted:
                        process = begin(words, log, FORKED.get(limit, lambda: None))
                    else:
                        process = begin(words, log, file_size(300))
                    code = end_of(process, options.patience)
                    seconds = time.monotonic() - begun
                    said = re.sub(r"\x1b\[[0-9;]*m", "", log.read_text(errors="replace"))
                    found = verdict(
                        verb, limit, code, said, words, folder, process, seconds, options.patience
                    )
                table[verb][limit] = found
                told[verb][limit] = said.replace(str(work), "")[-3000:]
                print(found.ljust(9), end=" ", flush=True)
            print(flush=True)
            if options.json:
                options.json.write_text(json.dumps({"table": table, "told": told}, indent=1))
        for verb, row in told.items():
            for limit, said in row.items():
                if table[verb][limit] != "done":
                    lines = [one for one in said.splitlines() if one.strip()]
                    short = next((one for one in lines if one.startswith("dsm: ")), "\n".join(lines[-8:]))
                    print(f"\n{verb}, {limit}: {table[verb][limit]}\n{short[:600]}")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
