"""`schedule run-now` where nobody works by the clock, in virtual time: what it waits for, and what it leaves alone."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from jobs.ledger.schedules.verbs import ScheduleVerbs
from jobs.policy.firing import Into, OverlapPolicy
from jobs.states import FiringState, JobState
from providers.types import MICROS
from tests.simulation.nights import (
    calm,
    catalogue,
    edited,
    history,
    minutes,
    scheduled,
    states,
    timings,
    while_it_records,
    write,
)
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
    by_hand = await worked_by_hand(services, stop)
    return next((each for each in history(services) if each.by_hand and each.at == by_hand.at), None)


async def worked_by_hand(services, stop=None):
    schedule = services.ledger.schedules.find("nightly")
    by_hand = FiredByHand(services=services, schedule=schedule)
    stop = stop or StopSignal()
    asyncio.get_running_loop().call_later(2 * 3_600.0, stop.terminate)  # so that one that never ends is seen
    with services.ledger.hold(services.clock.now()):
        await serving.serve(services, stop=stop, is_over=by_hand.is_over, of_schedule=schedule.id)
    assert stop.exit_code in (0, None, 130), by_hand
    return by_hand


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


# -- an earlier night that goes on ---------------------------------------------------------------------------------


def refuses_all(provider):
    """No row is made, until that is taken back."""
    refuse = {"code": 400, "msg": "content policy violation"}
    provider.on_submit = lambda _wanted: answer(refuse, status=400)


async def a_night_whose_rows_failed(services, provider, **options):
    """One time of four rows, none of which was made."""
    write(catalogue(4))
    scheduled(services, into=Into.NEW, options=REUSE, **options)
    refuses_all(provider)
    await minutes(services, 60)
    provider.on_submit = None
    (night,) = history(services)
    assert services.ledger.reports.progress(night.batch).jobs == {JobState.FAILED: 4}
    provider.submits.clear()
    return night.batch


def begun_again(services, batch):
    """As `retry` is left when it is killed before it has sent anything."""
    assert services.ledger.batches.retry(batch, services.clock.now()) == 4


async def test_rows_of_an_interrupted_retry_are_made_first_and_the_night_that_is_fired_takes_them(tmp_path):
    provider = Provider()
    services = calm(tmp_path, provider, looks=timings(60.0), **SELDOM, max_in_flight=1)
    begun_again(services, await a_night_whose_rows_failed(services, provider))

    fired = await run_now(services)

    assert (fired.state, fired.exit_code, fired.detail["reused"]) == (FiringState.ENDED, 0, 4)
    assert provider.submits == {f"lamp {number}": 1 for number in range(4)}


@pytest.mark.parametrize("overlap", OverlapPolicy)
async def test_a_night_that_comes_while_an_earlier_one_is_made_again_is_skipped_or_waits(tmp_path, overlap):
    provider = Provider()
    services = calm(tmp_path, provider, looks=timings(600.0))
    night = await a_night_whose_rows_failed(services, provider, overlap=overlap)
    begun_again(services, night)
    services.ledger.batches.pause(night, "on your word")
    await minutes(services, 24 * 60)
    second = history(services)[1]
    if overlap is OverlapPolicy.QUEUE:
        assert second.state is FiringState.QUEUED
    else:
        assert second.message == f"rows of an earlier batch wait, or are being made: {night}"
        assert second.state is FiringState.SKIPPED
    assert not provider.submits

    services.ledger.batches.resume(night, services.clock.now())
    await minutes(services, 24 * 60)

    assert {each.state for each in history(services)[2:]} == {FiringState.ENDED}
    assert provider.submits == {f"lamp {number}": 1 for number in range(4)}


async def test_a_night_that_was_begun_again_while_the_next_was_recorded_is_not_bought_twice(tmp_path, monkeypatch):
    provider = Provider()
    services = calm(tmp_path, provider, looks=timings(60.0), **SELDOM)
    night = await a_night_whose_rows_failed(services, provider)
    while_it_records(monkeypatch, lambda: begun_again(services, night))

    fired = await run_now(services)

    assert fired.state is FiringState.SKIPPED
    assert night in fired.message
    assert provider.submits == {f"lamp {number}": 1 for number in range(4)}


async def test_a_night_that_had_stopped_goes_on_before_another_is_fired(tmp_path):
    provider = Provider()
    services = calm(tmp_path, provider, looks=timings(60.0), **SELDOM, max_in_flight=2)
    write(catalogue(4))
    scheduled(services, into=Into.NEW, options=REUSE)
    provider.on_submit = lambda _: answer({"code": 401, "msg": "invalid key"}, status=401)
    await minutes(services, 240)
    (night,) = history(services)
    assert (night.state, night.code) == (FiringState.STOPPED, "account_paused")
    provider.on_submit = None
    provider.submits.clear()

    fired = await run_now(services)

    assert states(services) == [FiringState.ENDED] * 2
    assert (fired.exit_code, fired.detail["reused"]) == (0, 4)
    assert set(provider.submits.values()) == {1}


async def test_a_night_that_waits_for_a_person_keeps_another_from_being_fired(tmp_path):
    provider = Provider()
    services = calm(tmp_path, provider, looks=timings(60.0), **SELDOM)
    night = await a_night_whose_rows_failed(services, provider)
    begun_again(services, night)
    services.ledger.batches.pause(night, "on your word")

    by_hand = await worked_by_hand(services)

    assert by_hand.at is None
    assert [each.batch for each in by_hand.waiting] == [night]
    assert len(history(services)) == 1
    assert not provider.submits

    services.ledger.batches.cancel(night)
    fired = await run_now(services)
    assert (fired.state, fired.exit_code) == (FiringState.ENDED, 0)
    assert set(provider.submits.values()) == {1}


# -- what a person does meanwhile ----------------------------------------------------------------------------------


@pytest.mark.parametrize("into", Into)
async def test_images_on_their_way_are_waited_for_when_the_schedule_is_removed_meanwhile(tmp_path, into):
    provider = Provider()
    services = calm(tmp_path, provider, looks=timings(60.0), **SELDOM)
    write(catalogue(3))
    scheduled(services, into=into, options=REUSE if into is Into.NEW else {})
    slow(provider)

    def remove(_wanted):
        provider.on_submit = None
        asyncio.get_running_loop().call_later(60.0, services.ledger.schedules.remove, "nightly")

    provider.on_submit = remove
    by_hand = await worked_by_hand(services)

    assert by_hand.is_removed
    assert len(provider.submits) == 3
    assert on_their_way(services) == 0
    (batch,) = services.ledger.batches.all()
    assert list(by_hand.batches) == [batch.name]
    assert services.ledger.reports.progress(batch.name).jobs == {JobState.DONE: 3}


async def test_a_stop_of_all_submits_ends_a_time_that_was_fired_and_is_not_recorded_yet(tmp_path, monkeypatch):
    provider = Provider()
    services = calm(tmp_path, provider, looks=timings(60.0), **SELDOM)
    write(catalogue(3))
    scheduled(services)
    now = time.time_ns()
    os.utime("cat.csv", ns=(now, now))  # it is just being written
    fire = ScheduleVerbs.fire_by_hand

    def fire_and_stop(self, *given):
        told = fire(self, *given)
        services.ledger.emergency_stop.begin(services.clock.now(), "me")
        return told

    monkeypatch.setattr(ScheduleVerbs, "fire_by_hand", fire_and_stop)
    by_hand = await worked_by_hand(services)

    assert by_hand.stop is not None
    assert states(services) == [FiringState.DUE]
    assert not provider.submits
