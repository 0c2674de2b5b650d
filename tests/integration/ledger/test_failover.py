"""Rows go to another provider only when they are certainly unpaid, and only for money that was agreed to."""

from __future__ import annotations

import dataclasses

import pytest

from jobs.facts import SubmitAccepted, SubmitRefused, SubmitUnclear, TaskFailed, TaskSucceeded
from jobs.policy.failover import PATIENCE, Failover
from jobs.states import JobState
from providers.types import Kind, Route
from tests.support import stocked_ledger
from tests.support.stocked_ledger import NOW, PRICE

LATER = NOW + 10_000


def elsewhere(price=PRICE, pixels=(1024, 1024)):
    def routes(request):
        route = {"model": request.model, "pixels": pixels, "max_n": 1, "price": price}
        return [Route(provider="apimaster", provider_model="gpt-image-2", **route)]

    return routes


@pytest.fixture
def stocked(ledger):
    """A ledger with two providers; `stocked(rows, …)` fills it with a batch that may go elsewhere."""

    def fill(rows=1, *, manifest=None, routes=None, **batch):
        ledger.facts.routes = routes or elsewhere()
        manifest = manifest or stocked_ledger.rows(rows)
        agreed = sum(row.price * row.request.n for row in manifest)
        there = stocked_ledger.account(name="there", provider="apimaster")
        ledger.accounts.sync([stocked_ledger.account(), there])
        ledger.batches.record_manifest(
            stocked_ledger.new_batch(**{"failover": Failover.EQUAL, "agreed": agreed, **batch}), manifest, now=NOW
        )
        return ledger

    return fill


def fail(ledger, now=NOW, account="main", kind=Kind.TRANSIENT, code="provider_failed"):
    """Takes a row as often as it may be taken there, and fails it each time; how often that was."""
    tries = 0
    while claimed := ledger.claims.submits(account, now, lease=90).intents:
        tries += 1
        for one in claimed:
            task, at = f"t{one.attempt_id}", {"attempt_id": one.attempt_id, "at": now}
            accepted = SubmitAccepted(**at, task_id=task, poll_path=None, next_poll_at=now)
            failed = TaskFailed(**at, kind=kind, code=code, message="no")
            ledger.facts.record([accepted, failed])
        now += 1000
    return tries


def refuse(intent, at, code="no_balance", kind=Kind.ACCOUNT):
    return SubmitRefused(attempt_id=intent.attempt_id, at=at, kind=kind, code=code, message="402")


def there(ledger, now=LATER):
    return ledger.claims.submits("there", now, lease=90).intents


def jobs(ledger):
    return ledger.reports.progress("spring").jobs


@pytest.mark.parametrize("retries", [0, 1, 4])
def test_a_batch_tolerates_as_many_failed_tasks_as_its_settings_say(stocked, retries):
    ledger = stocked(failover=Failover.OFF, retries=retries)

    assert fail(ledger) == retries + 1
    assert jobs(ledger) == {JobState.FAILED: 1}
    assert there(ledger) == ()


def test_a_row_that_failed_out_goes_to_another_provider_at_once_and_is_never_seen_as_failed(stocked):
    ledger = stocked(retries=1)

    assert fail(ledger) == 2

    assert jobs(ledger) == {JobState.READY: 1}
    assert ledger.reports.progress("spring").errors == {}
    (intent,) = there(ledger)
    assert intent.provider_model == "gpt-image-2"
    ledger.facts.record([TaskSucceeded(attempt_id=intent.attempt_id, at=LATER, images=(stocked_ledger.made(),))])
    assert [image.provider for image in ledger.reports.story("spring", "k0").result.images] == ["apimaster"]
    (moved,) = [event for event in ledger.reports.story("spring", "k0").events if event.name == "moved"]
    assert moved.detail == {"from": "maxapi.io", "to": "apimaster", "because": "failed_there"}


def test_a_row_that_failed_at_both_ends(stocked):
    ledger = stocked(retries=0)

    fail(ledger)
    fail(ledger, LATER, "there")

    assert jobs(ledger) == {JobState.FAILED: 1}


@pytest.mark.parametrize("kind", [Kind.MODERATION, Kind.PERMANENT])
def test_what_the_provider_finds_wrong_with_the_row_goes_nowhere(stocked, kind):
    ledger = stocked()

    assert fail(ledger, kind=kind, code="moderation") == 1
    assert jobs(ledger) == {JobState.FAILED: 1}


def test_a_row_with_an_attempt_that_was_or_may_have_been_paid_stays(stocked):
    ledger = stocked(manifest=[stocked_ledger.row(0, n=2, max_n=1), stocked_ledger.row(1, n=2, max_n=1)], retries=0)
    first, second, third, fourth = ledger.claims.submits("main", NOW, lease=90).intents
    assert (first.job_id, third.job_id) == (second.job_id, fourth.job_id)
    for one in (first, second, third):
        task = f"t{one.attempt_id}"
        ledger.facts.record(
            [SubmitAccepted(attempt_id=one.attempt_id, at=NOW, task_id=task, poll_path=None, next_poll_at=NOW)]
        )
    ledger.facts.record([TaskSucceeded(attempt_id=first.attempt_id, at=NOW, images=(stocked_ledger.made(),))])
    ledger.facts.record([SubmitUnclear(attempt_id=fourth.attempt_id, at=NOW, code="x", message="y")])

    for one in (second, third):
        failed = TaskFailed(
            attempt_id=one.attempt_id, at=NOW, kind=Kind.TRANSIENT, code="provider_failed", message="no"
        )
        ledger.facts.record([failed])

    assert there(ledger) == ()


def test_rows_that_wait_for_a_provider_without_balance_go_elsewhere_after_a_while(stocked):
    ledger = stocked(20)
    (probe,) = ledger.claims.submits("main", NOW, lease=90, at_most=1).intents
    ledger.facts.record([refuse(probe, NOW)])

    assert ledger.facts.fail_over(NOW + PATIENCE - 1) == 0
    assert ledger.facts.fail_over(NOW + PATIENCE + 1) == 20

    assert len(there(ledger)) == 20
    assert stocked_ledger.claim(ledger, LATER) == 0


def test_while_one_account_of_the_provider_works_its_rows_stay(stocked):
    ledger = stocked(5)
    ledger.accounts.sync(
        [
            stocked_ledger.account(),
            stocked_ledger.account(name="second"),
            stocked_ledger.account(name="there", provider="apimaster"),
        ],
    )
    (probe,) = ledger.claims.submits("main", NOW, lease=90, at_most=1).intents
    ledger.facts.record([refuse(probe, NOW)])

    assert ledger.facts.fail_over(NOW + 2 * PATIENCE) == 0


def test_rows_do_not_go_where_nothing_is_taken_either(stocked):
    ledger = stocked(5)
    (probe,) = ledger.claims.submits("main", NOW, lease=90, at_most=1).intents
    ledger.facts.record([refuse(probe, NOW)])
    other = stocked_ledger.row(9)
    other = dataclasses.replace(other, provider="apimaster", provider_model="gpt-image-2")
    ledger.batches.record_manifest(stocked_ledger.new_batch("other"), [other], now=NOW)
    (there_too,) = there(ledger, NOW)
    ledger.facts.record([refuse(there_too, NOW)])

    assert ledger.facts.fail_over(NOW + PATIENCE + 1) == 0


@pytest.mark.parametrize("kept", [{"failover": Failover.OFF}, {"providers": ("maxapi.io",)}])
def test_without_leave_no_row_goes_anywhere(stocked, kept):
    ledger = stocked(5, **kept)
    (probe,) = ledger.claims.submits("main", NOW, lease=90, at_most=1).intents
    ledger.facts.record([refuse(probe, NOW)])

    assert ledger.facts.fail_over(NOW + 2 * PATIENCE) == 0


@pytest.mark.parametrize(("spare", "moved"), [(0, 0), (PRICE, 2), (10 * PRICE, 5)])
def test_dearer_routes_are_paid_from_agreed_money_only(stocked, spare, moved):
    """Each of five rows costs half as much again elsewhere."""
    ledger = stocked(5, routes=elsewhere(price=PRICE * 3 // 2), agreed=5 * PRICE + spare)
    (probe,) = ledger.claims.submits("main", NOW, lease=90, at_most=1).intents
    ledger.facts.record([refuse(probe, NOW)])

    assert ledger.facts.fail_over(NOW + 2 * PATIENCE) == moved
    progress = ledger.reports.progress("spring")
    assert progress.remaining_money <= progress.batch.agreed


def test_a_cancelled_row_is_not_brought_back(stocked):
    ledger = stocked(retries=0)
    (intent,) = ledger.claims.submits("main", NOW, lease=90).intents
    ledger.facts.record(
        [SubmitAccepted(attempt_id=intent.attempt_id, at=NOW, task_id="t", poll_path=None, next_poll_at=NOW)]
    )
    ledger.batches.cancel("spring")

    failed = TaskFailed(attempt_id=intent.attempt_id, at=NOW, kind=Kind.TRANSIENT, code="provider_failed", message="no")
    ledger.facts.record([failed])

    assert there(ledger) == ()
