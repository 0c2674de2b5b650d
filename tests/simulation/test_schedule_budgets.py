"""What schedules may spend, in virtual time: at one time and in a month, what is left out, and what is told of it."""

from __future__ import annotations

import sys

import pytest

from jobs.states import FiringState
from providers.types import MICROS
from tests.simulation.nights import (
    NIGHT,
    calm,
    catalogue,
    edited,
    history,
    nights,
    scheduled,
    states,
    stored,
    write,
)
from tests.support.worker_world import PRICE, Provider, answer

pytestmark = [pytest.mark.virtual_time, pytest.mark.usefixtures("looks_seldom")]


async def test_a_night_above_its_budget_buys_nothing_says_so_and_the_next_one_runs(tmp_path):
    provider = Provider()
    services = calm(tmp_path, provider)
    write(catalogue(10))
    scheduled(services, budget=MICROS // 50)

    await nights(services)

    (failed,) = history(services)
    assert (failed.state, failed.exit_code, failed.code) == (FiringState.FAILED, 2, "bad_input")
    assert "10 images would cost" in failed.message
    assert "this time may spend $0.02 (--budget)" in failed.message
    assert services.ledger.batches.find("nightly") is None

    write(catalogue(1))
    await nights(services)
    assert states(services) == [FiringState.FAILED, FiringState.ENDED]
    assert sum(provider.submits.values()) == 1


@pytest.mark.parametrize(
    ("partial", "expected"),
    [
        (False, "2 images would cost $0.04 (0 new, 2 changed rows), and this time may spend $0.01 (--budget). "),
        (True, "a first image needs $0.02, and this time may spend $0.01 (--budget). "),
    ],
)
async def test_a_budget_that_does_not_do_for_what_has_changed_is_the_one_reason(tmp_path, partial, expected):
    provider = Provider()
    services = calm(tmp_path, provider)
    write(catalogue(2))
    scheduled(services, options={"partial": partial})
    await nights(services)

    write(catalogue(2, k0="a red lamp", k1="a blue lamp"))
    edited(services, budget=10_000)
    await nights(services)

    failed = history(services)[-1]
    assert failed.state is FiringState.FAILED
    assert failed.message.startswith(expected)
    assert "--changed" not in failed.message
    assert stored("nightly") == ["k0", "k1"]
    assert sum(provider.submits.values()) == 2


async def test_a_night_that_may_not_make_changed_rows_fails_and_names_no_command_of_the_process_that_fired_it(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(sys, "argv", ["lightfast", "schedule", "serve"])
    services = calm(tmp_path, Provider())
    write(catalogue(2))
    scheduled(services, options={"changed": "error"})
    await nights(services)

    write(catalogue(2, k0="a red lamp"))
    await nights(services)

    failed = history(services)[-1]
    assert failed.state is FiringState.FAILED
    assert "changed" in failed.message
    assert "schedule serve" not in failed.message


async def test_a_partial_night_stops_at_its_budget_and_the_next_goes_on_with_what_is_left(tmp_path):
    provider = Provider()
    services = calm(tmp_path, provider)
    write(catalogue(6))
    scheduled(services, budget=50_000, options={"partial": True})

    await nights(services)
    bought = sum(provider.submits.values())
    assert 0 < bought < 6
    assert [(each.state, each.exit_code, each.code) for each in history(services)] == [
        (FiringState.STOPPED, 4, "budget_used")
    ]

    await nights(services, 6)
    assert sum(provider.submits.values()) == 6
    assert set(provider.submits.values()) == {1}
    assert states(services) == [FiringState.ENDED] * 7
    batch = services.ledger.batches.find("nightly")
    assert batch.charged + batch.reserved <= 7 * 50_000


async def test_a_month_is_never_paid_beyond_its_budget_and_the_next_one_goes_on(tmp_path):
    provider = Provider()
    services = calm(tmp_path, provider)
    write(catalogue(3))
    scheduled(services, budget=None, monthly_budget=100_000)
    ledger = services.ledger

    await nights(services)
    schedule = ledger.schedules.find("nightly")
    spent = ledger.schedules.spent_this_month(schedule.id, services.clock.now())
    assert spent == ledger.batches.find("nightly").charged > 0

    write(catalogue(60))
    await nights(services, 17)  # to the first of February, nine o'clock
    january = [each for each in history(services) if each.at < services.clock.now() - NIGHT]
    assert {each.state for each in january[1:]} == {FiringState.FAILED}
    assert "which is left of this month's $0.10" in january[-1].message
    assert sum(provider.submits.values()) == 3

    write(catalogue(5))
    await nights(services)
    assert sum(provider.submits.values()) == 5
    assert history(services)[-1].state is FiringState.ENDED


async def test_retries_count_in_the_month_and_may_not_go_beyond_it(tmp_path):
    provider = Provider(
        on_poll=lambda _task: answer({"code": 0, "data": {"status": "FAIL", "message": "server error"}})
    )
    services = calm(tmp_path, provider)
    write(catalogue(2))
    scheduled(services, budget=None, monthly_budget=60_000, options={"partial": True})
    await nights(services)
    ledger, schedule = services.ledger, services.ledger.schedules.find("nightly")

    provider.on_poll = None
    ledger.batches.agree("nightly", 10 * MICROS, 10 * MICROS)  # a person raises the batch's own budget
    ledger.batches.retry("nightly", services.clock.now())
    await nights(services, 0.5)

    assert ledger.schedules.spent_this_month(schedule.id, services.clock.now()) <= 60_000


async def test_each_time_says_what_it_was_charged_and_a_retry_counts_to_the_time_before_it(tmp_path):
    refuse = {"code": 400, "msg": "content policy violation"}
    provider = Provider(on_submit=lambda wanted: answer(refuse, status=400) if wanted["prompt"] == "lamp 1" else None)
    services = calm(tmp_path, provider)
    write(catalogue(3))
    scheduled(services)
    await nights(services)
    write(catalogue(4, k0="a red lamp"))
    await nights(services)
    provider.on_submit = None
    services.ledger.batches.retry("nightly", services.clock.now())
    await nights(services)

    ledger = services.ledger
    times = ledger.schedules.history(ledger.schedules.find("nightly").id, with_charges=True)[::-1]
    assert [each.charged for each in times] == [2 * PRICE, 3 * PRICE, None]
    assert sum(each.charged or 0 for each in times) == ledger.batches.find("nightly").charged
    assert ledger.schedules.newest(services.clock.now(), with_charges=True) == {times[0].schedule_id: times[-1]}
