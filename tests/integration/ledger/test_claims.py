"""One claim decides everything: the cap, the rate and the budget hold, however many claim at once."""

from __future__ import annotations

import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
from sqlalchemy import select

from jobs.facts import SubmitAccepted, SubmitRefused, SubmitUnclear, TaskSucceeded
from jobs.ledger import open_ledger
from jobs.ledger.accounts import places
from jobs.ledger.claims import submits
from jobs.ledger.database.schema import accounts
from jobs.policy import adaptive_limits
from jobs.states import JobState
from providers.types import Kind
from tests.support import ROOT, stocked_ledger
from tests.support.patience import AT_LAST
from tests.support.stocked_ledger import NOW, PRICE

SIXTEEN = 16


def _claim_from_threads(url: str, *, horizon: float = 0.25, times: int = 8) -> int:
    """Sixteen claimers with connections of their own, all starting at one moment."""
    start = threading.Barrier(SIXTEEN)
    claimed: list[int] = []

    def claimer() -> None:
        ledger = open_ledger(url)
        start.wait()
        claimed.append(stocked_ledger.claim(ledger, NOW, times=times, horizon=horizon, at_most=3))
        ledger.close()

    threads = [threading.Thread(target=claimer) for _ in range(SIXTEEN)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(claimed)


def _claim_from_processes(url: str, *, horizon: float = 0.25, times: int = 30) -> int:
    command = [sys.executable, "-m", "tests.support.stocked_ledger", url, str(times), str(NOW), str(horizon)]
    running = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(4)
    ]
    return sum(int(process.communicate("go\n")[0]) for process in running)


@pytest.fixture(params=["sixteen claimers on PostgreSQL", "four processes on SQLite"])
def crowd(request):
    """The address of a ledger, and many who claim from it at once."""
    if "SQLite" in request.param:
        return request.getfixturevalue("sqlite_ledger_url"), _claim_from_processes
    return request.getfixturevalue("postgres_ledger_url"), _claim_from_threads


def test_a_cap_of_fifty_in_flight_is_reached_and_never_crossed(crowd):
    url, claim_at_once = crowd
    ledger = open_ledger(url)
    stocked_ledger.stock(ledger, stocked_ledger.rows(300), limits=stocked_ledger.account(max_in_flight=50))

    assert claim_at_once(url) == 50
    assert ledger.accounts.all()[0].in_flight == 50
    ledger.close()


def test_a_rate_is_used_fully_and_never_crossed(crowd):
    url, claim_at_once = crowd
    ledger = open_ledger(url)
    stocked_ledger.stock(ledger, stocked_ledger.rows(300), limits=stocked_ledger.account(submits_per_second=20))

    assert claim_at_once(url, horizon=1.0) == 21  # now, and every 50 ms for the coming second
    ledger.close()


def test_a_budget_is_used_to_the_last_image_and_never_crossed(crowd):
    url, claim_at_once = crowd
    ledger = open_ledger(url)
    stocked_ledger.stock(ledger, stocked_ledger.rows(300), budget=33 * PRICE + 1, allow_partial=True)

    assert claim_at_once(url) == 33
    assert ledger.reports.progress("spring").batch.reserved == 33 * PRICE
    ledger.close()


def test_without_the_accounts_row_lock_the_cap_is_crossed(postgres_ledger_url, monkeypatch):
    """The lock is what holds the cap: this test shows that the tests above can fail."""
    everyone_has_counted = threading.Barrier(SIXTEEN)

    def count_without_lock(tx, name):
        return tx.execute(select(accounts).where(accounts.c.name == name)).one()

    def count_together(tx, account_id, now=None, holder=None, counted=places.in_flight):
        flying = counted(tx, account_id, now, holder)
        everyone_has_counted.wait(timeout=AT_LAST)
        return flying

    ledger = open_ledger(postgres_ledger_url)
    stocked_ledger.stock(ledger, stocked_ledger.rows(300), limits=stocked_ledger.account(max_in_flight=10))
    monkeypatch.setattr(submits, "lock_account", count_without_lock)
    monkeypatch.setattr(submits, "in_flight", count_together)
    # Numbers of attempts would collide first; they too are given under the lock.
    numbers = iter(range(1, 10**6))
    commit = submits._commit_intent

    def commit_with_own_numbers(tx, account, tries, permits, **rest):
        mine = SimpleNamespace(**{**account._mapping, "attempts_made": 1000 * next(numbers)})
        return commit(tx, mine, tries, permits, **rest)

    monkeypatch.setattr(submits, "_commit_intent", commit_with_own_numbers)

    assert _claim_from_threads(postgres_ledger_url, times=1) > 10
    ledger.close()


def test_the_places_of_a_worker_that_fell_silent_are_free_again(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(5), limits=stocked_ledger.account(max_in_flight=2))
    ledger.workers.touch("killed", NOW)
    assert len(ledger.claims.submits("main", NOW, lease=900, holder="killed").intents) == 2

    assert ledger.claims.submits("main", NOW + 19, lease=900, holder="other").intents == ()
    assert len(ledger.claims.submits("main", NOW + 21, lease=900, holder="other").intents) == 2


def test_nobody_counts_as_silent_for_a_time_in_which_the_claimer_was_silent_too(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(5), limits=stocked_ledger.account(max_in_flight=2))
    for name in ("one", "other"):
        ledger.workers.touch(name, NOW)
    assert len(ledger.claims.submits("main", NOW, lease=900, holder="one").intents) == 2

    after_an_outage = NOW + 60

    assert ledger.claims.submits("main", after_an_outage, lease=900, holder="one").intents == ()
    assert ledger.claims.submits("main", after_an_outage, lease=900, holder="other").intents == ()


def test_a_claim_leaves_an_intent_that_names_its_slots_and_reserves_its_cost(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(1, n=3, max_n=2))

    intents = ledger.claims.submits("main", NOW, lease=90).intents

    assert [intent.slots for intent in intents] == [(0, 1), (2,)]
    assert all(intent.lease_until == NOW + 90 for intent in intents)
    assert ledger.reports.progress("spring").batch.reserved == 3 * PRICE
    assert stocked_ledger.claim(ledger, NOW + 1) == 0  # nothing is claimed twice


def test_the_last_money_of_a_budget_buys_fewer_images_of_a_row(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(2, n=4), budget=6 * PRICE, allow_partial=True)

    intents = ledger.claims.submits("main", NOW, lease=90).intents

    assert [intent.n for intent in intents] == [4, 2]


def test_permits_are_spent_evenly(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(10), limits=stocked_ledger.account(submits_per_second=10))

    claim = ledger.claims.submits("main", NOW, lease=90)

    assert [intent.send_at for intent in claim.intents] == pytest.approx([NOW, NOW + 0.1, NOW + 0.2])
    assert claim.next_at == pytest.approx(NOW + 0.25)


def test_two_batches_get_half_each_though_one_is_a_hundred_times_as_long(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(1000), name="long")
    ledger.batches.record_manifest(stocked_ledger.new_batch("short"), stocked_ledger.rows(10), now=NOW)

    batches = [intent.batch_id for intent in ledger.claims.submits("main", NOW, lease=90, at_most=10).intents]

    assert sorted(batches).count(batches[0]) == 5


def test_a_batch_that_comes_late_starts_level_with_the_others(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(200), name="early")
    stocked_ledger.claim(ledger, NOW, times=2, at_most=50)
    late = ledger.batches.record_manifest(stocked_ledger.new_batch("late"), stocked_ledger.rows(200), now=NOW)

    batches = [intent.batch_id for intent in ledger.claims.submits("main", NOW, lease=90, at_most=10).intents]

    assert batches.count(late.id) == 5


def test_a_batch_whose_budget_is_used_leaves_its_share_to_the_others(ledger):
    stocked_ledger.stock(
        ledger, stocked_ledger.rows(5), name="poor", budget=0, limits=stocked_ledger.account(max_in_flight=1)
    )
    ledger.batches.record_manifest(stocked_ledger.new_batch("rich"), stocked_ledger.rows(5), now=NOW)

    claimed = ledger.claims.submits("main", NOW, lease=90).intents

    assert [intent.key for intent in claimed] == ["k0"]
    assert ledger.reports.progress("rich").batch.reserved == PRICE


def test_a_run_of_one_batch_spends_for_no_other(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(3), name="left-unfinished")
    mine = ledger.batches.record_manifest(stocked_ledger.new_batch("mine"), stocked_ledger.rows(2), now=NOW)

    intents = ledger.claims.submits("main", NOW, lease=90, only="mine").intents

    assert {intent.batch_id for intent in intents} == {mine.id}
    assert ledger.reports.progress("left-unfinished").jobs == {JobState.READY: 3}


def test_a_paused_batch_is_not_claimed_from_until_it_is_resumed(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(3))
    ledger.batches.pause("spring", "by hand")
    assert stocked_ledger.claim(ledger, NOW) == 0

    ledger.batches.resume("spring", NOW)

    assert stocked_ledger.claim(ledger, NOW) == 3


def test_an_account_without_balance_rests_and_its_jobs_stay_ready(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(5))
    (first, *_) = ledger.claims.submits("main", NOW, lease=90, at_most=1).intents

    ledger.facts.record([_refused(first, Kind.ACCOUNT, "no_balance")])

    assert stocked_ledger.claim(ledger, NOW + 1) == 0
    assert ledger.reports.progress("spring").jobs == {JobState.READY: 5}
    assert ledger.accounts.all()[0].paused_code == "no_balance"


def test_after_its_rest_an_account_is_probed_with_one_submit_and_then_goes_on(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(5))
    (first, *_) = ledger.claims.submits("main", NOW, lease=90, at_most=1).intents
    ledger.facts.record([_refused(first, Kind.ACCOUNT, "no_balance")])

    (probe,) = ledger.claims.submits("main", NOW + 61, lease=90).intents
    assert stocked_ledger.claim(ledger, NOW + 61) == 0
    ledger.facts.record([_accepted(probe)])

    assert stocked_ledger.claim(ledger, NOW + 62) == 4


def test_three_unclear_answers_running_bring_the_account_to_one_probe_at_a_time(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(20))
    intents = ledger.claims.submits("main", NOW, lease=90, at_most=3).intents

    ledger.facts.record([_unclear(intent) for intent in intents])

    assert stocked_ledger.claim(ledger, NOW + 1) == 0
    assert stocked_ledger.claim(ledger, NOW + 400, times=3) == 1


def test_a_whole_group_of_429_cools_the_account_down_once(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(8), limits=stocked_ledger.account(submits_per_second=None))
    intents = []
    while len(intents) < 4:
        intents += ledger.claims.submits("main", NOW + len(intents), lease=900).intents

    ledger.facts.record([_refused(intent, Kind.THROTTLED, "rate_limited", retry_after=7) for intent in intents])

    (account,) = ledger.accounts.all()
    assert account.throttled == 4
    assert account.paused_until == NOW + 7
    assert account.submits_per_second == adaptive_limits.USED_PART * adaptive_limits.FIRST_GUESS * 1.0  # cut once


def test_polls_are_claimed_when_due_and_only_once(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(2))
    intents = ledger.claims.submits("main", NOW, lease=90).intents
    ledger.facts.record([_accepted(intent, poll_at=NOW + 10 * n) for n, intent in enumerate(intents)])

    due, next_at = ledger.claims.polls("main", NOW + 1, lease=60)

    assert [poll.attempt_id for poll in due] == [intents[0].attempt_id]
    assert next_at == NOW + 10
    assert ledger.claims.polls("main", NOW + 1, lease=60)[0] == []


def test_the_image_whose_link_dies_first_is_copied_first(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(3))
    intents = ledger.claims.submits("main", NOW, lease=90).intents
    lives = {intents[0].attempt_id: 300, intents[1].attempt_id: 100, intents[2].attempt_id: 200}
    ledger.facts.record([_accepted(intent) for intent in intents])
    ledger.facts.record([_succeeded(attempt_id, NOW + life) for attempt_id, life in lives.items()])

    first, _ = ledger.claims.copies(NOW, holder="me", lease=60, at_most=2)
    rest, _ = ledger.claims.copies(NOW, holder="you", lease=60, at_most=2)

    assert [due.expires_at - NOW for due in [*first, *rest]] == [100, 200, 300]


def test_the_copies_of_a_worker_that_fell_silent_are_made_by_another(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(1))
    (intent,) = ledger.claims.submits("main", NOW, lease=90).intents
    ledger.facts.record([_accepted(intent), _succeeded(intent.attempt_id, NOW + 5000)])
    ledger.workers.touch("killed", NOW)
    assert len(ledger.claims.copies(NOW, holder="killed", lease=600, at_most=5)[0]) == 1

    assert ledger.claims.copies(NOW + 19, holder="other", lease=600, at_most=5)[0] == []
    assert len(ledger.claims.copies(NOW + 21, holder="other", lease=600, at_most=5)[0]) == 1


def _accepted(intent, poll_at=NOW):
    task = f"task-{intent.attempt_id}"
    return SubmitAccepted(attempt_id=intent.attempt_id, at=NOW, task_id=task, poll_path=None, next_poll_at=poll_at)


def _succeeded(attempt_id, expires_at):
    return TaskSucceeded(attempt_id=attempt_id, at=NOW, images=(stocked_ledger.made(expires_at=expires_at),))


def _refused(intent, kind, code, **more):
    return SubmitRefused(attempt_id=intent.attempt_id, at=NOW, kind=kind, code=code, message="said so", **more)


def _unclear(intent):
    return SubmitUnclear(attempt_id=intent.attempt_id, at=NOW, code="connection_lost", message="cut off")
