"""What `serve` shows to whom: tokens, their roles, and those who try."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading

import pytest

from jobs.ledger import open_ledger
from jobs.ledger.access.values import NewToken
from jobs.policy.access import Role, make_token
from tests.support.patience import AT_LAST, until
from tests.support.visits import api_client
from web import tokens


@pytest.fixture
def web(ledger_url, monkeypatch):
    monkeypatch.setattr(tokens, "WRONG_AFTER", 0.0)
    with api_client(ledger_url) as it:
        yield it


def token(ledger, role=Role.VIEWER, name="one"):
    made = make_token()
    budget = 1 if role is Role.PRODUCER else None
    new = NewToken(name=name, role=role, prefix=made.prefix, digest=made.digest, daily_budget=budget)
    assert ledger.access.add(new, 1.0)
    return made.secret.get_secret_value()


def ask(web, text=None, scheme="Bearer"):
    return web.get("/metrics", headers={} if text is None else {"Authorization": f"{scheme} {text}"})


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
def test_metrics_are_told_to_whoever_may_see_everything(web, ledger, role):
    answer = ask(web, token(ledger, role))

    assert answer.status_code == 200
    assert "lightfast_ledger_writable 1.0" in answer.text
    assert ledger.access.all()[0].used_at > 1.0
    assert ask(web, token(ledger, role, "two"), scheme="bearer").status_code == 200  # its case says nothing


def test_without_a_token_both_ways_are_named_and_nothing_is_told(web):
    answer = ask(web)

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "--metrics-port" in answer.text


@pytest.mark.parametrize("forged", ["", "x", "lf_" + "A" * 43, "lf_" + "A" * 100_000, "lf_é"])
def test_a_forged_token_is_refused(web, ledger, forged):
    text = token(ledger)

    assert web.get("/metrics", headers={b"Authorization": b"Bearer " + forged.encode()}).status_code == 401
    assert ask(web, text[:-1]).status_code == ask(web, text, scheme="Basic").status_code == 401
    assert text not in ask(web, text[:-1]).text


def test_a_revoked_token_is_refused_from_the_next_request_on(web, ledger):
    text = token(ledger)
    assert ask(web, text).status_code == 200
    ledger.access.revoke("one", 2.0)

    assert ask(web, text).status_code == 401


def test_a_producer_does_not_see_what_is_everybodys(web, ledger):
    answer = ask(web, token(ledger, Role.PRODUCER))

    assert answer.status_code == 403
    assert "producer" in answer.json()["detail"]


def test_who_guesses_waits_and_of_many_most_are_turned_away_while_right_tokens_are_answered(web, ledger, monkeypatch):
    monkeypatch.setattr(tokens, "WRONG_AT_ONCE", 1)
    released, codes = threading.Event(), queue.Queue()

    async def held(_seconds):
        await asyncio.to_thread(released.wait)

    monkeypatch.setattr(tokens, "_wait", held)
    text, wrong = token(ledger), "lf_" + "A" * 43
    guesses = [threading.Thread(target=lambda: codes.put(ask(web, wrong).status_code)) for _ in range(3)]
    for each in guesses:
        each.start()
    try:
        turned_away = [codes.get(timeout=AT_LAST) for _ in range(2)]
        right = ask(web, text).status_code
    finally:
        released.set()
        for each in guesses:
            each.join()

    assert (turned_away, right, codes.get()) == ([429, 429], 200, 401)


def test_who_has_a_token_can_read_while_the_ledger_takes_no_writes(sqlite_ledger_url):
    with contextlib.closing(open_ledger(sqlite_ledger_url)) as ledger, api_client(sqlite_ledger_url) as web:
        text = token(ledger)
        with contextlib.closing(sqlite3.connect(ledger.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")

            answer = web.get("/api/v1/batches", headers={"Authorization": f"Bearer {text}"})

            other.execute("ROLLBACK")
        assert answer.status_code == 200
        until(lambda: ledger.access.holder(text).used_at is not None)
