"""One writer at a time: locks what a verb writes, until the verb ends or its process dies.

The lock on ``OUT`` is the operating system's lock (``flock``) on the small file ``.OUT.dsm-lock`` beside it,
which names the holder and is removed when the lock is released. The files of a killed process are not locked.
"""

from __future__ import annotations

import errno
import os
import shlex
import socket
import sys
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from dsm.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    CAN_LOCK = False
else:
    CAN_LOCK = True

WAIT = 2.0
"""Seconds to wait for a lock, in case its holder is about to end."""
LOOK_EVERY = 0.05
ENDING = ".dsm-lock"


class Work:
    """The locks of one verb, and of all verbs that it calls."""

    def __init__(self) -> None:
        self.held: dict[Path, int] = {}
        """Lock files, and their descriptors."""
        self.made: list[Path] = []
        """Folders that were created for lock files."""

    def release(self) -> None:
        for file, descriptor in self.held.items():
            file.unlink(
                missing_ok=True
            )  # while it is still locked, so that it cannot belong to another process
            os.close(descriptor)
        for folder in reversed(self.made):
            with suppress(OSError):  # the folder is not empty
                folder.rmdir()
        self.held, self.made = {}, []


_WORK: ContextVar[Work | None] = ContextVar("work", default=None)
_ALL: weakref.WeakSet[Work] = weakref.WeakSet()


@contextmanager
def work() -> Iterator[None]:
    """Release the locks taken inside the block at its end; an inner block leaves them to the outer one."""
    if _WORK.get() is not None:
        yield
        return
    mine = Work()
    _ALL.add(mine)
    token = _WORK.set(mine)
    try:
        yield
    finally:
        _WORK.reset(token)
        mine.release()


def _forget() -> None:
    """In a forked worker: leave the locks to the parent."""
    for one in list(_ALL):
        for descriptor in one.held.values():
            os.close(descriptor)
        one.held, one.made = {}, []


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def hold(path: Path) -> str | None:
    """Lock a file or folder that will be written, until the running verb ends.

    Of several processes of one run only the first holds locks. Outside of a verb nothing is locked.

    Returns:
        None, or the reason why it cannot be locked, as on some network disks; the work may continue.

    Raises:
        UserError: another process, or another verb in this process, is writing it.
    """
    mine = _WORK.get()
    if mine is None or not CAN_LOCK or os.environ.get("RANK", "0") != "0":
        return None
    real = Path(os.path.realpath(path))  # a folder may have two names
    file = real.with_name(f".{real.name}{ENDING}")
    if file in mine.held or not real.name:
        return None
    try:
        mine.made += [one for one in (*file.parents,)[::-1] if not one.exists()]
        mine.held[file] = _lock(file, path)
    except OSError as error:
        writable = os.access(real if real.is_dir() else real.parent, os.W_OK)
        return error.strerror if writable else None  # otherwise the verb reports that it cannot write there
    return None


def sweep_locks(folder: Path) -> None:
    """Remove the lock files in a folder that no process holds; killed processes left them."""
    if not CAN_LOCK:
        return
    with suppress(OSError):
        for file in [one for one in folder.iterdir() if one.name.endswith(ENDING)]:
            with suppress(OSError):
                descriptor = _open(file)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    file.unlink()
                finally:
                    os.close(descriptor)


def _lock(file: Path, meant: Path) -> int:
    """Take the lock, waiting briefly if needed; return its descriptor."""
    give_up = time.monotonic() + WAIT
    while True:
        file.parent.mkdir(parents=True, exist_ok=True)  # another process may have removed it
        descriptor = _open(file)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(descriptor, 500).decode("utf-8", "replace")
            os.close(descriptor)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):  # this disk does not support locks
                file.unlink(missing_ok=True)
                raise
            if time.monotonic() > give_up:
                raise UserError(
                    f"{meant}: another command is writing it{_in_words(holder)}; wait until it ends, or "
                    "choose another --out."
                ) from None
            time.sleep(LOOK_EVERY)
            continue
        with suppress(OSError):
            if file.stat().st_ino == os.fstat(descriptor).st_ino:  # otherwise its holder has just removed it
                _sign(descriptor)
                return descriptor
        os.close(descriptor)


def _open(file: Path) -> int:
    # Follow no link, and do not block on a pipe, that someone put there.
    safe = os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        return os.open(file, os.O_RDWR | os.O_CREAT | safe, 0o644)
    except PermissionError:
        return os.open(file, os.O_RDONLY | safe)  # the file belongs to another user


def _sign(descriptor: int) -> None:
    """Write the holder into the lock file; on a full disk, leave it empty."""
    words = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:3]]) if sys.argv else ""
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.write(
            descriptor,
            f"{os.getpid()}\n{socket.gethostname()}\n{words[:200]}\n".encode("utf-8", "backslashreplace"),
        )


def _in_words(holder: str) -> str:
    lines = [line for line in holder.splitlines() if line.isprintable()]
    if len(lines) != 3:
        return ""
    return f" (process {lines[0]} on {lines[1]}: {lines[2]})"
