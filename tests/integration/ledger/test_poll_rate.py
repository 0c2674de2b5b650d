"""Polls that nobody declared a rate for: more while they are too few, held back together after a 429."""

from __future__ import annotations

import pytest

from jobs.facts import SubmitAccepted, TaskStillRunning
from jobs.policy import adaptive_limits
from tests.support import stocked_ledger
from tests.support.stocked_ledger import NOW


def running(ledger, count, *, declared=None):
    """So many tasks, all due to be asked about."""
    stocked_ledger.stock(ledger, stocked_ledger.rows(count), limits=stocked_ledger.account(polls_per_second=declared))
    for intent in ledger.claims.submits("main", NOW, lease=90, at_most=count).intents:
        accepted = SubmitAccepted(
            attempt_id=intent.attempt_id, at=NOW, task_id=f"t{intent.attempt_id}", poll_path=None, next_poll_at=NOW
        )
        ledger.facts.record([accepted])


def asked(ledger, seconds, *, since=0.0):
    """How many polls are claimed in so many seconds; each task is due again at once."""
    count = 0
    for turn in range(int(seconds * 8)):
        now = NOW + since + turn / 8
        due, _ = ledger.claims.polls("main", now, lease=0.0)
        count += len(due)
    return count


def throttled(ledger, at, rest):
    (due, *_), _ = ledger.claims.polls("main", at, lease=0.0)
    fact = TaskStillRunning(attempt_id=due.attempt_id, at=at, next_poll_at=at, code="rate_limited", rest=rest)
    ledger.facts.record([fact])


def test_polls_that_are_too_few_grow_until_they_suffice(ledger):
    running(ledger, 60)

    first, later = asked(ledger, 5), asked(ledger, 5, since=40)

    assert first / 5 < 20
    assert later > first


def test_a_429_to_a_poll_holds_all_polls_of_the_account_back_and_slows_them_once(ledger):
    running(ledger, 60)

    throttled(ledger, NOW + 1, rest=7.0)
    throttled_again = TaskStillRunning(
        attempt_id=1 << 40, at=NOW + 1.1, next_poll_at=NOW, code="rate_limited", rest=7.0
    )
    ledger.facts.record([throttled_again])

    assert asked(ledger, 6.5, since=1.2) == 0
    assert asked(ledger, 5, since=9) > 0
    assert ledger.accounts.all()[0].polls_per_second == pytest.approx(
        adaptive_limits.POLLS_CUT * (adaptive_limits.FIRST_POLLS_PER_SECOND + adaptive_limits.POLLS_STEP * 3), rel=0.1
    )


def test_a_key_that_a_poll_finds_refused_rests_the_account_before_another_submit_is_tried(ledger):
    running(ledger, 3)
    stocked_ledger.stock(ledger, stocked_ledger.rows(9))
    refused = TaskStillRunning(
        attempt_id=1 << 40, at=NOW + 1, next_poll_at=NOW + 61, code="bad_key", message="unauthorized"
    )

    ledger.facts.record([refused])

    (account,) = ledger.accounts.all()
    assert (account.paused_code, account.paused_message) == ("bad_key", "unauthorized")
    assert ledger.claims.submits("main", NOW + 2, lease=90).intents == ()
    assert len(ledger.claims.submits("main", account.paused_until, lease=90).intents) == 1  # the probe


def test_a_declared_rate_of_polls_stays_what_it_is(ledger):
    running(ledger, 60, declared=5.0)

    throttled(ledger, NOW + 1, rest=1.0)

    assert ledger.accounts.all()[0].polls_per_second == 5.0
    assert asked(ledger, 10, since=5) <= 51
