"""Trackers, each behind one small class: TensorBoard, trackio, MLflow and Weights & Biases.

``runs/tracking.py`` feeds them. Each runs in its own thread and may raise any exception.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from dsm.extras import load_extra

TrackerName = Literal["tensorboard", "trackio", "wandb", "mlflow"]
NAMES: tuple[str, ...] = get_args(TrackerName)
PROJECT = "dsm"
"""The project, or experiment, of runs if the tracker's own environment variable names none."""

Line = tuple[int, Mapping[str, float]]
"""A step, and the metrics logged at it."""


@dataclass(frozen=True)
class TrackedRun:
    """What trackers record about a run."""

    id: str
    """32 hexadecimal digits by which a tracker finds the run again."""
    folder: Path
    config: Mapping[str, Any]
    """Settings by flag."""
    about: Mapping[str, str]
    """Its command, and the version and git revision of this package."""

    @property
    def name(self) -> str:
        return self.folder.absolute().name


@dataclass(frozen=True)
class Ending:
    """What a finished run sends besides curves."""

    columns: Sequence[str] = ()
    rows: Sequence[Sequence[Any]] = ()
    """The table of results."""
    pictures: Sequence[Path] = field(default=())


class Tracker(Protocol):
    """A run in a tracker, new or continued."""

    sent: int
    """The last step that it has; -1 if it has none."""
    shown_by: str
    """The command or address that shows the run."""

    def log(self, lines: Sequence[Line]) -> None:
        """Add steps, in order. A step is complete, and is added once."""

    def add(self, ending: Ending) -> None:
        """Add the results and pictures of a finished run."""

    def close(self, *, done: bool) -> None:
        """Write out everything; ``done``: the run has finished all its steps."""


class TensorBoard:
    """Event files in the run folder. TensorBoard drops what older files hold after the last step sent."""

    def __init__(self, run: TrackedRun, sent: int) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        self.sent, self.shown_by = sent, f"tensorboard --logdir {run.folder}"
        self._run = run
        self._board = SummaryWriter(str(run.folder), purge_step=sent + 1)

    def log(self, lines: Sequence[Line]) -> None:
        for step, metrics in lines:
            for name, value in metrics.items():
                self._board.add_scalar(name, value, step)
        self._board.flush()

    def add(self, ending: Ending) -> None:
        import numpy as np
        from PIL import Image

        config = [(name, str(value)) for name, value in {**self._run.about, **self._run.config}.items()]
        for title, columns, rows in (
            ("config", ("setting", "value"), config),
            ("results", ending.columns, ending.rows),
        ):
            lines = [columns, ["---"] * len(columns), *rows]
            self._board.add_text(title, "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines))
        for path in ending.pictures:
            with Image.open(path) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            self._board.add_image(f"figures/{path.stem}", pixels, dataformats="HWC")

    def close(self, *, done: bool) -> None:
        self._board.close()


class Trackio:
    """trackio's own local store, or the server or Space that its environment variables name."""

    def __init__(self, run: TrackedRun, sent: int) -> None:
        self._trackio = _load("trackio")
        self._name = f"{run.name}-{run.id[:8]}"  # trackio identifies runs by name
        with _silenced():
            self._run = self._trackio.init(
                PROJECT, name=self._name, resume="allow", config={**run.config, **run.about}, embed=False
            )
        self._local = not {"TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"} & os.environ.keys()
        self.sent, self.shown_by = (
            self._stored() if self._local else sent,
            f"trackio show --project {PROJECT}",
        )

    def _stored(self) -> int:
        """The last step in the local store; steps may have been accepted but not written."""
        from trackio.sqlite_storage import SQLiteStorage

        last = SQLiteStorage.get_max_step_for_run(PROJECT, self._name)
        return -1 if last is None else int(last)

    def log(self, lines: Sequence[Line]) -> None:
        for step, metrics in lines:
            self._run.log(dict(metrics), step=step)
            self.sent = step

    def add(self, ending: Ending) -> None:
        table = self._trackio.Table(list(ending.columns), [list(row) for row in ending.rows])
        pictures = {f"figures/{path.stem}": self._trackio.Image(str(path)) for path in ending.pictures}
        self._run.log({"results": table, **pictures}, step=max(self.sent, 0))

    def close(self, *, done: bool) -> None:
        with _silenced():
            self._run.finish()
        if self._local and (stored := self._stored()) < self.sent:  # trackio only warns if it cannot write
            raise OSError(f"its store ends at step {stored}")


class Mlflow:
    """The store that MLFLOW_TRACKING_URI names, or ``mlflow.db`` beside the run folder."""

    MOST_METRICS, MOST_PARAMETERS, LONGEST = 1000, 100, 500
    """Limits of its servers: metrics per call, and characters per parameter (newer servers take 6000)."""

    def __init__(self, run: TrackedRun, sent: int) -> None:
        mlflow = _load("mlflow")
        if "MLFLOW_LOGGING_LEVEL" not in os.environ:
            logging.getLogger("mlflow").setLevel(logging.WARNING)
            logging.getLogger("alembic").setLevel(logging.WARNING)
        beside = run.folder.absolute().parent
        local = not mlflow.is_tracking_uri_set()
        uri = f"sqlite:///{beside / 'mlflow.db'}" if local else mlflow.get_tracking_uri()
        self.shown_by = (
            f"mlflow ui --backend-store-uri {uri}" if local else "the server of MLFLOW_TRACKING_URI"
        )
        self._client = mlflow.MlflowClient(tracking_uri=uri)
        self._metric, self._param = mlflow.entities.Metric, mlflow.entities.Param
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = self._client.get_experiment_by_name(name)
        place = (beside / "mlartifacts").as_uri() if local else None
        number = experiment.experiment_id if experiment else self._client.create_experiment(name, place)
        found = self._client.search_runs([number], f"tags.`dsm.id` = '{run.id}'", max_results=1)
        if found:
            self._run = found[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
        else:
            tags = {"dsm.id": run.id, **{f"dsm.{name}": value for name, value in run.about.items()}}
            title = os.environ.get("MLFLOW_RUN_NAME", run.name)
            self._run = self._client.create_run(number, tags=tags, run_name=title).info.run_id
        data = self._client.get_run(self._run).data
        # Parameters cannot be changed, so a resumed run keeps those of its start.
        new = [
            self._param(name, str(value)[: self.LONGEST])
            for name, value in run.config.items()
            if name not in data.params
        ]
        for start in range(0, len(new), self.MOST_PARAMETERS):
            self._client.log_batch(self._run, params=new[start : start + self.MOST_PARAMETERS])
        steps = [
            one.step for name in data.metrics for one in self._client.get_metric_history(self._run, name)
        ]
        self.sent = max(steps, default=-1)

    def log(self, lines: Sequence[Line]) -> None:
        now = int(1000 * time.time())
        metrics: list[Any] = []
        for step, values in lines:
            if len(metrics) + len(values) > self.MOST_METRICS:  # a step's metrics are sent together
                self._client.log_batch(self._run, metrics=metrics)
                metrics = []
            metrics += [self._metric(name, value, now, step) for name, value in values.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def add(self, ending: Ending) -> None:
        table = {"columns": list(ending.columns), "data": [list(row) for row in ending.rows]}
        self._client.log_dict(self._run, table, "results.json")
        for path in ending.pictures:
            self._client.log_artifact(self._run, str(path), "figures")

    def close(self, *, done: bool) -> None:
        self._client.set_terminated(self._run, "FINISHED" if done else "KILLED")


class Wandb:
    """Weights & Biases: offline, in the run folder, unless WANDB_MODE and WANDB_DIR say otherwise."""

    PATIENCE = 15
    """Seconds for the upload at the end."""

    def __init__(self, run: TrackedRun, sent: int) -> None:
        self._wandb = _load("wandb")
        mode, folder = os.environ.get("WANDB_MODE", "offline"), os.environ.get("WANDB_DIR", str(run.folder))
        offline = mode == "offline"
        if offline and self._drop_copies(Path(folder, "wandb"), run.id):
            sent = -1
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=os.environ.get("WANDB_NAME", run.name),
            id=run.id,
            resume="allow",
            dir=folder,
            mode="offline" if offline else None,
            config={**run.config, **run.about},
            settings=self._wandb.Settings(silent=True, console="off", finish_timeout=self.PATIENCE),
        )
        self.sent = sent if offline else self._run.step - 1
        self.shown_by = f"wandb sync {Path(self._run.dir).parent}" if offline else str(self._run.url)

    @staticmethod
    def _drop_copies(folder: Path, number: str) -> bool:
        """Remove offline copies of a run, so that a single complete one remains; False if one was uploaded.

        W&B writes its files late: those of a killed run lack the last steps, or everything.
        """
        copies = list(folder.glob(f"offline-run-*-{number}"))
        if any(list(copy.glob("*.synced")) for copy in copies):
            return False
        for copy in copies:
            shutil.rmtree(copy)
        return True

    def log(self, lines: Sequence[Line]) -> None:
        for step, metrics in lines:
            self._run.log(dict(metrics), step=step, commit=True)

    def add(self, ending: Ending) -> None:
        table = self._wandb.Table(columns=list(ending.columns), data=[list(row) for row in ending.rows])
        pictures = {f"figures/{path.stem}": self._wandb.Image(str(path)) for path in ending.pictures}
        self._run.log({"results": table, **pictures})

    def close(self, *, done: bool) -> None:
        self._run.finish(exit_code=0 if done else 1)


TRACKERS: dict[str, Callable[[TrackedRun, int], Tracker]] = {
    "tensorboard": TensorBoard,
    "trackio": Trackio,
    "wandb": Wandb,
    "mlflow": Mlflow,
}
"""By the names of ``--track``. Each opens a run, given the last step already sent to it."""


def check_trackers(names: Sequence[str]) -> None:
    """Import the libraries of these trackers.

    Raises:
        UserError: one is not installed.
    """
    for name in names:
        if name != "tensorboard":  # a dependency of dsm
            _load(name)


def _load(name: str) -> Any:
    return load_extra(name, name, package=name, wanted_by=f"--track {name}")


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Drop what this thread prints: trackio reports its progress. Other threads print as before."""

    class Silenced(io.TextIOBase):
        owner, stream = threading.get_ident(), sys.stdout

        def write(self, text: str) -> int:
            return len(text) if threading.get_ident() == self.owner else self.stream.write(text)

        def flush(self) -> None:
            self.stream.flush()

    with contextlib.redirect_stdout(Silenced()):
        yield
