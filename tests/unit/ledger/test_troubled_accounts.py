"""An account in trouble is probed with one submit at a time, and ever less often; virtual time."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from jobs.facts import SubmitAccepted, SubmitRefused, SubmitUnclear, TaskSucceeded
from jobs.ledger import open_ledger
from jobs.policy import retry
from jobs.states import JobState
from providers.types import Kind
from tests.support import stocked_ledger
from tests.support.stocked_ledger import NOW

ANSWER = 1.0  # seconds until an answer


@pytest.fixture
def memory():
    """A ledger of its own, quick enough for thousands of claims."""
    ledger = open_ledger("sqlite://")
    yield ledger
    ledger.close()


def weather(ledger, fact, *, seconds, step=0.5, in_flight=20, rows=4000):
    """When submits were sent in these seconds, with a claim each `step`; each is answered with `fact(intent, at)`."""
    stocked_ledger.stock(
        ledger,
        stocked_ledger.rows(rows),
        limits=stocked_ledger.account(submits_per_second=5.0, max_in_flight=in_flight),
    )
    sent, air = [], []
    for turn in range(int(seconds / step)):
        now = NOW + turn * step
        if answered := [fact(intent, now) for at, intent in air if at + ANSWER <= now]:
            ledger.facts.record(answered)
        air = [(at, intent) for at, intent in air if at + ANSWER > now]
        claimed = ledger.claims.submits("main", now, lease=90).intents
        sent += [now] * len(claimed)
        air += [(now, intent) for intent in claimed]
    return sent


def storm(intent, at):
    return SubmitUnclear(attempt_id=intent.attempt_id, at=at, code="server_error", message="503")


def accepts(intent, at):
    task = f"task-{intent.attempt_id}"
    return SubmitAccepted(attempt_id=intent.attempt_id, at=at, task_id=task, poll_path=None, next_poll_at=at)


def refuses(kind, code):
    return lambda intent, at: SubmitRefused(
        attempt_id=intent.attempt_id, at=at, kind=kind, code=code, message="no", retry_after=None
    )


def gaps(sent):
    return [later - earlier for earlier, later in itertools.pairwise(sent)]


def test_a_ten_minute_storm_of_503_holds_three_rows_and_a_few_probes(memory):
    sent = weather(memory, storm, seconds=600, in_flight=1)

    assert len(sent) == 8  # three that showed it, and probes after 15, 30, 60, 120, 240 s
    assert memory.reports.progress("spring").jobs[JobState.HELD] == 8
    assert memory.reports.progress("spring").jobs[JobState.READY] == 3992
    assert all(later >= 1.9 * earlier for earlier, later in itertools.pairwise(gaps(sent)[2:]))


def test_what_was_in_the_air_when_a_storm_began_is_all_that_follows_its_first_answers(memory):
    sent = weather(memory, storm, seconds=600)

    first_answers = sent[0] + ANSWER
    assert sum(at >= first_answers + 0.5 for at in sent) <= 6
    assert len(sent) <= 5 * (ANSWER + 0.5) + 3 + 6


def test_after_a_storm_the_first_accepted_probe_opens_the_account(memory):
    weather(memory, storm, seconds=120, in_flight=3)
    until = memory.accounts.all()[0].paused_until

    (probe,) = memory.claims.submits("main", until, lease=90).intents
    memory.facts.record([accepts(probe, until + 1)])

    assert len(memory.claims.submits("main", until + 2, lease=90, horizon=1.0).intents) > 1
    assert memory.accounts.all()[0].paused_code is None


@pytest.mark.parametrize("code", ["no_balance", "bad_key"])
def test_an_account_without_balance_or_key_is_probed_with_growing_gaps_and_no_row_fails(memory, code):
    sent = weather(memory, refuses(Kind.ACCOUNT, code), seconds=3600, step=2.0, in_flight=3)

    probes = [gap for gap in gaps(sent) if gap > 10]  # after those that were on their way together
    assert [round(gap, -1) for gap in probes] == [60, 120, 240, 480, 960]
    assert memory.reports.progress("spring").jobs == {JobState.READY: 4000}
    assert memory.reports.progress("spring").batch.reserved == 0


def test_a_provider_out_of_reach_is_tried_ever_less_often(memory):
    sent = weather(memory, refuses(Kind.TRANSIENT, "unreachable"), seconds=1200, step=2.0, in_flight=3)

    assert len(sent) <= 3 + 10
    assert gaps(sent)[-1] == pytest.approx(retry.LONGEST_SHORT_COOLDOWN, abs=2)


def test_what_is_accepted_while_an_account_cools_down_does_not_cut_its_rest_short(memory):
    stocked_ledger.stock(memory, stocked_ledger.rows(20), limits=stocked_ledger.account(max_in_flight=20))
    first, refused, late = memory.claims.submits("main", NOW, lease=90, at_most=3, horizon=10).intents
    memory.facts.record([refuses(Kind.THROTTLED, "rate_limited")(refused, NOW)])

    memory.facts.record([accepts(first, NOW + 0.1), accepts(late, NOW + 0.2)])

    assert memory.accounts.all()[0].paused_until == NOW + retry.THROTTLED_COOLDOWN
    assert stocked_ledger.claim(memory, NOW + 0.3) == 0
    (probe,) = memory.claims.submits("main", NOW + 0.6, lease=90).intents
    memory.facts.record([accepts(probe, NOW + 0.7)])
    assert memory.accounts.all()[0].paused_until is None


def test_a_rate_that_is_asked_for_too_late_to_be_used_does_not_grow(memory):
    stocked_ledger.stock(
        memory, stocked_ledger.rows(40), limits=stocked_ledger.account(submits_per_second=None, max_in_flight=40)
    )

    for turn in range(12):  # 1 a second is allowed; whoever asks every two seconds is not held up by it
        for intent in memory.claims.submits("main", NOW + 2 * turn, lease=90, horizon=0.25).intents:
            memory.facts.record([accepts(intent, NOW + 2 * turn)])

    assert memory.accounts.all()[0].submits_per_second == 1.0


@pytest.mark.parametrize("retry_after", [0.0, 0.01])
def test_a_provider_that_always_says_come_back_at_once_is_tried_ever_less_often(memory, retry_after):
    def refused(intent, at):
        values = {"kind": Kind.THROTTLED, "code": "rate_limited", "message": "no", "retry_after": retry_after}
        return SubmitRefused(attempt_id=intent.attempt_id, at=at, **values)

    sent = weather(memory, refused, seconds=600)

    assert len([at for at in sent if at > NOW + 60]) <= 6


def test_a_row_refused_for_now_waits_longer_each_time_and_holds_up_no_other(memory):
    sent = weather(memory, refuses(Kind.TRANSIENT, "conflict"), seconds=300, rows=1)

    assert len(sent) <= 9
    assert gaps(sent)[-1] > 60
    assert memory.accounts.all()[0].paused_until is None


def test_what_died_with_its_process_says_nothing_about_the_account(memory):
    stocked_ledger.stock(memory, stocked_ledger.rows(20))
    assert stocked_ledger.claim(memory, NOW, at_most=10) == 10

    memory.facts.sweep(NOW + 1000)

    assert len(memory.unknowns.all()) == 10
    assert stocked_ledger.claim(memory, NOW + 1000, at_most=5) == 5


def test_a_new_start_tries_a_troubled_account_at_once_with_one_probe(memory):
    weather(memory, storm, seconds=60, in_flight=3)
    later = NOW + 61

    with memory.hold(later):
        assert stocked_ledger.claim(memory, later, times=3) == 1


def test_a_provider_that_always_says_at_once_is_tried_ever_less_often_too(memory):
    def at_once(intent, at):
        told = {"kind": Kind.THROTTLED, "code": "rate_limited", "message": "no", "retry_after": 0.0}
        return SubmitRefused(attempt_id=intent.attempt_id, at=at, **told)

    sent = weather(memory, at_once, seconds=1200, step=2.0, in_flight=3)

    assert len(sent) <= 3 + retry.WORD_BELIEVED + 10
    assert gaps(sent)[-1] > 100


def test_a_submit_that_hangs_since_before_the_trouble_is_not_taken_for_the_probe(memory):
    stocked_ledger.stock(memory, stocked_ledger.rows(9), limits=stocked_ledger.account(max_in_flight=9))
    hanging, refused = memory.claims.submits("main", NOW, lease=900, at_most=2).intents
    memory.facts.record([refuses(Kind.ACCOUNT, "no_balance")(refused, NOW + 1)])
    until = memory.accounts.all()[0].paused_until

    probes = [len(memory.claims.submits("main", until + second, lease=900).intents) for second in range(3)]

    assert probes == [1, 0, 0]
    assert hanging.attempt_id


def test_an_account_that_is_woken_asks_about_its_tasks_at_once(memory):
    stocked_ledger.stock(memory, stocked_ledger.rows(2))
    for intent in memory.claims.submits("main", NOW, lease=90).intents:
        memory.facts.record([dataclasses.replace(accepts(intent, NOW), next_poll_at=NOW + 3600)])

    memory.accounts.wake("main", NOW + 5)

    assert len(memory.claims.polls("main", NOW + 5, lease=30)[0]) == 2


def test_places_that_hold_an_account_up_grow_though_its_rate_is_slow(memory):
    limits = stocked_ledger.account(submits_per_second=None, max_in_flight=None)
    stocked_ledger.stock(memory, stocked_ledger.rows(200), limits=limits)
    air = []
    for turn in range(400):  # tasks of 9 s: four places and one a second
        now = NOW + turn / 8
        memory.facts.record([_done(number, now) for at, number in air if at + 9 <= now])
        air = [(at, number) for at, number in air if at + 9 > now]
        for intent in memory.claims.submits("main", now, lease=90).intents:
            memory.facts.record([accepts(intent, now)])
            air.append((now, intent.attempt_id))

    assert memory.accounts.all()[0].max_in_flight > 12


def _done(attempt_id, at):
    return TaskSucceeded(attempt_id=attempt_id, at=at, images=(stocked_ledger.made(),))
