"""A ledger behind a connection pooler: transactions of one process run in different sessions of the server."""

from __future__ import annotations

import contextlib

import psycopg
import pytest
from sqlalchemy import text

from jobs.errors import LightfastError
from jobs.facts import SubmitAccepted
from jobs.ledger import open_ledger
from tests.support import pooler, stocked_ledger
from tests.support.stocked_ledger import NOW

OFTEN = 12  # the driver would prepare a statement at its fifth time


@pytest.fixture(params=["stand-in", "pgbouncer"])
def pooled_url(request, postgres_url):
    """A new database behind a pooler that keeps a session for a transaction, and drops start-up options."""
    if request.param == "stand-in":
        with pooler.stand_in(postgres_url, drops_options=True) as standing:
            yield standing.url
        return
    if pooler.PGBOUNCER is None:
        pytest.skip(NOT_THERE)
    settings = {"pool_mode": "transaction", "default_pool_size": 3, "ignore_startup_parameters": "options"}
    with pooler.pgbouncer(postgres_url, **settings) as running:
        yield running.url


NOT_THERE = "pgbouncer is not installed here: only the stand-in of tests/support/pooler.py was tried"


def test_several_processes_work_through_a_pooler_that_shares_its_sessions(pooled_url):
    with contextlib.ExitStack() as stack:
        ledgers = [stack.enter_context(contextlib.closing(open_ledger(pooled_url))) for _ in range(4)]
        stocked_ledger.stock(ledgers[0], stocked_ledger.rows(60))
        claimed = []
        for turn in range(OFTEN):
            for ledger in ledgers:
                intents = ledger.claims.submits("main", NOW + turn, lease=90, at_most=1).intents
                claimed += [intent.attempt_id for intent in intents]
                ledger.facts.record([accepted(intent.attempt_id) for intent in intents])
                ledger.claims.polls("main", NOW + turn, lease=90)
                ledger.reports.progress("spring")

        assert len(set(claimed)) == len(claimed) == OFTEN * len(ledgers)
        assert len(list(ledgers[0].reports.audit())) == len(claimed)


def accepted(attempt_id):
    return SubmitAccepted(attempt_id=attempt_id, at=NOW, task_id=f"t{attempt_id}", poll_path=None, next_poll_at=NOW)


def test_an_intent_is_on_disk_before_it_is_sent_whatever_the_role_and_the_pooler_say(pooled_url, postgres_url):
    name = postgres_url.rpartition("/")[2]
    with psycopg.connect(postgres_url, autocommit=True) as direct:
        direct.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off')

    with contextlib.closing(open_ledger(pooled_url)) as ledger, ledger._database.writing() as tx:
        shown = [tx.execute(text(f"SHOW {setting}")).scalar_one() for setting in ("synchronous_commit", "lock_timeout")]

    assert shown == ["on", "1min"]
    with contextlib.closing(open_ledger(pooled_url)) as ledger:
        assert ledger.durability()["synchronous_commit"] == "on"


def test_a_pooler_that_refuses_start_up_options_is_no_hindrance(postgres_url):
    with pooler.stand_in(postgres_url) as standing, contextlib.closing(open_ledger(standing.url)) as ledger:
        stocked_ledger.stock(ledger, stocked_ledger.rows(1))
        assert stocked_ledger.claim(ledger, NOW) == 1


def test_options_of_ones_own_that_a_pooler_refuses_are_told_with_what_helps(postgres_url):
    with pooler.stand_in(postgres_url) as standing, pytest.raises(LightfastError) as refused:
        open_ledger(f"{standing.url}?options=-csearch_path%3Dshop")

    assert "pooler" in str(refused.value)
    assert "PGOPTIONS" in str(refused.value)


def test_a_search_path_that_a_pooler_drops_makes_no_ledger_in_another_schema(postgres_url, monkeypatch):
    with pooler.stand_in(postgres_url, drops_options=True) as standing:
        with pytest.raises(LightfastError, match="search_path"):
            open_ledger(f"{standing.url}?options=-csearch_path%3Dshop")
        monkeypatch.setenv("PGOPTIONS", "-c search_path=shop")
        with pytest.raises(LightfastError, match="search_path"):
            open_ledger(standing.url)

    with psycopg.connect(postgres_url) as direct:
        assert direct.execute("SELECT to_regclass('public.ledger')").fetchone() == (None,)


def test_options_of_ones_own_reach_a_server_without_a_pooler(postgres_url):
    with psycopg.connect(postgres_url) as direct:
        direct.execute("CREATE SCHEMA shop")

    with contextlib.closing(open_ledger(f"{postgres_url}?options=-csearch_path%3Dshop")) as ledger:
        stocked_ledger.stock(ledger, stocked_ledger.rows(1))

    with psycopg.connect(postgres_url) as direct:
        assert direct.execute("SELECT count(*) FROM shop.jobs").fetchone() == (1,)


def test_a_pooler_that_knows_no_transactions_is_refused_in_words(postgres_url):
    with pooler.stand_in(postgres_url, mode="statement") as standing, pytest.raises(LightfastError) as refused:
        open_ledger(standing.url)

    assert "pool_mode = transaction" in str(refused.value)
