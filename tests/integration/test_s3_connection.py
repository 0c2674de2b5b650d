"""Requests over connections of urllib3's pool: which answers are taken, and which connections are used again."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress

import pytest
from urllib3 import HTTPConnectionPool

from tests.support.patience import AT_LAST
from worker.storage.s3_connection import OddAnswerError, put

HEAD = b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
HELLO = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"


@contextmanager
def answering(*answers):
    """A server that gives these answers, one to each request; and the connections it has taken, as they grow."""
    left, taken = list(answers), []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener, left, taken), daemon=True).start()
        pool = HTTPConnectionPool("127.0.0.1", listener.getsockname()[1], maxsize=2, timeout=AT_LAST)
        try:
            yield pool, taken
        finally:
            pool.close()
            listener.shutdown(socket.SHUT_RDWR)
            for each in taken:
                each.close()


def serve(listener, left, taken):
    with suppress(OSError):  # it is over
        while True:
            taken.append(listener.accept()[0])
            threading.Thread(target=talk, args=(taken[-1], left), daemon=True).start()


def talk(connection, left):
    with suppress(OSError):  # who does not understand an answer hangs up
        while left:
            came = b""
            while not came.endswith(b"body"):
                part = connection.recv(1000)
                if not part:
                    return
                came += part
            answer = left.pop(0)
            for part in answer if isinstance(answer, list) else [answer]:
                connection.sendall(part)
            if not answer:
                connection.close()
                return


def opened(pool):
    """Has urllib3 make the connection, as it does for a first request."""
    assert pool.request("PUT", "/first", body=b"body", retries=False).status == 200


def test_no_connection_is_made_here():
    with answering(HELLO) as (pool, taken):
        assert put(pool, HEAD, b"body") is None
        assert not taken


def test_an_open_connection_is_used_again_and_again_and_left_to_urllib3():
    with answering(HELLO, HELLO, EMPTY, HELLO) as (pool, taken):
        opened(pool)
        assert put(pool, HEAD, b"body") == (200, b"hi", False)
        assert put(pool, HEAD, b"body") == (200, b"", False)
        opened(pool)
        assert len(taken) == 1


def test_an_answer_may_come_in_pieces():
    with answering(HELLO, [bytes([each]) for each in HELLO]) as (pool, _):
        opened(pool)
        assert put(pool, HEAD, b"body") == (200, b"hi", False)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi, and more",
        b"HTTP/1.1 412 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        b"HTTP/1.1 503 No\r\n\r\n",
    ],
)
def test_a_connection_whose_answer_does_not_end_plainly_is_closed(answer):
    with answering(HELLO, answer, HELLO) as (pool, taken):
        opened(pool)
        found = put(pool, HEAD, b"body")
        assert found.is_last
        assert found.status == int(answer[9:12])
        assert put(pool, HEAD, b"body") is None
        opened(pool)
        assert len(taken) == 2


def test_a_refusal_with_a_length_leaves_its_connection_open():
    with answering(HELLO, b"HTTP/1.1 412 No\r\nContent-Length: 2\r\n\r\nno", HELLO) as (pool, taken):
        opened(pool)
        assert put(pool, HEAD, b"body") == (412, b"no", False)
        opened(pool)
        assert len(taken) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi!",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        b"SSH-2.0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + bytes(200_000),
    ],
)
def test_an_answer_that_is_not_understood_counts_as_none(answer):
    with answering(HELLO, answer, HELLO) as (pool, taken):
        opened(pool)
        with pytest.raises(OddAnswerError):
            put(pool, HEAD, b"body")
        opened(pool)
        assert len(taken) == 2


def test_a_server_that_hangs_up_without_an_answer_is_a_broken_connection():
    with answering(HELLO, b"", HELLO) as (pool, taken):
        opened(pool)
        with pytest.raises(OSError, match="closed"):
            put(pool, HEAD, b"body")
        opened(pool)
        assert len(taken) == 2


def test_a_connection_that_the_server_has_closed_meanwhile_is_not_used():
    with answering(HELLO, HELLO) as (pool, taken):
        opened(pool)
        connection = pool.pool.queue[-1]
        taken[0].shutdown(socket.SHUT_RDWR)
        connection.sock.settimeout(AT_LAST)
        assert connection.sock.recv(1, socket.MSG_PEEK) == b""  # it has come here
        assert put(pool, HEAD, b"body") is None
        opened(pool)
        assert len(taken) == 2


def test_a_pool_that_was_closed_has_no_connections():
    with answering(HELLO) as (pool, _):
        opened(pool)
        pool.close()
        assert put(pool, HEAD, b"body") is None
