"""A worker: one run a lane, wakeups that only wake, work that outlives its run, and a thread to hold it all."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import sys
import threading
import traceback
from contextlib import closing
from types import SimpleNamespace

import pytest
from sqlalchemy import event

from jobs.errors import BadInput
from jobs.facts import MadeImage, TaskSucceeded
from jobs.ledger import open_ledger
from jobs.ledger.database import statements
from jobs.policy import rate
from jobs.states import JobState
from providers.types import Link
from tests.support.patience import AT_LAST, until
from tests.support.virtual_time import Gate
from tests.support.worker_world import Provider, png, row, settings, stock, world
from worker.lanes import maintenance
from worker.lanes.worker import Worker
from worker.lanes.worker_thread import WorkerThread
from worker.runtime.executors import InlineExecutors
from worker.runtime.timings import Timings
from worker.services import build
from worker.storage.opening import open_store
from worker.storage.ownership_mark import claim_destination, look

#: From the loop of a lane to the statement of its claim that lies deepest.
MOST_FRAMES = 9

virtual_time = pytest.mark.virtual_time


@virtual_time
async def test_a_second_run_in_a_lane_only_wakes_the_first(tmp_path):
    provider = Provider()
    services = world(tmp_path, provider, timings=Timings(idle=3600.0))
    worker = Worker(services)
    await worker.start()
    first = asyncio.ensure_future(worker.run_lane("submit:main", 9000.0))
    await asyncio.sleep(60)  # it has found nothing and rests
    stock(services, tmp_path, [row(0)])

    assert await worker.run_lane("submit:main", 9000.0) is False
    await asyncio.wait_for(provider.sent.wait(), 60)

    assert not worker.wake("submit:other")
    await worker.drain(5)
    await first


@virtual_time
async def test_what_a_run_began_goes_on_after_it(tmp_path):
    provider, answered = Provider(), asyncio.Event()

    async def slow(wanted):
        await answered.wait()
        return provider.accept(wanted)

    provider.on_submit = slow
    services = world(tmp_path, provider)
    stock(services, tmp_path, [row(0)])
    worker = Worker(services)
    await worker.start()

    await worker.run_lane("submit:main", 0.05)
    assert worker.open_submits == 1
    answered.set()
    drained = await worker.drain(5)

    assert drained.unknown == 0
    assert services.ledger.reports.progress("b").images_in_flight == 1


@virtual_time
async def test_nothing_is_submitted_while_the_ledger_refuses_records(tmp_path):
    provider = Provider()
    services = world(tmp_path, provider)
    stock(services, tmp_path, [row(0)])
    services.recorder._has_trouble = True
    worker = Worker(services)
    await worker.start()

    await worker.run_lane("submit:main", 60.0)

    assert not provider.submits


@virtual_time
async def test_a_lane_outlives_a_ledger_that_is_away(tmp_path):
    provider = Provider()
    services = world(tmp_path, provider)
    stock(services, tmp_path, [row(0)])
    claims, claim = [], services.ledger.claims.submits

    def away(*args, **kwargs):
        claims.append(1)
        if len(claims) < 3:
            raise OSError("connection refused")
        return claim(*args, **kwargs)

    services.ledger.claims.submits = away
    worker = Worker(services)
    await worker.start()

    await worker.run_lane("submit:main", 20.0)

    assert provider.submits.total() == 1
    await worker.drain(5)


@virtual_time
async def test_submits_that_a_slow_ledger_held_up_leave_at_the_rate_and_not_at_once(tmp_path):
    rows, per_second, left = 60, 20, []
    provider = Provider(on_submit=lambda _: left.append(services.clock.boot()))
    services = world(tmp_path, provider, submits_per_second=per_second)
    stock(services, tmp_path, [row(number) for number in range(rows)])
    claim, gate = services.ledger.claims.submits, Gate()

    def slow(*args, **kwargs):
        claimed = claim(*args, **kwargs)
        gate.pass_through()
        return claimed

    services.ledger.claims.submits = slow
    worker = Worker(services)
    await worker.start()
    run_lane = asyncio.ensure_future(worker.run_lane("submit:main", 60.0))
    await gate.reached.wait()
    await asyncio.sleep(6)
    gate.open()
    await run_lane
    await worker.drain(5)

    assert len(left) == rows
    gaps = [later - earlier for earlier, later in itertools.pairwise(left)]
    late = sum(max(0, 1 / per_second - gap) for gap in gaps)
    assert late <= rate.HORIZON / 2 + 0.001, "they left together"
    assert left[-1] - left[0] <= rows / per_second, "and no permit was lost"


@virtual_time
async def test_a_claim_that_comes_back_after_the_worker_has_drained_begins_nothing(tmp_path):
    fetched = []
    services = world(tmp_path, Provider(on_download=lambda url: fetched.append(url) or png()))
    stock(services, tmp_path, [row(0)])
    now, claim, gate = services.clock.now(), services.ledger.claims.copies, Gate()
    (intent,) = services.ledger.claims.submits("main", now, lease=60.0).intents
    made = MadeImage(link=Link(url="https://cdn.test/0.png"), spool=None, expires_at=now + 86_400)
    services.ledger.facts.record([TaskSucceeded(attempt_id=intent.attempt_id, at=now, images=(made,))])

    def slow(*args, **kwargs):
        claimed = claim(*args, **kwargs)
        gate.pass_through()
        return claimed

    services.ledger.claims.copies = slow
    worker = Worker(services)
    await worker.start()
    run_lane = asyncio.ensure_future(worker.run_lane("copy", 60.0))
    await gate.reached.wait()

    await worker.drain(0.0)
    gate.open()
    await run_lane
    await asyncio.sleep(60)

    assert not fetched


@virtual_time
async def test_a_sweep_finds_the_submits_of_a_dead_process_and_wakes_the_lanes_with_work(tmp_path):
    woken: list[str] = []
    services = world(tmp_path, Provider())
    services.wakeups.far = woken.append
    stock(services, tmp_path, [row(0), row(1)])
    services.ledger.claims.submits("main", services.clock.now() - 60, lease=30.0, at_most=1)

    counts = await maintenance.run_once(services)

    assert counts.unknown == 1
    assert "submit:main" in woken
    assert services.ledger.reports.progress("b").jobs == {JobState.HELD: 1, JobState.READY: 1}


def test_a_worker_in_a_thread_runs_lanes_for_callers_without_a_loop(tmp_path, monkeypatch):
    said, provider = [], Provider()
    monkeypatch.setattr("worker.lanes.news.emit", lambda event, **_: said.append(event))
    opened = open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    often = Timings(news_every=0.2)
    services = dataclasses.replace(build(settings(tmp_path), ledger=opened, timings=often), http=provider)
    opened.is_sqlite = False  # others may work on it too, so it tells them that it lives
    worker = WorkerThread(lambda: services)
    stock_through(opened, tmp_path)
    lanes = ["submit:main", "poll:main", "copy"]
    callers = [threading.Thread(target=worker.run_lane, args=(lane, AT_LAST)) for lane in lanes]
    for caller in callers:
        caller.start()

    with open_again(tmp_path) as ledger:
        until(lambda: ledger.reports.progress("b").jobs == {JobState.DONE: 1})
        until(lambda: len(ledger.workers.seen(4e9, within=4e9)) == 1)
        until(lambda: "batch_begun" in said)
    assert worker.is_alive()
    assert worker.since_looks().keys() == set(lanes)
    assert worker.run_lane("copy") is False, "it runs already, and is only woken"
    drained = worker.drain(AT_LAST)
    for caller in callers:
        caller.join(AT_LAST)
        assert not caller.is_alive()

    assert drained.unknown == 0
    assert not worker.is_alive()
    with open_again(tmp_path) as ledger:
        assert ledger.reports.progress("b").jobs == {JobState.DONE: 1}
        assert ledger.workers.seen(4e9, within=4e9) == [], "it has ended in order, so nobody waits for a sign of it"


def stock_through(ledger, tmp_path):
    stock(SimpleNamespace(ledger=ledger, clock=SimpleNamespace(now=lambda: 1.0)), tmp_path, [row(0)])


def open_again(tmp_path):
    return closing(open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}"))


# -- the destination's mark ----------------------------------------------------------------------------------------


def test_a_ledger_that_finds_anothers_mark_stops_unless_it_is_told_to_take_over(tmp_path):
    store = open_store(str(tmp_path))
    claim_destination(store, "b", "ledger-1", 1_800_000_000.0)
    claim_destination(store, "b", "ledger-1", 1_800_000_060.0)  # our own is no obstacle

    with pytest.raises(BadInput, match=r"another ledger.*--new-ledger"):
        claim_destination(store, "b", "ledger-2", 1_800_000_120.0)
    claim_destination(store, "b", "ledger-2", 1_800_000_120.0, new_ledger=True)

    assert look(store, "b").ledger == "ledger-2"
    assert look(store, "other") is None


def test_a_mark_nobody_can_read_counts_as_anothers(tmp_path):
    store = open_store(str(tmp_path))
    store.put(".lightfast/b.json", b"[]", content_type="application/json")

    with pytest.raises(BadInput):
        claim_destination(store, "b", "ledger-1", 1.0)


# -- the way from a lane to its SQL --------------------------------------------------------------------------------


@virtual_time
async def test_a_claim_of_submits_reaches_its_sql_by_a_short_way(tmp_path):
    services = dataclasses.replace(world(tmp_path, Provider()), executors=InlineExecutors())  # one stack for all of it
    stock(services, tmp_path, [row(0), row(1)])
    ways: list[list[str]] = []

    @event.listens_for(services.ledger._database.writer, "before_cursor_execute")
    def note(*_):
        stack = [frame.f_code for frame, _ in traceback.walk_stack(sys._getframe(1))]
        runs_it = ("sqlalchemy", statements.__file__)  # below what asks
        way = [c.co_qualname for c in reversed(stack) if not any(each in c.co_filename for each in runs_it)]
        if "SubmitLane.claim" in way and "Database.writing" not in way:
            ways.append(way[way.index("Worker.run_lane") :])

    worker = Worker(services)
    await worker.start()
    await worker.run_lane("submit:main", 0.0)
    await worker.drain(5)

    longest = max(ways, key=len)
    in_the_worker = [name for name in longest if name.partition(".")[0] in {"Worker", "SubmitLane", "InlineExecutors"}]
    assert len(in_the_worker) <= 4, longest
    assert len(longest) <= MOST_FRAMES, longest
