"""Requests to object storage: retried after faults, with limits, and reported in one sentence if they fail.

A fault of the network or the store is not a fault of the object. It is a :class:`StorageError`, which ends
the work; it never counts against a video.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar
from urllib.parse import urlsplit

from dsm.errors import MachineError, UserError, first_line, refuse_machine_fault
from dsm.extras import load_extra

Result = TypeVar("Result")

ATTEMPTS = 8
"""Number of attempts before a fault is reported: with the waits, over a minute."""
ATTEMPTS_AT_FIRST = 3
"""The same for a host or bucket that has never answered: its name is probably mistyped."""
FIRST_WAIT = 0.5
"""Seconds before the second attempt; each further wait is twice as long, shortened by up to half at random,
so that many workers do not retry at once."""
SILENCE = 30.0
"""Seconds without a byte after which a request has failed."""
SLOWEST = 100_000
"""Bytes per second: a slower answer has failed."""
CONNECTING = 10.0
"""Seconds to connect."""

PACKAGES = {
    "http": "", "https": "", "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs",
    "abfs": "adlfs", "abfss": "adlfs", "hf": "huggingface_hub", "oss": "ossfs", "oci": "ocifs",
    "hdfs": "pyarrow", "sftp": "paramiko",
}  # fmt: skip
"""The package for each kind of URL. fsspec's other kinds read local files or follow references in files."""
_VERSIONS = (
    "ETag", "etag", "generation", "blob_id", "md5Hash", "VersionId", "mtime", "LastModified", "last_modified",
    "modified",
)  # fmt: skip
"""Fields in which stores give the version of an object, the best first."""
_CREDENTIALS = ("Credential", "Token", "Unauthorized", "Forbidden", "Profile", "Auth", "Login")
"""Words in the names of errors that libraries raise if credentials are missing."""


class Facts(NamedTuple):
    """What distinguishes versions of a file or object."""

    size: int
    """Bytes."""
    version: int | str
    """For a file, its modification time in nanoseconds; for an object, its ETag or similar."""


class StorageError(MachineError):
    """The store or the network failed; the object may be intact."""


class AccessError(StorageError):
    """The store requires other credentials."""


class ChangedError(Exception):
    """The object has another version than the one whose facts are known."""


class Store(Protocol):
    """One attempt each, without retries."""

    checks_version: bool
    """Whether ``read`` raises ChangedError; otherwise the caller compares the facts afterwards."""

    def facts(self, url: str) -> Facts:
        """Size and version. Raises FileNotFoundError if there is no such object."""

    def read(self, url: str, begin: int, end: int, facts: Facts) -> bytes:
        """The bytes from ``begin`` up to ``end``; the caller checks their number."""


class _Clock(threading.local):
    def __init__(self) -> None:
        self.waited = 0.0
        self.tell: Callable[[bool], None] = lambda waits: None


_clock = _Clock()


def seconds_waited() -> float:
    """Seconds that this thread has waited for storage; they do not count towards a video's time limit."""
    return _clock.waited


@contextmanager
def observed(tell: Callable[[bool], None]) -> Iterator[None]:
    """Call ``tell(True)`` before and ``tell(False)`` after each wait for storage of this thread."""
    before, _clock.tell = _clock.tell, tell
    try:
        yield
    finally:
        _clock.tell = before


@contextmanager
def _waiting() -> Iterator[None]:
    begun = time.monotonic()
    _clock.tell(True)
    try:
        yield
    finally:
        _clock.waited += time.monotonic() - begun
        _clock.tell(False)


_answered: set[str] = set()
"""Hosts and buckets that have answered this process or its parent."""


def seconds_for(size: int) -> float:
    """Seconds that one attempt to read this many bytes may take."""
    return SILENCE + size / SLOWEST


def most_seconds(size: int) -> float:
    """Seconds that reading this many bytes takes at most, including all attempts and waits."""
    return ATTEMPTS * seconds_for(size) + FIRST_WAIT * 2**ATTEMPTS


def get_facts(url: str) -> Facts:
    """Size and version of an object.

    Raises:
        FileNotFoundError: there is no such object. StorageError: the store failed.
    """
    store = store_of(url)
    return _tried(url, lambda: store.facts(url))


def get_bytes(url: str, begin: int, end: int, facts: Facts) -> bytes:
    """Bytes of an object, exactly as many as requested.

    Raises:
        ChangedError: it now has another version; for a store that does not check this, call
            :func:`check_unchanged`. FileNotFoundError, StorageError: as :func:`get_facts`.
    """
    store = store_of(url)

    def read() -> bytes:
        content = store.read(url, begin, end, facts)
        if len(content) != end - begin:
            raise EOFError(f"it sent {len(content)} bytes instead of {end - begin}")
        return content

    return _tried(url, read)


def check_unchanged(url: str, facts: Facts) -> None:
    """Raise ChangedError if an object that was just read now has another version."""
    if not store_of(url).checks_version and get_facts(url) != facts:
        raise ChangedError


def require_writable(url: str) -> None:
    """Raise UserError if dsm cannot write to such URLs, or a package is missing."""
    _writable(url)


def put_file(file: Path, url: str) -> None:
    """Write a local file to an object, completely or not at all.

    Raises:
        FileNotFoundError: there is no such file. StorageError: the store failed.
    """
    store, size = _writable(url), file.stat().st_size
    _tried(url, lambda: store.put(file, url, size))


def list_objects(url: str) -> list[str]:
    """Names of all objects in a folder and below, relative to it; none if it does not exist."""
    store = _writable(url)
    try:
        return _tried(url, lambda: store.names(url))
    except FileNotFoundError:
        return []


def remove_object(url: str) -> None:
    """Remove an object; a missing object is no error."""
    store = _writable(url)
    with suppress(FileNotFoundError):
        _tried(url, lambda: store.remove(url))


def _writable(url: str) -> _Fsspec:
    store = store_of(url)
    if not isinstance(store, _Fsspec):
        raise UserError(f"{url}: cannot be written to; name a folder of a bucket, such as s3://bucket/runs.")
    return store


def _tried(url: str, call: Callable[[], Result]) -> Result:
    fault, host = "", urlsplit(url).netloc
    attempts = ATTEMPTS if host in _answered else ATTEMPTS_AT_FIRST
    with _waiting():
        for attempt in range(attempts):
            if attempt:  # not with the generator that experiments seed
                time.sleep(FIRST_WAIT * 2 ** (attempt - 1) * random.SystemRandom().uniform(0.5, 1))
            try:
                result = call()
                _answered.add(host)
                return result
            except ChangedError:
                raise
            except FileNotFoundError:
                _check_bucket(url)
                raise FileNotFoundError(f"{url}: no such object.") from None
            except UserError:
                raise
            except Exception as error:
                if _is_refusal(error):
                    raise AccessError(f"{url}: access denied ({first_line(error)}); {_remedy(url)}") from None
                refuse_machine_fault(error, reading=url)
                fault = first_line(error) or type(error).__name__
    raise StorageError(
        f"{url}: the storage failed {attempts} times, the last time with: {fault.rstrip('.')}. The work so "
        "far is kept; run the same command again when the storage can be reached."
    )


def _is_refusal(error: Exception) -> bool:
    name = type(error).__name__
    return isinstance(error, PermissionError) or any(word in name for word in _CREDENTIALS)


def _remedy(url: str) -> str:
    scheme = urlsplit(url).scheme
    if scheme in ("http", "https"):
        return "the link may have expired; use a link that opens without a login."
    if scheme in ("s3", "s3a"):
        return (
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, for an account that "
            "has access; to read a public bucket, set FSSPEC_S3_ANON=true."
        )
    return f"log in as {PACKAGES[scheme]} describes, with an account that has access."


def _check_bucket(url: str) -> None:
    """Raise StorageError if an object is missing because its whole bucket is."""
    parts = urlsplit(url)
    if parts.scheme not in ("s3", "s3a", "gs", "gcs"):
        return
    store = store_of(url)
    assert isinstance(store, _Fsspec)
    try:
        store.info(f"{parts.scheme}://{parts.netloc}")
    except FileNotFoundError:
        raise StorageError(
            f"{url}: there is no bucket named {parts.netloc}; correct the name, or set the store's address "
            "(for S3: AWS_ENDPOINT_URL)."
        ) from None
    except Exception:  # the bucket may not be listed; the object is missing in any case
        return


def store_of(url: str) -> Store:
    """The store that reads such URLs.

    Raises:
        UserError: dsm does not read such URLs, or a package is missing.
    """
    scheme = urlsplit(url).scheme
    if scheme not in PACKAGES or "::" in url:
        known = ", ".join(f"{one}://" for one in PACKAGES)
        raise UserError(f"{url}: dsm reads only URLs with {known}; give a local file by its path.")
    if scheme in ("http", "https"):
        from dsm.storage.http import Http

        return Http()
    return _Fsspec(scheme)


class _Fsspec:
    """Stores that are read through fsspec."""

    checks_version = False

    def __init__(self, scheme: str) -> None:
        package = PACKAGES[scheme]
        if package == "s3fs":
            load_extra("s3fs", "storage", package="s3fs", wanted_by=f"{scheme}://")
        try:
            fsspec: Any = load_extra("fsspec", "storage", package="fsspec", wanted_by=f"{scheme}://")
            # fsspec keeps an instance per thread, and makes new ones after a fork.
            self._system = fsspec.filesystem(scheme, use_listings_cache=False, **_options(scheme, fsspec))
        except ImportError:
            raise UserError(
                f"{scheme}:// needs {package}, which is not installed: pip install {package}."
            ) from None
        if package == "s3fs":
            self._system.retries = 1  # _tried retries
        self._sync = fsspec.asyn.sync if self._system.async_impl else None

    def _call(self, name: str, first: str, seconds: float, **more: Any) -> Any:
        if self._sync is None:
            return getattr(self._system, name)(first, **more)
        return self._sync(
            self._system.loop, getattr(self._system, f"_{name}"), first, timeout=seconds, **more
        )

    def info(self, url: str) -> dict[str, Any]:
        return self._call("info", url, seconds_for(0))

    def facts(self, url: str) -> Facts:
        info = self.info(url)
        if info.get("type") == "directory":
            raise FileNotFoundError(url)
        version = next((str(info[name]) for name in _VERSIONS if info.get(name) is not None), "")
        return Facts(int(info["size"]), version)

    def read(self, url: str, begin: int, end: int, facts: Facts) -> bytes:
        return self._call("cat_file", url, seconds_for(end - begin), start=begin, end=end)

    def put(self, file: Path, url: str, size: int) -> None:
        self._call("put_file", str(file), seconds_for(size), rpath=url)

    def names(self, url: str) -> list[str]:
        folder = self._system._strip_protocol(url).rstrip("/") + "/"
        found = self._call("find", url, seconds_for(0))
        return [name.removeprefix(folder) for name in found if name.startswith(folder)]

    def remove(self, url: str) -> None:
        self._call("rm_file", url, seconds_for(0))


def _options(scheme: str, fsspec: Any) -> dict[str, Any]:
    if scheme not in ("s3", "s3a"):
        return {}
    own = fsspec.config.conf.get(scheme, {}).get("config_kwargs", {})
    limits = {"connect_timeout": CONNECTING, "read_timeout": SILENCE, "retries": {"total_max_attempts": 1}}
    return {"config_kwargs": {**limits, **own}}
