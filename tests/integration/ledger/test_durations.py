"""How long provider tasks take is learnt as they are found, and polls are counted."""

from __future__ import annotations

import pytest

from jobs.facts import SubmitAccepted, TaskStillRunning, TaskSucceeded
from jobs.ledger.accounts.durations import TaskKind
from jobs.policy import poll_schedule
from tests.support import stocked_ledger
from tests.support.stocked_ledger import NOW

KIND = TaskKind(account="main", provider_model="gpt-image-2/text-to-image", resolution="1k")


def running(ledger, count=1):
    """Attempts that were accepted now."""
    stocked_ledger.stock(ledger, stocked_ledger.rows(count))
    intents = ledger.claims.submits("main", NOW, lease=90).intents
    told = {"at": NOW, "poll_path": None, "next_poll_at": NOW + 5}
    ledger.facts.record([SubmitAccepted(attempt_id=i.attempt_id, task_id=f"t{i.attempt_id}", **told) for i in intents])
    return [intent.attempt_id for intent in intents]


def done(attempt_id, at, took=None):
    return TaskSucceeded(attempt_id=attempt_id, at=NOW + at, images=(stocked_ledger.made(),), took=took)


def test_a_task_found_done_is_learnt_from_by_account_model_and_resolution(ledger):
    first, second = running(ledger, 2)

    ledger.facts.record([done(first, 12.0, (10.0, 10.0))])
    ledger.facts.record([done(second, 11.0, (9.0, 9.0))])

    known = ledger.accounts.durations()[KIND]
    assert known.count == 2
    assert known.told > 0


def test_a_duration_nobody_tells_lies_between_the_last_poll_that_said_running_and_the_one_that_said_done(ledger):
    (attempt,) = running(ledger)
    ledger.facts.record([TaskStillRunning(attempt_id=attempt, at=NOW + 8, next_poll_at=NOW + 10)])

    ledger.facts.record([done(attempt, 10.0)])

    (account,) = ledger.accounts.all()
    assert account.lateness_sum == pytest.approx(1.0)  # from the middle between 8 and 10
    assert account.mean_lateness == pytest.approx(1.0)


def test_of_a_new_kind_those_that_still_run_are_known_to_take_longer(ledger):
    first, second, _unasked = running(ledger, 3)
    ledger.facts.record([TaskStillRunning(attempt_id=second, at=NOW + 30, next_poll_at=NOW + 40)])

    ledger.facts.record([done(first, 12.0, (10.0, 10.0))])

    known = ledger.accounts.durations()[KIND]
    assert known.count == 1
    assert sum(known.usual.values()) == pytest.approx(2.0, rel=0.05)
    assert sum(weight for place, weight in known.usual.items() if poll_schedule.end_of(place) > 29) >= 0.9


def test_polls_and_tasks_are_counted_and_the_same_fact_twice_counts_once(ledger):
    first, second = running(ledger, 2)
    assert len(ledger.claims.polls("main", NOW + 6, lease=60)[0]) == 2

    for _ in range(2):
        ledger.facts.record([done(first, 12.0, (10.0, 10.0)), done(second, 12.0, (11.0, 11.0))])

    (account,) = ledger.accounts.all()
    assert (account.polls_made, account.tasks_found) == (2, 2)
    assert account.polls_per_task == 1.0
    assert account.lateness_sum == pytest.approx(3.0)


def test_before_any_task_was_found_there_is_no_average(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(1))

    (account,) = ledger.accounts.all()

    assert (account.polls_per_task, account.mean_lateness) == (None, None)


def test_images_that_came_with_the_submits_answer_are_no_task_that_was_found(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(1))
    (intent,) = ledger.claims.submits("main", NOW, lease=90).intents

    ledger.facts.record(
        [TaskSucceeded(attempt_id=intent.attempt_id, at=NOW + 30, images=(stocked_ledger.made(),), at_once=True)]
    )

    (account,) = ledger.accounts.all()
    assert (account.tasks_found, ledger.accounts.durations()) == (0, {})
