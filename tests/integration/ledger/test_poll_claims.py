"""What one claim of polls takes: as many requests as the rate allows, each filled with tasks."""

from __future__ import annotations

from collections import Counter

from jobs.facts import SubmitAccepted
from tests.support import stocked_ledger
from tests.support.stocked_ledger import NOW


def running(ledger, due_at, **limits):
    """Attempts whose polls are due so many seconds from now."""
    stocked_ledger.stock(ledger, stocked_ledger.rows(len(due_at)), limits=stocked_ledger.account(**limits))
    intents = ledger.claims.submits("main", NOW, lease=90).intents
    facts = [
        SubmitAccepted(
            attempt_id=i.attempt_id, at=NOW, task_id=f"t{i.attempt_id}", poll_path=None, next_poll_at=NOW + s
        )
        for i, s in zip(intents, due_at, strict=True)
    ]
    ledger.facts.record(facts)
    return [intent.attempt_id for intent in intents]


def claim(ledger, at=0.0, **terms):
    return ledger.claims.polls("main", NOW + at, lease=30, **terms)[0]


def sizes(due):
    return sorted(Counter(one.request for one in due).values())


def test_tasks_are_asked_about_one_by_one_where_nothing_else_is_said(ledger):
    running(ledger, [0.0] * 5)

    assert sizes(claim(ledger)) == [1] * 5


def test_one_request_asks_about_twenty_and_is_one_of_the_rate(ledger):
    running(ledger, [0.0] * 50, polls_per_second=4.0)

    due = claim(ledger, together=20)

    assert sizes(due) == [20, 20]  # two within the quarter of a second ahead
    assert ledger.accounts.all()[0].polls_made == 2


def test_a_request_with_room_takes_the_tasks_that_are_due_next_and_none_that_is_due_much_later(ledger):
    now, soon, sooner, later = running(ledger, [-1.0, 3.0, 1.0, 60.0])

    due = claim(ledger, together=3)

    assert [one.attempt_id for one in due] == [now, sooner, soon]
    assert later not in [one.attempt_id for one in claim(ledger, 4.0, together=20)]


def test_nothing_is_asked_about_early_when_nothing_is_due(ledger):
    running(ledger, [1.0, 2.0])

    assert claim(ledger, together=20) == []


def test_whoever_is_asked_about_alone_has_a_request_of_the_rate_alone(ledger):
    ids = running(ledger, [0.0] * 6, polls_per_second=12.0)

    due = claim(ledger, together=20, alone=frozenset(ids[:2]))

    assert sizes(due) == [1, 1, 4]


def test_more_alone_than_the_rate_allows_wait(ledger):
    ids = running(ledger, [0.0] * 6, polls_per_second=4.0)

    assert sizes(claim(ledger, together=20, alone=frozenset(ids))) == [1, 1]
    assert sizes(claim(ledger, 1.0, together=20, alone=frozenset(ids))) == [1, 1]
