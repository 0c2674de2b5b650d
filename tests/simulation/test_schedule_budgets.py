"""What schedules may spend, in virtual time: at one time and in a month, what is left out, and what is told of it."""

from __future__ import annotations

import asyncio
import sys

import pytest

from jobs.policy.firing import LEFT_TO_THE_NEXT, Into
from jobs.results.completion import Reason, RunState, waits_for, waits_for_you
from jobs.results.reasons import why
from jobs.states import BatchState, FiringState, JobState
from providers.types import MICROS
from tests.simulation.nights import (
    NIGHT,
    OFTEN,
    calm,
    catalogue,
    edited,
    heard,
    history,
    minutes,
    nights,
    scheduled,
    states,
    stored,
    timings,
    write,
)
from tests.support.worker_world import PRICE, Provider, answer
from worker.scheduling import reading
from worker.scheduling.words import outcome, style

pytestmark = [pytest.mark.virtual_time, pytest.mark.usefixtures("looks_seldom")]


async def test_a_night_above_its_budget_buys_nothing_says_so_and_the_next_one_runs(tmp_path):
    provider = Provider()
    services = calm(tmp_path, provider)
    write(catalogue(10))
    scheduled(services, budget=MICROS // 50)

    await nights(services)

    (failed,) = history(services)
    assert (failed.state, failed.exit_code, failed.code) == (FiringState.FAILED, 2, "budget_used")
    assert "10 images would cost" in failed.message
    assert "this time may spend $0.02 (--budget)" in failed.message
    assert failed.message.endswith("  lightfast schedule edit nightly --budget 0.20")
    assert services.ledger.batches.find("nightly") is None

    write(catalogue(1))
    await nights(services)
    assert states(services) == [FiringState.FAILED, FiringState.ENDED]
    assert sum(provider.submits.values()) == 1


async def test_a_budget_that_does_not_do_for_what_has_changed_is_the_one_reason(tmp_path):
    provider = Provider()
    services = calm(tmp_path, provider)
    write(catalogue(2))
    scheduled(services)
    await nights(services)

    write(catalogue(2, k0="a red lamp", k1="a blue lamp"))
    edited(services, budget=10_000)
    await nights(services)

    failed = history(services)[-1]
    assert failed.state is FiringState.FAILED
    assert failed.message.startswith(
        "2 images would cost $0.04 (0 new, 2 changed rows), and this time may spend $0.01 (--budget). "
    )
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


@pytest.fixture
def messages(monkeypatch):
    """Each message that people would get, as (type, title, text)."""
    return heard(monkeypatch)


async def test_a_partial_night_is_one_message_that_says_what_was_made_what_is_left_and_when_that_goes_on(
    tmp_path, messages
):
    services = calm(tmp_path, Provider())
    write(catalogue(6))
    scheduled(services, budget=50_000, options={"partial": True})

    await nights(services)

    ((type_, title, text),) = messages
    assert (type_, title) == (
        "schedule.partial",
        "schedule nightly: its time 2027-01-15T09:00:00Z has bought what its budget allowed",
    )
    assert text.startswith(
        "2 images made for $0.04. 4 rows are left out, at most $0.08: its budget allows no more; "
        "schedule nightly goes on with the rest at 2027-01-16 09:00Z"
    )
    (firing,) = history(services)
    assert outcome(firing) == "done up to its budget"
    assert style(firing) == "yellow"
    standing = RunState(
        progress=services.ledger.reports.progress("nightly", services.clock.now()),
        accounts=services.ledger.accounts.all(),
        now=services.clock.now(),
    )
    assert (waits_for(standing), waits_for_you(standing)) == (Reason.BUDGET_USED, None)


async def test_a_partial_month_is_told_when_it_is_used_and_not_again_each_night_of_it(tmp_path, messages):
    services = calm(tmp_path, Provider())
    write(catalogue(6))
    scheduled(services, budget=None, monthly_budget=50_000, options={"partial": True})

    await nights(services, 4)

    ((type_, _, text),) = messages
    assert type_ == "schedule.partial"
    assert "4 rows are left out, at most $0.08: $0.04 of this month's $0.05 is spent or reserved; " in text
    assert "goes on with the rest at 2027-02-01 09:00Z" in text
    assert {each.code for each in history(services)} == {"month_budget_used"}

    await nights(services, 14)  # the first of February has come
    assert [type_ for type_, _, _ in messages] == ["schedule.partial"] * 2
    assert messages[1][2].startswith("2 images made for $0.04. 2 rows are left out")


async def test_a_product_that_changes_in_a_used_month_waits_for_the_next_one_and_is_told_once(tmp_path, messages):
    provider = Provider()
    services = calm(tmp_path, provider)
    write(catalogue(2))
    scheduled(services, budget=None, monthly_budget=50_000, options={"partial": True})
    await nights(services)
    messages.clear()

    write(catalogue(3, k0="a red lamp"))
    await nights(services, 4)

    ((type_, title, text),) = messages
    assert type_ == "schedule.partial"
    assert "has bought what its budget allowed" in title
    assert (
        "nothing was bought: a first image needs $0.02, and this time may spend $0.01, which is left of this month's "
        "$0.05; 2 images left out, and the changed row keeps its images. The next month goes on with them, at "
        "2027-02-01 09:00Z. To allow it, if the manifest is as you want it:  "
        "lightfast schedule edit nightly --monthly-budget 0.08" in text
    )
    assert {(each.exit_code, each.code) for each in history(services)[1:]} == {(4, "month_budget_used")}
    assert {outcome(each) for each in history(services)[1:]} == {"done up to its budget"}
    assert sum(provider.submits.values()) == 2
    assert stored("nightly") == ["k0", "k1"]

    await nights(services, 14)  # the first of February has come
    assert provider.submits["a red lamp"] == provider.submits["lamp 2"] == 1
    assert history(services)[-1].exit_code == 0
    assert "schedule.failed" not in {type_ for type_, _, _ in messages}


async def test_a_used_month_that_is_raised_makes_the_changed_product_at_the_next_time(tmp_path):
    provider = Provider()
    services = calm(tmp_path, provider)
    write(catalogue(2))
    scheduled(services, budget=None, monthly_budget=50_000, options={"partial": True})
    await nights(services)
    write(catalogue(2, k0="a red lamp"))
    await nights(services)
    words = history(services)[-1].message.split()
    assert words[-2] == "--monthly-budget"

    edited(services, monthly_budget=round(float(words[-1]) * MICROS), options={"partial": True})
    await nights(services)

    assert provider.submits["a red lamp"] == 1
    assert history(services)[-1].exit_code == 0


async def test_a_partial_budget_below_one_image_leaves_changed_rows_alone_and_names_the_budget(tmp_path):
    provider = Provider()
    services = calm(tmp_path, provider)
    write(catalogue(2))
    scheduled(services, options={"partial": True})
    await nights(services)
    write(catalogue(2, k0="a red lamp", k1="a blue lamp"))
    edited(services, budget=10_000)

    await nights(services)

    ended = history(services)[-1]
    assert (ended.state, ended.exit_code, ended.code) == (FiringState.ENDED, 4, "budget_used")
    assert "this time may spend $0.01 (--budget); 2 images left out, and the changed rows keep their" in ended.message
    assert ended.message.endswith("lightfast schedule edit nightly --budget 0.04")
    assert stored("nightly") == ["k0", "k1"]
    assert sum(provider.submits.values()) == 2


async def test_a_night_that_its_month_stops_half_way_needs_a_person_and_names_the_command_that_raises_the_month(
    tmp_path,
):
    def cut_the_month(_wanted):
        if services.ledger.schedules.find("nightly").monthly_budget == 4 * MICROS:
            edited(services, monthly_budget=50_000)

    services = calm(tmp_path, Provider(on_submit=cut_the_month))
    write(catalogue(150))
    scheduled(services, budget=None, monthly_budget=4 * MICROS)

    await nights(services, 0.5)

    firing = history(services)[-1]
    assert (firing.state, firing.exit_code, firing.code) == (FiringState.STOPPED, 4, "month_budget_used")
    assert (outcome(firing), style(firing)) == ("needs you", "red")
    assert "lightfast schedule edit nightly --monthly-budget" in firing.message


async def test_a_month_that_is_used_stands_in_the_way_of_a_batch_whose_own_budget_a_person_raised(tmp_path, messages):
    provider = Provider(
        on_poll=lambda _task: answer({"code": 0, "data": {"status": "FAIL", "message": "server error"}})
    )
    services = calm(tmp_path, provider)
    write(catalogue(2))
    scheduled(services, budget=None, monthly_budget=50_000)
    await nights(services)
    provider.on_poll = None
    ledger, now = services.ledger, services.clock.now()
    schedule = ledger.schedules.find("nightly")
    spent = ledger.schedules.spent_this_month(schedule.id, now)
    edited(services, monthly_budget=spent + 30_000)
    ledger.batches.agree("nightly", 10 * MICROS, 10 * MICROS)  # a person raises the batch's own budget
    ledger.batches.retry("nightly", now)
    messages.clear()

    await nights(services, 0.5)

    assert ledger.schedules.spent_this_month(schedule.id, services.clock.now()) <= spent + 30_000
    progress = ledger.reports.progress("nightly", services.clock.now())
    standing = RunState(progress=progress, accounts=ledger.accounts.all(), now=services.clock.now())
    assert waits_for_you(standing) is Reason.MONTH_BUDGET_USED
    assert "of the monthly budget of" in why(Reason.MONTH_BUDGET_USED, standing)
    told = [text for type_, _, text in messages if type_ == "budget.reached"]
    assert len(told) == 1
    assert "lightfast schedule edit nightly --monthly-budget" in told[0]
    assert "resume nightly" not in told[0], "its own budget would do"

    edited(services, monthly_budget=10 * MICROS)
    await nights(services)
    assert stored("nightly") == ["k0", "k1"]


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
    assert january[-1].message.endswith("  lightfast schedule edit nightly --monthly-budget 1.20")
    assert january[-1].code == "month_budget_used"
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


async def test_an_edit_in_the_middle_of_a_night_does_not_give_up_the_batch_that_all_nights_share(tmp_path):
    provider = Provider()
    services = calm(tmp_path, provider, looks=OFTEN)
    write(catalogue(6))
    partial = {"partial": True, "reuse": "copy"}
    scheduled(services, budget=50_000, options=partial)

    def edit(_wanted):
        provider.on_submit = None
        edited(services, into=Into.NEW, budget=50_000, options=partial | {"changed": "error"})

    provider.on_submit = edit
    await nights(services, 0.5)

    (night,) = history(services)
    assert (night.state, night.code, night.exit_code) == (FiringState.STOPPED, "budget_used", 4)
    assert "lightfast resume nightly --budget 0.12" in night.message
    assert services.ledger.batches.find("nightly").state is BatchState.ACTIVE
    assert services.ledger.reports.progress("nightly").jobs == {JobState.DONE: 2, JobState.READY: 4}

    edited(services, into=Into.SAME, budget=50_000, options=partial | {"changed": "redo"})
    await nights(services, 2)
    assert set(provider.submits.values()) == {1}
    assert services.ledger.reports.progress("nightly").jobs == {JobState.DONE: 6}


async def test_an_edit_in_the_middle_of_a_night_with_a_batch_of_its_own_gives_up_its_rest_all_the_same(tmp_path):
    provider = Provider()
    services = calm(tmp_path, provider, looks=OFTEN)
    write(catalogue(6))
    partial = {"partial": True, "reuse": "copy"}
    scheduled(services, into=Into.NEW, budget=50_000, options=partial | {"changed": "error"})

    def edit(_wanted):
        provider.on_submit = None
        edited(services, into=Into.SAME, budget=50_000, options=partial)

    provider.on_submit = edit
    await nights(services, 0.5)
    (night,) = history(services)
    assert (night.state, night.exit_code) == (FiringState.ENDED, 4)
    assert services.ledger.batches.find(night.batch).reason == LEFT_TO_THE_NEXT

    await nights(services, 3)
    assert provider.submits == {f"lamp {number}": 1 for number in range(6)}


async def test_the_night_after_its_batch_was_cancelled_says_so_and_another_schedule_takes_what_is_stored(tmp_path):
    provider = Provider()
    services = calm(tmp_path, provider, looks=OFTEN, max_in_flight=2)
    write(catalogue(4))
    scheduled(services)

    def cancel(_wanted):
        provider.on_submit = None
        asyncio.get_running_loop().call_later(0.1, services.ledger.batches.cancel, "nightly")

    provider.on_submit = cancel
    await nights(services, 0.5)
    made = sum(provider.submits.values())
    await nights(services, 1)

    told = history(services)[-1]
    assert (told.state, told.exit_code) == (FiringState.FAILED, 2)
    assert told.message == (
        "batch nightly was cancelled for good, and --into same makes all in it. To go on, add the schedule under "
        "another name, such as nightly-2, with --reuse: what is stored is not paid again. First remove this one:  "
        "lightfast schedule remove nightly"
    )
    assert sum(provider.submits.values()) == made

    services.ledger.schedules.remove("nightly")
    scheduled(services, name="nightly-2", options={"reuse": "copy"})
    await nights(services, 1)
    assert provider.submits == {f"lamp {number}": 1 for number in range(4)}
    assert services.ledger.reports.progress("nightly-2").jobs == {JobState.DONE: 4}


async def test_a_manifest_that_is_away_is_told_at_the_first_try_and_at_growing_distances(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(reading, "emit", lambda name, **fields: told.append((name, fields)))

    def is_away(*_):
        raise reading._LaterError("shop.example cannot be read:\n  connection refused")

    monkeypatch.setattr(reading, "_demand_settled", is_away)
    services = calm(tmp_path, Provider(), looks=timings(60.0))
    write(catalogue(2))
    scheduled(services)
    await minutes(services, 120)

    assert [name for name, _ in told] == ["schedule_put_off"] * 5
    assert [fields["times"] for _, fields in told] == [1, 2, 4, 8, 16]
    assert {fields["problem"] for _, fields in told} == {"shop.example cannot be read:  connection refused"}
    assert states(services) == [FiringState.FAILED]
