"""Object stores on the loopback, for tests and benchmarks: a folder by HTTP, or moto's S3 behind a proxy.

Either one waits before each answer and has the faults that a test asks for.
"""

from __future__ import annotations

import hashlib
import http.client
import logging
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

Fault = Literal["503", "cut", "closed", "short", "stall", "drip", "403", "late change"]
"""503; cut off in the middle; closed without an answer; a byte too short, by its header too; silence; a byte
now and then; access denied; or a change of the object just before the answer."""
STALL = 3.0
SIGNED = {"Authorization": "AWS4-HMAC-SHA256 Credential=key/20300101/us-east-1/s3/aws4_request"}
"""What an S3 server wants of a request."""
DRIP = 0.1


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    content: bytes


@dataclass
class Store:
    """A running server."""

    url: str
    latency: float = 0.0
    """Seconds before each answer."""
    faults: list[tuple[str, str, Fault]] = field(default_factory=list)
    """Method, regular expression of the path, and fault, each for one request; taken in turn."""
    served: Counter[str] = field(default_factory=Counter)
    """How often each method and path was answered."""
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, path and range of every request."""
    change: Callable[[], None] = lambda: None
    """What a late change does."""

    def fault(self, method: str, path: str) -> Fault | None:
        for place, (of, pattern, kind) in enumerate(self.faults):
            if of == method and re.search(pattern, path):
                del self.faults[place]
                return kind
        return None


def folder_answer(
    folder: Path, method: str, path: str, headers: dict[str, str], ranges: bool = True
) -> Answer:
    file = folder / unquote(urlsplit(path).path).lstrip("/")
    if file.name.startswith("to-"):  # redirects: to-TARGET, the target written in its file
        return Answer(302, {"Location": file.read_text()}, b"")
    if not file.is_file():
        return Answer(404, {}, b"no such file")
    content = file.read_bytes()
    about = {"ETag": f'"{hashlib.md5(content).hexdigest()}"', "Accept-Ranges": "bytes"}
    match = re.fullmatch(r"bytes=(\d+)-(\d+)", headers.get("range", ""))
    if not match or not ranges:
        return Answer(200, about, content)
    begin, end = int(match[1]), min(int(match[2]) + 1, len(content))
    if begin >= len(content):
        return Answer(416, {"Content-Range": f"bytes */{len(content)}"}, b"")
    about["Content-Range"] = f"bytes {begin}-{end - 1}/{len(content)}"
    return Answer(206, about, content[begin:end])


def forwarded(port: int, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
    behind = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        behind.request(
            method, path, body, {name: text for name, text in headers.items() if name != "connection"}
        )
        answer = behind.getresponse()
        content = answer.read()
        drop = ("transfer-encoding", "connection", "date", "server")
        about = {name: text for name, text in answer.getheaders() if name.lower() not in drop}
        return Answer(answer.status, about, content)
    finally:
        behind.close()


@contextmanager
def served(answer: Callable[[str, str, dict[str, str], bytes], Answer]) -> Iterator[Store]:
    """A server whose answers come from a function of method, path, headers and body."""
    store = Store("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def handle_expect_100(self) -> bool:
            super().handle_expect_100()
            self.wfile.flush()
            return True

        def serve(self) -> None:
            headers = {name.lower(): text for name, text in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length", 0)))
            store.asked.append((self.command, self.path, headers.get("range", "")))
            fault = store.fault(self.command, self.path)
            time.sleep(store.latency)
            if fault == "closed":
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            if fault == "stall":
                time.sleep(STALL)
                self.close_connection = True
                return
            if fault == "late change":
                store.change()
            given = answer(self.command, self.path, headers, body)
            if fault in ("503", "403"):
                given = Answer(int(fault), {"Content-Type": "text/plain"}, b"out of order")
            content = given.content
            if fault == "short":
                content = content[:-1]
            self.send_response(given.status)
            length = str(len(content))
            for name, text in given.headers.items():
                if name.lower() != "content-length":
                    self.send_header(name, text)
                elif self.command == "HEAD":
                    length = str(int(text) - 1) if fault == "short" else text
            self.send_header("Content-Length", length)
            self.end_headers()
            if fault == "drip":
                self.wfile.flush()
                for place in range(len(content)):
                    self.connection.sendall(content[place : place + 1])
                    time.sleep(DRIP)
            elif self.command != "HEAD":
                self.wfile.write(content[: len(content) // 2] if fault == "cut" else content)
            if fault == "cut":
                self.close_connection = True
            store.served[f"{self.command} {urlsplit(self.path).path}"] += 1

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = serve

        def log_message(self, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *args: object) -> None:  # a client that has gone
            pass

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    store.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def http_store(folder: Path, *, ranges: bool = True) -> Iterator[Store]:
    """The files of a folder by HTTP."""
    with served(
        lambda method, path, headers, body: folder_answer(folder, method, path, headers, ranges)
    ) as store:
        yield store


@contextmanager
def s3_store(bucket: str) -> Iterator[Store]:
    """moto's S3 server with one bucket, behind a proxy with latency and faults; its URL is the proxy's."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    try:
        with served(
            lambda method, path, headers, body: forwarded(port, method, path, headers, body)
        ) as store:
            put(port, f"/{bucket}", b"")
            yield store
    finally:
        server.stop()


def put(port: int, path: str, content: bytes) -> None:
    """Write a bucket (/bucket) or an object (/bucket/key) to a server on the loopback."""
    answer = forwarded(port, "PUT", path, SIGNED, content)
    assert answer.status == 200, answer


def listed_in(store: Store, bucket: str) -> list[str]:
    """Keys of all objects in a bucket."""
    port = int(store.url.rpartition(":")[2])
    answer = forwarded(port, "GET", f"/{bucket}?list-type=2", SIGNED, b"")
    return [unquote(one) for one in re.findall("<Key>(.*?)</Key>", answer.content.decode())]


def upload(store: Store, bucket: str, folder: Path) -> None:
    """Put every file of a folder into a bucket."""
    port = int(store.url.rpartition(":")[2])
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            put(
                port,
                f"/{bucket}/{file.relative_to(folder).as_posix()}".replace(" ", "%20"),
                file.read_bytes(),
            )
    store.asked.clear()
    store.served.clear()
