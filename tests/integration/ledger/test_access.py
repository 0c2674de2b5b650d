"""Tokens on record, and what the batches of a producer hold of its day, on both databases."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from jobs.facts import SubmitRefused
from jobs.ledger import open_ledger
from jobs.ledger.access.values import Acceptance, NewLogEntry, NewToken, NotItsOwnError, OverDailyBudget, RevokedError
from jobs.policy.access import Role, make_token
from providers.types import Kind
from tests.support import stocked_ledger
from tests.support.stocked_ledger import NOW, PRICE, make

DAY = 86_400


def add(ledger, name="catalog", role=Role.PRODUCER, *, budget=10 * PRICE):
    """The token's text, and the token."""
    made = make_token()
    limits = {"daily_budget": budget, "writes_to": "s3://bucket/catalog"} if role is Role.PRODUCER else {}
    assert ledger.access.add(NewToken(name=name, role=role, prefix=made.prefix, digest=made.digest, **limits), NOW)
    text = made.secret.get_secret_value()
    return text, ledger.access.holder(text)


def accept(ledger, token, name, amount, *, rows=2, at=NOW):
    """Records a batch by a token."""
    ledger.accounts.sync([stocked_ledger.account()])
    by = Acceptance(token_id=token.id, amount=amount)
    manifest = stocked_ledger.rows(rows, prompt=name)
    return ledger.batches.record_manifest(stocked_ledger.new_batch(name), manifest, acceptance=by, now=at)


# -- who it is -----------------------------------------------------------------------------------------------------


def test_a_token_opens_until_it_is_revoked(ledger):
    text, token = add(ledger)
    other, _ = add(ledger, "colleague", Role.VIEWER)

    assert (token.name, token.role, token.daily_budget) == ("catalog", Role.PRODUCER, 10 * PRICE)
    ledger.access.revoke("catalog", NOW + 1)

    assert ledger.access.holder(text) is None
    assert ledger.access.holder(other).name == "colleague"
    assert ledger.access.revoke("nobody", NOW) is None


@pytest.mark.parametrize("forged", ["", "lf_", "lf_" + "A" * 43, "x" * 100_000, "lf_\x00", "ключ"])
def test_a_forged_token_opens_nothing(ledger, forged):
    text, _ = add(ledger)

    assert ledger.access.holder(forged) is None
    assert ledger.access.holder(text[:-1] + ("A" if text[-1] != "A" else "B")) is None
    assert ledger.access.holder(text + "A") is None


def test_a_name_stands_for_one_token_for_ever(ledger):
    add(ledger)
    ledger.access.revoke("catalog", NOW)
    made = make_token()

    again = NewToken(name="catalog", role=Role.OPERATOR, prefix=made.prefix, digest=made.digest)
    assert not ledger.access.add(again, NOW)
    assert ledger.access.holder(made.secret.get_secret_value()) is None


def test_the_log_tells_who_did_what_the_newest_first_page_by_page(ledger):
    _, token = add(ledger)
    for number in range(5):
        entry = NewLogEntry(who="catalog", token_id=token.id, action="batch cancel", subject=f"b{number}\x00")
        ledger.access.note(entry, NOW + number)

    first = ledger.access.log(2)
    rest = ledger.access.log(10, before=first[-1].id)

    assert [one.at - NOW for one in (*first, *rest)] == [4, 3, 2, 1, 0]
    assert first[0].who == "catalog"
    assert "\x00" not in first[0].subject


# -- what it may spend ---------------------------------------------------------------------------------------------


def test_of_fifty_at_once_no_more_are_accepted_than_the_day_allows(ledger_url):
    with contextlib.closing(open_ledger(ledger_url)) as ledger:
        ledger.accounts.sync([stocked_ledger.account()])
        _, token = add(ledger, budget=7 * PRICE)

        def ask(number):
            try:
                accept(ledger, token, f"b{number}", PRICE, rows=1)
            except OverDailyBudget:
                return False
            return True

        with ThreadPoolExecutor(50) as threads:
            accepted = list(threads.map(ask, range(50)))

        assert sum(accepted) == 7
        assert ledger.access.held_today(token, NOW) == 7 * PRICE
        assert len(ledger.batches.all()) == 7  # of the others nothing is on record


def test_a_batch_holds_its_amount_until_it_ends_and_then_what_it_cost(ledger):
    _, token = add(ledger)
    accept(ledger, token, "spring", 8 * PRICE)
    with pytest.raises(OverDailyBudget) as refused:
        accept(ledger, token, "summer", 3 * PRICE)
    assert refused.value.left == 2 * PRICE

    make(ledger, NOW, 1)
    assert ledger.access.held_today(token, NOW) == 8 * PRICE  # a row is still to be made
    make(ledger, NOW + 1, 1)

    assert ledger.access.held_today(token, NOW) == 2 * PRICE
    accept(ledger, token, "summer", 8 * PRICE)


def test_a_batch_that_costs_more_than_it_was_accepted_for_holds_what_it_costs(ledger):
    _, token = add(ledger)
    accept(ledger, token, "spring", PRICE, rows=3)
    make(ledger, NOW, 2)

    assert ledger.access.held_today(token, NOW) == 2 * PRICE


def test_nothing_is_recorded_for_a_token_that_was_revoked_meanwhile(ledger):
    _, token = add(ledger)
    ledger.access.revoke("catalog", NOW)

    with pytest.raises(RevokedError):
        accept(ledger, token, "spring", PRICE)
    assert ledger.batches.all() == []


def test_a_cancelled_batch_frees_what_it_did_not_spend(ledger):
    _, token = add(ledger)
    accept(ledger, token, "spring", 10 * PRICE)
    make(ledger, NOW, 1)
    ledger.batches.cancel("spring")

    assert ledger.access.held_today(token, NOW) == PRICE


def test_what_is_accepted_again_holds_again_and_what_was_spent_before_counts_once(ledger):
    _, token = add(ledger)
    accept(ledger, token, "spring", 4 * PRICE, rows=1)
    make(ledger, NOW, 1)
    accept(ledger, token, "spring", 3 * PRICE, rows=2, at=NOW + 1)  # one row more

    assert ledger.access.held_today(token, NOW) > 3 * PRICE
    make(ledger, NOW + 2, 1)

    assert ledger.access.held_today(token, NOW) == 2 * PRICE


def test_a_retry_of_a_batch_that_had_ended_holds_in_place_of_what_was_held_before(ledger):
    _, token = add(ledger)
    accept(ledger, token, "spring", 8 * PRICE)
    for intent in ledger.claims.submits("main", NOW, lease=90, at_most=2).intents:
        ledger.facts.record(
            [SubmitRefused(attempt_id=intent.attempt_id, at=NOW, kind=Kind.PERMANENT, code="bad_size", message="no")]
        )
    assert ledger.access.held_today(token, NOW) == 0

    assert ledger.batches.retry("spring", NOW, acceptance=Acceptance(token_id=token.id, amount=2 * PRICE)) == 2

    assert ledger.access.held_today(token, NOW) == 2 * PRICE


def test_the_next_utc_day_is_free_again(ledger):
    _, token = add(ledger)
    accept(ledger, token, "spring", 10 * PRICE)

    assert ledger.access.held_today(token, NOW + DAY) == 0
    accept(ledger, token, "summer", 10 * PRICE, at=NOW + DAY)


def test_a_batch_of_somebody_else_is_not_recorded_by_a_producer(ledger):
    _, mine = add(ledger, "mine")
    _, theirs = add(ledger, "theirs")
    accept(ledger, mine, "spring", PRICE)
    stocked_ledger.stock(ledger, stocked_ledger.rows(1), name="by-hand")

    for name in ("spring", "by-hand"):
        with pytest.raises(NotItsOwnError):
            accept(ledger, theirs, name, PRICE, rows=5)

    assert ledger.batches.find("spring").token_id == mine.id
    assert ledger.batches.count_rows(ledger.batches.find("spring").id) == 2
    assert ledger.access.held_today(theirs, NOW) == 0


def test_an_operators_batch_is_its_own_and_holds_nothing(ledger):
    _, token = add(ledger, "ops", Role.OPERATOR)
    batch = accept(ledger, token, "spring", None)

    assert batch.token_id == token.id
    assert ledger.access.held_today(token, NOW) == 0
