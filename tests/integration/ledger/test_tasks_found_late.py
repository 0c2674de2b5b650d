"""A provider task that is found after its attempt was given up: a late fact, and it counts."""

from __future__ import annotations

import pytest

from jobs.errors import BadInput
from jobs.facts import SubmitUnclear, TaskSucceeded
from jobs.states import JobState
from tests.support.ledger_sums import check_money
from tests.support.stocked_ledger import NOW, PRICE, made, rows, stock


def given_up(ledger, how="give-up"):
    stock(ledger, rows(1))
    (intent,) = ledger.claims.submits("main", NOW, lease=90).intents
    ledger.facts.record([SubmitUnclear(attempt_id=intent.attempt_id, at=NOW, code="outcome_unknown", message="cut")])
    ledger.unknowns.resolve([intent.attempt_id], how, NOW)
    return intent.attempt_id


def test_a_task_found_after_giving_up_is_polled_its_images_are_kept_and_its_money_is_shown(ledger):
    attempt_id = given_up(ledger)
    (late,) = ledger.unknowns.given_up("spring", "k0")
    assert (late.attempt_id, late.money) == (attempt_id, PRICE)

    assert ledger.unknowns.resolve([attempt_id], "found", NOW + 5, task_id="seen") == 1

    assert ledger.reports.progress("spring").images_in_flight == 1, "a run waits for it"
    ((due,), _) = ledger.claims.polls("main", NOW + 5, lease=60)
    ledger.facts.record([TaskSucceeded(attempt_id=due.attempt_id, at=NOW + 6, images=(made(),))])
    assert due.task_id == "seen"
    assert (check_money(ledger).waiting, check_money(ledger).surplus, check_money(ledger).given_up) == (0, PRICE, 0)
    assert ledger.reports.progress("spring").batch.charged == PRICE
    assert ledger.reports.progress("spring").jobs == {JobState.FAILED: 1}
    assert ledger.reports.progress("spring").images_generated == 1
    assert [event.name for event in ledger.reports.story("spring", "k0").events].count("resolved") == 2
    assert not ledger.unknowns.given_up("spring", "k0"), "it has its task now"


def test_what_was_found_late_is_no_second_time_another_rows(ledger):
    attempt_id = given_up(ledger, "pay-again")
    (again,) = ledger.claims.submits("main", NOW + 1, lease=90).intents
    ledger.facts.record([TaskSucceeded(attempt_id=again.attempt_id, at=NOW + 2, images=(made(),), task_id="mine")])

    with pytest.raises(BadInput, match="belongs to key k0"):
        ledger.unknowns.resolve([attempt_id], "found", NOW + 5, task_id="mine")

    assert ledger.unknowns.resolve([attempt_id], "give-up", NOW + 5) == 0, "given up already"
