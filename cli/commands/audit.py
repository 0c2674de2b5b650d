"""`lightfast audit`: one line an attempt with its charge, and what the difference to an invoice may be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from cli.flow.options import Config, Json, Overwrite, Sandbox
from cli.flow.outputs import OutputOptions, opened, target_of
from cli.flow.session import LedgerSession, find_batch, let_go_of_stdout, open_session, show, show_json
from cli.output.wording import aligned
from jobs.errors import BadInput
from jobs.formatting import count, money, usd
from jobs.ledger.reports.books import Tally
from jobs.results.rows import Column, Type
from worker.registration.options import read_money, read_option

if TYPE_CHECKING:
    from jobs.ledger.reports.books import AuditLine
    from jobs.results.rows import Values

FORMATS = ("csv", "jsonl", "parquet", "xlsx")
_TIME, _INTEGER, _MONEY, _TEXT = Type.TIME, Type.INTEGER, Type.MONEY, Type.TEXT
#: Columns of the file, with the field of an audit line each shows.
COLUMNS = [
    Column(name=name, source=source, type=kind)
    for name, source, kind in (
        ("batch", "batch", _TEXT),
        ("key", "key", _TEXT),
        ("account", "account", _TEXT),
        ("provider", "provider", _TEXT),
        ("model", "model", _TEXT),
        ("task_id", "task_id", _TEXT),
        ("state", "state", _TEXT),
        ("images_asked", "asked", _INTEGER),
        ("images_delivered", "delivered", _INTEGER),
        ("images_surplus", "surplus", _INTEGER),
        ("price", "price", _MONEY),
        ("reserved", "reserved", _MONEY),
        ("still_reserved", "open", _MONEY),
        ("charged", "charged", _MONEY),
        ("currency", "currency", _TEXT),
        ("intended_at", "intended_at", _TIME),
        ("accepted_at", "accepted_at", _TIME),
        ("finished_at", "finished_at", _TIME),
        ("code", "code", _TEXT),
        ("attempt", "attempt", _INTEGER),
    )
]

#: The state of an attempt that never reached the provider: on record it is refused, as its slots are free again.
UNSENT = "not_sent"

Line = tuple[str, str]
Batch = Annotated[str | None, typer.Argument(metavar="BATCH", help="One batch; all if not given.", show_default=False)]
AccountName = Annotated[str | None, typer.Option("--account", metavar="A", help="Only of this account.")]
Since = Annotated[str, typer.Option(metavar="DAY", help="Sent on this UTC day or later: 2026-05-01.")]
Until = Annotated[str, typer.Option(metavar="DAY", help="Sent before this UTC day.")]
Invoice = Annotated[
    str | None, typer.Option(metavar="USD", help="What the provider asks for: the difference is explained.")
]
Format = Annotated[
    str | None, typer.Option("--format", help="csv, jsonl, parquet or xlsx; by FILE's ending if not given.")
]
Output = Annotated[
    str | None, typer.Option("--output", "-o", metavar="FILE|DEST", help="Where to write; stdout if not given.")
]


def audit(  # noqa: PLR0913  one parameter an option
    batch: Batch = None,
    *,
    account: AccountName = None,
    since: Since = "",
    until: Until = "",
    invoice: Invoice = None,
    format: Format = None,  # noqa: A002  the option's name
    output: Output = None,
    overwrite: Overwrite = False,
    json: Json = False,
    config: Config = None,
    sandbox: Sandbox = False,
) -> int:
    """One line an attempt with the provider's task id and its charge."""
    asked = read_option("--invoice", invoice, read_money, None)
    wish = OutputOptions(format=_format(format, output), output=None if output == "-" else output, overwrite=overwrite)
    if json and wish.output is None:
        raise BadInput("--json tells what it comes to, so it needs -o FILE; for lines of JSON use --format jsonl.")
    which = AuditOptions(batch=batch, account=account, since=_day("--since", since), until=_day("--until", until))
    with open_session(config, sandbox=sandbox) as session:
        _check(session, which)
        try:
            tally = _write(session, which, wish)
        except BrokenPipeError:  # a reader that has seen enough (`| head`) is no mistake
            let_go_of_stdout()
            return 0
    if json:
        show_json(_document(tally, asked))
    else:
        show(_page(tally, asked), sandbox=session.settings.is_sandbox, stderr=True)
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditOptions:
    """Which attempts."""

    batch: str | None
    account: str | None
    since: float | None
    until: float | None


def _format(asked: str | None, output: str | None) -> str:
    if asked is not None and asked not in FORMATS:
        raise BadInput(f'--format: "{asked}". Legal: {", ".join(FORMATS)}.')
    ending = (output or "").rpartition(".")[2].lower()
    return asked or (ending if ending in FORMATS else "csv")


def _day(option: str, text: str) -> float | None:
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(f'{option}: "{text}": expected a UTC day such as 2026-05-01, or 2026-05-01T12:00Z') from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _check(session: LedgerSession, which: AuditOptions) -> None:
    from jobs.results.rows import near

    if which.batch is not None:
        find_batch(session.ledger, which.batch)
    names = sorted(
        {entry.account for entry in session.ledger.reports.money()}
        | {each.name for each in session.ledger.accounts.all()}
    )
    if which.account is not None and which.account not in names:
        raise BadInput(f"--account: there is no account {which.account!r}. {near(which.account, names)}")


# -- the lines -----------------------------------------------------------------------------------------------------


def _write(session: LedgerSession, which: AuditOptions, wish: OutputOptions) -> Tally:
    from jobs.results.writers import WRITERS

    tally = Tally()
    lines = tally.count(session.ledger.reports.audit(which.batch, which.account, which.since, which.until))
    where = target_of(wish, f"audit.{wish.format}")
    with opened(where, wish.format, overwrite=wish.overwrite) as file:
        WRITERS[wish.format](file, COLUMNS, map(_values, lines))
    return tally


def _values(line: AuditLine) -> Values:
    values = {column.source: getattr(line, column.source, None) for column in COLUMNS}
    # What has no price costs nobody knows what, and not nothing.
    unknown = {"reserved": None, "open": None, "charged": None} if line.price is None else {}
    state = UNSENT if line.is_unsent else line.state
    return {**values, **unknown, "state": state, "currency": "USD"}


# -- what they come to ---------------------------------------------------------------------------------------------


def _page(tally: Tally, invoice: int | None) -> Iterator[Line]:
    delivered = count(tally.delivered, "image")
    yield f"{count(tally.attempts, 'attempt')}, {delivered} delivered, {money(tally.charged)} charged", "bold"
    if tally.unsent:
        told = f"{count(tally.unsent, 'attempt')} never reached a provider (state {UNSENT})"
        yield f"{told}: nothing was sent, so nothing was refused or paid", ""
    if tally.unpriced:
        yield f"{count(tally.unpriced, 'image')} of them at a price nobody knows, in none of these sums", "yellow"
    if tally.estimated:
        told = f"{money(tally.estimated)} of it at what was set aside: {count(tally.estimates, 'answer')} told no usage"
        yield told, "yellow"
    if invoice is not None:
        yield from _compared(tally, invoice)


def _compared(tally: Tally, invoice: int) -> Iterator[Line]:
    more = invoice - tally.charged
    word = "as the ledger has it" if not more else f"{money(abs(more))} {'more' if more > 0 else 'less'} than charged"
    yield f"invoice {money(invoice)}: {word}", "bold"
    rows = [*_open_questions(tally), *_doubts(tally)]
    yield from ((f"  {line}", "") for line in aligned(rows, right=frozenset({1})))
    yield from _verdict(tally, invoice)


def _open_questions(tally: Tally) -> Iterator[tuple[str, str, str]]:
    """What the ledger cannot know, and by how much it moves the invoice."""
    told = (
        ("unknown outcomes", tally.unknown, "+", f"may be paid: {count(tally.unknowns, 'attempt')}, lightfast unknown"),
        ("in flight", tally.in_flight, "+", "will be paid if they succeed"),
        ("given up", tally.given_up, "-", "counted as charged; may never have been"),
        ("forgotten", tally.forgotten, "-", "tasks the provider does not know any more; counted as charged"),
        ("undelivered", tally.undelivered, "-", "tasks called done without an image; counted as charged"),
        ("estimated", tally.estimated, "-", "no usage was told; counted at what was set aside, the most it may be"),
    )
    return ((name, f"{sign}{money(amount)}", words) for name, amount, sign, words in told if amount)


def _doubts(tally: Tally) -> Iterator[tuple[str, str, str]]:
    """What an invoice should not contain, and charges for images that no row asked for."""
    told = (
        ("failed tasks", tally.failed, "if the provider charges for tasks that fail; not counted"),
        ("short deliveries", tally.short, "if it charges for images that did not come; not counted"),
        ("surplus", tally.surplus, "of the charge is for images beyond what rows waited for"),
    )
    return ((name, f"({money(amount)})", words) for name, amount, words in told if amount)


def _verdict(tally: Tally, invoice: int) -> Iterator[Line]:
    beyond = tally.beyond(invoice)
    between = f"between {money(tally.least)} and {money(tally.most)}"
    if not beyond:
        yield f"explained: by what is on record it is {between}", "green"
        return
    yield (
        f"not explained: {money(abs(beyond))} {'above' if beyond > 0 else 'below'} what is on record, {between}",
        "red",
    )
    priced = tally.delivered - tally.unpriced
    if priced:
        theirs, ours = round(invoice / priced), round(tally.charged / priced)
        yield f"  an image costs {money(theirs)} by the invoice, {money(ours)} by the prices on record;", ""
        yield "  is your price another than the list's? [accounts.NAME.prices]; compare line by line by task_id", ""


def _document(tally: Tally, invoice: int | None) -> dict[str, object]:
    amounts = (
        "charged",
        "in_flight",
        "unknown",
        "given_up",
        "forgotten",
        "undelivered",
        "estimated",
        "surplus",
        "failed",
        "short",
    )
    told: dict[str, object] = {
        "currency": "USD",
        "attempts": tally.attempts,
        "attempts_not_sent": tally.unsent,
        "images_delivered": tally.delivered,
        "unpriced_images": tally.unpriced,
        **{name: usd(getattr(tally, name)) for name in amounts},
    }
    if invoice is not None:
        beyond = tally.beyond(invoice)
        between = {"least": usd(tally.least), "most": usd(tally.most)}
        difference = {"difference": usd(invoice - tally.charged), "not_explained": usd(beyond)}
        told["invoice"] = {"usd": usd(invoice), **difference, **between}
    return told
