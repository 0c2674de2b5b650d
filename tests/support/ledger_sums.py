"""What the words of docs/reference/money.md say, counted row by row, and held against the ledger's own sums."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict

from sqlalchemy import select

from jobs.ledger import Ledger
from jobs.ledger.database.schema import attempts, batches, images
from jobs.ledger.reports.books import Money, grouped, total
from jobs.states import AttemptState, ImageState
from tests.support import ROOT

PAGE = (ROOT / "docs" / "reference" / "money.md").read_text()
IDENTITIES = re.findall(r"^(\w+) = ([\w +]+)$", PAGE, re.MULTILINE)


def check_money(ledger: Ledger) -> Money:
    """Every sum comes out: those of the page, those of the batches, and those counted row by row."""
    entries = ledger.reports.money()
    for sums in (total(entries), *(part for by in _WAYS for part in grouped(entries, by).values())):
        assert sums.closes
        amounts = {name: getattr(sums, name) for name in (*asdict(sums), "at_risk")}
        for left, right in IDENTITIES:
            assert amounts[left] == sum(amounts[word] for word in right.split(" + ")), (left, amounts)
    for batch, sums in grouped(entries, lambda entry: entry.batch).items():
        assert ledger.reports.money(batch)[0].batch == batch
        on_record = ledger.batches.find(batch)
        assert (on_record.reserved, on_record.charged) == (sums.in_flight + sums.unknown, sums.charged)
        assert ledger.reports.at_risk(batch)[1] == sums.at_risk, "every command tells the same money at risk"
    assert total(entries) == _by_hand(ledger)
    return total(entries)


_WAYS = (lambda entry: entry.batch, lambda entry: entry.account, lambda entry: entry.provider)


def _by_hand(ledger: Ledger) -> Money:
    sums: Counter[str] = Counter()
    with ledger._database.reading() as tx:
        assert len(tx.execute(select(batches)).all()) == 1
        came = tx.execute(select(images).where(images.c.state != ImageState.MISSING)).all()
        for attempt in tx.execute(select(attempts)):
            _count(sums, attempt, [image for image in came if image.attempt_id == attempt.id])
    return Money(**sums)


def _count(sums: Counter[str], attempt, came) -> None:
    price = attempt.price or 0
    ever = max(price * attempt.n, attempt.reserved + attempt.charged)
    sums["reserved"] += ever
    sums["charged"] += attempt.charged
    sums["refunded"] += ever - attempt.reserved - attempt.charged
    sums["unknown" if attempt.state == AttemptState.UNKNOWN else "in_flight"] += attempt.reserved
    words = {AttemptState.FAILED: "undelivered", AttemptState.LOST: "lost", AttemptState.ABANDONED: "given_up"}
    if attempt.state in words:
        assert not came or attempt.state == AttemptState.LOST
        sums[words[attempt.state]] += attempt.charged - price * len(came)
    for image in came:
        kept = {ImageState.STORED: "stored", ImageState.GENERATED: "waiting", ImageState.LOST: "lost"}[image.state]
        sums["surplus" if image.surplus and image.state != ImageState.LOST else kept] += (
            price if image.cost is None else image.cost
        )
        sums["unpriced"] += attempt.price is None
