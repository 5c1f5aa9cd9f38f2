"""Objects by ``http://`` and ``https://``: byte ranges of a single version, from such URLs only.

Written with the standard library, because no more bytes may be read than were requested, whatever a server
sends, and a redirect must lead to another such URL.
"""

from __future__ import annotations

import http.client
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import closing
from typing import Any

from dsm.limits import WITHOUT_RANGES
from dsm.storage import client
from dsm.storage.client import ChangedError, Facts, StorageError
from dsm.version import __version__

_PIECE = 2**16
_LIKELY_PASSING = (408, 425, 429)


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = 5

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        before, after = (urllib.parse.urlsplit(url).scheme for url in (req.full_url, newurl))
        if after != "https" and after != before:
            raise StorageError(f"{req.full_url}: redirects to {newurl}, which dsm does not follow.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """An opener for http and https only: the default one also opens ftp, local files and data URLs."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.HTTPDefaultErrorHandler,
        _Redirects,
    ):
        opener.add_handler(handler())
    return opener


class Http:
    """As :class:`~dsm.storage.client.Store`."""

    checks_version = True

    def facts(self, url: str) -> Facts:
        # A signed link often allows only GET, so request one byte rather than the head.
        try:
            with closing(self._get(url, 0, 1)) as answer:
                return _facts(answer)
        except urllib.error.HTTPError as error:
            if error.code == 416 and error.headers.get("Content-Range", "").replace(" ", "") == "bytes*/0":
                return Facts(0, _version(error.headers))
            raise

    def read(self, url: str, begin: int, end: int, facts: Facts) -> bytes:
        give_up = time.monotonic() + client.seconds_for(end - begin)
        with closing(self._get(url, begin, end)) as answer:
            if _facts(answer) != facts:
                raise ChangedError
            if answer.status == 206:
                asked = f"bytes {begin}-{end - 1}/{facts.size}"
                if answer.headers.get("Content-Range", asked) != asked:
                    raise EOFError(f"it sent {answer.headers['Content-Range']} instead of {asked}")
            elif facts.size > WITHOUT_RANGES:
                raise StorageError(
                    f"{url}: the server sends only the whole file (no Range), which is larger than "
                    f"{WITHOUT_RANGES >> 20} MiB; download it, or use a server that sends parts."
                )
            else:
                _take(answer, begin, give_up)
            return _take(answer, end - begin, give_up)

    def _get(self, url: str, begin: int, end: int) -> http.client.HTTPResponse:
        encoded = urllib.parse.quote(url, safe="%/:=&?~#+!$,;'@()*[]")
        headers = {
            "Range": f"bytes={begin}-{end - 1}",
            "Accept-Encoding": "identity",
            "User-Agent": f"dsm-video/{__version__}",
        }
        request = urllib.request.Request(encoded, headers=headers)
        try:
            return _opener().open(request, timeout=client.SILENCE)
        except urllib.error.HTTPError as error:
            if error.code in (404, 410):
                raise FileNotFoundError(url) from None
            if error.code in (401, 403, 407):
                raise PermissionError(f"{error.code} {error.reason}") from None
            if 400 <= error.code < 500 and error.code not in (*_LIKELY_PASSING, 416):
                raise StorageError(f"{url}: the server answers {error.code} {error.reason}.") from None
            raise


def _take(answer: http.client.HTTPResponse, size: int, give_up: float) -> bytes:
    """Read ``size`` bytes, or fewer at the end."""
    pieces: list[bytes] = []
    left = size
    # Read what has arrived rather than a whole piece, so that a server that trickles bytes is detected.
    while left and (piece := answer.read1(min(left, _PIECE))):
        pieces.append(piece)
        left -= len(piece)
        if time.monotonic() > give_up:
            raise TimeoutError(f"only {size - left} of {size} bytes came in time")
    return b"".join(pieces)


def _facts(answer: http.client.HTTPResponse) -> Facts:
    size = answer.headers.get("Content-Length", "")
    if answer.status == 206:
        match = re.fullmatch(r"bytes \d+-\d+/(\d+)", answer.headers.get("Content-Range", ""))
        size = match[1] if match else ""
    if not size.isdigit():
        raise StorageError(
            f"{answer.url}: the server does not give the length of the file; use another server."
        )
    return Facts(int(size), _version(answer.headers))


def _version(headers: Any) -> str:
    return str(headers.get("ETag") or headers.get("Last-Modified") or "")
