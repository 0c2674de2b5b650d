"""What one caller, or very many, can ask of the web server's connections and its event loop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import resource
import socket
import threading

import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse
from starlette.requests import ClientDisconnect

from tests.support.patience import AT_LAST, until
from web.app import listen, server_of
from web.callbacks import connection_limits, open_files
from web.callbacks.connection_limits import _Conversation, connection_of, take_long_answer

#: Bytes of a long answer: more than the system's own buffers hold.
LONG = 16_000_000
#: Bytes that a reader's system takes before the reader has read them; Linux makes it twice as much.
WINDOW = 64 * 1024


class Served:
    """A real server of a small app, in a thread."""

    def __init__(self):
        self.app = FastAPI(lifespan=self._life)
        self.server = uvicorn.Server(server_of(self.app, host="127.0.0.1", port=0))
        self.connections = []  # of those who asked for the long answer
        self.gate = threading.Event()
        self.app.exception_handler(ClientDisconnect)(self._gone)
        self.app.get("/long")(self._long)
        self.app.get("/gate")(self._gate)
        self.app.post("/body")(self._body)
        self.app.post("/no_body")(self._livez)
        self.app.get("/livez")(self._livez)

    @contextlib.asynccontextmanager
    async def _life(self, _app):
        self.loop = asyncio.get_running_loop()
        yield

    async def _gone(self, _request, _error):
        return Response(status_code=400)  # as the whole app has it

    async def _livez(self):
        return "ok"

    async def _body(self, request: Request):
        return len(await request.body())

    def _gate(self):
        """An answer that somebody waits for, until the test opens the gate."""
        assert self.gate.wait(AT_LAST)
        return "open"

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
    def running(self, listener=None):
        with listener or listen("127.0.0.1", 0, "--port") as free:
            self.port = free.getsockname()[1]
            thread = threading.Thread(target=self.server.run, kwargs={"sockets": [free]})
            thread.start()
            try:
                yield self
            finally:
                self.gate.set()
                self.server.should_exit = True
                thread.join()

    @contextlib.contextmanager
    def stopped(self):
        """Its event loop stands still: who comes meanwhile has come at once when it goes on."""
        until(lambda: self.server.started)
        stands, goes_on = threading.Event(), threading.Event()
        self.loop.call_soon_threadsafe(lambda: (stands.set(), goes_on.wait(AT_LAST)))
        assert stands.wait(AT_LAST)
        try:
            yield
        finally:
            goes_on.set()

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


LIVEZ = b"GET /livez HTTP/1.1\r\nHost: here\r\n\r\n"


def test_of_a_crowd_that_comes_at_once_no_more_stay_than_there_is_room_for(served, monkeypatch):
    monkeypatch.setattr(connection_limits, "MOST", 20)
    with contextlib.ExitStack() as crowd:
        with served.stopped():
            guests = [crowd.enter_context(served.come(b"GET /livez")) for _ in range(100)]

        assert [read(one, 1) for one in guests[:80]] == [b""] * 80
        for one in guests[80:]:
            one.sendall(LIVEZ.removeprefix(b"GET /livez"))
            assert read(one, 12) == b"HTTP/1.1 200"


def test_who_comes_while_all_others_wait_for_their_answers_is_sent_away(served, monkeypatch):
    monkeypatch.setattr(connection_limits, "MOST", 2)
    ask = LIVEZ.replace(b"livez", b"gate")
    with served.come(ask) as first, served.come(ask) as second:
        until(lambda: sum(one.is_served for one in tuple(served.server.server_state.connections)) == 2)
        with served.come() as third:
            assert read(third, 1) == b""
        served.gate.set()

        assert [read(one, 12) for one in (first, second)] == [b"HTTP/1.1 200"] * 2


@pytest.mark.parametrize(
    ("files", "connections"),
    [(resource.RLIM_INFINITY, 400), (1024, 400), (500, 300), (256, 128)],
)
def test_fewer_connections_are_open_where_few_files_may_be(monkeypatch, files, connections):
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (files, files))

    assert open_files.most_connections(400) == connections


@pytest.mark.parametrize(
    ("files", "allowed", "set_to"),
    [
        (256, resource.RLIM_INFINITY, [(984, resource.RLIM_INFINITY)]),
        (256, 4096, [(984, 4096)]),
        (256, 512, [(512, 512)]),
        (256, 256, []),
        (1024, 4096, []),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, []),
    ],
)
def test_as_many_files_are_allowed_as_the_connections_need_and_the_system_lets(monkeypatch, files, allowed, set_to):
    told = []
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (files, allowed))
    monkeypatch.setattr(resource, "setrlimit", lambda _what, limits: told.append(limits))

    open_files.make_room(400)

    assert told == set_to


class FullListener(socket.socket):
    """A listener of a process that may open no more files."""

    tries = 0

    def accept(self):
        self.tries += 1
        raise OSError(errno.EMFILE, "Too many open files")


def test_that_no_connection_can_be_taken_is_told_now_and_then_and_not_each_time(monkeypatch, caplog):
    told = []
    monkeypatch.setattr(open_files, "emit", lambda event, **said: told.append((event, said["times"])))
    listener = FullListener()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    with Served().running(listener) as served, socket.create_connection(("127.0.0.1", served.port), AT_LAST):
        until(lambda: listener.tries > 100)

    assert ("connections_wait", 1) in told
    assert len(told) <= listener.tries.bit_length()
    assert [record for record in caplog.records if record.name == "asyncio" and record.levelno > logging.INFO] == []


POST = b"POST /%s HTTP/1.1\r\nHost: here\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("path", [b"body", b"no_body"])
def test_a_body_of_very_many_small_chunks_is_not_read_to_its_end(served, monkeypatch, caplog, path):
    """Each chunk costs the event loop as much as a kilobyte in a large one, and nobody else is answered meanwhile."""
    chunks, next_event = [], _Conversation.next_event

    def counted(conversation):
        event = next_event(conversation)
        chunks.append(event)
        return event

    monkeypatch.setattr(_Conversation, "next_event", counted)
    with served.come(POST % path) as guest:
        with contextlib.suppress(ConnectionError):
            guest.sendall(b"1\r\na\r\n" * 500_000 + b"0\r\n\r\n")
        assert not read(guest, 1_000).endswith(b"500000")
    until(lambda: not served.server.server_state.connections)

    assert len(chunks) < 2 * connection_limits.FREE_CHUNKS
    assert caplog.records == []


def test_a_body_of_many_chunks_that_are_not_small_is_taken(served):
    with served.come(POST % b"body") as guest:
        guest.sendall(b"64\r\n%s\r\n" % bytes(100) * 5_000 + b"0\r\n\r\n")

        assert b"500000" in read(guest, 200)


def test_a_body_of_some_small_chunks_is_taken(served):
    with served.come(POST % b"body") as guest:
        guest.sendall(b"1\r\na\r\n" * connection_limits.FREE_CHUNKS + b"0\r\n\r\n")

        assert b"1000" in read(guest, 200)


@pytest.mark.parametrize(("path", "status"), [(b"body", b"400"), (b"no_body", b"200")])
def test_a_body_that_is_no_http_ends_the_connection_and_leaves_no_line_in_the_log(served, caplog, path, status):
    with served.come(POST % path) as guest:
        first = b"" if path == b"body" else read(guest, 12)
        guest.sendall(b"this is no chunk\r\n")

        assert (first + read(guest, 1_000)).startswith(b"HTTP/1.1 " + status)
    assert caplog.records == []
