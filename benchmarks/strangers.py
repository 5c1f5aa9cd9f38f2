"""Evil files given to every command that may read such a file: what it says, how long, and how much memory.

    python benchmarks/strangers.py [--cases ../shared/cases] [--kinds weights] [--json strangers.json]

Each kind of file is made here, a few of each kind of attack, and the folders `untrusted` and `damaged_h264`
of `--cases` are added. A command may work or end with one sentence and exit code 2; it must take less than
2 GB and a minute, and send no control characters to the terminal. Prints every line where that is not so, and
at the end a count and the largest numbers. Commands are forks of one process, whose memory counts.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from evil import features, lists, runs, videos, weights
from limits import make_inputs
from lives import begin, left_of, warm

MOST_MB, MOST_SECONDS = 2000, 60


@dataclass(frozen=True)
class Options:
    cases: Path = Path(__file__).parents[2] / "shared" / "cases"
    """Folder with more evil files."""
    kinds: tuple[str, ...] = ()
    """Some kinds of files only."""
    match: str = ""
    """Only files whose name contains this."""
    json: Path | None = None
    """File for all that was said."""


def run(words: list[str], log: Path) -> tuple[int, float, float, str]:
    """The exit code of a command, its seconds, its largest memory in MB, and what it said."""
    log.write_text("")
    begun = time.monotonic()
    process = begin(words, log)
    while True:
        number, status, usage = os.wait4(process, os.WNOHANG)
        if number:
            break
        if time.monotonic() - begun > MOST_SECONDS:
            os.kill(process, signal.SIGKILL)
        time.sleep(0.01)
    for one in left_of(process):
        os.kill(one, signal.SIGKILL)
    said = log.read_bytes().decode("utf-8", "replace")
    seconds = time.monotonic() - begun
    return os.waitstatus_to_exitcode(status), seconds, usage.ru_maxrss / 1000, said


COMMANDS = {
    "weights": """
        weights inspect FILE
        extract --weights FILE --data TEST --out OUT/f.npz --backbone tiny SMALL
        export --weights FILE --out OUT/e.safetensors
        test --weights FILE --data.test TEST --out OUT/t""",
    "features": """
        retrieve --gallery FILE --queries FILE --out OUT/r --shown 1
        embed FILE --out OUT/e
        search --index FILE --query VIDEO --weights RUN --out OUT/s.png
        search --index FILE --query VIDEO
        explore FILE --out OUT/x.html
        data export FILE --to parquet --out OUT/f.parquet
        data features FILE --out OUT/new.npz""",
    "lists": """
        data check FILE --clean OUT/c.txt --workers 1
        data subset FILE --fraction 0.5 --out OUT/s.txt
        data split FILE --group-regex . --out OUT/split
        data leaks FILE TEST --group-regex [0-9]+
        data pack FILE --out OUT/pack --workers 1
        extract --weights none --backbone tiny --data FILE --out OUT/f.npz SMALL
        data convert FILE --columns path,label --out OUT/c.txt
        finetune --data.train FILE LOOP --out OUT/run
        probe --train GOOD --test GOOD --groups FILE --out OUT/p""",
    "videos": """
        data check FILE --workers 1
        extract --weights none --backbone tiny --data FILE --out OUT/f.npz SMALL
        look FILE --weights RUN --out OUT/l.gif
        search --index GOOD --query FILE --weights RUN
        data index FILE --unlabelled --out OUT/i.txt --workers 1""",
    "runs": """
        report FILE --out OUT/r.html
        card FILE
        weights inspect FILE
        test --weights FILE --data.test TEST --out OUT/t
        pretrain --data.train TRAIN LOOP --out FILE --resume
        export --weights FILE --out OUT/e.safetensors""",
}
"""The commands that may be given each kind of file."""
SMALL = "--frames 4 --resize 40 --size 32 --workers 0"
LOOP = (
    "--data.workers 0 --steps 1 --backbone tiny --clip.frames 4 --clip.size 32 --clip.resize 40 "
    "--data.batch-size 2"
)


def commands(kind: str, data: Path, out: Path) -> list[list[str]]:
    """The words of these commands, but for FILE."""
    names = {
        "TRAIN": data / "train.txt", "TEST": data / "test.txt", "RUN": data / "run", "GOOD": data / "f.npz",
        "VIDEO": next((data / "videos").rglob("*.mp4")),
    }  # fmt: skip
    lines = COMMANDS[kind].replace("SMALL", SMALL).replace("LOOP", LOOP).strip().splitlines()
    return [[str(names.get(word, word)).replace("OUT", str(out)) for word in line.split()] for line in lines]


def files_of(kind: str, folder: Path, cases: Path) -> list[Path]:
    """The files of a kind, and those of ``cases`` that are of it."""
    files = sorted(folder.iterdir())
    if kind == "lists":
        files += sorted(folder.glob("classes_*/list.txt"))
    if kind == "videos":
        files += [folder, *(path.with_suffix(".tar") / "a" for path in sorted(folder.glob("pack_*.json")))]
    endings = {"weights": (".pt", ".safetensors"), "features": (".npz",), "videos": (".mp4", ".mkv")}
    given = [one for name in ("untrusted", "damaged_h264") for one in sorted((cases / name).glob("*"))]
    return files + [one for one in given if one.suffix in endings.get(kind, ())]


def faults_of(code: int, seconds: float, mb: float, said: str, out: Path) -> list[str]:
    """What must not be."""
    plain = re.sub("\x1b\\[[0-9;]*m", "", said)
    texts = [plain, *(file.read_text(errors="replace") for file in out.rglob("*") if file.is_file())]
    found = {
        f"CODE {code}": code not in (0, 2),
        "TRACE": "Traceback" in said,
        f"{mb:.0f} MB": mb > MOST_MB,
        "HUNG": seconds > MOST_SECONDS,
        "SILENT": code == 2 and not re.search("^dsm:", plain, re.MULTILINE),
        "RAW": bool(re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", plain)),
        "SECRET": any("root:x:0" in text for text in texts),
        f"LONG {len(plain)}": len(plain) > 20_000,
    }
    return [name for name, there in found.items() if there]


def main(options: Options) -> None:
    kept: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="strangers-") as temporary:
        work = Path(temporary)
        data, log, out, copy = work / "data", work / "log", work / "out", work / "copy"
        log.touch()
        warm()
        make_inputs(data, log)
        video = str(next((data / "videos").rglob("*.mp4")))
        makers: dict[str, Callable[[Path], object]] = {
            "weights": weights,
            "features": lambda folder: features(folder, video),
            "lists": lambda folder: lists(folder, video),
            "videos": lambda folder: videos(folder, video),
            "runs": lambda folder: runs(folder, data / "run"),
        }
        for kind, make in makers.items():
            if options.kinds and kind not in options.kinds:
                continue
            folder = work / kind
            folder.mkdir()
            make(folder)
            files = [one for one in files_of(kind, folder, options.cases) if options.match in one.name]
            for file, line in itertools.product(files, commands(kind, data, out)):
                shutil.rmtree(out, ignore_errors=True)
                out.mkdir()
                subject = file
                if kind == "runs":  # a command may write to it
                    shutil.rmtree(copy, ignore_errors=True)
                    subprocess.run(["cp", "-a", file, copy], check=True)
                    subject = copy
                words = [str(subject) if word == "FILE" else word for word in line]
                code, seconds, mb, said = run(words, log)
                faults = faults_of(code, seconds, mb, said, out)
                verb = " ".join(line[: 2 if line[0] in ("data", "weights") else 1])
                one = {"file": file.name, "verb": verb, "code": code, "mb": mb, "seconds": seconds}
                kept.append({**one, "kind": kind, "faults": faults, "said": said[-2000:]})
                if faults:
                    last = " ".join(said.strip().splitlines()[-1:])[:300]
                    print(f"{kind} {file.name!r:.60} | {verb} | {' '.join(faults)} | {last!r}", flush=True)
            print(f"{kind}: {len(files)} files done", flush=True)
            if options.json:
                options.json.write_text(json.dumps(kept, indent=1))
            shutil.rmtree(folder, ignore_errors=True)
    bad = sum(bool(one["faults"]) for one in kept)
    most = [max((one[name] for one in kept), default=0) for name in ("mb", "seconds")]
    print(f"{len(kept)} commands, {bad} with a fault; most {most[0]:.0f} MB and {most[1]:.0f} s")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
