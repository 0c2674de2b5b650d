"""The web door tells a probe the truth, and Prometheus what the ledger counts."""

from __future__ import annotations

import contextlib
import io
import logging
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
import uvicorn
from fastapi.testclient import TestClient

from cli.commands import admin
from cli.commands.doctor import durability
from jobs.errors import BadInput, LightfastError, WrongSchema
from jobs.facts import ImageChecked, ImageStored, SubmitAccepted, TaskSucceeded
from jobs.ledger import open_ledger
from jobs.ledger.accounts.worker_values import DestinationTrouble
from jobs.policy.access import Role
from jobs.settings.model import Settings
from jobs.states import TroubleKind
from sandbox.servers import free_port
from tests.support import stocked_ledger
from tests.support.access import make
from tests.support.patience import AT_LAST, until
from web.app import SERVED, Listen, WebLedger, announce, make_app, make_metrics_app, serve
from web.callbacks.connection_limits import LimitedConnection

FORM = "Content-Type: multipart/form-data; boundary=b"


@contextlib.contextmanager
def opened(url):
    door = WebLedger(lambda: open_ledger(url))
    with contextlib.closing(door), TestClient(make_app(door)) as client:
        yield client


@contextlib.contextmanager
def scraped(url):
    door = WebLedger(lambda: open_ledger(url))
    with contextlib.closing(door), TestClient(make_metrics_app(door)) as client:
        yield client


def test_ready_with_a_ledger_on_either_database(ledger_url):
    with opened(ledger_url) as client:
        assert client.get("/livez").text == "ok\n"
        assert client.get("/readyz").status_code == 200


def test_metrics_count_jobs_money_and_flight(sqlite_ledger_url):
    with scraped(sqlite_ledger_url) as client:
        page = client.get("/metrics")

    assert page.headers["content-type"].startswith("text/plain")
    assert "lightfast_at_risk_images 0.0" in page.text
    assert "lightfast_workers 0.0" in page.text


def test_metrics_tell_what_accounts_may_use_and_wait_for_and_how_early_results_are_found(ledger_url):
    with contextlib.closing(open_ledger(ledger_url)) as ledger:
        now = time.time() + ledger.clock_offset()
        stocked_ledger.stock(ledger, stocked_ledger.rows(8))
        ledger.accounts.sync([stocked_ledger.account(), stocked_ledger.account(name="second")])
        (first, *_) = ledger.claims.submits("main", now, lease=90, at_most=3).intents
        taken = {"attempt_id": first.attempt_id, "at": now, "task_id": "t", "poll_path": None, "next_poll_at": now}
        ledger.facts.record([SubmitAccepted(**taken)])
        ledger.claims.polls("main", now, lease=30)
        ledger.workers.touch("here:1", now, now - 40)

    with scraped(ledger_url) as client:
        told = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if line[0] != "#")

    of_main = {name.removesuffix('{account="main"}'): float(value) for name, value in told.items() if "main" in name}
    assert of_main["lightfast_submits_last_minute"] == of_main["lightfast_in_flight"] == 3
    waiting = {name: value for name, value in told.items() if name.startswith("lightfast_waiting_rows")}
    assert waiting == {'lightfast_waiting_rows{provider="maxapi.io"}': "5.0"}, "once"
    assert of_main["lightfast_polls_total"] == 1
    assert of_main["lightfast_cool_down_seconds"] == of_main["lightfast_throttled_total"] == 0
    assert 30 < float(told['lightfast_worker_looked_seconds{worker="here:1"}']) < 60
    assert told["lightfast_workers"] == "1.0"


def test_metrics_tell_where_submits_wait_and_what_the_tightest_image_has_to_spare(ledger_url):
    with contextlib.closing(open_ledger(ledger_url)) as ledger:
        now = time.time() + ledger.clock_offset()
        stocked_ledger.stock(ledger, stocked_ledger.rows(7))
        intents = ledger.claims.submits("main", now, lease=90).intents
        made = stocked_ledger.made(expires_at=now + 1000)
        ledger.facts.record([TaskSucceeded(attempt_id=one.attempt_id, at=now, images=(made,)) for one in intents])
        for one in ledger.claims.copies(now, holder="me", lease=60, at_most=6)[0]:
            size = {"bytes": 9, "width": 1, "height": 1, "format": "png"}
            ledger.facts.record([ImageChecked(image_id=one.image_id, object_path="a", sha256="ab", **size)])
            ledger.facts.record([ImageStored(image_id=one.image_id, at=now)])
        behind = {"kind": TroubleKind.BEHIND, "since": now, "code": "copies_behind", "message": "slow"}
        ledger.destinations.say_troubles("me", [DestinationTrouble(dest="/tmp/dest", **behind)], now)

    with scraped(ledger_url) as client:
        told = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if line[0] != "#")

    assert told['lightfast_submits_wait{dest="/tmp/dest",kind="behind"}'] == "1.0"
    assert 900 < float(told['lightfast_least_slack_seconds{dest="/tmp/dest"}']) < 1000


def test_the_first_link_to_die_is_told_of_whichever_batch_it_is(ledger_url, monkeypatch):
    monkeypatch.setattr("web.metrics.BATCHES", 1)
    with contextlib.closing(open_ledger(ledger_url)) as ledger:
        now = time.time() + ledger.clock_offset()
        stocked_ledger.stock(ledger, stocked_ledger.rows(1), name="old")
        (intent,) = ledger.claims.submits("main", now, lease=90).intents
        made = stocked_ledger.made(expires_at=now + 1000)
        ledger.facts.record([TaskSucceeded(attempt_id=intent.attempt_id, at=now, images=(made,))])
        ledger.batches.record_manifest(stocked_ledger.new_batch("new"), stocked_ledger.rows(1), now=now + 1)

    with scraped(ledger_url) as client:
        told = dict(line.rsplit(" ", 1) for line in client.get("/metrics").text.splitlines() if line[0] != "#")

    assert 900 < float(told["lightfast_least_link_seconds"]) < 1000


def test_however_many_ask_at_once_the_ledger_is_asked_once(sqlite_ledger_url):
    ledger, asked = open_ledger(sqlite_ledger_url), []
    together = threading.Barrier(8)

    def counted():
        asked.append(1)
        return ledger

    def ask():
        together.wait(AT_LAST)
        return client.get("/readyz").status_code

    door = WebLedger(lambda: ledger)
    door.ledger = counted
    with contextlib.closing(door), TestClient(make_app(door)) as client, ThreadPoolExecutor(8) as crowd:
        answers = [future.result() for future in [crowd.submit(ask) for _ in range(8)]]

    assert answers == [200] * 8
    assert len(asked) < 8


def test_a_ledger_that_hangs_keeps_nobody_waiting_for_ever(sqlite_ledger_url, monkeypatch):
    monkeypatch.setattr("web.app.PROBE_PATIENCE", 0.1)
    monkeypatch.setattr("web.app.SCRAPE_PATIENCE", 0.1)
    let_go = threading.Event()

    def hanging():
        assert let_go.wait(AT_LAST)
        return open_ledger(sqlite_ledger_url)

    with (
        contextlib.closing(WebLedger(hanging)) as door,
        TestClient(make_app(door)) as client,
        TestClient(make_metrics_app(door)) as scraper,
    ):
        assert client.get("/readyz").status_code == scraper.get("/metrics").status_code == 503
        assert client.get("/livez").status_code == 200
        let_go.set()


def test_alive_but_not_ready_without_its_database_and_no_password_is_told():
    with opened("postgresql+psycopg://mia:tellnobody@127.0.0.1:1/lost") as client:
        assert client.get("/livez").status_code == 200
        answer = client.get("/readyz")

    assert answer.status_code == 503
    assert "tellnobody" not in answer.text


def test_not_ready_on_a_schema_of_another_version():
    def open_a_newer_one():
        raise WrongSchema("the ledger is newer than this program")

    with TestClient(make_app(WebLedger(open_a_newer_one))) as client:
        answer = client.get("/readyz")

    assert (answer.status_code, answer.text) == (503, "not ready: WrongSchema\n")


@pytest.mark.parametrize("path", ["/admin", "/redoc", "/api/v2/batches"])
def test_nothing_else_is_served(sqlite_ledger_url, path):
    with opened(sqlite_ledger_url) as client:
        assert client.get(path).status_code == 404


def test_a_person_is_told_where_it_listens_and_what_is_there(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)

    announce(
        {"http://0.0.0.0:8000": SERVED, "http://127.0.0.1:9464": {"/metrics": "counts"}},
        "/shop/lightfast.db",
        sandbox=False,
    )

    said = terminal.getvalue()
    for words in (
        "http://0.0.0.0:8000, every address of this machine\n",
        "http://127.0.0.1:9464\n",
        "/metrics",
        "/hooks/",
    ):
        assert words in said
    assert "/shop/lightfast.db" in said
    assert said.endswith("Ctrl-C ends it.\n")


@contextlib.contextmanager
def started(settings, **options):
    """`lightfast serve` in a thread, with the addresses that it says it listens on."""
    said, servers = [], []

    make = uvicorn.Server.__init__

    def made(server, config):
        make(server, config)
        servers.append(server)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(uvicorn.Server, "__init__", made)
        patched.setattr("web.app.emit", lambda _name, *, address, **_: said.append(address))
        thread = threading.Thread(target=serve, args=(settings, Listen(**options)))
        thread.start()
        count = 1 + ("metrics_port" in options)
        until(lambda: len(said) == count and [one.started for one in servers] == [True] * count)
        try:
            yield said
        finally:
            for one in servers:
                one.should_exit = True
            thread.join()


def status(address):
    try:
        with urllib.request.urlopen(address, timeout=AT_LAST) as answer:
            return answer.status
    except urllib.error.HTTPError as refused:
        return refused.code


def test_serve_listens_on_loopback_and_the_port_for_callbacks_tells_no_counts(sqlite_ledger_url):
    with started(Settings(database_url=sqlite_ledger_url), port=free_port()) as (address,):
        assert address.startswith("http://127.0.0.1:")
        assert (status(f"{address}/livez"), status(f"{address}/metrics")) == (200, 401)


@pytest.mark.parametrize("ended_by", ["caller", "server"])
def test_an_upload_that_ends_early_leaves_no_traceback_in_the_log(sqlite_ledger_url, caplog, monkeypatch, ended_by):
    with contextlib.closing(open_ledger(sqlite_ledger_url)) as ledger:
        asker = make(ledger, "ops", Role.OPERATOR)
    coming, gone = threading.Event(), threading.Event()
    takes, loses = LimitedConnection.take_upload, LimitedConnection.connection_lost
    monkeypatch.setattr(LimitedConnection, "take_upload", lambda one, most: (takes(one, most), coming.set()))
    monkeypatch.setattr(LimitedConnection, "connection_lost", lambda one, why: (loses(one, why), gone.set()))
    port = free_port()
    with socket.socket() as caller:
        with started(Settings(database_url=sqlite_ledger_url), port=port):
            logging.getLogger("uvicorn.error").addHandler(caplog.handler)
            caller.connect(("127.0.0.1", port))
            head = ("POST /v1/files HTTP/1.1", "Host: localhost", "Content-Length: 9999", FORM)
            said = [*head, f"Authorization: {asker.header['Authorization']}", "", "--b", ""]
            caller.sendall("\r\n".join(said).encode())
            assert coming.wait(AT_LAST)
            if ended_by == "caller":
                caller.shutdown(socket.SHUT_RDWR)
                assert gone.wait(AT_LAST)
        assert gone.wait(AT_LAST)
    logging.getLogger("uvicorn.error").removeHandler(caplog.handler)

    assert [record.getMessage() for record in caplog.records if record.name == "uvicorn.error"] == []


def test_metrics_have_a_port_of_their_own_where_nothing_else_is(sqlite_ledger_url):
    ports = {"port": free_port(), "metrics_port": free_port()}
    with started(Settings(database_url=sqlite_ledger_url), **ports) as (main, metrics):
        assert metrics == f"http://127.0.0.1:{ports['metrics_port']}"
        assert (status(f"{metrics}/metrics"), status(f"{main}/metrics")) == (200, 401)
        assert status(f"{metrics}/livez") == status(f"{metrics}/hooks/maxapi.io/1") == 404


def test_a_host_for_metrics_without_their_port_is_refused_in_words():
    with pytest.raises(BadInput, match="--metrics-port listens, which is not given"):
        admin.serve(metrics_host="0.0.0.0")


def test_a_port_that_is_taken_is_said_plainly(sqlite_ledger_url):
    settings = Settings(database_url=sqlite_ledger_url)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        taken = f"cannot listen on 127.0.0.1 port {port}: address already in use."

        with pytest.raises(LightfastError, match=f"{taken} --port"):
            serve(settings, Listen(port=port))
        with pytest.raises(LightfastError, match=f"{taken} --metrics-port"):
            serve(settings, Listen(port=free_port(), metrics_port=port))


def test_doctor_minds_no_loose_database_where_the_ledger_is_a_sandboxes(postgres_url):
    real, toy = (Settings(database_url=postgres_url, sandbox=sandbox) for sandbox in (False, True))

    assert "problem" in {finding.verdict for finding in durability(real)}
    assert "problem" not in {finding.verdict for finding in durability(toy)}
    assert "no matter in a sandbox's ledger: fsync = off" in " ".join(finding.text for finding in durability(toy))
