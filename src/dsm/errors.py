"""The exceptions for mistakes that a user can fix: a wrong flag, path, list or file."""

from __future__ import annotations

import difflib
import errno
import math
import mmap
import re
from collections.abc import Iterable
from typing import Any

USER_ERROR = 2
"""Exit code of a command that ends with a :class:`UserError`."""


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters and lone surrogates, which terminals and UTF-8 files cannot take."""


class UserError(Exception):
    """One clear sentence: what is wrong, where, and what to do. The command exits with code 2."""

    def __str__(self) -> str:
        return without_control(super().__str__())  # it may quote an untrusted file


class MachineError(UserError):
    """A fault of the machine, such as too little memory, not of the file that was being read."""


_MEMORY = (
    "memory ran out; try a smaller batch (--data.batch-size, --batch-size), fewer workers (--data.workers, "
    "--workers) or a smaller --data.cache-mb, or raise the limit (`ulimit -v`)."
)
_GPU_MEMORY = (
    "the GPU's memory ran out; try a smaller batch (--data.batch-size, --batch-size) or, in training, "
    "--optim.accumulate 4, --precision bf16 or --recompute."
)
_FULL = "the disk is full, or your quota or a size limit is reached; free some space, or write elsewhere."
_REMEDIES = {
    errno.ENOMEM: _MEMORY,
    errno.EMFILE: "too many open files for one process; raise the limit (`ulimit -n 4096`).",
    errno.ENFILE: "the machine has too many open files; close other programs.",
    errno.EAGAIN: "no thread or process can be started; use fewer workers, or raise `ulimit -u` or `-v`.",
    errno.EPIPE: (  # from a worker: when the reader of our own output has gone, rich ends the command
        "a worker process could not start or was killed, perhaps because memory ran out; use fewer workers "
        "(--data.workers, --workers)."
    ),
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: _FULL,
    errno.EROFS: "the disk is read-only; write elsewhere.",
    errno.EIO: "the disk cannot be read or written (input/output error).",
    errno.ESTALE: "the network disk has lost this file; try again.",
}
_SPARE = 2**26
"""In bytes: when an allocation of this size fails, memory has run out."""
_SAID_OF_GPU = (
    "cuda out of memory", "cuda error: out of memory", "mps backend out of memory",
    "cudnn_status_alloc_failed", "cublas_status_alloc_failed",
    "unable to find an engine",  # cuDNN, when no algorithm's workspace fits
)  # fmt: skip
# Some libraries report such a fault as a plain error, with the system's wording or their own.
_SAID = {
    errno.ENOMEM: (
        *_SAID_OF_GPU,
        "allocate memory", "not enough memory", "out of memory", "bad_alloc", "memory allocation",
        "failed to map segment", "could not execute a primitive",  # the last from oneDNN, in a convolution
    ),
    errno.EMFILE: ("too many open files", "ancdata"),
    errno.EAGAIN: ("start new thread", "resource temporarily unavailable"),
    errno.ENOSPC: ("no space left on device",),
}  # fmt: skip


def machine_fault(error: BaseException) -> int | None:
    """The ``errno`` of a fault of the machine, such as too little memory or a full disk; None for others.

    Such a fault is no evidence against the file that was being read.
    """
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    if isinstance(error, OSError) and error.errno in _REMEDIES:
        return error.errno
    if isinstance(error, (OSError, RuntimeError, ImportError, SystemError)):
        text = str(error).lower()
        return next((code for code, said in _SAID.items() if any(phrase in text for phrase in said)), None)
    return None


def _filled_gpu(error: BaseException) -> bool:
    """Whether the memory of a GPU ran out."""
    return any(phrase in str(error).lower() for phrase in _SAID_OF_GPU)


def refuse_machine_fault(error: Exception, *, reading: str) -> None:
    """Raise MachineError if a file could not be read because the machine lacks memory or file handles.

    A broken file may ask for any amount of memory, so a failed allocation counts only if little is left.

    Args:
        reading: the name of the file.
    """
    code = machine_fault(error)
    if code == errno.ENOMEM and _filled_gpu(error):
        raise MachineError(f"{reading}: {_GPU_MEMORY}") from None
    if code in (errno.EMFILE, errno.ENFILE) or (code == errno.ENOMEM and not _memory_left()):
        raise MachineError(f"{reading}: {_REMEDIES[code]}") from None


def _memory_left() -> bool:
    try:
        mmap.mmap(-1, _SPARE).close()
    except OSError:
        return False
    return True


def sentence(error: Exception) -> str | None:
    """The message for an error that a user can correct; None for other errors."""
    if isinstance(error, UserError):
        return str(error)
    name = getattr(error, "filename", None)
    about = f"{without_control(str(name))}: " if name else ""
    if (code := machine_fault(error)) is not None:
        filled_gpu = code == errno.ENOMEM and _filled_gpu(error)
        return f"{about}{_GPU_MEMORY if filled_gpu else _REMEDIES[code]}"
    if isinstance(error, OSError) and name:
        return f"{about}{error.strerror}."
    return None


def first_line(error: Exception) -> str:
    """The first line of a library's error message, or the type of the error if the message is empty."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def without_control(text: str) -> str:
    """Untrusted text made safe for a terminal: its control characters are escaped."""
    return _CONTROL.sub(lambda match: repr(match[0])[1:-1], text)


def has_control(text: str) -> bool:
    """Whether text has control characters that a terminal would act on; tabs and line feeds do not count."""
    return _CONTROL.search(text) is not None


def is_utf8(text: str) -> bool:
    """Whether text can be written as UTF-8; the names of some files cannot."""
    return text.encode("utf-8", "ignore").decode("utf-8") == text


def check_range(
    settings: object,
    *names: str,
    least: float = -math.inf,
    above: float = -math.inf,
    most: float = math.inf,
    below: float = math.inf,
    finite: bool = True,
) -> None:
    """Check numbers of settings; None, for a number that is not given, always passes.

    Args:
        names: fields, also of nested settings (``data.workers``).
        least, above: the lower bound, included or excluded. most, below: the upper one.
        finite: refuse infinity too.

    Raises:
        UserError: a number is out of range, or NaN.
    """
    for name in names:
        value: Any = settings
        for part in name.split("."):
            value = getattr(value, part)
        if value is None:
            continue
        if least <= value <= most and above < value and (value < below or not finite):
            continue
        if least > -math.inf and most < math.inf:
            words = f"from {least:g} to {most:g}"
        else:
            bounds = {"at least": least, "above": above, "at most": most, "below": below}
            given = [f"{word} {bound:g}" for word, bound in bounds.items() if math.isfinite(bound)]
            words = " and ".join(given) or "finite"
        raise UserError(f"{name.replace('_', '-')} must be {words}, not {value}.")


MOST_NAMES = 30
"""Most known names that an error lists."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """'; did you mean 'x'?' with the known names nearest to a name, or the first of them if none is close."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.65)
    if close:
        return "; did you mean " + " or ".join(f"'{match}'" for match in close) + "?"
    if not names:
        return ""
    more = f" … and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else ""
    return f"; known names: {', '.join(names[:MOST_NAMES])}{more}"
