"""`lightfast status --money`: where every micro-dollar is, in two tables whose lines add up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from cli.flow.session import LedgerSession, show, show_json
from cli.output.wording import aligned
from jobs.formatting import count, money, money_column, usd
from jobs.ledger.reports.books import grouped, total

if TYPE_CHECKING:
    from jobs.ledger.reports.books import Entry, Money

Line = tuple[str, str]

#: Each table: what it sums to, and its parts, as docs/reference/money.md has them.
SET_ASIDE = ("reserved", ("refunded", "in_flight", "unknown", "charged"))
SPENT = ("charged", ("stored", "waiting", "surplus", "lost", "undelivered", "given_up"))
AMOUNTS = (SET_ASIDE[0], *SET_ASIDE[1], "at_risk", *SPENT[1])


def show_money(session: LedgerSession, batch: str | None, *, json: bool, sandbox: bool) -> None:
    """The money of one batch, or of the whole ledger: all, by batch, by account, by provider."""
    entries = session.ledger.reports.money(batch)
    reused = session.ledger.reports.reused(batch)
    if json:
        images, micros = reused
        show_json({**_document(entries), "reused": {"images": images, "usd_not_spent": usd(micros)}})
    else:
        show(_page(entries, reused, sandbox=sandbox), sandbox=sandbox)


def _rows(entries: Iterable[Entry]) -> Iterator[tuple[str, str, Money]]:
    entries = list(entries)
    yield "all", "", total(entries)
    for batch, sums in grouped(entries, lambda entry: entry.batch).items():
        yield "batch", batch, sums
    for account, sums in grouped(entries, lambda entry: entry.account).items():
        yield "account", account, sums
    for provider, sums in grouped(entries, lambda entry: entry.provider).items():
        yield "provider", provider, sums


def _page(entries: list[Entry], reused: tuple[int, int], *, sandbox: bool) -> Iterator[Line]:
    rows = list(_rows(entries))
    written = _written(rows)
    for whole, parts in (SET_ASIDE, SPENT):
        yield from _table(written, whole, parts)
        yield "", ""
    sums = rows[0][2]
    yield from _remarks(sums, "Made-up prices" if sandbox else "List prices")
    images, micros = reused
    if images:
        yield f"reused: {count(images, 'image')} taken from other rows, up to {money(micros)} not spent", ""


def _table(rows: list[tuple[str, str, dict[str, str]]], whole: str, parts: tuple[str, ...]) -> Iterator[Line]:
    plus = [f"{'=' if at == 0 else '+'} {part.replace('_', ' ').upper()}" for at, part in enumerate(parts)]
    head = ("USD", "", whole.upper(), *plus)
    lines = [(kind, name, *(amounts[each] for each in (whole, *parts))) for kind, name, amounts in rows]
    first, *rest = aligned([head, *lines], right=frozenset(range(2, len(head))))
    yield first, "bold"
    yield from ((line, "") for line in rest)


def _written(rows: list[tuple[str, str, Money]]) -> list[tuple[str, str, dict[str, str]]]:
    """The rows with their amounts in one precision, so that what is shown adds up as what is on record."""
    texts = iter(money_column([getattr(sums, name) for _, _, sums in rows for name in AMOUNTS]))
    return [(kind, name, {each: next(texts) for each in AMOUNTS}) for kind, name, _ in rows]


def _remarks(sums: Money, prices: str) -> Iterator[Line]:
    if sums.at_risk:
        risk = f"{money(sums.at_risk)} in flight, unknown or not copied yet"
        yield f"at risk: {risk} would be paid for nothing if everything died now", ""
    if sums.unpriced:
        yield f"{count(sums.unpriced, 'image')} came at a price nobody knows; they are in none of these", "yellow"
    if not sums.closes:
        yield "These sums do not come out, which is a fault of Lightfast. Please report it.", "red"
    yield (
        f"{prices}, or yours. The words: docs/reference/money.md. Beside an invoice: lightfast audit --invoice USD",
        "dim",
    )


def _document(entries: list[Entry]) -> dict[str, object]:
    return {
        "currency": "USD",
        "closes": total(entries).closes,
        "money": [
            {"of": kind, "name": name or None, "unpriced_images": sums.unpriced}
            | {each: usd(getattr(sums, each)) for each in AMOUNTS}
            for kind, name, sums in _rows(entries)
        ],
    }
