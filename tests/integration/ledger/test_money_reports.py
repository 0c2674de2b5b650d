"""The ledger closes: every sum of docs/reference/money.md comes out, and an audit explains an invoice."""

from __future__ import annotations

import pytest

from jobs.ledger.reports.books import Tally
from tests.support import stocked_ledger
from tests.support.ledger_sums import IDENTITIES, check_money
from tests.support.money_history import accepted, end_copies, live, succeeded
from tests.support.stocked_ledger import NOW, PRICE


@pytest.fixture
def lived(ledger):
    live(ledger)
    return ledger


def test_every_amount_is_where_its_word_says(lived):
    money = check_money(lived)

    images = {name: getattr(money, name) / PRICE for name in ("stored", "waiting", "surplus", "lost")}
    assert images == {"stored": 1, "waiting": 1 + 1 + 3, "surplus": 2 + 1, "lost": 1 + 1}
    assert (money.undelivered, money.given_up, money.unpriced) == (PRICE, PRICE, 1)
    assert (money.in_flight, money.unknown) == (3 * PRICE, PRICE)
    assert money.refunded == (1 + 1 + 1) * PRICE  # failed, refused, one of four did not come


def test_the_page_names_the_sums_that_are_checked():
    assert [left for left, _ in IDENTITIES] == ["reserved", "at_risk", "charged"]


def test_what_was_lost_stays_lost_when_it_is_made_again(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(1))
    (first,) = ledger.claims.submits("main", NOW, lease=90).intents
    ledger.facts.record([accepted(first), succeeded(first)])
    end_copies(ledger, 1, stored=False)
    assert ledger.batches.retry("spring", NOW) == 1
    (again,) = ledger.claims.submits("main", NOW, lease=90).intents
    ledger.facts.record([succeeded(again)])
    end_copies(ledger, 1, stored=True)

    money = check_money(ledger)

    assert (money.lost, money.stored, money.charged) == (PRICE, PRICE, 2 * PRICE)
    assert ledger.reports.progress("spring").images_lost == 0
    assert ledger.reports.progress("spring").lost_money == PRICE


def test_the_audit_has_one_line_an_attempt_and_the_same_sums(lived, monkeypatch):
    monkeypatch.setattr("jobs.ledger.reports.money.PAGE", 5)
    tally = Tally()

    lines = list(tally.count(lived.reports.audit("spring", "main", NOW, NOW + 1)))

    money = check_money(lived)
    assert [line.key for line in lines] == [f"k{number}" for number in range(16)]
    assert (sum(line.reserved for line in lines), sum(line.charged for line in lines)) == (
        money.reserved,
        money.charged,
    )
    assert (lines[0].task_id, lines[0].state, lines[0].asked, lines[0].delivered) == ("task-k0", "succeeded", 1, 1)
    assert (tally.unknown, tally.in_flight, tally.surplus) == (money.unknown, money.in_flight, money.surplus)
    assert (tally.given_up, tally.undelivered, tally.forgotten) == (PRICE, PRICE, PRICE)
    assert (tally.failed, tally.short, tally.unpriced) == (PRICE, PRICE, 1)
    assert (
        list(lived.reports.audit(account="other"))
        == list(lived.reports.audit(since=NOW + 1))
        == list(lived.reports.audit(until=NOW))
        == []
    )


def test_an_invoice_is_explained_as_far_as_nobody_knows_better(lived):
    tally = Tally()
    list(tally.count(lived.reports.audit()))

    assert tally.most - tally.least == 3 * PRICE + PRICE + 3 * PRICE
    assert [tally.beyond(amount) for amount in (tally.least, tally.charged, tally.most)] == [0, 0, 0]
    assert (tally.beyond(tally.most + 7), tally.beyond(tally.least - 7)) == (7, -7)
