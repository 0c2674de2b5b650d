"""A daily budget is never crossed, is used to the last image, and begins anew at midnight UTC."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import select

from jobs.facts import SubmitAccepted, SubmitRefused, SubmitUnclear, TaskSucceeded
from jobs.ledger import open_ledger
from jobs.ledger.accounts import daily_budgets, places
from jobs.ledger.database.schema import ledger as ledger_row
from providers.types import Kind
from tests.support import stocked_ledger
from tests.support.patience import AT_LAST
from tests.support.stocked_ledger import NOW, PRICE

SIXTEEN = 16
MIDNIGHT = daily_budgets.next_day(NOW)


def stocked(ledger, count=50, *, overall=None, **limits):
    manifest = ledger.batches.record_manifest(stocked_ledger.new_batch(), stocked_ledger.rows(count), now=NOW)
    ledger.accounts.sync([stocked_ledger.account(**limits)], daily_budget=overall)
    return manifest


def at_once(url, work):
    """Sixteen with connections of their own, all starting at one moment; what each came to, added up."""
    start = threading.Barrier(SIXTEEN)
    done = []

    def one(number):
        ledger = open_ledger(url)
        start.wait()
        done.append(work(ledger, number))
        ledger.close()

    threads = [threading.Thread(target=one, args=(number,)) for number in range(SIXTEEN)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == SIXTEEN
    return sum(done)


def claim_from_four_accounts(ledger, number):
    claimed = 0
    for _ in range(8):
        claimed += len(ledger.claims.submits(f"account{number % 4}", NOW, lease=90, at_most=3).intents)
    return claimed


def four_accounts(url, overall):
    ledger = open_ledger(url)
    ledger.batches.record_manifest(stocked_ledger.new_batch(), stocked_ledger.rows(300), now=NOW)
    ledger.accounts.sync([stocked_ledger.account(name=f"account{n}") for n in range(4)], daily_budget=overall)
    return ledger


def test_sixteen_claimers_of_four_accounts_use_the_overall_daily_budget_to_the_last_image(postgres_ledger_url):
    ledger = four_accounts(postgres_ledger_url, overall=33 * PRICE + 1)

    assert at_once(postgres_ledger_url, claim_from_four_accounts) == 33
    ledger.close()


def test_without_the_ledgers_row_held_the_overall_daily_budget_is_crossed(postgres_ledger_url, monkeypatch):
    """The lock is what holds the budget: this test shows that the one above can fail."""
    all_have_read = threading.Barrier(4)
    held = daily_budgets.left

    def read_together(tx, account, now):
        found = held(tx, account, now)
        all_have_read.wait(timeout=AT_LAST)
        return found

    ledger = four_accounts(postgres_ledger_url, overall=3 * PRICE)
    monkeypatch.setattr(daily_budgets, "_OVERALL_HELD", select(ledger_row.c.daily_budget))
    monkeypatch.setattr(daily_budgets, "left", read_together)

    def claim_once(ledger, number):
        return len(ledger.claims.submits(f"account{number}", NOW, lease=90).intents) if number < 4 else 0

    assert at_once(postgres_ledger_url, claim_once) > 3
    ledger.close()


def test_sixteen_workers_spend_five_dollars_but_for_less_than_one_image(postgres_ledger_url):
    ledger = open_ledger(postgres_ledger_url)
    budget, price = 5_000_000, 70_000
    manifest = [stocked_ledger.priced(row, price) for row in stocked_ledger.rows(200)]
    stocked_ledger.stock(ledger, manifest, budget=budget, allow_partial=True)

    def work(mine, _number):
        made = 0
        while intents := mine.claims.submits("main", NOW, lease=90, at_most=2).intents:
            made += len(intents)
            for intent in intents:
                mine.facts.record(finished(intent))
        return made

    made = at_once(postgres_ledger_url, work)
    batch = ledger.reports.progress("spring").batch
    assert budget - price < batch.charged <= budget
    assert (batch.charged, batch.reserved) == (made * price, 0)
    ledger.close()


def finished(intent):
    task = f"task-{intent.attempt_id}"
    accepted = SubmitAccepted(attempt_id=intent.attempt_id, at=NOW, task_id=task, poll_path=None, next_poll_at=NOW)
    return [accepted, TaskSucceeded(attempt_id=intent.attempt_id, at=NOW, images=(stocked_ledger.made(),))]


def test_a_person_who_resolves_an_unknown_waits_for_no_claim_and_no_record(postgres_ledger_url):
    """Foreign keys are checked on rows that others hold: with a stronger lock the two wait for each other in a ring."""
    ledger = open_ledger(postgres_ledger_url)
    stocked_ledger.stock(ledger, stocked_ledger.rows(1))
    (intent,) = ledger.claims.submits("main", NOW, lease=90).intents
    ledger.facts.record([SubmitUnclear(attempt_id=intent.attempt_id, at=NOW, code="connection_lost", message="")])
    resolve = threading.Thread(target=ledger.unknowns.resolve, args=([intent.attempt_id], "pay-again", NOW))

    with ledger._database.writing() as tx:
        places.lock_account(tx, "main")
        resolve.start()
        resolve.join(AT_LAST)
        waits = resolve.is_alive()

    resolve.join()
    assert not waits
    ledger.close()


@pytest.mark.parametrize("budget", [{"overall": 3 * PRICE}, {"daily_budget": 3 * PRICE}], ids=["overall", "account"])
def test_a_day_is_spent_to_the_last_image_and_the_next_day_begins_anew(ledger, budget):
    stocked(ledger, **budget)
    claim = ledger.claims.submits("main", NOW, lease=90)
    assert len(claim.intents) == 3
    assert ledger.claims.submits("main", NOW + 1, lease=90).next_at == MIDNIGHT

    ledger.facts.record(finished(claim.intents[0]))  # settled tomorrow, it counts for today

    assert stocked_ledger.claim(ledger, MIDNIGHT - 0.001) == 0
    assert stocked_ledger.claim(ledger, MIDNIGHT) == 3


def test_what_is_refused_is_given_back_to_the_day_of_its_intent(ledger):
    stocked(ledger, daily_budget=3 * PRICE)
    first, second, _ = ledger.claims.submits("main", NOW, lease=90).intents
    ledger.facts.record([refused(first)])
    assert stocked_ledger.claim(ledger, NOW) == 1
    assert stocked_ledger.claim(ledger, MIDNIGHT) == 3

    ledger.facts.record([refused(second)])

    assert stocked_ledger.claim(ledger, MIDNIGHT) == 0, "yesterday's refund is not today's money"
    assert ledger.accounts.daily_budgets(MIDNIGHT - 1)[0].spent == 2 * PRICE


def refused(intent):
    told = {"kind": Kind.PERMANENT, "code": "invalid_parameters", "message": "no"}
    return SubmitRefused(attempt_id=intent.attempt_id, at=NOW, **told)


def test_the_budget_that_stands_in_the_way_is_named_with_what_is_left_of_it(ledger):
    stocked(ledger, overall=3 * PRICE + 5, daily_budget=90 * PRICE)
    assert ledger.reports.progress("spring", NOW).day_limits == ()
    stocked_ledger.claim(ledger, NOW)

    (limit,) = ledger.reports.progress("spring", NOW).day_limits

    assert (limit.account, limit.left, limit.again_at) == (None, 5, MIDNIGHT)
    assert ledger.reports.progress("spring", MIDNIGHT).day_limits == ()


def test_an_account_without_a_budget_goes_on_where_its_neighbours_is_used(ledger):
    ledger.batches.record_manifest(stocked_ledger.new_batch(), stocked_ledger.rows(5), now=NOW)
    ledger.accounts.sync([stocked_ledger.account(daily_budget=PRICE), stocked_ledger.account(name="second")])

    assert stocked_ledger.claim(ledger, NOW) == 1
    assert ledger.reports.progress("spring", NOW).day_limits == ()
    assert len(ledger.claims.submits("second", NOW, lease=90).intents) == 4


def test_the_last_money_of_a_day_goes_to_the_batches_together(ledger):
    stocked(ledger, overall=5 * PRICE)
    ledger.batches.record_manifest(stocked_ledger.new_batch("other"), stocked_ledger.rows(50), now=NOW)

    assert stocked_ledger.claim(ledger, NOW, times=3, at_most=4) == 5
