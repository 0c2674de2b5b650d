"""A callback is a hint: it changes nothing by itself, cannot be forged, and cannot make the ledger grow."""

from __future__ import annotations

import pytest

from jobs.facts import SubmitAccepted, SubmitUnclear, TaskFailed, TaskStillRunning, TaskSucceeded
from jobs.states import JobState
from providers.types import Kind
from tests.support import stocked_ledger
from tests.support.stocked_ledger import NOW, PRICE


@pytest.fixture
def intent(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(1))
    return ledger.claims.submits("main", NOW, lease=90).intents[0]


def unclear(ledger, intent):
    lost = SubmitUnclear(attempt_id=intent.attempt_id, at=NOW, code="connection_lost", message="cut off")
    ledger.facts.record([lost])


def accepted(intent, task="task-1", at=NOW):
    return SubmitAccepted(attempt_id=intent.attempt_id, at=at, task_id=task, poll_path=None, next_poll_at=at + 60)


def test_a_hint_of_a_lost_submit_is_to_be_looked_into_and_changes_nothing_until_then(ledger, intent):
    unclear(ledger, intent)

    assert ledger.hints.hear(ledger.hints.token(intent.attempt_id), "task-1", NOW) == "poll:main"

    assert ledger.reports.progress("spring").jobs == {JobState.HELD: 1}
    assert ledger.hints.claim("main", NOW + 1, lease=30) == []
    (due,) = ledger.hints.claim("main", NOW + 3, lease=30)
    assert (due.attempt_id, due.task_id, due.intended_at) == (intent.attempt_id, "task-1", NOW)


def test_a_forged_token_is_turned_away(ledger, intent):
    genuine = ledger.hints.token(intent.attempt_id)

    for forged in ("", "1.x", genuine[:-1], genuine + "=", f"{intent.attempt_id}.", "٣.abc", "9" * 30 + ".x", "\x00"):
        assert ledger.hints.hear(forged, "task-1", NOW) is None
    assert ledger.hints.waiting() == 0


def test_callbacks_cannot_make_the_ledger_grow(ledger, intent):
    token = ledger.hints.token(intent.attempt_id)

    for number in range(50):
        ledger.hints.hear(token, f"task-{number % 10}", NOW)
    for odd in ("", "x" * 201, "nul\x00", "\ud800"):
        ledger.hints.hear(token, odd, NOW)

    assert ledger.hints.waiting() == 3


def test_a_callback_about_a_task_we_know_makes_its_poll_due(ledger, intent):
    ledger.facts.record([accepted(intent)])

    assert ledger.hints.hear(ledger.hints.token(intent.attempt_id), "task-1", NOW + 5) == "poll:main"

    assert len(ledger.claims.polls("main", NOW + 5, lease=30)[0]) == 1
    assert ledger.hints.waiting() == 0


def test_a_callback_that_comes_before_the_submits_own_answer_makes_the_poll_due_when_that_came(ledger, intent):
    ledger.hints.hear(ledger.hints.token(intent.attempt_id), "task-1", NOW)
    ledger.facts.record([accepted(intent)])

    assert ledger.claims.polls("main", NOW + 0.1, lease=30)[0] == []
    assert ledger.hints.claim("main", NOW + 0.1, lease=30) == []
    assert len(ledger.claims.polls("main", NOW + 0.1, lease=30)[0]) == 1
    assert ledger.hints.waiting() == 0


def test_an_answer_from_before_the_callback_does_not_put_the_poll_off_again(ledger, intent):
    ledger.facts.record([accepted(intent)])
    assert len(ledger.claims.polls("main", NOW + 60, lease=30)[0]) == 1

    ledger.hints.hear(ledger.hints.token(intent.attempt_id), "task-1", NOW + 61)
    ledger.facts.record([TaskStillRunning(attempt_id=intent.attempt_id, at=NOW + 61, next_poll_at=NOW + 90)])

    assert len(ledger.claims.polls("main", NOW + 61, lease=30)[0]) == 1


def test_a_hint_that_turned_out_wrong_is_not_looked_into_again_however_often_it_is_given(ledger, intent):
    unclear(ledger, intent)
    token = ledger.hints.token(intent.attempt_id)
    for number in range(9):
        ledger.hints.hear(token, f"task-{number}", NOW)

    looked = ledger.hints.claim("main", NOW + 3, lease=30)
    ledger.hints.refute([(due.attempt_id, due.task_id) for due in looked])
    for number in range(9):
        ledger.hints.hear(token, f"task-{number}", NOW + 4)

    assert len(looked) == 3
    assert ledger.hints.claim("main", NOW + 86_400, lease=30) == []
    assert ledger.hints.waiting() == 0


def test_a_task_of_another_attempt_is_no_hint(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(2))
    mine, other = ledger.claims.submits("main", NOW, lease=90).intents
    unclear(ledger, mine)
    ledger.facts.record([accepted(other, "theirs")])

    assert ledger.hints.hear(ledger.hints.token(mine.attempt_id), "theirs", NOW) is None


def test_a_hint_nobody_confirms_is_looked_into_ever_less_often_and_then_dropped(ledger, intent):
    ledger.hints.hear(ledger.hints.token(intent.attempt_id), "task-1", NOW)
    now, looks = NOW, 0
    while ledger.hints.waiting():
        now += 10
        looks += len(ledger.hints.claim("main", now, lease=30))

    assert looks == 8
    assert now - NOW > 30 * 2**7


def test_a_second_provider_task_of_one_attempt_is_kept_as_a_twin_and_its_images_are_surplus(ledger, intent):
    ledger.facts.record([accepted(intent, "first")])
    ledger.facts.record([accepted(intent, "second"), accepted(intent, "second")])
    assert ledger.reports.progress("spring").batch.reserved == 2 * PRICE

    due, _ = ledger.claims.polls("main", NOW + 61, lease=30)
    facts = [TaskSucceeded(attempt_id=one.attempt_id, at=NOW, images=(stocked_ledger.made(),)) for one in due]
    ledger.facts.record(facts)

    copies, _ = ledger.claims.copies(NOW, holder="me", lease=60, at_most=9)
    assert sorted(one.task_id for one in due) == ["first", "second"]
    assert sorted(copy.surplus for copy in copies) == [False, True]
    assert ledger.reports.progress("spring").batch.charged == 2 * PRICE


def test_a_twin_that_fails_costs_its_row_nothing(ledger, intent):
    ledger.facts.record([accepted(intent, "first")])
    ledger.facts.record([accepted(intent, "second")])
    twin = next(one for one in ledger.claims.polls("main", NOW + 61, lease=30)[0] if one.task_id == "second")
    failed = {"kind": Kind.PERMANENT, "code": "invalid_parameters", "message": "no"}

    ledger.facts.record([TaskFailed(attempt_id=twin.attempt_id, at=NOW, **failed)])

    assert ledger.reports.progress("spring").jobs == {JobState.WORKING: 1}
    assert ledger.reports.progress("spring").batch.reserved == PRICE


def test_the_policy_pays_again_within_its_budget_and_not_before_its_time(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(3))
    for intent in ledger.claims.submits("main", NOW, lease=90).intents:
        unclear(ledger, intent)

    assert ledger.unknowns.pay_again(NOW + 179, 2 * PRICE) == 0
    assert ledger.unknowns.pay_again(NOW + 180, 2 * PRICE) == 2
    assert ledger.unknowns.pay_again(NOW + 180, 2 * PRICE) == 0

    assert ledger.reports.progress("spring").jobs == {JobState.READY: 2, JobState.HELD: 1}


def test_only_a_callback_that_names_our_own_task_says_that_callbacks_come_through(ledger, intent):
    token = ledger.hints.token(intent.attempt_id)
    ledger.facts.record([accepted(intent)])

    ledger.hints.hear(token, "task-2", NOW)
    assert ledger.hints.called_back(NOW - 60) == set()

    ledger.hints.hear(token, "task-1", NOW)
    assert ledger.hints.called_back(NOW - 60) == {"main"}
    assert ledger.hints.called_back(NOW + 1) == set()


def test_a_task_that_is_still_said_to_run_just_after_its_callback_is_asked_about_again_soon(ledger, intent):
    ledger.facts.record([accepted(intent)])
    ledger.hints.hear(ledger.hints.token(intent.attempt_id), "task-1", NOW + 5)

    def next_poll(at, **changes):
        ledger.claims.polls("main", at, lease=30)
        still = TaskStillRunning(**{"attempt_id": intent.attempt_id, "at": at, "next_poll_at": at + 60, **changes})
        ledger.facts.record([still])
        return ledger.claims.polls("main", at, lease=30)[1] - at

    assert next_poll(NOW + 5.2) == pytest.approx(2)
    assert next_poll(NOW + 7.2, next_poll_at=NOW + 8) == pytest.approx(0.8)
    assert next_poll(NOW + 9, code="poll_refused") == pytest.approx(60)
    assert next_poll(NOW + 70) == pytest.approx(60)
