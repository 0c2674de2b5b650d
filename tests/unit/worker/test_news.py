"""A run and its log: a batch begun, what it waits for, and its end, each said once."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy.exc import OperationalError

from jobs.ledger.accounts.worker_values import DestinationTrouble
from jobs.states import TroubleKind
from tests.support.worker_world import Provider, answer, row, stock, world
from worker.lanes.news import News
from worker.local.run import run_batch

pytestmark = pytest.mark.virtual_time


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr("worker.lanes.news.emit", lambda event, **fields: lines.append((event, fields)))
    return lines


def refused_key(_wanted):
    return answer({"code": 401, "msg": "invalid api key"}, status=401)


async def test_a_run_logs_that_its_batch_has_begun_and_finished(tmp_path, said):
    services = world(tmp_path, Provider())
    stock(services, tmp_path, [row(number) for number in range(3)])

    await run_batch(services, "b")

    assert [event for event, _ in said] == ["batch_begun", "batch_finished"]
    assert (said[0][1]["rows"], said[1][1]["done"], said[1][1]["charged_usd"]) == (3, 3, 0.06)


async def test_a_revoked_key_is_logged_once_and_so_is_the_end_of_the_trouble(tmp_path, said):
    provider = Provider(on_submit=refused_key)
    services = world(tmp_path, provider)
    stock(services, tmp_path, [row(number) for number in range(3)])

    assert (await run_batch(services, "b", max_stall=12.0)).exit_code == 4
    assert [event for event, _ in said] == ["batch_begun", "account_paused", "batch_needs_person"]
    assert said[1][1]["code"] == "bad_key"
    assert said[1][1]["problem"] == "invalid api key"

    provider.on_submit = None
    said.clear()
    assert (await run_batch(services, "b")).exit_code == 0
    assert sorted(event for event, _ in said) == ["account_works_again", "batch_finished"]


async def test_of_two_workers_one_tells_and_both_may_look(tmp_path, said):
    first = world(tmp_path, Provider())
    stock(first, tmp_path, [row(0)])
    trouble = {"kind": TroubleKind.REFUSES, "since": first.clock.now(), "code": "bucket_denied", "message": "403"}
    first.ledger.destinations.say_troubles("me", [DestinationTrouble(dest="s3://b", **trouble)], first.clock.now())
    second = world(tmp_path, Provider())

    for services in (first, second, first, second):
        await News(services).tell()
    assert sorted(event for event, _ in said) == ["batch_begun", "destination_refuses"]

    said.clear()
    for services in (second, first):
        services.ledger.destinations.say_troubles("me", [], services.clock.now())
        await News(services).tell()
    assert [event for event, _ in said] == ["destination_takes_again"]


async def test_a_worker_is_called_silent_but_nobody_is_while_the_ledger_itself_was_away(tmp_path, said):
    services = world(tmp_path, Provider())
    ledger, news = services.ledger, News(services)
    ledger.is_sqlite = False
    count = ledger.reports.learnt

    def away():
        raise OperationalError("SELECT", {}, ConnectionError("connection refused"))

    ledger.workers.touch("there:1", services.clock.now() - 70)
    ledger.reports.learnt = away
    telling = asyncio.create_task(news.tell_for_ever())
    await asyncio.sleep(30)
    ledger.reports.learnt = count
    await asyncio.sleep(40)
    assert {event for event, _ in said} == {"news_failed"}, "it may come back now, as the ledger did"
    said.clear()

    await asyncio.sleep(120)
    telling.cancel()
    assert [(event, fields["worker"]) for event, fields in said] == [("worker_silent", "there:1")]
