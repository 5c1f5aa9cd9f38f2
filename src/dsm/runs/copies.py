"""A copy of a folder in object storage, such as ``s3://bucket/runs/mine``: kept up to date, and fetched back.

A thread copies a run after each checkpoint; training never waits for it. If the store fails, one warning is
printed and the copy is tried again at the next checkpoint, so a run loses nothing while the store is away.
"""

from __future__ import annotations

import re
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from dsm.errors import UserError, first_line
from dsm.files import is_hidden, remove, written_aside_folder
from dsm.limits import STORED_OBJECTS
from dsm.locks import work
from dsm.runs.claims import hold_alone
from dsm.runs.folder import MARKER, read_record, run_id
from dsm.runs.results import RESULTS
from dsm.storage.client import StorageError, list_objects, put_file, remove_object, require_writable
from dsm.storage.objects import fetch
from dsm.terminal import console, many, note, progress, warn
from dsm.urls import url_of

_REMOVED_WITH_THE_RUNS = re.compile(r"checkpoints/[^/]+\.pt|results\.json|ledger\.json")
"""Files of a run that would mislead if they stayed after the run removed them; others are never removed."""
_STEP = re.compile(r"checkpoints/step_(\d{8,15})\.pt")


def checked_url(url: str) -> str:
    """The URL of a folder that may be written to, without a slash at its end.

    Raises:
        UserError: it is not a URL, or is of a kind that can only be read.
    """
    named = url_of(url)
    if named is None:
        raise UserError(
            f"--copy-to {url} is not a URL; name a folder in storage, such as s3://bucket/runs/mine."
        )
    require_writable(named)
    return named.rstrip("/")


class Copy:
    """A local folder and its copy in storage."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder, self._url = folder, checked_url(url)
        self._sent: dict[str, tuple[int, int]] = {}
        self._news, self._closing = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._fault: str | None = None

    def update(self) -> None:
        """Bring the copy up to date, in a thread."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="dsm-copy", daemon=True)
            self._thread.start()
        self._news.set()

    def __enter__(self) -> Copy:
        return self

    def __exit__(self, *error: object) -> None:
        """Bring the copy up to date; wait until it is done or the store has failed."""
        self._closing.set()
        self.update()
        assert self._thread is not None
        console.print(f"copying to {self._url} …")
        self._thread.join()
        if self._fault:
            warn(f"{self._url}: lacks the newest files; run the same command with --resume to copy them.")

    def _run(self) -> None:
        while True:
            self._news.wait()
            self._news.clear()
            last = self._closing.is_set()  # read before sending, so that everything is sent
            try:
                self.send()
                self._fault = None
            except Exception as error:  # no error of a library may end the training
                if not self._fault:
                    warn(f"{first_line(error)} The run continues without a copy, and tries again later.")
                self._fault = first_line(error)
            if last:
                return

    def send(self) -> None:
        """Copy new and changed files, and remove from the copy what the run has removed.

        A checkpoint is copied after the logs of its steps, and results last, so an interrupted copy looks
        like a run that was killed.

        Raises:
            StorageError: the store failed.
        """
        files = {file.relative_to(self._folder).as_posix(): file for file in _files(self._folder)}
        for name in sorted(files, key=lambda name: (name == RESULTS, name.startswith("checkpoints/"), name)):
            try:
                status = files[name].stat()
                facts = (status.st_size, status.st_mtime_ns)
                if self._sent.get(name) != facts:
                    put_file(files[name], f"{self._url}/{name}")
                    self._sent[name] = facts
            except FileNotFoundError:  # removed meanwhile; a missing bucket is a StorageError
                continue
        for name in sorted(stored(self._url) - files.keys()):
            if _REMOVED_WITH_THE_RUNS.fullmatch(name):
                remove_object(f"{self._url}/{name}")
                self._sent.pop(name, None)


def _files(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if is_hidden(entry.name) or entry.is_symlink():
            continue
        if entry.is_dir():
            yield from _files(entry)
        elif entry.is_file():
            yield entry


def stored(url: str) -> set[str]:
    """Names of the files of a copy, relative to its folder; empty if there is none.

    Raises:
        StorageError: the store failed, or holds more objects there than a run has files.
    """
    names = {name for name in list_objects(url) if name and not _leaves(name)}
    if len(names) > STORED_OBJECTS:
        raise StorageError(
            f"{url}: has {len(names)} objects, too many for a run; choose a folder for this run alone."
        )
    return names


def _leaves(name: str) -> bool:
    """Whether a name from storage would escape its folder."""
    return any(part in ("", ".", "..") for part in name.split("/")) or "\\" in name or "\0" in name


def last_step(names: set[str]) -> int:
    """The newest checkpoint among the files of a run; -1 if there is none."""
    return max((int(match[1]) for name in names if (match := _STEP.fullmatch(name))), default=-1)


def begin_copy(out: Path, url: str, newest: int, *, resume: bool, overwrite: bool) -> None:
    """Check a run's copy before it starts, and fetch it if the run is resumed on a machine without it.

    Args:
        out: the run folder.
        newest: step of its newest checkpoint, or -1.

    Raises:
        UserError: the copy is of another run, or ahead of the run folder. StorageError: the store failed.
    """
    url = checked_url(url)
    names = stored(url)
    step = last_step(names)
    if not resume:
        if step >= 0 and not overwrite:
            raise UserError(
                f"{url}: already holds a run; --resume continues it, --overwrite replaces it, or choose "
                "another --copy-to."
            )
        return
    own = run_id(read_record(out))
    if own and newest >= 0 and MARKER in names and _stored_id(url) not in (None, own):
        raise UserError(f"{url}: is the copy of another run than {out}; choose another --copy-to.")
    if step > newest >= 0:
        raise UserError(
            f"{url}: the copy is at step {step}, but {out} only at {newest}; remove {out} to continue from "
            "the copy, or choose another --copy-to."
        )
    if newest < 0 <= step:
        fetch_folder(url, out)


def _stored_id(url: str) -> str | None:
    """The id of the run of which ``url`` is a copy."""
    with tempfile.TemporaryDirectory() as folder:
        fetch(f"{url}/{MARKER}", Path(folder) / MARKER)
        return run_id(read_record(Path(folder)))


def fetch_folder(url: str, out: Path) -> None:
    """Fetch a copy into a folder that does not exist or is empty, completely or not at all.

    Raises:
        UserError: the folder is not empty, or is being written by another command. StorageError: the store
            failed.
    """
    with work():
        hold_alone(out)
        _check_empty(out, url)
        names = sorted(stored(url))
        with written_aside_folder(out) as aside, progress(f"fetching {url}", len(names)) as bar:
            for done, name in enumerate(names, start=1):
                (aside / name).parent.mkdir(parents=True, exist_ok=True)
                fetch(f"{url}/{name}", aside / name)
                bar.update(done)
            _check_empty(out, url)  # the disk may have no locks, or another machine of this run may share it
            if out.is_dir():
                remove(out)
    note(f"{out}: {many(len(names), 'file')} fetched from {url}.")


def _check_empty(out: Path, url: str) -> None:
    if out.is_dir() and any(not is_hidden(one.name) for one in out.iterdir()):
        raise UserError(f"{out} is not empty, so the copy at {url} was not fetched; choose another --out.")


def send_files(files: list[Path], folder: Path, url: str) -> None:
    """Copy finished files to storage.

    Args:
        folder: names in storage are relative to it.

    Raises:
        UserError: not a URL that can be written to. StorageError: the store failed.
    """
    url = checked_url(url)
    every = [one for file in files for one in (_files(file) if file.is_dir() else (file,))]
    with progress(f"copying to {url}", len(every)) as bar:
        for done, file in enumerate(every, start=1):
            put_file(file, f"{url}/{file.relative_to(folder).as_posix()}")
            bar.update(done)
