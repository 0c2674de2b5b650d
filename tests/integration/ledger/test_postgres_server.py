"""After a restore or a failover nothing new is sent until a person says so; what the server's settings mean."""

from __future__ import annotations

import contextlib
import subprocess
import time

import pytest
from sqlalchemy import text, update
from sqlalchemy.exc import DBAPIError

from jobs.errors import LightfastError
from jobs.facts import SubmitAccepted
from jobs.ledger import is_away, open_ledger
from jobs.ledger.database.durability import remarks
from jobs.ledger.database.schema import accounts
from jobs.ledger.database.schema import ledger as ledger_row
from sandbox import servers
from tests.support import stocked_ledger
from tests.support.patience import AT_LAST
from tests.support.stocked_ledger import NOW

SOUND = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "synchronous_standby_names": "",
    "in_recovery": "off",
    "standbys": "0",
    "origin": "1/00000001/5",
}


@pytest.fixture
def ledger(postgres_ledger_url):
    opened = open_ledger(postgres_ledger_url)
    yield opened
    opened.close()


def fail_over(ledger):
    """The ledger finds itself on the next timeline."""
    with ledger._database.writing() as tx:
        system, timeline, oid = tx.execute(ledger_row.select()).one().origin.split("/")
        earlier = f"{system}/{int(timeline, 16) - 1:08X}/{oid}"
        tx.execute(update(ledger_row).values(origin=earlier))


def test_after_a_failover_submits_wait_for_a_word_and_polls_go_on(ledger, postgres_ledger_url):
    stocked_ledger.stock(ledger, stocked_ledger.rows(5))
    (intent,) = ledger.claims.submits("main", NOW, lease=90, at_most=1).intents
    accepted = SubmitAccepted(attempt_id=intent.attempt_id, at=NOW, task_id="t", poll_path=None, next_poll_at=NOW)
    ledger.facts.record([accepted])
    assert not ledger.has_moved()

    fail_over(ledger)
    again = open_ledger(postgres_ledger_url)  # a new start does not make it well

    assert ledger.has_moved()
    assert again.has_moved()
    assert stocked_ledger.claim(ledger, NOW + 1) == stocked_ledger.claim(again, NOW + 1) == 0
    assert len(ledger.claims.polls("main", NOW + 1, lease=30)[0]) == 1

    again.trust()

    assert not ledger.has_moved()
    claimed = ledger.claims.submits("main", NOW + 2, lease=90).intents
    assert len(claimed) == 4
    assert min(one.attempt_id for one in claimed) > intent.attempt_id + 1000  # a number that was never given before
    again.close()


def test_an_answer_to_an_attempt_that_was_forgotten_leaves_its_task_on_record(ledger):
    lost = SubmitAccepted(attempt_id=77, at=NOW, task_id="paid-for", poll_path=None, next_poll_at=NOW)

    ledger.facts.record([lost])
    ledger.facts.record([lost])

    assert ledger.tasks_of_nobody() == ["paid-for"]


@pytest.fixture
def standby(tmp_path):
    """A primary, its ledger, and a standby that follows it."""
    with servers.postgres() as primary, contextlib.closing(open_ledger(primary.url)) as ledger:
        stocked_ledger.stock(ledger, stocked_ledger.rows(3))
        data, port = primary.folder / "standby", servers.free_port()
        as_user = {"user": primary.user or None, "extra_groups": [] if primary.user else None, "cwd": primary.folder}
        backup = ["pg_basebackup", "-d", primary.url, "-D", data, "-R", "-X", "stream", "-c", "fast", "--no-sync"]
        subprocess.run([primary.programs / backup[0], *backup[1:]], check=True, capture_output=True, **as_user)
        settings = ("fsync=off", "max_connections=300", "listen_addresses=127.0.0.1", "unix_socket_directories=")
        options = [part for setting in settings for part in ("-c", setting)]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        command = [primary.programs / "postgres", "-D", data, "-p", str(port), *options]
        running = subprocess.Popen(command, **as_user, **quiet)

        def promote():
            command = [primary.programs / "pg_ctl", "promote", "-D", data, "-w"]
            subprocess.run(command, check=True, capture_output=True, **as_user)

        try:
            yield ledger, f"postgresql://postgres@127.0.0.1:{port}/postgres", promote
        finally:
            running.terminate()
            running.wait(AT_LAST)


def opened_soon(url, seconds=AT_LAST):
    end = time.monotonic() + seconds
    while True:
        try:
            return open_ledger(url)
        except LightfastError:  # it still starts
            if time.monotonic() > end:
                raise
            time.sleep(0.05)  # real time: nobody tells


def test_a_standby_that_takes_over_is_noticed_at_once(standby):
    ledger, url, promote = standby
    with contextlib.closing(opened_soon(url)) as follower:
        assert ("problem", True) in [(each, "standby" in said) for each, said in remarks(follower.durability())]
        assert ledger.durability()["standbys"] == "1"
        assert not follower.has_moved()

        promote()

        assert follower.has_moved()
        assert stocked_ledger.claim(follower, NOW) == 0
        assert follower.reports.progress("spring").moved
        follower.trust()
        assert stocked_ledger.claim(follower, NOW) == 3


def test_a_dump_read_back_into_another_database_is_noticed(ledger, postgres_server):
    stocked_ledger.stock(ledger, stocked_ledger.rows(2))
    name = ledger._database.url.database
    ledger.close()

    copy = open_ledger(postgres_server.new_database(name))

    assert copy.has_moved()
    copy.close()


def test_a_copy_of_an_empty_ledger_has_nothing_to_forget(ledger, postgres_server):
    name = ledger._database.url.database
    ledger.close()

    copy = open_ledger(postgres_server.new_database(name))

    assert not copy.has_moved()
    copy.close()


def test_sqlite_cannot_tell_and_never_waits(sqlite_ledger_url):
    ledger = open_ledger(sqlite_ledger_url)

    assert not ledger.has_moved()
    assert list(remarks(ledger.durability())) == []
    ledger.close()


def test_the_servers_settings_are_read(ledger):
    assert set(ledger.durability()) == set(SOUND)
    assert ledger.durability()["synchronous_commit"] == "on"  # we insist


@pytest.mark.parametrize(
    ("changed", "verdict", "words"),
    [
        ({}, "ok", "durable on one server"),
        ({"fsync": "off"}, "problem", "paid again"),
        ({"synchronous_commit": "off"}, "problem", "paid again"),
        ({"full_page_writes": "off"}, "note", "torn pages"),
        ({"in_recovery": "on"}, "problem", "standby"),
        ({"standbys": "2"}, "note", "resume --after-restore"),
        ({"standbys": "1", "synchronous_standby_names": "b"}, "ok", "a failover forgets nothing"),
        ({"synchronous_standby_names": "b", "synchronous_commit": "local"}, "problem", "does not wait"),
        ({"origin": ""}, "note", "does not say"),
    ],
)
def test_what_a_setting_means_for_money_is_said(changed, verdict, words):
    said = list(remarks({**SOUND, **changed}))

    assert (verdict, True) in [(each, words in text) for each, text in said]


def test_a_process_that_stands_still_in_a_transaction_holds_up_the_others_for_a_while_and_no_longer(
    ledger, postgres_ledger_url
):
    """As when a worker's machine is stopped between two statements of a claim: the server ends its session."""
    stocked_ledger.stock(ledger, stocked_ledger.rows(3))
    stopped = open_ledger(postgres_ledger_url)

    def stand_still():
        with stopped._database.writing() as tx:
            assert tx.scalar(text("SHOW idle_in_transaction_session_timeout")) == "30s"
            tx.execute(
                text("SET LOCAL idle_in_transaction_session_timeout = '300ms'")
            )  # its own alone: not the others'
            tx.execute(accounts.select().with_for_update())
            assert len(ledger.claims.submits("main", NOW, lease=90).intents) == 3  # it waits for the account's row
            tx.execute(accounts.select())  # the stopped one goes on

    with pytest.raises(DBAPIError) as told:
        stand_still()
    assert is_away(told.value)
    assert stopped.claims.submits("main", NOW + 1, lease=90).intents == ()
    stopped.close()
