"""What is told of the times of a schedule adds up to what was made, each image once, whatever comes between."""

from __future__ import annotations

import pytest

from jobs.policy.firing import Into
from jobs.results.messages import messages_of
from jobs.states import FiringState
from providers.types import MICROS
from tests.simulation.nights import (
    calm,
    catalogue,
    edited,
    history,
    nights,
    scheduled,
    states,
    timings,
    while_it_records,
    write,
)
from tests.support.worker_world import PRICE, Provider, answer
from worker.scheduling.words import outcome

pytestmark = [pytest.mark.virtual_time]

PARTIAL = {"partial": True}
REFUSED = {"code": 400, "msg": "content policy violation"}


@pytest.fixture
def told(monkeypatch):
    """The data of each message that a program would get."""
    sent = []

    def keep(change, standing, hearers):
        del hearers
        sent.extend(dict(one.data, type=one.type) for one in messages_of(change, standing))
        return []

    monkeypatch.setattr("worker.lanes.news.outgoing", keep)
    return sent


def told_in_all(messages):
    """Images and dollars, as docs/reference/messages.md says: of each time its newest message."""
    newest = {(each["schedule"], each["at"]): each for each in messages if "time_images" in each}
    images = sum(each["time_images"] + each.get("images_before", 0) for each in newest.values())
    usd = sum(each["time_charged_usd"] + each.get("charged_before_usd", 0.0) for each in newest.values())
    return images, round(usd, 6)


def made(services, provider):
    """Images that are stored, and dollars charged; each row was sent as often as it should be, which is once."""
    batches = services.ledger.batches.all()
    progress = [services.ledger.reports.progress(batch.name, services.clock.now()) for batch in batches]
    assert set(provider.submits.values()) == {1}
    return sum(each.images_stored for each in progress), sum(batch.charged for batch in batches) / MICROS


def by_the_month(services, images, **changes):
    changes = {"options": PARTIAL, **changes}
    scheduled(services, budget=MICROS, monthly_budget=images * PRICE, **changes)


def raised(services, images, **changes):
    edited(services, budget=MICROS, monthly_budget=images * PRICE, **changes)


def while_one_goes_on(services, provider, monkeypatch, *, after):
    """The next time is fired when so many submits were made, and recorded while the one before it goes on."""
    fired = []

    def act(_wanted):
        if sum(provider.submits.values()) == after and not fired:
            fired.append(services.ledger.schedules.fire_by_hand("nightly", services.clock.now()))
            services.wakeups.wake("sweep")

    def goes_on():
        now = services.clock.now()
        for one in history(services):
            if one.state is FiringState.STOPPED:
                services.ledger.schedules.goes_on(one.id, now)

    provider.on_submit = act
    while_it_records(monkeypatch, goes_on)
    return fired


def often(tmp_path, provider, **changes):
    slow = {"first_poll_after": 300.0, "poll_every": 300.0, "max_in_flight": 1}
    return calm(tmp_path, provider, looks=timings(1_200.0), **slow, **changes)


@pytest.mark.parametrize("partial", [True, False])
async def test_a_time_that_goes_on_and_is_overtaken_is_told_with_the_next_one(tmp_path, told, monkeypatch, partial):
    provider = Provider()
    services = often(tmp_path, provider)
    write(catalogue(9))
    if partial:
        by_the_month(services, 4)
    else:
        provider.on_submit = lambda _: raised(services, 4, options={}) if sum(provider.submits.values()) == 2 else None
        by_the_month(services, 20, options={})
    await nights(services, 0.2)
    assert [each["time_images"] for each in told if each["type"] in ("schedule.partial", "schedule.stopped")] == [4]
    raised(services, 20)
    fired = while_one_goes_on(services, provider, monkeypatch, after=6)

    await nights(services, 0.2)

    assert fired == [None]
    first, second = services.ledger.schedules.history(history(services)[0].schedule_id, with_charges=True)[::-1]
    assert (first.state, first.exit_code, second.state, second.exit_code) == (
        *(FiringState.ENDED, 4),
        *(FiringState.ENDED, 0),
    )
    assert outcome(first) == "done up to its budget" if partial else "stopped, and the next time went on with the rest"
    assert "the next time came, which made the rest" in first.message
    assert first.bought.images > 4
    assert second.bought.images > 0
    finished = told[-1]
    assert (finished["type"], finished["times_before"]) == ("batch.finished", 1)
    assert finished["images_before"] == first.bought.images - 4
    assert told_in_all(told) == made(services, provider) == (9, 9 * PRICE / MICROS)


async def test_times_that_stop_one_after_another_are_each_told_once(tmp_path, told):
    provider = Provider()
    services = often(tmp_path, provider)
    write(catalogue(9))
    by_the_month(services, 2)
    for images in (2, 4, 4):
        raised(services, images)
        await nights(services)
        assert told_in_all(told) == made(services, provider)
    raised(services, 20)
    await nights(services)

    assert [each["type"] for each in told] == ["schedule.partial"] * 2 + ["batch.finished"]
    assert "times_before" not in told[-1], "each of them was told when it stopped"
    assert told_in_all(told) == made(services, provider) == (9, 9 * PRICE / MICROS)


async def test_a_time_that_stops_twice_and_is_overtaken_and_one_that_stops_too_are_told_with_all_they_made(
    tmp_path, told, monkeypatch
):
    provider = Provider()
    services = often(tmp_path, provider)
    write(catalogue(9))
    by_the_month(services, 2)
    await nights(services, 0.2)
    raised(services, 4)
    await nights(services, 0.3)
    raised(services, 7)
    while_one_goes_on(services, provider, monkeypatch, after=6)
    await nights(services, 0.15)

    assert [each["time_images"] for each in told[:2]] == [2, 4]
    assert states(services) == [FiringState.ENDED, FiringState.STOPPED]
    assert told_in_all(told) == made(services, provider) == (7, 7 * PRICE / MICROS)

    raised(services, 20)
    await nights(services)
    assert told_in_all(told) == made(services, provider) == (9, 9 * PRICE / MICROS)


async def test_what_a_retry_makes_after_a_night_counts_for_it_once_and_not_again_with_the_next(tmp_path, told):
    provider = Provider(on_submit=lambda wanted: answer(REFUSED, status=400) if wanted["prompt"] == "lamp 1" else None)
    services = often(tmp_path, provider)
    write(catalogue(3))
    by_the_month(services, 20)
    await nights(services, 0.2)
    assert told_in_all(told) == (2, 2 * PRICE / MICROS)
    provider.on_submit = None
    provider.submits.clear()
    services.ledger.batches.retry("nightly", services.clock.now())
    await nights(services, 0.2)
    assert told_in_all(told) == made(services, provider) == (3, 3 * PRICE / MICROS)
    write(catalogue(5))
    await nights(services)

    assert "times_before" not in told[-1]
    assert told_in_all(told) == made(services, provider) == (5, 5 * PRICE / MICROS)


async def test_an_earlier_time_s_image_that_comes_after_the_next_one_was_told_is_told_with_its_batch(tmp_path, told):
    provider = Provider()
    waits = [True]
    running = answer({"code": 0, "data": {"status": "RUNNING"}})
    provider.on_poll = lambda task: running if waits and provider.tasks[task]["prompt"] == "lamp 0" else None
    services = calm(tmp_path, provider, looks=timings(1_200.0), max_in_flight=4)
    write(catalogue(5))
    by_the_month(services, 3)
    await nights(services, 0.2)
    raised(services, 4)
    await nights(services)
    waits.clear()
    raised(services, 20)
    await nights(services, 2)

    assert told_in_all(told) == made(services, provider) == (5, 5 * PRICE / MICROS)


@pytest.mark.parametrize("partial", [True, False])
async def test_with_a_batch_each_night_each_is_told_once(tmp_path, told, partial):
    provider = Provider()
    services = often(tmp_path, provider)
    options = {"reuse": "copy", "changed": "error", "partial": partial}
    write(catalogue(3))
    by_the_month(services, 20, into=Into.NEW, options=options)
    await nights(services)
    write(catalogue(7))
    if partial:
        raised(services, 5, into=Into.NEW, options=options)
        await nights(services)
        assert told_in_all(told) == (5, 5 * PRICE / MICROS)
        raised(services, 20, into=Into.NEW, options=options)
    await nights(services)

    assert set(provider.submits.values()) == {1}
    assert told_in_all(told) == (7, 7 * PRICE / MICROS)


async def test_a_batch_that_a_person_cancels_tells_what_its_time_had_made(tmp_path, told):
    provider = Provider()
    services = often(tmp_path, provider)
    write(catalogue(5))
    by_the_month(services, 20)

    def cancel(_wanted):
        if sum(provider.submits.values()) == 2:
            services.ledger.batches.cancel("nightly", "on your word")

    provider.on_submit = cancel
    await nights(services, 0.2)

    assert told[-1]["type"] == "batch.cancelled"
    assert told_in_all(told) == made(services, provider) == (2, 2 * PRICE / MICROS)
