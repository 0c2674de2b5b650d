"""Batches share an account by their weights, whoever came first and however long they are."""

from __future__ import annotations

from collections import Counter

from jobs.facts import SubmitAccepted, SubmitRefused, TaskSucceeded
from providers.types import Kind
from tests.support import stocked_ledger
from tests.support.stocked_ledger import NOW


def stock_two(ledger, first=400, second=400, **weights):
    """Two batches at one account that takes ten at once."""
    ledger.accounts.sync([stocked_ledger.account(max_in_flight=10)])
    for name, count in (("long", first), ("short", second)):
        batch = stocked_ledger.new_batch(name=name, weight=weights.get(name, 1.0))
        ledger.batches.record_manifest(batch, stocked_ledger.rows(count, prompt=name), now=NOW)


def served(ledger, images, *, since=0, account="main"):
    """Whose rows the next `images` submits make; each is done before the next claim."""
    whose = Counter()
    for turn in range(since, since + 10_000):
        if whose.total() >= images:
            break
        now = NOW + turn
        intents = ledger.claims.submits(account, now, lease=90, at_most=5).intents
        whose.update(intent.request.prompt.split()[0] for intent in intents)
        ids = [intent.attempt_id for intent in intents]
        ledger.facts.record([_accepted(number, now) for number in ids])
        ledger.facts.record(
            [TaskSucceeded(attempt_id=number, at=now, images=(stocked_ledger.made(),)) for number in ids]
        )
    return whose


def _accepted(number, now):
    return SubmitAccepted(attempt_id=number, at=now, task_id=f"t{number}", poll_path=None, next_poll_at=now + 1)


def test_two_batches_of_one_weight_get_half_each_though_one_is_a_hundred_times_as_long(ledger):
    stock_two(ledger, first=2000, second=20)

    assert served(ledger, 40) == {"long": 20, "short": 20}
    assert served(ledger, 20, since=100) == {"long": 20}


def test_a_batch_of_twice_the_weight_gets_two_thirds(ledger):
    stock_two(ledger, short=2.0)

    assert served(ledger, 90) == {"long": 30, "short": 60}


def test_a_batch_that_comes_late_gets_its_share_from_then_on_and_no_more(ledger):
    ledger.accounts.sync([stocked_ledger.account(max_in_flight=10)])
    ledger.batches.record_manifest(
        stocked_ledger.new_batch(name="long"), stocked_ledger.rows(400, prompt="long"), now=NOW
    )
    assert served(ledger, 100) == {"long": 100}

    ledger.batches.record_manifest(
        stocked_ledger.new_batch(name="short"), stocked_ledger.rows(50, prompt="short"), now=NOW
    )

    assert served(ledger, 40, since=200) == {"long": 20, "short": 20}


def test_a_batch_that_had_nothing_to_do_for_a_while_has_no_claim_to_what_it_missed(ledger):
    stock_two(ledger, first=400, second=10)
    assert served(ledger, 20) == {"long": 10, "short": 10}
    assert served(ledger, 100, since=100) == {"long": 100}

    ledger.batches.record_manifest(
        stocked_ledger.new_batch(name="short"), stocked_ledger.rows(60, prompt="short"), now=NOW
    )

    assert served(ledger, 40, since=300) == {"long": 20, "short": 20}


def test_a_new_priority_of_a_batch_counts_from_then_on(ledger):
    stock_two(ledger)
    served(ledger, 20)

    ledger.batches.record_manifest(
        stocked_ledger.new_batch(name="short", weight=4.0), stocked_ledger.rows(400, prompt="short"), now=NOW
    )

    assert served(ledger, 50, since=100) == {"long": 10, "short": 40}


def test_a_batch_of_the_least_weight_that_gets_the_greatest_is_served_at_once(ledger):
    stock_two(ledger, long=100.0, short=0.01)
    assert served(ledger, 20) == {"long": 19, "short": 1}

    ledger.batches.record_manifest(
        stocked_ledger.new_batch(name="short", weight=100.0), stocked_ledger.rows(400, prompt="short"), now=NOW
    )

    assert 9 <= served(ledger, 20, since=100)["short"] <= 11


def test_a_paused_account_costs_the_healthy_one_beside_it_nothing(ledger):
    both = [stocked_ledger.account(max_in_flight=10), stocked_ledger.account(name="other", max_in_flight=10)]
    ledger.accounts.sync(both)
    ledger.batches.record_manifest(stocked_ledger.new_batch(), stocked_ledger.rows(30, prompt="lamp"), now=NOW)
    (intent,) = ledger.claims.submits("other", NOW, lease=90, at_most=1).intents
    refused = {"kind": Kind.ACCOUNT, "code": "bad_key", "message": "no"}
    ledger.facts.record([SubmitRefused(attempt_id=intent.attempt_id, at=NOW, **refused)])

    assert ledger.claims.submits("other", NOW, lease=90).intents == ()
    assert served(ledger, 30) == {"lamp": 30}
