"""A database that can be read and not written: sessions that a failover left read-only, a standby, a full disk."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest
import structlog
from sqlalchemy.exc import DBAPIError, OperationalError
from starlette.testclient import TestClient

from cli.output.endings import message
from jobs.facts import ImageDelayed, MadeImage, TaskSucceeded
from jobs.ledger import is_away, is_read_only, open_ledger
from jobs.ledger.database import engine
from jobs.results.progress import seconds_left
from jobs.states import JobState
from providers.types import Link
from sandbox import servers
from tests.support import stocked_ledger as shelf
from tests.support.patience import until
from tests.support.shop_ledger import call
from tests.support.stocked_ledger import NOW
from tests.support.worker_world import Provider, close_all, row, settings, stock, world
from web.app import WebLedger, make_app, make_metrics_app
from worker.local.run import Reason, run_batch
from worker.runtime.limits import limits_of
from worker.runtime.timings import Timings
from worker.services import Services, build
from worker.stages import copy as copy_stage
from worker.stages.delivered_images import made_of

ROWS = 60


class Server:
    """A PostgreSQL server that is demoted and promoted, as far as its clients can tell."""

    def __init__(self, server: servers.Postgres) -> None:
        self.url = server.new_database()

    def turn_sessions_read_only(self, *, new_ones: bool) -> None:
        """Sessions that stand can only read from now on; `new_ones`: those that come, too."""
        self._say(f"ALTER ROLE CURRENT_USER SET default_transaction_read_only = {'on' if new_ones else 'off'}")
        self._say("ALTER SYSTEM SET default_transaction_read_only = on")
        before = self._loaded()
        self._say("SELECT pg_reload_conf()")
        until(lambda: self._loaded() > before)  # it tells all sessions before it takes the next one

    def let_new_sessions_write(self) -> None:
        self._say("ALTER ROLE CURRENT_USER SET default_transaction_read_only = off")

    def _loaded(self) -> datetime:
        """When the server last read its settings."""
        return self._say("SELECT pg_conf_load_time()").fetchone()[0]

    def _say(self, words: str) -> psycopg.Cursor:
        with psycopg.connect(self.url, autocommit=True, options="-c default_transaction_read_only=off") as session:
            return session.execute(words)


@pytest.fixture
def server() -> Iterator[Server]:
    """One of its own: other tests' sessions shall go on."""
    with servers.postgres() as started:
        yield Server(started)


@pytest.fixture
def stocked(server):
    with contextlib.closing(open_ledger(server.url)) as ledger:
        shelf.stock(ledger, shelf.rows(20))
        assert shelf.claim(ledger, NOW, at_most=1) == 1
        yield ledger


def claim(ledger) -> int:
    return shelf.claim(ledger, NOW, at_most=1)


def test_sessions_that_a_failover_left_read_only_are_thrown_away_at_once(server, stocked):
    server.turn_sessions_read_only(new_ones=False)

    assert [claim(stocked) for _ in range(3)] == [1, 1, 1]


def test_a_server_that_takes_no_writes_is_away_and_not_healthy_until_it_does(server, stocked):
    server.turn_sessions_read_only(new_ones=True)

    with pytest.raises(DBAPIError) as refused:
        claim(stocked)
    assert is_away(refused.value)
    assert is_read_only(refused.value)
    assert "is read-only" in stocked.unwritable()
    assert stocked.reports.progress("spring").jobs == {JobState.READY: 19, JobState.WORKING: 1}, "it can be read"

    server.let_new_sessions_write()
    assert stocked.unwritable() is None
    assert claim(stocked) == 1


def test_ready_means_that_the_ledger_takes_writes(server, stocked, monkeypatch):
    door = WebLedger(lambda: open_ledger(server.url))
    with (
        contextlib.closing(door),
        TestClient(make_app(door)) as client,
        TestClient(make_metrics_app(door)) as scraper,
    ):
        monkeypatch.setattr("web.app.PROBED", 0.0)
        server.turn_sessions_read_only(new_ones=True)
        assert "lightfast_ledger_writable 0.0" in scraper.get("/metrics").text
        told = client.get("/readyz")
        assert (told.status_code, "read-only" in told.text) == (503, True)

    server.let_new_sessions_write()
    door = WebLedger(lambda: open_ledger(server.url))
    with (
        contextlib.closing(door),
        TestClient(make_app(door)) as client,
        TestClient(make_metrics_app(door)) as scraper,
    ):
        assert client.get("/readyz").status_code == 200
        server.turn_sessions_read_only(new_ones=False)
        assert "lightfast_ledger_writable 1.0" in scraper.get("/metrics").text, "a new session writes"


def test_status_and_doctor_say_that_the_ledger_is_read_only(server, stocked, monkeypatch):
    monkeypatch.setenv("LIGHTFAST_DATABASE_URL", server.url)
    monkeypatch.setenv("LIGHTFAST_REDIS_URL", "redis://127.0.0.1:9/0")
    server.turn_sessions_read_only(new_ones=True)

    assert "the ledger is read-only" in call("status", "spring").stdout
    assert "is read-only" in call("doctor", code=1).stdout


# -- a run through it ----------------------------------------------------------------------------------------------


@pytest.fixture
def running(server, sandbox, tmp_path, monkeypatch) -> Iterator[Services]:
    sandbox.play(pictures={"tiny": True}, takes={"default": [0.2, 0.6]})
    here = settings(tmp_path, base_url=f"{sandbox.url}/maxapi.io", api_key="sandbox-key", max_in_flight=10)
    here = here.model_copy(update={"allow_private_hosts": True, "database_url": server.url})
    services = build(here, timings=Timings(count_every=0.02, claim_backoff=0.05, longest_claim_backoff=0.1))
    services.ledger.accounts.sync(limits_of(services.settings))
    stock(services, tmp_path, [dataclasses.replace(row(number), pixels=(1024, 1024)) for number in range(ROWS)])
    return services


async def run_through(services, on_progress, **options):
    try:
        with structlog.testing.capture_logs() as events:
            ending = await run_batch(services, "b", on_progress=on_progress, **options)
    finally:
        await services.close()
    return ending, [event["event"] for event in events]


def once_some_are_stored(act):
    """The progresses that were shown since; `act` is called with the first that shows a third of the rows."""
    since = []

    def look(progress, _accounts):
        if since or progress.images_stored >= ROWS // 3:
            since.append(progress)
            if len(since) == 1:
                act()

    return since, look


async def test_a_run_goes_on_by_itself_where_old_sessions_are_read_only_and_new_ones_write(running, server, sandbox):
    _, look = once_some_are_stored(lambda: server.turn_sessions_read_only(new_ones=False))

    ending, _ = await run_through(running, look)

    assert (ending.exit_code, ending.progress.jobs) == (0, {JobState.DONE: ROWS})
    assert sandbox.stats()["total"]["charged_images"] == ROWS
    assert not ending.progress.images_unknown


async def test_a_run_says_that_the_ledger_is_read_only_and_goes_on_when_it_is_not(running, server, sandbox):
    _, look = once_some_are_stored(lambda: server.turn_sessions_read_only(new_ones=True))
    told = []

    def until_it_is_told(progress, accounts):
        look(progress, accounts)
        if progress.unwritable and not told:
            told.append(progress)
            server.let_new_sessions_write()

    ending, events = await run_through(running, until_it_is_told)

    assert "is read-only" in told[0].unwritable
    assert seconds_left(told[0], [], running.clock.now()) is None
    assert {"ledger_is_read_only", "ledger_takes_writes_again"} <= set(events)
    assert (ending.exit_code, ending.progress.jobs) == (0, {JobState.DONE: ROWS})
    assert sandbox.stats()["total"]["charged_images"] == ROWS
    assert ending.progress.unwritable is None


async def test_a_run_on_a_ledger_that_stays_read_only_ends_with_4_after_max_stall(running, server, sandbox):
    _, look = once_some_are_stored(lambda: server.turn_sessions_read_only(new_ones=True))

    ending, _ = await run_through(running, look, max_stall=0.0)

    assert (ending.exit_code, ending.reason) == (4, Reason.LEDGER_TAKES_NO_WRITES)
    assert "the ledger is read-only" in message(ending)
    server.let_new_sessions_write()
    with contextlib.closing(open_ledger(server.url)) as ledger:
        assert not ledger.unknowns.all(), "what was answered waits in the rescue file"


# -- links that die meanwhile --------------------------------------------------------------------------------------


@pytest.fixture
async def here(tmp_path, monkeypatch):
    """A worker whose ledger takes no records, once `refuse` is called, until `refuses` is cleared."""
    monkeypatch.setattr("worker.images.staging.SPARE", 0)
    services = world(tmp_path, Provider(), timings=Timings(record_patience=0.0))
    stock(services, tmp_path, [row(0)])
    (intent,) = services.ledger.claims.submits("main", services.clock.now(), lease=300).intents
    refuses = [True]
    record = services.ledger.facts.record

    def refused(facts):
        if refuses[0]:
            raise OperationalError("COMMIT", None, OSError("read-only"))
        return record(facts)

    yield services, intent, refuses, lambda: monkeypatch.setattr(services.ledger.facts, "record", refused)
    await close_all()


async def test_a_copy_under_way_keeps_its_bytes_on_disk_while_its_link_dies(here):
    services, intent, refuses, refuse = here
    now = services.clock.now()
    link = Link(url="https://cdn.test/task/0.png?sig=1")
    made = MadeImage(link=link, spool=None, expires_at=now + 60)
    services.ledger.facts.record([TaskSucceeded(attempt_id=intent.attempt_id, at=now, images=(made,), task_id="t")])
    (due,), _ = services.ledger.claims.copies(services.clock.now() + 1, holder="me", lease=600, at_most=1)
    refuse()

    with structlog.testing.capture_logs() as events:
        copying = asyncio.create_task(copy_stage.copy(services, due))
        await _until(lambda: any(event["event"] == "image_kept" for event in events))
        refuses[0] = False
        await copying

    kept = next(event["file"] for event in events if event["event"] == "image_kept")
    assert content_of(kept) == Provider.picture(link.url)
    (again,), _ = services.ledger.claims.copies(services.clock.now() + 3600, holder="me", lease=600, at_most=1)
    assert again.spool == kept
    await copy_stage.copy(services, again)
    assert services.ledger.reports.progress("b").jobs == {JobState.DONE: 1}


async def test_an_answer_that_cannot_be_recorded_has_its_dying_images_on_disk(here):
    services, intent, refuses, refuse = here
    refuse()
    waiting = services.recorder.put(ImageDelayed(image_id=0, at=0.0, next_copy_at=1.0, code="x", message=""))
    await _until(lambda: not services.recorder.healthy)
    now = services.clock.now()
    soon, late = (Link(url=f"https://cdn.test/t/{n}.png", expires_at=now + life) for n, life in enumerate((60, 9000)))

    dying, living = await made_of(services, intent.attempt_id, (soon, late), life=0.0, made_at=now)

    assert content_of(dying.spool) == Provider.picture(soon.url)
    assert living.spool is None
    refuses[0] = False
    await waiting


async def test_what_a_link_gives_instead_of_a_picture_is_not_kept_for_one(here, monkeypatch):
    services, intent, refuses, refuse = here
    monkeypatch.setattr(Provider, "picture", staticmethod(lambda _url: b"<html>Please wait a moment"))
    refuse()
    waiting = services.recorder.put(ImageDelayed(image_id=0, at=0.0, next_copy_at=1.0, code="x", message=""))
    await _until(lambda: not services.recorder.healthy)
    now = services.clock.now()
    soon = Link(url="https://cdn.test/t/0.png", expires_at=now + 60)

    (made,) = await made_of(services, intent.attempt_id, (soon,), life=0.0, made_at=now)

    assert (made.spool, made.expires_at) == (None, soon.expires_at), "its link is asked again, as any other is"
    refuses[0] = False
    await waiting


def content_of(name):
    return Path(name).read_bytes()


async def _until(holds):
    while not holds():  # noqa: ASYNC110  what is waited for has no event of its own
        await asyncio.sleep(0)


# -- SQLite --------------------------------------------------------------------------------------------------------


@pytest.fixture
def on_file(sqlite_ledger_url):
    with contextlib.closing(open_ledger(sqlite_ledger_url)) as ledger:
        shelf.stock(ledger, shelf.rows(5))
        yield ledger


def test_a_sqlite_connection_that_was_opened_when_its_file_could_not_be_written_is_thrown_away(on_file):
    with on_file._database.writer.connect() as connection:
        connection.connection.driver_connection.execute("PRAGMA query_only = ON")

    assert claim(on_file) == 1


def test_a_full_disk_below_a_sqlite_ledger_is_told(on_file, monkeypatch):
    assert on_file.unwritable() is None
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))

    assert "disk" in on_file.unwritable()


def test_a_sqlite_file_that_may_not_be_written_is_told(on_file, monkeypatch):
    connect = engine.sqlite3.connect
    monkeypatch.setattr(engine.sqlite3, "connect", lambda there, **how: connect(there.replace("=rw", "=ro"), **how))

    assert on_file.unwritable() == "is read-only: its file may not be written"


def test_a_look_at_a_ledger_that_was_moved_away_leaves_no_empty_one_in_its_place(on_file):
    for name in (on_file.path, *(on_file.path.with_name(f"{on_file.path.name}-{more}") for more in ("wal", "shm"))):
        name.rename(name.with_name(f"moved-{name.name}"))

    assert on_file.unwritable() is None
    assert not on_file.path.exists()


def test_a_ledger_that_is_locked_is_not_read_only(on_file):
    with on_file._database.writing():
        assert on_file.unwritable() is None


def test_of_several_hosts_the_one_that_writes_is_taken():
    several = engine.connect("postgresql://u@/db?host=a:5432&host=b:5432")
    one = engine.connect("postgresql://u@a/db")

    assert several.writer.dialect.create_connect_args(several.url)[1].get("host")
    assert engine._which_of(several.url) == {"target_session_attrs": "read-write"}
    assert engine._which_of(one.url) == {}
    assert engine._which_of(engine.normalized("postgresql://u@/db?host=a,b&target_session_attrs=any")) == {}
