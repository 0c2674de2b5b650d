"""A batch as it goes, for who listens: events until it is over, few looks for many, an end when there must be one."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading

import pytest

from jobs.ledger import open_ledger
from tests.support import stocked_ledger
from tests.support.patience import AT_LAST, until
from web import events
from web.app import WebLedger, WebServer, make_app, server_of
from web.callbacks.connection_limits import LimitedConnection


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    monkeypatch.setattr(events, "EVERY", 0.02)
    monkeypatch.setattr(events, "TOKENS_EVERY", 0.02)
    monkeypatch.setattr("web.figures.LEAST_INTERVAL", 0.0)


@pytest.fixture
def ledger(ledger_url):
    with contextlib.closing(open_ledger(ledger_url)) as opened:
        stocked_ledger.stock(opened, stocked_ledger.rows(2))
        yield opened


class Served:
    """A real server, and its end."""

    def __init__(self, url):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.ledger = WebLedger(lambda: open_ledger(url))
        self.app = make_app(self.ledger)
        self.server = WebServer(server_of(self.app, host="127.0.0.1", port=self.port), self.app.state.door)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.listener]})
        self.thread.start()

    def end(self):
        self.server.should_exit = True
        self.thread.join(AT_LAST)

    def close(self):
        self.end()
        self.ledger.close()
        self.listener.close()


@pytest.fixture
def served(ledger_url, ledger):
    with contextlib.closing(Served(ledger_url)) as served:
        yield served


class Listener:
    """Somebody who listens to a batch."""

    def __init__(self, served, asker, code=200, **headers):
        self.connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=AT_LAST)
        self.connection.request("GET", "/api/v1/batches/spring/events", headers={**asker.header, **headers})
        self.answer = self.connection.getresponse()
        assert self.answer.status == code, self.answer.read()

    def event(self):
        """The next event's id and document; None: the answer has ended. Signs of life are passed over."""
        told = {}
        while line := self.answer.readline():
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name:
                told[name] = value
            elif "data" in told:
                return told["id"], json.loads(told["data"])
        return None

    def close(self):
        self.connection.close()


@contextlib.contextmanager
def listening(served, asker, **headers):
    with contextlib.closing(Listener(served, asker, **headers)) as listener:
        yield listener


def test_who_listens_hears_how_the_batch_is_what_changes_and_that_it_is_over(served, ledger, viewer):
    with listening(served, viewer) as listener:
        first, told = listener.event()
        assert told["rows"] == {"ready": 2}
        assert told["counted_at"]
        ledger.batches.pause("spring", "on your word")
        assert listener.event()[1]["state"] == "paused"
        ledger.batches.cancel("spring")
        while (heard := listener.event()) is not None:
            last, told = heard

    assert told["rows"] == {"cancelled": 2}
    assert last != first
    Listener(served, viewer, code=204, **{"Last-Event-ID": last}).close()


def test_who_comes_back_is_not_told_again_what_he_has_heard(served, ledger, viewer):
    with listening(served, viewer) as listener:
        heard, _ = listener.event()
    with listening(served, viewer, **{"Last-Event-ID": heard}) as listener:
        ledger.batches.pause("spring", "on your word")

        assert listener.event()[1]["state"] == "paused"


def test_many_who_listen_cost_as_many_looks_as_one(served, viewer, monkeypatch):
    looked = served.app.state.door.events._look
    looks = []

    def counted(name):
        looks.append(name)
        return looked(name)

    monkeypatch.setattr(served.app.state.door.events, "_look", counted)
    monkeypatch.setattr(events, "EVERY", 3600.0)
    with contextlib.ExitStack() as crowd:
        for _ in range(20):
            assert crowd.enter_context(listening(served, viewer)).event()

        assert looks == ["spring"]


def test_signs_of_life_come_while_nothing_changes(served, viewer, monkeypatch):
    monkeypatch.setattr(events, "SIGN_EVERY", 0.01)
    with listening(served, viewer) as listener:
        listener.event()

        assert listener.answer.readline().startswith(b":")


def test_a_token_that_is_revoked_hears_nothing_more(served, ledger, viewer):
    with listening(served, viewer) as listener:
        listener.event()
        ledger.access.revoke("screen", 5.0)

        assert listener.event() is None


def test_only_so_many_listen(served, viewer, monkeypatch):
    monkeypatch.setattr(events, "MOST_OF_ONE", 1)
    with listening(served, viewer) as listener:
        listener.event()
        Listener(served, viewer, code=503).close()
    until(lambda: not served.app.state.door.events._of_token.total())
    with listening(served, viewer) as listener:
        assert listener.event()


def test_who_listens_is_not_taken_for_one_who_does_not_read(served, viewer, monkeypatch):
    taken = []

    def take(connection):
        taken.append(connection)

    monkeypatch.setattr(LimitedConnection, "take_long_answer", take)
    with listening(served, viewer) as listener:
        listener.event()

        assert len(taken) == 1


def test_a_server_that_is_to_stop_does_not_wait_for_who_listens(served, viewer, monkeypatch):
    monkeypatch.setattr(served.server.config, "timeout_graceful_shutdown", AT_LAST)
    with listening(served, viewer) as listener:
        listener.event()
        served.end()

        assert not served.thread.is_alive()
        assert listener.event() is None
