"""A local page to search an archive by example, on loopback, limited to the index's videos.

The browser requests videos by their row in the index; the server decodes them and sends small mp4 clips. No
path ever comes from the browser, and no file is sent unchanged.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import parse_qs, urlsplit

import numpy as np
from numpy.typing import NDArray

from dsm.errors import UserError
from dsm.evaluate.search import ArchiveIndex, Hit
from dsm.files import json_text
from dsm.pages.gallery import clip_of, row_text
from dsm.pages.template import render_page
from dsm.video.source import VideoError
from dsm.video.write import mp4_bytes

HOST = "127.0.0.1"
CLIPS_SHOWN = 24
LARGEST = 256 * 2**20
"""Most bytes of a video sent as a query."""
FPS = 8
PATIENCE = 60.0
"""Seconds that a browser may send nothing in the middle of a query."""
MOST_DIGITS = 12


def make_server(
    index: ArchiveIndex, encode: Callable[[Path], NDArray[np.float32]] | None, port: int
) -> ThreadingHTTPServer:
    """A server of the page on this machine's loopback; ``port`` 0 takes a free port.

    Args:
        encode: computes the feature of a video sent as a query; None where the weights are not available.

    Raises:
        UserError: the port cannot be used.
    """
    features = index.features
    lock = threading.Lock()

    @lru_cache(maxsize=512)
    def clip(row: int) -> bytes:
        return mp4_bytes(clip_of(features, row), fps=FPS)

    def described(hits: list[Hit]) -> list[dict[str, object]]:
        return [
            {"row": hit.row, "told": row_text(features, hit.row), "cosine": round(hit.cosine, 3)}
            for hit in hits
        ]

    class Handler(BaseHTTPRequestHandler):
        server_version = "dsm"

        timeout = PATIENCE

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
            except UserError as error:
                self._send(400, "application/json", json.dumps({"error": str(error)}).encode())
            except (ConnectionError, TimeoutError):
                self.close_connection = True
            else:
                self._send(200, kind, body)

        def _get(self) -> tuple[str, bytes]:
            url = urlsplit(self.path)
            if url.path == "/":
                rows = np.random.default_rng(0).permutation(len(features))[:CLIPS_SHOWN]
                page = render_page(
                    "search.html", title="Search by example", count=len(features), upload=encode is not None,
                    rows=[{"row": int(row), "told": row_text(features, int(row))} for row in sorted(rows)],
                )  # fmt: skip
                return "text/html; charset=utf-8", page.encode()
            row = _row(parse_qs(url.query).get("row", [""])[0], len(features))
            if url.path == "/clip":
                with lock:
                    return "video/mp4", clip(row)
            if url.path == "/near":
                hits = index.search(np.array(features.features[row]), CLIPS_SHOWN, but=row)
                found = {"query": {"row": row, "told": row_text(features, row)}, "hits": described(hits)}
                return "application/json", json_text(found).encode()
            raise UserError("no such page.")

        def _post(self) -> tuple[str, bytes]:
            length = self.headers.get("Content-Length", "")
            if urlsplit(self.path).path != "/query" or encode is None or not _is_number(length):
                raise UserError("send the query video to /query.")
            # Only the search page may send queries: browsers do not let other sites set this header.
            if self.headers.get("X-Requested-With") != "dsm":
                raise UserError("queries must come from the search page.")
            if int(length) > LARGEST:
                raise UserError(f"the video is larger than {LARGEST // 2**20} MB.")
            content = self.rfile.read(int(length))  # outside the lock: it may take long
            with lock:
                feature = _encode_sent(content, encode)
            return "application/json", json_text(
                {"hits": described(index.search(feature, CLIPS_SHOWN))}
            ).encode()

        def _send(self, status: int, kind: str, body: bytes) -> None:
            with suppress(ConnectionError, TimeoutError):  # the browser may have left the page
                self._send_all(status, kind, body)

        def _send_all(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header(
                "Content-Security-Policy", "default-src 'self' 'unsafe-inline'; frame-ancestors 'none'"
            )
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Log nothing: requests would clutter the terminal."""

    try:
        return ThreadingHTTPServer((HOST, port), Handler)
    except OSError as error:
        raise UserError(f"port {port} cannot be used ({error.strerror}); choose another --port.") from None


def _encode_sent(content: bytes, encode: Callable[[Path], NDArray[np.float32]]) -> NDArray[np.float32]:
    """The feature of a video sent as a query, written to a temporary file meanwhile."""
    with TemporaryDirectory(prefix="dsm-query-") as folder:
        file = Path(folder, "query")
        file.write_bytes(content)
        try:
            return encode(file)
        except VideoError as error:
            raise UserError(str(error).replace(str(file), "the video sent")) from None


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) <= MOST_DIGITS


def _row(text: str, count: int) -> int:
    if not _is_number(text) or int(text) >= count:
        raise UserError(f"row must be a number from 0 to {count - 1}.")
    return int(text)
