"""Runs in trackers: the real libraries with local stores, and trackers that fail or hang."""

from __future__ import annotations

import importlib.util
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from runs import small_run
from warm_dsm import HANG, run_line

import dsm.runs.tracking as tracking
from dsm.errors import UserError
from dsm.methods.settings import DsmConfig, MethodSettings
from dsm.runs.logs import RunLog, read_metrics
from dsm.runs.trackers import TRACKERS, Ending, Line, TrackedRun
from dsm.train.config import PretrainConfig
from dsm.train.pretrain import pretrain

EXTRAS = ("trackio", "mlflow", "wandb")
INSTALLED = tuple(name for name in EXTRAS if importlib.util.find_spec(name))
TIMES = ("clips_per_second", "wait_seconds", "work_seconds", "data_wait")

needs = {
    name: pytest.mark.skipif(name not in INSTALLED, reason=f"the extra {name} is not installed")
    for name in EXTRAS
}


# A run of 15 steps with a checkpoint after 5, killed in step 9 once all trackers have step 7. No tracker has
# step 8 then, which could still have grown.
TRACKED = """
import os, signal, sys, time
from pathlib import Path
sys.path.insert(0, TESTS)
import test_trackers
from dsm.runs import tracking
from dsm.runs.logs import RunLog
from dsm.train.pretrain import pretrain

out, names = Path(OUT), NAMES
tracking.PAUSE = 0.05
write = RunLog.write

def killing(log, step, metrics):
    if step == 9:
        while min(tracking.Journal(out).sent(name) for name in ("tensorboard", *names)) < 7:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGKILL)
    write(log, step, metrics)

RunLog.write = killing
pretrain(test_trackers.tracked(Path(SCENES), out, names, resume=False))
"""

# The run's end, and what each tracker's own interface says of all runs that it knows.
READ = """
import json, sys
from pathlib import Path
sys.path.insert(0, TESTS)
import test_trackers
from dsm.runs import tracking
from dsm.verbs.train import pretrain

out, names = Path(OUT), NAMES
tracking.PATIENCE = 600
pretrain(test_trackers.tracked(Path(SCENES), out, names, resume=True))
print(json.dumps({name: getattr(test_trackers, f"read_{name}")(out) for name in ("tensorboard", *names)}))
"""


def tracked(scenes: Path, out: Path, names: tuple[str, ...], *, resume: bool) -> PretrainConfig:
    settings = MethodSettings(dsm=DsmConfig(queue=32, momentum=0.9))
    return small_run(scenes, out, steps=15, settings=settings, track=names, resume=resume)


Curves = dict[str, list[tuple[int, float]]]
"""Of each metric, its steps and values in the order in which a tracker has them."""


def script(text: str, **values: Any) -> str:
    for name, value in {"TESTS": str(Path(__file__).parent), **values}.items():
        text = text.replace(name, repr(value))
    return text


def read_trackio(out: Path) -> list[dict[str, Any]]:
    import trackio
    from trackio.sqlite_storage import SQLiteStorage

    runs = []
    for run in trackio.Api().runs("dsm"):
        curves: Curves = {}
        results, pictures = [], []
        for line in SQLiteStorage.get_logs("dsm", run.name):
            for name, value in line.items():
                if isinstance(value, (int, float)) and name != "step":
                    curves.setdefault(name, []).append((line["step"], value))
                elif isinstance(value, dict) and name == "results":
                    results += [row["metric"] for row in value["_value"]]
                elif isinstance(value, dict):
                    pictures.append(name)
        lr = (run.config or {}).get("optim.lr")
        runs.append({"curves": curves, "lr": lr, "results": results, "pictures": pictures})
    return runs


def read_mlflow(out: Path) -> list[dict[str, Any]]:
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{out.parent / 'mlflow.db'}")
    runs = []
    for experiment in client.search_experiments():
        for run in client.search_runs([experiment.experiment_id]):
            number = run.info.run_id
            curves: Curves = {
                name: [(one.step, one.value) for one in client.get_metric_history(number, name)]
                for name in run.data.metrics
            }
            table = json.loads(Path(client.download_artifacts(number, "results.json")).read_text())
            results = [row[table["columns"].index("metric")] for row in table["data"]]
            pictures = [one.path.removesuffix(".png") for one in client.list_artifacts(number, "figures")]
            lr = float(run.data.params["optim.lr"])
            runs.append({"curves": curves, "lr": lr, "results": results, "pictures": pictures})
            assert run.info.status == "FINISHED"
            assert run.data.tags["dsm.command"]
    return runs


def read_wandb(out: Path) -> list[dict[str, Any]]:
    """Offline runs have no interface to read; their files are records of the library's own protocol."""
    from wandb.proto.wandb_internal_pb2 import Record

    runs: dict[str, dict[str, Any]] = {}
    for file in sorted(out.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns):
        run: dict[str, Any] = {"curves": {}, "lr": 0, "results": [], "pictures": []}
        for text in wandb_records(file.read_bytes()):
            record = Record()
            record.ParseFromString(text)
            if record.WhichOneof("record_type") == "run":
                run = runs.setdefault(record.run.run_id, run)
                values = {item.key: item.value_json for item in record.run.config.update}
                run["lr"] = json.loads(values["optim.lr"])
            if record.WhichOneof("record_type") != "history":
                continue
            line: dict[str, Any] = {}
            for item in record.history.item:
                name, *inside = item.nested_key or [item.key]
                value = json.loads(item.value_json)
                if inside:  # a table or picture
                    line.setdefault(name, {})[inside[0]] = value
                else:
                    line[name] = value
            for name, value in line.items():
                if isinstance(value, dict) and name == "results":
                    run["results"] += ["table"] * value["nrows"]
                elif isinstance(value, dict):
                    run["pictures"].append(name)
                elif not name.startswith("_"):
                    run["curves"].setdefault(name, []).append((line["_step"], value))
    return list(runs.values())


def wandb_records(data: bytes) -> Iterator[bytes]:
    """The records of a file in the log format of LevelDB, after a header of 7 bytes."""
    place, whole, block = 7, b"", 32768
    while place + 7 <= len(data):
        if block - place % block < 7:
            place += block - place % block
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield whole
            whole = b""


def read_tensorboard(out: Path) -> list[dict[str, Any]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(out), size_guidance={"scalars": 0}).Reload()
    return [
        {
            "curves": {
                name: [(one.step, one.value) for one in board.Scalars(name)]
                for name in board.Tags()["scalars"]
            }
        }
    ]


# One of them shows what dsm does; that it does so for each takes the time of their databases.
TOGETHER = [INSTALLED[:1], pytest.param(INSTALLED, marks=pytest.mark.slow)]


@pytest.mark.skipif(not INSTALLED, reason=f"none of the extras {', '.join(EXTRAS)} is installed")
@pytest.mark.parametrize("names", TOGETHER, ids=["one", "all"])
def test_a_killed_run_that_goes_on_is_one_run_without_gap_or_double_point(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    """Killed after the trackers got steps that are then repeated, and before they got the newest."""
    out = tmp_path / "runs" / "mine"
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    for name in ("MLFLOW_TRACKING_URI", "WANDB_MODE", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "script.py"
    for text, code in ((TRACKED, 128 + signal.SIGKILL), (READ, 0)):
        file.write_text(script(text, OUT=str(out), SCENES=str(scenes), NAMES=names))
        done = run_line("python", file)
        assert done.returncode == code, done.stderr
    *others, text = done.stdout.splitlines()
    assert others == []  # nothing is printed
    logged: Curves = {}
    for step in read_metrics(out):
        for name, value in step.items():
            logged.setdefault(name, []).append((int(step["step"]), value))
    del logged["step"]
    assert [step for step, _ in logged["loss"]] == list(range(1, 16))
    for tracker, runs in json.loads(text).items():
        (run,) = runs
        assert run["curves"].keys() == logged.keys(), tracker
        for name, points in run["curves"].items():
            assert [step for step, _ in points] == [step for step, _ in logged[name]], (tracker, name)
            if name not in TIMES:  # a repeated step takes another time
                assert [value for _, value in points] == pytest.approx([value for _, value in logged[name]])
        if tracker != "tensorboard":  # which is not named, and gets the curves alone
            assert run["lr"] == 1e-3
            assert len(run["results"]) == len(json.loads((out / "results.json").read_text())["rows"]) > 1
            assert sorted(run["pictures"]) == ["figures/gradients", "figures/health"]


class Recorder:
    """A tracker in memory, which a test can take down."""

    stored: ClassVar[list[Line]] = []
    endings: ClassVar[list[Ending]] = []
    fails: ClassVar[int] = 0
    hangs: ClassVar[threading.Event | None] = None
    shown_by = "nothing"

    def __init__(self, run: TrackedRun, sent: int) -> None:
        self.sent = max((step for step, _ in self.stored), default=-1)

    def log(self, lines: Sequence[Line]) -> None:
        if self.hangs:
            self.hangs.wait(HANG)
        if Recorder.fails:
            Recorder.fails -= 1
            self.stored.append(lines[0])  # it has taken a part
            raise ConnectionError("the server is gone")
        self.stored.extend(lines)

    def add(self, ending: Ending) -> None:
        self.endings.append(ending)

    def close(self, *, done: bool) -> None:
        pass


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    monkeypatch.setattr(tracking, "PAUSE", 0.01)
    monkeypatch.setattr(tracking, "FIRST_RETRY", 0.01)
    monkeypatch.setattr(tracking, "check_trackers", lambda names: None)
    monkeypatch.setitem(TRACKERS, "recorder", Recorder)
    monkeypatch.setattr(Recorder, "stored", [])
    monkeypatch.setattr(Recorder, "endings", [])
    return Recorder


def test_a_tracker_that_fails_in_the_middle_is_told_once_and_gets_everything(
    recorder: type[Recorder],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(Recorder, "fails", 3)
    log = RunLog(tmp_path, track=("recorder",))
    for step in range(1, 40):
        log.write(step, {"loss": 1 / step})
    while Recorder.fails:  # at its end a run tries once more, and no oftener
        time.sleep(0.01)
        log.write(39, {"loss": 1 / 39})
    log.close()
    assert recorder.stored == [(step, {"loss": 1 / step}) for step in range(1, 40)]
    told = capfd.readouterr().err
    assert told.count("recorder does not take the run's numbers (the server is gone)") == 1
    assert told.count("does not take") == 1


def test_a_tracker_that_hangs_is_not_waited_for(
    recorder: type[Recorder],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(Recorder, "hangs", threading.Event())
    monkeypatch.setattr(tracking, "PATIENCE", 0.3)
    log = RunLog(tmp_path, track=("recorder",))
    begun = time.monotonic()
    for step in range(1, 500):
        log.write(step, {"loss": 1 / step})
    assert time.monotonic() - begun < 5
    log.close()
    assert time.monotonic() - begun < 10
    assert "recorder has not taken all of the run's numbers after 0.3 seconds" in capfd.readouterr().err
    assert len(read_metrics(tmp_path)) == 499
    assert Recorder.hangs
    Recorder.hangs.set()
    for thread in threading.enumerate():
        if thread.name == "dsm recorder":  # or it would write into the next test
            thread.join()


def test_a_step_is_sent_once_and_whole(recorder: type[Recorder], tmp_path: Path) -> None:
    """An evaluation adds to a step that was logged; what a resumed run repeats is not sent again."""
    log = RunLog(tmp_path, track=("recorder",))
    for step in range(1, 9):
        log.write(step, {"loss": float(step)})
        time.sleep(0.03)
        log.write(step, {"monitor/knn": 0.5})
    log.close()
    assert recorder.stored == [(step, {"loss": step, "monitor/knn": 0.5}) for step in range(1, 9)]
    log = RunLog(tmp_path, keep_steps=5, without="monitor/", track=("recorder",))
    log.write(5, {"monitor/knn": 0.5})
    for step in range(6, 12):
        log.write(step, {"loss": float(step)})
    log.close()
    assert [step for step, _ in recorder.stored] == list(range(1, 12))


def test_results_are_sent_once(recorder: type[Recorder], tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"1")
    for _ in range(2):
        tracking.track_end(tmp_path, ("recorder",), pictures=[tmp_path / "picture.png"])
    (tmp_path / "picture.png").write_bytes(b"2")
    tracking.track_end(tmp_path, ("recorder",), pictures=[tmp_path / "picture.png"])
    assert len(recorder.endings) == 2


@pytest.mark.parametrize(
    "text", ["", "[]", '{"id": "../x", "sent": {"recorder": 99}}', '{"id": 1, "sent": 3}']
)
def test_a_strangers_journal_begins_a_new_run(text: str, recorder: type[Recorder], tmp_path: Path) -> None:
    (tmp_path / "trackers.json").write_text(text)
    journal = tracking.Journal(tmp_path)
    assert len(journal.id) == 32
    assert journal.sent("recorder") == -1
    assert tracking.Journal(tmp_path).id == journal.id


@pytest.mark.parametrize("name", EXTRAS)
def test_a_missing_tracker_names_its_extra(
    name: str, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=rf"--track {name} needs .*pip install 'dsm-video\[{name}\]'"):
        pretrain(small_run(scenes, tmp_path / "run", track=(name,)))
    assert not (tmp_path / "run").exists()


@needs["mlflow"]
def test_a_run_whose_server_is_away_is_sent_when_it_goes_on(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The real library, with an address at which no server answers; then with a store of files, which, unlike
    a database, costs no time to begin."""
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(tracking, "PATIENCE", HANG)  # a loaded machine is no failure
    config = small_run(scenes, tmp_path / "run", track=("mlflow",))
    pretrain(config)
    logged = [(line["step"], line["loss"]) for line in read_metrics(tmp_path / "run")]
    assert capfd.readouterr().err.count("does not take") == 1
    assert len(logged) == 7
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    pretrain(replace(config, resume=True))
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("dsm").experiment_id])
    assert [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, "loss")] == logged
