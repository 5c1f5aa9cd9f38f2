"""A local page to search an archive by example, on the loopback interface, limited to the index's videos.

The browser requests videos by their row in the index; the server decodes them and sends small mp4 clips. No
path ever comes from the browser, and no file is sent unchanged.
"""

from __future__ import annotations

import io
import json
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

import numpy as np
from numpy.typing import NDArray

from dsm.errors import UserError
from dsm.evaluate.features import Features
from dsm.evaluate.search import ArchiveIndex
from dsm.files import json_text
from dsm.limits import BACKLOG, CONNECTIONS, QUERIES, QUERY_BYTES
from dsm.pages.gallery import clip_frames
from dsm.pages.search_answers import MOST_HITS, Answers, is_number, number_in
from dsm.pages.template import FPS, render_page
from dsm.terminal import many
from dsm.video.source import VideoError
from dsm.video.write import mp4_bytes

HOST = "127.0.0.1"
CLIPS_SHOWN = 24
HEAD_TIME, WHOLE_TIME = 10.0, 120.0
"""Seconds that a browser may take to send the head of a request, and the whole request."""
PATIENCE = 10.0
"""Seconds without a free thread after which further requests are turned away."""
TURN = 30.0
"""Seconds that a request waits for its turn to decode; then the browser is told to retry."""
COME_BACK = 2
"""Seconds after which a browser that was turned away may retry."""
LEAVING = 256
"""Most connections that were turned away but not yet closed; each is an open file."""


class BusyError(Exception):
    """A request has waited too long for its turn."""


class SentInTime(io.RawIOBase):
    """The data that a browser sends, with a time limit for all of it, however slowly it arrives."""

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self._connection, self._begun = connection, time.monotonic()
        self._end = self._begun + seconds

    def allow(self, seconds: float) -> None:
        """Set the time limit, counted from when the connection was accepted."""
        self._end = self._begun + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Receive some bytes.

        Raises:
            TimeoutError: the time limit has passed.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


class PageServer(ThreadingHTTPServer):
    """The server of the page, on this machine's loopback interface.

    It handles a limited number of requests at once. Others wait, in the system's queue too; after a while,
    they are told to retry.
    """

    request_queue_size = BACKLOG
    daemon_threads = True

    def __init__(
        self,
        index: ArchiveIndex,
        encode: Callable[[Path], NDArray[np.float32]] | None,
        port: int,
        *,
        cameras: Sequence[str] = (),
        among: NDArray[np.bool_] | None = None,
        k: int = CLIPS_SHOWN,
    ) -> None:
        """Start to listen; ``port`` 0 picks a free port.

        Args:
            encode: computes the feature of an uploaded video; None if the weights are not available.
            cameras: the camera of each row.
            among: which rows to search; None for all.
            k: hits per page.

        Raises:
            UserError: the port cannot be used.
        """
        self.features, self.encode = index.features, encode
        count = len(index.features)
        self.answers = Answers(index, cameras or [""] * count, among, min(k, MOST_HITS))
        self.receiving = threading.BoundedSemaphore(QUERIES)
        self.clip = lru_cache(maxsize=512)(lambda row: mp4_bytes(clip_frames(index.features, row), fps=FPS))
        self._turn = threading.Lock()
        self._free = threading.BoundedSemaphore(CONNECTIONS)
        self._waited, self._waited_last = 0.0, 0.0
        """Seconds waited for free threads without a break, and when that was last."""
        self._leaving: deque[tuple[float, socket.socket]] = deque()
        """Connections that were told to retry, and when to close each."""
        try:
            super().__init__((HOST, port), Handler)
        except OSError as error:
            raise UserError(
                f"port {port} cannot be used ({error.strerror}); choose another --port."
            ) from None

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for the turn to decode: decoding uses all cores, so only one request does it at a time."""
        if not self._turn.acquire(timeout=TURN):
            raise BusyError
        try:
            yield
        finally:
            self._turn.release()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a new thread, or turn the browser away."""
        begun = time.monotonic()
        if begun - self._waited_last > 1:
            self._waited = 0.0
        found = self._free.acquire(timeout=max(PATIENCE - self._waited, 0))
        if time.monotonic() - begun > 0.001:
            self._waited_last = time.monotonic()
            self._waited += self._waited_last - begun
        if not found:
            self._turn_away(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # the system allows no more threads
            self._free.release()
            self._turn_away(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """The body of the thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report an error, unless the browser has just closed the connection."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)

    def service_actions(self) -> None:
        """Called by the server twice a second and after each connection."""
        now = time.monotonic()
        while self._leaving and (self._leaving[0][0] < now or len(self._leaving) > LEAVING):
            _, request = self._leaving.popleft()
            with suppress(OSError):
                for _ in range(64):
                    if not request.recv(65536):
                        break
            self.shutdown_request(request)

    def server_close(self) -> None:
        """Close the server's connections."""
        while self._leaving:
            self.shutdown_request(self._leaving.popleft()[1])
        super().server_close()

    def _turn_away(self, request: socket.socket) -> None:
        """Tell a browser to retry, without waiting for its request.

        The connection stays open for a while: if it were closed before the request arrives, the system would
        reset it, and the answer would be lost.
        """
        with suppress(OSError):
            request.setblocking(False)
            request.sendall(come_back("503 Service Unavailable"))
            request.shutdown(socket.SHUT_WR)
        self._leaving.append((time.monotonic() + COME_BACK, request))


def come_back(status: str) -> bytes:
    """An empty answer that says when to retry."""
    lines = (f"HTTP/1.0 {status}", "Connection: close", "Content-Length: 0", f"Retry-After: {COME_BACK}")
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: PageServer
    server_version = "dsm"

    def setup(self) -> None:
        super().setup()
        self._sent = SentInTime(self.connection, HEAD_TIME)
        self.rfile = io.BufferedReader(self._sent)
        self.requestline = ""

    def handle(self) -> None:
        super().handle()
        if not self.requestline:  # the time limit passed before it arrived
            with suppress(OSError):
                self.connection.sendall(come_back("408 Request Timeout"))

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def _answer(self, how: Callable[[], tuple[str, bytes]]) -> None:
        # Another site must not reach this server through a name that resolves here (DNS rebinding).
        name = self.headers.get("Host", "").rsplit(":", 1)[0]
        if name not in (HOST, "localhost"):
            self._send(403, "text/plain", b"only from this machine")
            return
        try:
            kind, body = how()
        except BusyError:
            self._send(503, "text/plain", b"busy; try again in a moment")
        except UserError as error:
            self._send(400, "application/json", json.dumps({"error": str(error)}).encode())
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        else:
            self._send(200, kind, body)

    def _url(self) -> SplitResult:
        try:
            return urlsplit(self.path)
        except ValueError:
            raise UserError("the address is malformed.") from None

    def _get(self) -> tuple[str, bytes]:
        url = self._url()
        asked, answers = parse_qs(url.query), self.server.answers
        if url.path == "/":
            page = render_page(
                "search.html", title="Find similar clips", count=counted(self.server.features),
                upload=self.server.encode is not None, k=answers.k, **answers.choices(),
            )  # fmt: skip
            return "text/html; charset=utf-8", page.encode()
        if url.path == "/browse":
            return "application/json", json_text(answers.browse(asked)).encode()
        if url.path == "/again":
            found = answers.again(asked.get("token", [""])[0], asked)
            return "application/json", json_text(found).encode()
        if url.path not in ("/clip", "/near"):
            raise UserError("no such page.")
        row = number_in(asked.get("row", [""])[0], "row", 0, len(self.server.features) - 1)
        if url.path == "/clip":
            with self.server.turn():
                return "video/mp4", self.server.clip(row)
        return "application/json", json_text(answers.near(row, asked)).encode()

    def _post(self) -> tuple[str, bytes]:
        length, encode = self.headers.get("Content-Length", ""), self.server.encode
        if self._url().path != "/query" or encode is None or not is_number(length):
            raise UserError("send the query video to /query.")
        # Only the search page may send queries: browsers do not let other sites set this header.
        if self.headers.get("X-Requested-With") != "dsm":
            raise UserError("queries must come from the search page.")
        if int(length) > QUERY_BYTES:
            raise UserError(f"The video is larger than {QUERY_BYTES // 2**20} MB.")
        if not self.server.receiving.acquire(blocking=False):
            raise BusyError
        try:
            self._sent.allow(WHOLE_TIME)
            # Before its turn to decode, because receiving may take long.
            content = self.rfile.read(int(length))
            with self.server.turn():
                feature = _encode_sent(content, encode)
        finally:
            self.server.receiving.release()
        found = self.server.answers.sent(content, feature, parse_qs(self._url().query))
        return "application/json", json_text(found).encode()

    def _send(self, status: int, kind: str, body: bytes) -> None:
        with suppress(ConnectionError, TimeoutError):  # the browser may have left the page
            self.connection.settimeout(WHOLE_TIME)
            self._send_all(status, kind, body)

    def _send_all(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if status == 503:
            self.send_header("Retry-After", str(COME_BACK))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header(
            "Content-Security-Policy",  # blob: is the video that the user is about to send
            "default-src 'self' 'unsafe-inline'; media-src 'self' blob:; frame-ancestors 'none'",
        )
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Log nothing: requests would clutter the terminal."""


def _encode_sent(content: bytes, encode: Callable[[Path], NDArray[np.float32]]) -> NDArray[np.float32]:
    """The feature of an uploaded video, via a temporary file."""
    with TemporaryDirectory(prefix="dsm-query-") as folder:
        file = Path(folder, "query")
        file.write_bytes(content)
        try:
            return encode(file)
        except VideoError as error:
            text = str(error).replace(f"{file}: ", "The video ").replace(str(file), "the video")
            raise UserError(text) from None


def counted(features: Features) -> str:
    """How many clips and videos there are to search, as words."""
    videos, rows = len(set(features.paths)), len(features)
    of = many(videos, "video")
    return of if features.times is None else f"{many(rows, 'clip')} of {of}"
