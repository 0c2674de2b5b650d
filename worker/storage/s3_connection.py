"""A PUT over a connection that botocore has made and keeps open.

botocore's session and urllib3 spend more CPU on writing down a request and on reading its answer than the sending
takes. So a request that is written down already goes out here over a connection of their pool. A connection that has
to be made is theirs to make: who answers is then proven as for every other request. A connection goes back to the pool
only after an answer that leaves no doubt where it ends.
"""

from __future__ import annotations

import queue
import re
from http import HTTPStatus
from typing import Any, NamedTuple

from urllib3.util.connection import is_connection_dropped

#: Bytes that are read at once, and the most that an answer may have: one to a PUT is short.
CHUNK, ANSWER_LIMIT = 16 * 1024, 64 * 1024
HEAD_END = b"\r\n\r\n"
STATUS = re.compile(rb"HTTP/1\.1 ([2-5][0-9][0-9])[ \r]")
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,6})[ \t]*(?=\r\n)", re.IGNORECASE)
#: What makes an answer end elsewhere than its length says, or is the last one of its connection.
NO_LENGTH = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
CLOSES = re.compile(rb"\r\nconnection:[^\r]*close", re.IGNORECASE)


class PutAnswer(NamedTuple):
    """What came back."""

    status: int
    body: bytes
    is_last: bool  # nothing more may be sent over its connection


class OddAnswerError(Exception):
    """A success that does not say where it ends: botocore knows more ways to read one."""


def pool_of(session: Any, url: str) -> Any | None:
    """The pool of botocore's session (`URLLib3Session`) for an address; None behind a proxy, which is told more."""
    if session._proxy_config.proxy_url_for(url):  # noqa: SLF001  the session has no other word for it
        return None
    return session._manager.connection_from_url(url)  # noqa: SLF001  see above


def put(pool: Any, head: bytes, body: bytes) -> PutAnswer | None:
    """Sends a request and reads its answer; None: no connection is open.

    Raises:
        OSError: The connection broke, or nothing came within the time that its pool allows.
        OddAnswerError: See there.
    """
    connection = _open_one(pool)
    if connection is None:
        return None
    is_kept = False
    try:
        # Its time limit is still that of the answer before, which is the one for answers.
        connection.sock.sendall(head)
        connection.sock.sendall(body)
        answer = _read(connection.sock)
        is_kept = not answer.is_last
    finally:
        if not is_kept:
            connection.close()
        pool._put_conn(connection)  # noqa: SLF001  as urllib3 gives back its own
    return answer


def _open_one(pool: Any) -> Any | None:
    """A connection of the pool that the server has not closed meanwhile."""
    try:
        connection = pool.pool.get(block=False)
    except (queue.Empty, AttributeError):  # none is left, or the pool was closed
        return None
    if connection is not None and connection.sock is not None and not is_connection_dropped(connection):
        return connection
    if connection is not None:
        connection.close()
    pool._put_conn(connection)  # noqa: SLF001  see above
    return None


def _read(sock: Any) -> PutAnswer:
    data: bytes = sock.recv(CHUNK)
    while (end := data.find(HEAD_END)) < 0:
        data = _more(sock, data)
    told, length = STATUS.match(data), LENGTH.findall(data, 0, end + 2)
    if told is None:
        raise OddAnswerError(f"{data[:40]!r} is no answer of HTTP/1.1")
    status = int(told[1])
    if len(length) != 1 or NO_LENGTH.search(data, 0, end + 2) or int(length[0]) > ANSWER_LIMIT:
        if status == HTTPStatus.OK:
            raise OddAnswerError("it does not say how long it is")
        return PutAnswer(status, b"", is_last=True)
    start = end + len(HEAD_END)
    whole = start + int(length[0])
    while len(data) < whole:
        data = _more(sock, data)
    return PutAnswer(status, data[start:whole], is_last=len(data) > whole or bool(CLOSES.search(data, 0, end + 2)))


def _more(sock: Any, data: bytes) -> bytes:
    more: bytes = sock.recv(CHUNK)
    if not more:
        raise ConnectionError("the server closed the connection")
    if len(data) + len(more) > 2 * ANSWER_LIMIT:
        raise OddAnswerError("it is too long")
    return data + more
