"""Facts that come at the wrong time, twice, or for another: none of them may cost money or a row."""

from __future__ import annotations

import pytest

from jobs.facts import SubmitAccepted, SubmitRefused, SubmitUnclear, TaskFailed
from jobs.ledger.reports.books import total
from jobs.states import JobState
from providers.types import Kind
from tests.support import stocked_ledger
from tests.support.stocked_ledger import NOW, PRICE


def claimed(ledger, count=1):
    return ledger.claims.submits("main", NOW, lease=90, at_most=count).intents


def accepted(attempt_id, task):
    return SubmitAccepted(attempt_id=attempt_id, at=NOW, task_id=task, poll_path=None, next_poll_at=NOW)


def failed(attempt_id, kind, **more):
    return TaskFailed(attempt_id=attempt_id, at=NOW, kind=kind, code="moderation", message="no", **more)


def unclear(attempt_id):
    return SubmitUnclear(attempt_id=attempt_id, at=NOW, code="outcome_unknown", message="cut off")


def charged(ledger):
    return ledger.reports.progress("spring").batch.charged


def test_what_an_older_revision_met_does_not_end_the_row_that_is_made_anew(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(1))
    (intent,) = claimed(ledger)
    ledger.facts.record([accepted(intent.attempt_id, "t0")])
    ledger.batches.redo("spring", [("k0", None)], NOW)

    ledger.facts.record([failed(intent.attempt_id, Kind.MODERATION)])

    assert ledger.reports.progress("spring").jobs == {JobState.READY: 1}
    assert len(claimed(ledger)) == 1


@pytest.mark.parametrize("apart", [True, False], ids=["in two groups", "in one group"])
def test_a_task_id_that_is_another_rows_is_never_taken_for_ones_own(ledger, apart):
    stocked_ledger.stock(ledger, stocked_ledger.rows(2))
    first, second = claimed(ledger, 2)
    facts = [accepted(first.attempt_id, "same"), accepted(second.attempt_id, "same")]

    for group in [[fact] for fact in facts] if apart else [facts]:
        ledger.facts.record(group)
    ledger.facts.record(facts[:1])  # told twice, it is still the first one's

    assert ledger.reports.progress("spring").jobs == {JobState.WORKING: 1, JobState.HELD: 1}
    (held,) = ledger.unknowns.all("spring")
    assert (held.attempt_id, held.code, held.money) == (second.attempt_id, "task_id_taken", PRICE)


@pytest.mark.parametrize(("forgotten", "costs"), [(False, 0), (True, PRICE)])
def test_an_abandoned_attempt_whose_late_task_fails_is_not_polled_for_ever(ledger, forgotten, costs):
    stocked_ledger.stock(ledger, stocked_ledger.rows(1))
    (intent,) = claimed(ledger)
    ledger.facts.record([unclear(intent.attempt_id)])
    ledger.unknowns.resolve([intent.attempt_id], "give-up", NOW)
    ledger.facts.record([accepted(intent.attempt_id, "late")])
    assert charged(ledger) == PRICE

    for _ in range(2):
        ledger.facts.record([failed(intent.attempt_id, Kind.TRANSIENT, forgotten=forgotten)])

    assert ledger.claims.polls("main", NOW + 1e6, lease=30) == ([], None)
    assert charged(ledger) == costs


@pytest.mark.parametrize("how", ["give-up", "pay-again"])
def test_a_submit_that_turns_out_to_have_stayed_here_after_it_was_resolved_costs_nothing(ledger, how):
    stocked_ledger.stock(ledger, stocked_ledger.rows(1))
    (intent,) = claimed(ledger)
    ledger.facts.sweep(NOW + 91)  # its process was stopped, and goes on below
    ledger.unknowns.resolve([intent.attempt_id], how, NOW + 92)
    assert charged(ledger) == PRICE

    for _ in range(2):
        ledger.facts.record([not_sent(intent.attempt_id)])

    assert charged(ledger) == 0
    assert ledger.reports.progress("spring").jobs == {JobState.FAILED if how == "give-up" else JobState.READY: 1}
    assert total(ledger.reports.money("spring")).closes


def not_sent(attempt_id):
    return SubmitRefused(attempt_id=attempt_id, at=NOW, kind=Kind.TRANSIENT, code="not_sent", message="too late")
