"""Limits of connections from strangers: time and bytes for each, and a number, beyond which the idlest is closed."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any, cast

import h11
from fastapi import Request
from uvicorn.protocols.http.h11_impl import H11Protocol

from web.callbacks.open_files import most_connections

#: Connections at once; each holds up to 200 kB while a body or an answer is on its way.
MOST = 400
#: Seconds for one request to come in whole, and between two requests.
PATIENCE = 10.0
#: How many times `PATIENCE` its answer may take, and a long one stand still: who reads nothing is waited for no longer.
#: A slow reader's system tells that there is room again once a part of a large buffer is free, not at each byte read.
ANSWER_TURNS = 6
#: Bytes that one request may send, what is not read of it included.
MOST_BYTES = 16 * 1024 * 1024
#: Under this name a request's scope has the connection that it came by.
CONNECTION = "lightfast.connection"
#: Bytes a second that an upload has to bring on average.
SLOWEST = 4096
#: Chunks of a body that may be of any size, and bytes that those beyond them have on average. A chunk costs 5 µs of the
#: event loop, however small it is: those of one byte 0.24 s for 256 kB, which are taken in one turn of the loop.
FREE_CHUNKS, LEAST_CHUNK = 1000, 100
#: The start of Linux's `struct tcp_info`, up to the bytes that were acknowledged.
_ACKED = struct.Struct("=120xQ")


class _Conversation(h11.Connection):
    """What is read of one connection, request by request. It takes no body in very many small chunks."""

    _chunks = _bytes = 0

    def next_event(self) -> type[h11.NEED_DATA | h11.PAUSED] | h11.Event:
        """What comes next.

        Raises:
            h11.RemoteProtocolError: It is no HTTP, or a body has too many small chunks.
        """
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._chunks = self._bytes = 0
        elif isinstance(event, h11.Data):
            self._chunks, self._bytes = self._chunks + event.chunk_start, self._bytes + len(event.data)
            if self._chunks > FREE_CHUNKS + self._bytes // LEAST_CHUNK:
                raise h11.RemoteProtocolError("too many small chunks")
        return event


class LimitedConnection(H11Protocol):
    """uvicorn's connection with limits: by itself it waits for ever for the rest of a request, and takes any number."""

    since = 0.0  # loop time at which it began to wait for a request
    _turns = 0
    _bytes = 0
    _most = MOST_BYTES
    _is_upload = _is_long = False
    _taken = 0  # bytes that who asked had taken when that was last looked at
    _still = 0  # looks in a row at which nothing more was taken
    _timer: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = _Conversation(h11.SERVER)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection is made. Where that is one too many, the one that waits longest for a request is closed."""
        super().connection_made(transport)
        self._begin()
        if len(self.connections) > most_connections(MOST):
            waiting = (one for one in self.connections if isinstance(one, LimitedConnection) and not one.is_served)
            min(waiting, key=lambda one: one.since, default=self).leave()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is lost."""
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes have come in."""
        self._bytes += len(data)
        if self._bytes > self._most:
            self.leave()
            return
        super().data_received(data)
        if self.scope is not None:  # the request is answered by a task, which has not begun yet
            cast("dict[str, object]", self.scope).setdefault("extensions", {CONNECTION: self})

    def send_400_response(self, msg: str) -> None:
        """Answers what is no HTTP, and ends the connection. No request gets a second answer."""
        if self.cycle is not None:
            self.cycle.disconnected = True
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.leave()

    def take_upload(self, most: int) -> None:
        """The request that is coming in may have so many bytes, and as long as they come by `SLOWEST`."""
        self._most, self._is_upload = most, True

    def take_long_answer(self) -> None:
        """The answer may take any time, as long as who asked takes what is sent."""
        self._is_long = True

    def on_response_complete(self) -> None:
        """The answer is complete; the time for the next request begins."""
        self._begin()
        super().on_response_complete()

    @property
    def is_served(self) -> bool:
        """Whether it has said what it wants and waits for the answer, or for the rest of a long one."""
        cycle = self.cycle
        return self._has_rest or (cycle is not None and not cycle.response_complete and not cycle.more_body)

    @property
    def takes_upload(self) -> bool:
        """Whether an upload is coming in."""
        return self._is_upload and self.cycle is not None and self.cycle.more_body

    def leave(self) -> None:
        """Closes the connection at once. It is none of those that are open from now on, though its end comes later."""
        self.connections.discard(self)
        self.transport.abort()

    @property
    def _has_rest(self) -> bool:
        """Whether a part of a long answer is still to be taken, be it made to its end or not."""
        return self._is_long and self.transport.get_write_buffer_size() > 0

    def _begin(self) -> None:
        self.since, self._turns, self._bytes = self.loop.time(), 0, 0
        self._most, self._still = MOST_BYTES, 0
        self._is_upload, self._is_long = False, self._has_rest
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(PATIENCE, self._lose_patience)

    def _lose_patience(self) -> None:
        self._turns += 1
        comes_in = self.takes_upload
        if comes_in and self._bytes >= self._turns * PATIENCE * SLOWEST:
            self._timer = self.loop.call_later(PATIENCE, self._lose_patience)
        elif comes_in or not self.is_served or self._waits_in_vain():
            self.leave()
        else:
            self._timer = self.loop.call_later(PATIENCE, self._lose_patience)

    def _waits_in_vain(self) -> bool:
        """Whether the answer takes too long; a long one, whether nothing of it was taken for as long."""
        if not self._is_long:
            return self._turns >= ANSWER_TURNS
        before, self._taken = self._taken, _taken(self.transport)
        self._still = self._still + 1 if self._has_rest and self._taken == before else 0
        return self._still >= ANSWER_TURNS


def _taken(transport: asyncio.Transport) -> int:
    """Bytes that the other side has taken: a number that stands still while it takes none.

    What waits in this process does not tell: the system takes the next part of it only when much of its own buffer,
    megabytes, has been sent. Linux counts what was acknowledged (`tcpi_bytes_acked`); elsewhere the former has to do.
    """
    try:
        told = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKED.size)
        return int(_ACKED.unpack(told)[0])
    except (AttributeError, OSError, struct.error):
        return -transport.get_write_buffer_size()


def connection_of(request: Request) -> LimitedConnection | None:
    """The connection that a request came by; None: not one of ours, as in tests without a server."""
    found = request.scope.get("extensions", {}).get(CONNECTION)
    return found if isinstance(found, LimitedConnection) else None


def take_long_answer(request: Request) -> None:
    """The answer to this request may take any time, as long as who asked takes what is sent: events, long files."""
    if (connection := connection_of(request)) is not None:
        connection.take_long_answer()
