"""The search page under load: every request is answered or told to come back, and slow ones are cut off."""

from __future__ import annotations

import resource
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from dsm.evaluate.features import Features
from dsm.evaluate.search import ArchiveIndex
from dsm.limits import BACKLOG, CONNECTIONS
from dsm.pages import search_page
from dsm.pages.search_page import PageServer


@contextmanager
def served() -> Iterator[PageServer]:
    """A page of an index whose videos are not there."""
    rows = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    features = Features(rows, np.zeros(20, np.int64), [f"{row}.mp4" for row in range(20)], {"root": "/none"})
    with PageServer(ArchiveIndex(features), None, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def head(what: str, *more: str) -> bytes:
    return "\r\n".join([f"GET {what} HTTP/1.0", "Host: localhost", *more, "", ""]).encode()


def connected(server: PageServer, sent: bytes = b"") -> socket.socket:
    one = socket.create_connection(("127.0.0.1", int(server.server_address[1])), timeout=30)
    one.sendall(sent)
    return one


@pytest.mark.slow
def test_of_more_than_may_wait_at_once_all_are_answered() -> None:
    count = BACKLOG + CONNECTIONS + 100
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * count + 500
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"a process may have {hard} open files here, and the test needs {wanted}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    answers: Counter[int] = Counter()
    try:
        with served() as server, selectors.DefaultSelector() as waiting:
            for _ in range(count):
                one = socket.socket()
                one.setblocking(False)
                one.connect_ex(("127.0.0.1", int(server.server_address[1])))
                waiting.register(one, selectors.EVENT_WRITE, bytearray())
            end = time.monotonic() + 240
            while waiting.get_map() and time.monotonic() < end:
                for key, _ in waiting.select(1.0):
                    one, got = key.fileobj, key.data
                    assert isinstance(one, socket.socket)
                    if key.events == selectors.EVENT_WRITE:
                        one.sendall(head("/near?row=1"))
                        waiting.modify(one, selectors.EVENT_READ, got)
                    elif more := one.recv(65536):
                        got += more
                    else:
                        status = int(got.split()[1])
                        answers[status] += status == 200 or b"Retry-After: " in got
                        waiting.unregister(one)
                        one.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert set(answers) <= {200, 503}
    assert sum(answers.values()) == count
    assert answers[200]


def test_who_sends_slowly_is_cut_off_and_the_others_are_told_to_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(search_page, "HEAD_TIME", 4.0)
    monkeypatch.setattr(search_page, "PATIENCE", 0.5)
    with served() as server:
        slow = [connected(server, b"GET / HT") for _ in range(search_page.CONNECTIONS)]
        time.sleep(0.5)
        with connected(server, head("/near?row=1")) as other:
            told = other.recv(65536)
        with connected(server) as late:  # its request comes after it was told
            time.sleep(1)
            late.sendall(head("/near?row=1"))
            for answer in (told, late.recv(65536)):
                assert answer.startswith(b"HTTP/1.0 503")
                assert b"Retry-After: " in answer
        begun = time.monotonic()
        while time.monotonic() - begun < 30:  # a byte now and then does not prolong it
            try:
                slow[0].sendall(b"x")
            except ConnectionError:
                break
            time.sleep(0.3)
        assert time.monotonic() - begun < 20
        assert slow[1].recv(65536).startswith(b"HTTP/1.0 408")
        with connected(server, head("/near?row=1")) as other:
            assert other.recv(65536).startswith(b"HTTP/1.0 200")
        for one in slow:
            one.close()
