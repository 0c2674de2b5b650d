"""Limits of connections from strangers: time and bytes for each, and a number, beyond which the idlest is closed."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

#: Connections at once; each holds up to 200 kB while a body or an answer is on its way.
MOST = 400
#: Seconds for one request to come in whole, and between two requests.
PATIENCE = 10.0
#: How many times `PATIENCE` its answer may take: a caller that does not read it is not waited for any longer.
ANSWER_TURNS = 6
#: Bytes that one request may send, what is not read of it included.
MOST_BYTES = 16 * 1024 * 1024


class LimitedConnection(H11Protocol):
    """uvicorn's connection with limits: by itself it waits for ever for the rest of a request, and takes any number."""

    since = 0.0  # loop time at which it began to wait for a request
    _turns = 0
    _bytes = 0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection is made. Where that is one too many, the one that waits longest for a request is closed."""
        super().connection_made(transport)
        self._begin()
        if len(self.connections) > MOST:
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
        if self._bytes > MOST_BYTES:
            self.leave()
        else:
            super().data_received(data)

    def on_response_complete(self) -> None:
        """The answer is complete; the time for the next request begins."""
        self._begin()
        super().on_response_complete()

    @property
    def is_served(self) -> bool:
        """Whether it has said what it wants and waits for the answer."""
        cycle = self.cycle
        return cycle is not None and not cycle.response_complete and not cycle.more_body

    def leave(self) -> None:
        """Closes the connection at once."""
        self.transport.abort()

    def _begin(self) -> None:
        self.since, self._turns, self._bytes = self.loop.time(), 0, 0
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(PATIENCE, self._lose_patience)

    def _lose_patience(self) -> None:
        self._turns += 1
        if not self.is_served or self._turns >= ANSWER_TURNS:
            self.leave()
        else:
            self._timer = self.loop.call_later(PATIENCE, self._lose_patience)
