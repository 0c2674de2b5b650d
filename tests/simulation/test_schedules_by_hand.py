"""`schedule run-now` where nobody works by the clock, in virtual time: what it waits for, and what it leaves alone."""

from __future__ import annotations

import asyncio

import pytest

from jobs.policy.firing import Into
from jobs.states import FiringState
from providers.types import MICROS
from tests.simulation.nights import calm, catalogue, edited, history, minutes, scheduled, states, timings, write
from tests.support.stocked_ledger import rows
from tests.support.virtual_time import clock_here
from tests.support.worker_world import PRICE, Provider, answer, stock
from worker.local import serve as serving
from worker.runtime.shutdown import StopSignal
from worker.scheduling.by_hand import FiredByHand

pytestmark = pytest.mark.virtual_time

SELDOM = {"first_poll_after": 100.0, "poll_every": 100.0}
REUSE = {"reuse": "copy", "changed": "error"}


@pytest.fixture(autouse=True)
def looks_each_half_minute(monkeypatch):
    monkeypatch.setattr(serving, "LOOK_EVERY", 30.0)


def slow(provider, seconds=600.0):
    """Each image takes ten minutes from its first poll."""
    began = {}

    def say(task_id):
        now = clock_here().boot()
        is_done = now - began.setdefault(task_id, now) >= seconds
        return None if is_done else answer({"code": 0, "data": {"status": "RUNNING"}})

    provider.on_poll = say


async def run_now(services, stop=None):
    """As `lightfast schedule run-now nightly` does it in its own process; the time that it fired."""
    schedule = services.ledger.schedules.find("nightly")
    by_hand = FiredByHand(services=services, schedule=schedule)
    stop = stop or StopSignal()
    asyncio.get_running_loop().call_later(2 * 3_600.0, stop.terminate)  # so that one that never ends is seen
    with services.ledger.hold(services.clock.now()):
        await serving.serve(services, stop=stop, is_over=by_hand.is_over, of_schedule=schedule.id)
    assert not stop.exit_code or stop.exit_code == 130, states(services)
    return next((each for each in history(services) if each.by_hand and each.at == by_hand.at), None)


def on_their_way(services):
    progress = [services.ledger.reports.progress(batch.name) for batch in services.ledger.batches.all()]
    return sum(each.images_in_flight + each.images_generated for each in progress)


@pytest.mark.parametrize("into", [Into.SAME, Into.NEW])
async def test_rows_that_waited_for_the_month_are_fetched_though_the_time_that_was_fired_fails(tmp_path, into):
    provider = Provider()
    services = calm(tmp_path, provider, looks=timings(60.0), **SELDOM, max_in_flight=4)
    write(catalogue(10))
    options = {} if into is Into.SAME else REUSE
    month = 5 * PRICE
    scheduled(services, into=into, options=options | {"partial": False}, budget=MICROS, monthly_budget=MICROS)

    def cut_the_month(_wanted):
        if sum(provider.submits.values()) == 5:
            edited(services, into=into, budget=MICROS, monthly_budget=month)

    provider.on_submit = cut_the_month
    await minutes(services, 60)
    (night,) = history(services)
    assert (night.state, night.code) == (FiringState.STOPPED, "month_budget_used")
    bought = sum(provider.submits.values())
    write(catalogue(40))
    edited(services, into=into, budget=MICROS, monthly_budget=month + 5 * PRICE)
    slow(provider)

    fired = await run_now(services)

    assert (fired.state, fired.exit_code) == (FiringState.FAILED, 2)
    assert sum(provider.submits.values()) > bought
    assert on_their_way(services) == 0
    assert FiringState.WORKING not in states(services)

    edited(services, into=into, budget=MICROS, monthly_budget=MICROS)
    again = await run_now(services)
    assert (again.state, again.exit_code) == (FiringState.ENDED, 0)
    assert sum(provider.submits.values()) == 40
    assert set(provider.submits.values()) == {1}


async def test_what_a_process_left_that_was_stopped_is_ended_first_and_then_it_is_fired(tmp_path):
    provider = Provider()
    services = calm(tmp_path, provider, looks=timings(60.0), **SELDOM)
    write(catalogue(3))
    scheduled(services)
    slow(provider)
    stop = StopSignal()
    provider.on_submit = lambda _wanted: stop.interrupt()

    left = await run_now(services, stop)
    assert left.state is FiringState.WORKING
    assert on_their_way(services) > 0

    provider.on_submit = None
    fired = await run_now(services)

    assert [each.by_hand for each in history(services)] == [True, True]
    assert states(services) == [FiringState.ENDED] * 2
    assert fired.at > left.at
    assert set(provider.submits.values()) == {1}
    assert on_their_way(services) == 0


async def test_times_that_come_meanwhile_and_other_schedules_and_batches_are_left_to_who_serves(tmp_path):
    provider = Provider()
    services = calm(tmp_path, provider, looks=timings(60.0), **SELDOM)
    write(catalogue(3))
    write({"o": "not by us"}, "other.csv")
    scheduled(services, cron="* * * * *")
    options = {"manifest": "other.csv", "to": str(tmp_path / "other"), "changed": "redo"}
    scheduled(services, name="other", cron="* * * * *", options=options)
    stock(services, tmp_path, rows(2))
    slow(provider)

    fired = await run_now(services)

    assert (fired.state, fired.exit_code) == (FiringState.ENDED, 0)
    assert [each.by_hand for each in history(services)] == [True]
    assert history(services, "other") == []
    assert sorted(provider.submits) == ["lamp 0", "lamp 1", "lamp 2"]


async def test_a_night_that_was_left_for_hours_is_not_called_stuck_by_who_begins_to_work(tmp_path):
    provider = Provider()
    services = calm(tmp_path, provider, looks=timings(60.0), **SELDOM)
    write(catalogue(3))
    scheduled(services)
    slow(provider)
    stop = StopSignal()
    provider.on_submit = lambda _wanted: stop.interrupt()
    await run_now(services, stop)
    (left,) = history(services)
    if left.headway is None:
        services.ledger.schedules.note_headway(left.id, "as it is", services.clock.now())

    stop = StopSignal()
    stop.first.set()
    with services.ledger.hold(services.clock.now()):
        await serving.serve(services, stop=stop)

    assert history(services)[0].state is FiringState.WORKING
