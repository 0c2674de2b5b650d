"""What schedules with a batch each time may spend, in virtual time: what a used month holds up, and what goes on."""

from __future__ import annotations

import pytest

from jobs.policy.firing import Into
from jobs.results.completion import RunState, waits_for_you
from jobs.states import BatchState, FiringState
from providers.types import MICROS
from tests.simulation.nights import (
    OFTEN,
    calm,
    catalogue,
    edited,
    heard,
    history,
    nights,
    scheduled,
    write,
)
from tests.support.worker_world import PRICE, Provider
from worker.scheduling.words import outcome

pytestmark = [pytest.mark.virtual_time, pytest.mark.usefixtures("looks_seldom")]

FEBRUARY = 1_801_440_000.0  # 2027-02-01 00:00Z

REUSE = {"reuse": "copy", "changed": "error"}


@pytest.fixture
def messages(monkeypatch):
    """Each message that people would get, as (type, title, text)."""
    return heard(monkeypatch)


def spent(services):
    ledger = services.ledger
    return ledger.schedules.spent_this_month(ledger.schedules.find("nightly").id, services.clock.now())


async def stopped_by_its_month(tmp_path, provider, **changes):
    """A night of 20 rows ($0.40) whose month is cut to $0.21 when 10 are sent."""

    def cut_the_month(_wanted):
        if sum(provider.submits.values()) == 10:
            edited(services, into=Into.NEW, budget=4 * MICROS, monthly_budget=210_000)

    provider.on_submit = cut_the_month
    services = calm(tmp_path, provider, max_in_flight=4)
    write(catalogue(20))
    known = {"into": Into.NEW, "options": REUSE, "budget": 4 * MICROS, "monthly_budget": 4 * MICROS}
    scheduled(services, **known | changes)
    await nights(services, 0.9)
    return services


async def test_a_batch_of_a_night_that_found_its_month_nearly_used_goes_on_when_the_month_alone_is_raised(
    tmp_path, messages
):
    services = calm(tmp_path, Provider())
    write(catalogue(2))
    month = 2 * PRICE + 5_000
    scheduled(services, into=Into.NEW, options=REUSE, budget=MICROS, monthly_budget=month)
    await nights(services, 2)  # the second takes what the first has made
    batch = history(services)[-1].batch
    services.ledger.batches.redo(batch, [("k0", None)], services.clock.now())
    messages.clear()

    await nights(services, 0.2)

    (text,) = (text for type_, _, text in messages if type_ == "budget.reached")
    assert text.splitlines()[1:] == ["lightfast schedule edit nightly --monthly-budget 0.06"]
    assert spent(services) <= month

    edited(services, into=Into.NEW, budget=MICROS, monthly_budget=60_000)
    await nights(services, 0.2)
    assert spent(services) == 3 * PRICE
    progress = services.ledger.reports.progress(batch, services.clock.now())
    assert waits_for_you(RunState(progress=progress, accounts=(), now=services.clock.now())) is None


async def test_a_batch_that_its_month_stopped_goes_on_in_the_next_one_and_so_does_its_schedule(tmp_path, messages):
    provider = Provider()
    services = await stopped_by_its_month(tmp_path, provider)
    bought = sum(provider.submits.values())
    assert bought < 20
    (firing,) = history(services)
    assert (firing.state, firing.code) == (FiringState.STOPPED, "month_budget_used")
    assert "lightfast schedule edit nightly --monthly-budget" in firing.message
    assert len(messages) == 2  # of the batch and of the schedule

    edited(services, into=Into.NEW, budget=4 * MICROS, monthly_budget=220_000)
    await nights(services)
    skipped = history(services)[-1]
    assert skipped.state is FiringState.SKIPPED
    assert "of the monthly budget of $0.22 " in skipped.message  # and not of $0.21, as when it stopped
    assert sum(provider.submits.values()) == bought

    await nights(services, 16)  # nine o'clock on the first of February has come
    assert set(provider.submits.values()) == {1}
    assert sum(provider.submits.values()) == 20
    assert spent(services) == (20 - bought) * PRICE
    first, last = history(services)[0], history(services)[-1]
    assert (first.state, first.exit_code) == (FiringState.ENDED, 0)
    assert (last.state, last.detail["reused"]) == (FiringState.ENDED, 20)


async def test_a_time_at_the_first_moment_of_a_month_waits_for_the_batch_that_the_last_month_stopped(tmp_path):
    provider = Provider()
    services = await stopped_by_its_month(tmp_path, provider, cron="0 0 1,16 * *")

    await nights(services, 17)

    at_midnight = next(each for each in history(services) if each.at == FEBRUARY)
    assert (at_midnight.state, at_midnight.exit_code) == (FiringState.ENDED, 0)
    assert sum(provider.submits.values()) == 20


@pytest.mark.parametrize("monthly", [None, 50_000])
async def test_a_partial_nights_rest_is_left_to_the_next_batch_in_one_message_and_nothing_is_bought_twice(
    tmp_path, messages, monthly
):
    provider = Provider()
    services = calm(tmp_path, provider)
    write(catalogue(6))
    scheduled(services, into=Into.NEW, budget=50_000, monthly_budget=monthly, options=REUSE | {"partial": True})

    await nights(services)

    ((type_, _, text),) = messages
    assert type_ == "schedule.partial"
    assert text.startswith("2 images made for $0.04. 4 rows are left out, at most $0.08: ")
    assert "schedule nightly goes on with the rest at " in text
    (firing,) = history(services)
    assert (outcome(firing), firing.exit_code) == ("done up to its budget", 4)
    assert services.ledger.batches.find(firing.batch).state is BatchState.CANCELLED

    await nights(services, 17 if monthly else 3)
    assert {outcome(each) for each in history(services)} <= {"done up to its budget", "done"}
    assert set(provider.submits.values()) == {1}
    assert sum(provider.submits.values()) == (6 if monthly is None else 4)
    assert {type_ for type_, _, _ in messages} <= {"schedule.partial", "batch.finished"}
    assert [type_ for type_, _, _ in messages].count("schedule.partial") == 2
    assert spent(services) <= (monthly or MICROS)


async def test_a_partial_night_ends_so_also_where_its_process_died_after_it_gave_up_the_rest(tmp_path, monkeypatch):
    services = calm(tmp_path, Provider(), looks=OFTEN)
    write(catalogue(6))
    scheduled(services, into=Into.NEW, budget=50_000, options=REUSE | {"partial": True})
    schedules = type(services.ledger.schedules)
    with monkeypatch.context() as patched:

        def dies(*_):
            raise RuntimeError

        patched.setattr(schedules, "end", dies)
        await nights(services, 0.5)
        assert [each.state for each in history(services)] == [FiringState.WORKING]

    await nights(services, 0.1)

    (firing,) = history(services)
    assert (firing.exit_code, outcome(firing)) == (4, "done up to its budget")
    assert firing.message.startswith("2 images made for $0.04. 4 rows are left out: ")


async def test_a_partial_night_that_can_buy_nothing_makes_no_batch_ends_with_4_and_is_told_once(tmp_path, messages):
    provider = Provider()
    services = calm(tmp_path, provider)
    write(catalogue(6))
    scheduled(services, into=Into.NEW, budget=10_000, options=REUSE | {"partial": True})

    await nights(services, 3)

    assert not provider.submits
    assert {(each.exit_code, each.code, each.batch) for each in history(services)} == {(4, "budget_used", None)}
    ((type_, _, text),) = messages
    assert type_ == "schedule.partial"
    assert "a first image needs $0.02, and this time may spend $0.01 (--budget)" in text
    assert services.ledger.batches.all() == []


async def test_a_partial_night_without_money_makes_no_batch_of_images_that_were_made_before_either(tmp_path, messages):
    provider = Provider()
    services = calm(tmp_path, provider)
    write(catalogue(2))
    month = 2 * PRICE + 5_000
    options = REUSE | {"partial": True}
    scheduled(services, into=Into.NEW, budget=MICROS, monthly_budget=month, options=options)
    await nights(services)
    write(catalogue(3))
    messages.clear()

    await nights(services, 2)

    (first, *later) = history(services)
    assert [batch.name for batch in services.ledger.batches.all()] == [first.batch]
    assert [(each.state, each.exit_code, each.code, each.batch) for each in later] == [
        (FiringState.ENDED, 4, "month_budget_used", None)
    ] * 2
    assert outcome(later[0]) == "done up to its budget"
    ((type_, _, text),) = messages
    assert type_ == "schedule.partial"
    assert "1 image left out, and no batch is made for 2 rows with images already: the next time makes all" in text

    edited(services, into=Into.NEW, budget=MICROS, monthly_budget=MICROS, options=options)
    await nights(services)
    assert sum(provider.submits.values()) == 3
    assert history(services)[-1].detail["reused"] == 2
