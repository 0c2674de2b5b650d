"""What one caller, or very many, can ask of the web server's connections and its event loop."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse

from tests.support.patience import AT_LAST, until
from web.app import listen, server_of
from web.callbacks import connection_limits
from web.callbacks.connection_limits import connection_of, take_long_answer

#: Bytes of a long answer: more than the system's own buffers hold.
LONG = 16_000_000
#: Bytes that a reader's system takes before the reader has read them; Linux makes it twice as much.
WINDOW = 64 * 1024


class Served:
    """A real server of a small app, in a thread."""

    def __init__(self):
        self.app = FastAPI()
        self.server = uvicorn.Server(server_of(self.app, host="127.0.0.1", port=0))
        self.connections = []  # of those who asked for the long answer
        self.app.get("/long")(self._long)
        self.app.get("/livez")(self._livez)

    async def _livez(self):
        return "ok"

    async def _long(self, request: Request, part: int):
        self.connections.append(connection_of(request))
        take_long_answer(request)
        if part == LONG:
            return Response(bytes(LONG))

        async def parts():
            for _ in range(LONG // part):
                yield bytes(part)

        return StreamingResponse(parts(), headers={"Content-Length": str(LONG)})

    @contextlib.contextmanager
    def running(self):
        with listen("127.0.0.1", 0, "--port") as free:
            self.port = free.getsockname()[1]
            thread = threading.Thread(target=self.server.run, kwargs={"sockets": [free]})
            thread.start()
            try:
                yield self
            finally:
                self.server.should_exit = True
                thread.join()

    def come(self, said=b"", window=None):
        connection = socket.socket()
        if window is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        connection.settimeout(AT_LAST)
        connection.connect(("127.0.0.1", self.port))
        connection.sendall(said)
        return connection

    def look(self):
        """What time does to the long answer: its connection is looked at. False: it is closed."""
        (connection,) = self.connections
        open_, done = self.server.server_state.connections, threading.Event()

        def one():
            if connection in open_:
                connection._timer.cancel()
                connection._lose_patience()
            done.set()

        connection.loop.call_soon_threadsafe(one)
        assert done.wait(AT_LAST)
        return connection in open_


@pytest.fixture
def served(monkeypatch):
    """A server whose time is the test's."""
    monkeypatch.setattr(connection_limits, "PATIENCE", AT_LAST)
    with Served().running() as one:
        yield one


ASK = b"GET /long?part=%d HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
SMALL = LONG // 250


def read(connection, most):
    """As many bytes, or fewer at the end of what comes."""
    data = bytearray()
    with contextlib.suppress(ConnectionError):
        while len(data) < most and (part := connection.recv(min(WINDOW, most - len(data)))):
            data += part
    return bytes(data)


@pytest.mark.parametrize("part", [SMALL, LONG])  # it is made as it is taken, or waits as a whole
def test_who_takes_a_long_answer_little_by_little_gets_all_of_it(served, part):
    with served.come(ASK % part, WINDOW) as reader:
        came = bytearray(read(reader, WINDOW))
        while more := read(reader, 8 * WINDOW):
            came += more
            for _ in range(connection_limits.ANSWER_TURNS - 1):  # in which nothing is taken
                served.look()

    assert len(came.partition(b"\r\n\r\n")[2]) == LONG


@pytest.mark.parametrize("part", [SMALL, LONG])
def test_who_takes_nothing_of_a_long_answer_is_cut_off(served, part):
    with served.come(ASK % part, WINDOW) as reader:
        until(lambda: served.connections)
        until(lambda: not served.look())

        assert len(read(reader, LONG)) < LONG
