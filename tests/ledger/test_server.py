"""After a restore or a failover nothing new is sent until a person says so; what the server's settings mean."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from jobs.durability import remarks
from jobs.ledger import open_ledger
from jobs.ledger.schema import ledger as ledger_row
from jobs.ledger.values import SubmitAccepted
from tests.ledger import stock
from tests.ledger.stock import NOW

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
    stock.stock(ledger, stock.rows(5))
    (intent,) = ledger.claim_submits("main", NOW, lease=90, at_most=1).intents
    accepted = SubmitAccepted(attempt_id=intent.attempt_id, at=NOW, task_id="t", poll_path=None, next_poll_at=NOW)
    ledger.record([accepted], NOW)
    assert not ledger.has_moved()

    fail_over(ledger)
    again = open_ledger(postgres_ledger_url)  # a new start does not make it well

    assert ledger.has_moved()
    assert again.has_moved()
    assert stock.claim(ledger, NOW + 1) == stock.claim(again, NOW + 1) == 0
    assert len(ledger.claim_polls("main", NOW + 1, lease=30)[0]) == 1

    again.trust()

    assert not ledger.has_moved()
    claimed = ledger.claim_submits("main", NOW + 2, lease=90).intents
    assert len(claimed) == 4
    assert min(one.attempt_id for one in claimed) > intent.attempt_id + 1000  # a number that was never given before
    again.close()


def test_a_dump_read_back_into_another_database_is_noticed(ledger, postgres_server):
    stock.stock(ledger, stock.rows(2))
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
