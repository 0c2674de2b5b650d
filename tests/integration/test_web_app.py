"""Strangers come in any number and say anything, slowly or not at all; probes are answered beside them."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest
import uvicorn

from jobs.ledger import open_ledger
from jobs.policy.access import Role
from tests.support.access import Asker, make
from web.app import WebLedger, listen, make_app, server_of
from web.callbacks import connection_limits


@contextlib.contextmanager
def opened(url):
    """A real door: its port, and an address that callbacks are taken at."""
    with (
        listen("127.0.0.1", 0, "--port") as free,
        contextlib.closing(WebLedger(lambda: open_ledger(url))) as door,
    ):
        port = free.getsockname()[1]
        server = uvicorn.Server(server_of(make_app(door), host="127.0.0.1", port=port))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [free]})
        thread.start()
        try:
            yield port, f"/hooks/maxapi.io/{door.opened().hints.token(1)}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def door(sqlite_ledger_url):
    """The port of a real door."""
    with opened(sqlite_ledger_url) as (port, _):
        yield port


def come(port: int, said: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), 20)
    connection.sendall(said)
    return connection


def answer(connection: socket.socket) -> bytes:
    """The first line of what comes back; empty when the connection ends."""
    with contextlib.suppress(ConnectionError):
        return connection.recv(4096).partition(b"\r\n")[0]
    return b""


def status(connection: socket.socket) -> int:
    return int(answer(connection).split()[1])


def test_no_part_of_an_answer_waits_until_the_part_before_it_is_acknowledged():
    with listen("127.0.0.1", 0, "--port") as free, come(free.getsockname()[1]):
        connection, _ = free.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


POST = b"POST /hooks/maxapi.io/1.forged HTTP/1.1\r\nHost: here\r\n"
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"


def test_a_large_body_that_is_declared_and_never_sent_is_answered_and_its_connection_ends(door, monkeypatch):
    monkeypatch.setattr(connection_limits, "PATIENCE", 8.0)  # the answer must have been given by then
    with come(door, POST + b"Content-Length: 10000000\r\n\r\n") as connection:
        assert status(connection) == 404
        assert answer(connection) == b""


def test_a_large_body_without_a_length_is_answered_before_it_ends(door):
    with come(
        door, POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"186a0\r\n" + b"x" * 100_000 + b"\r\n"
    ) as connection:
        assert status(connection) == 404


def test_a_body_without_end_is_cut_off(door, monkeypatch):
    monkeypatch.setattr(connection_limits, "MOST_BYTES", 1_000_000)
    with come(door, POST + b"Content-Length: 10000000000\r\n\r\n") as connection:
        assert status(connection) == 404
        with pytest.raises(ConnectionError):
            connection.sendall(b"x" * 1_000_000_000)


@pytest.mark.parametrize("said", [b"", b"POST /hooks", POST, b"GET /livez HTTP/1.1\r\nHost: here\r\n"])
def test_who_never_says_what_he_wants_is_sent_away(door, monkeypatch, said):
    monkeypatch.setattr(connection_limits, "PATIENCE", 0.2)
    with come(door, said) as connection:
        assert answer(connection) == b""


def test_headers_without_end_are_refused(door):
    with come(door, POST + b"".join(b"X-%d: %s\r\n" % (n, b"x" * 1000) for n in range(200))) as connection:
        assert answer(connection) in (b"HTTP/1.1 400 Bad Request", b"")
        assert answer(connection)[:4] != b"HTTP"
    with come(door, LIVEZ) as probe:
        assert status(probe) == 200


def test_probes_are_answered_while_more_guests_wait_than_there_is_room_for(door, monkeypatch):
    monkeypatch.setattr(connection_limits, "MOST", 20)
    with contextlib.ExitStack() as crowd:
        first = [crowd.enter_context(come(door, POST)) for _ in range(60)]
        with come(door, LIVEZ) as probe:
            assert status(probe) == 200
        assert answer(first[0]) == b""


def test_what_is_no_http_is_answered_with_400(door):
    with come(door, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n") as connection:
        assert status(connection) == 400


def test_guests_who_leave_in_the_middle_leave_no_line_in_the_log(sqlite_ledger_url, capfd):
    with opened(sqlite_ledger_url) as (port, path):
        for _ in range(5):
            with come(port, b"POST %s HTTP/1.1\r\nHost: here\r\nContent-Length: 100\r\n\r\nslow" % path.encode()):
                pass
        with come(port, LIVEZ) as probe:
            assert status(probe) == 200

    assert capfd.readouterr().err == ""


def upload(port, asker, first, wait=None):
    """What an upload is answered that comes in two parts. `wait`: called between them."""
    body = FORM % first
    head = b"POST /v1/files HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer %s\r\n" % asker.text.encode()
    form = b"Content-Type: multipart/form-data; boundary=end\r\nContent-Length: %d\r\n\r\n" % (len(body) + len(END))
    with come(port, head + form + body) as connection:
        if wait is not None:
            wait()
            with contextlib.suppress(ConnectionError):
                connection.sendall(END)
        return answer(connection)


FORM = (
    b'--end\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    b'--end\r\nContent-Disposition: form-data; name="file"; filename="requests.jsonl"\r\n\r\n%s'
)
END = b"\r\n--end--\r\n"


@pytest.fixture
def producer(sqlite_ledger_url):
    with contextlib.closing(open_ledger(sqlite_ledger_url)) as ledger:
        return make(ledger, "shop", Role.PRODUCER)


def test_an_upload_that_comes_in_steadily_may_take_longer_than_any_other_request(door, producer, monkeypatch):
    monkeypatch.setattr(connection_limits, "PATIENCE", 0.3)
    monkeypatch.setattr(connection_limits, "SLOWEST", 1)

    said = upload(door, producer, b"x" * 1000, lambda: time.sleep(1.0))  # real time: what the limit is about

    assert said == b"HTTP/1.1 200 OK"


def test_an_upload_that_trickles_in_is_cut_off(door, producer, monkeypatch):
    monkeypatch.setattr(connection_limits, "PATIENCE", 0.3)
    monkeypatch.setattr(connection_limits, "SLOWEST", 1_000_000)

    assert upload(door, producer, b"x" * 1000) == b""


def test_an_upload_of_a_stranger_has_no_more_time_or_bytes_than_any_request(door, monkeypatch):
    monkeypatch.setattr(connection_limits, "PATIENCE", 0.3)
    monkeypatch.setattr(connection_limits, "SLOWEST", 1)
    nobody = Asker("lf_" + "x" * 43, None)

    assert upload(door, nobody, b"x" * 1000) in (b"", b"HTTP/1.1 401 Unauthorized")
