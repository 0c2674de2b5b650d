"""A batch that comes through a door: planned, held against what its token may do and spend, and recorded for it.

Nobody is there to ask. What a person is asked at a terminal has to be said with the request, or the batch is refused.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from jobs.errors import BadInput, LightfastError
from jobs.formatting import count, money
from jobs.ledger import Ledger
from jobs.ledger.access.values import Acceptance, NotItsOwnError, OverDailyBudget, RevokedError, Token
from jobs.planning.problems import RowProblem
from jobs.policy.access import Role, is_below, readable
from jobs.settings.model import Settings
from providers.references import OBJECTS
from worker.registration.destination import check_mark, probe, trackless
from worker.registration.manifest_sources import ManifestSource
from worker.registration.options import BatchOptions, as_fields, demand_readable
from worker.registration.preflight import Preflight, Scope, batch_name, normal_dest, take
from worker.registration.register import at_most, left_of, most, record

Progress = Callable[[int], None]  # rows so far

#: Rows of a manifest that comes through a door; more are given to `lightfast submit`.
MOST_ROWS = 10_000_000


class NotAccepted(BadInput):
    """The batch is not accepted as it is asked for; nothing was spent or recorded.

    `code`: what programs tell it by (docs/reference/api.md). `rows`: the first bad rows of the manifest.
    """

    def __init__(self, code: str, problems: Sequence[str] | str, rows: Sequence[RowProblem] = ()) -> None:
        told = [problems] if isinstance(problems, str) else problems
        super().__init__([as_fields(each) for each in told])
        self.code, self.rows = code, tuple(rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedBatch:
    """A batch that was put on record."""

    name: str
    images: int  # still to be paid for
    held: int  # micro-dollars: its budget, else its estimate


@contextlib.contextmanager
def planned_for(  # noqa: PLR0913  what is asked, by whom, and how it came
    options: BatchOptions,
    settings: Settings,
    ledger: Ledger,
    token: Token,
    *,
    uploaded: ManifestSource | None = None,
    endpoint: str = "",
    rows_read: Progress | None = None,
) -> Iterator[Preflight]:
    """The batch as it would be taken. `uploaded`: the manifest that came with the request.

    Raises:
        NotAccepted: The token may not have such a batch, or the manifest or its options cannot be read.
    """
    is_producer = token.role is Role.PRODUCER
    scope = Scope(
        of_token=token.id if is_producer else None,
        reads=token.reads if is_producer else None,
        endpoint=endpoint,
    )
    with contextlib.ExitStack() as taken:
        try:
            demand_readable(options)  # as `take` does, and before the ledger is asked for what they name
            taking = take(
                _bound(options, ledger, token),
                settings,
                rows_read=_bounded(rows_read),
                known=ledger,
                keeps_rows=True,
                uploaded=uploaded,
                scope=scope,
            )
            preflight = taken.enter_context(taking)
        except NotAccepted:
            raise
        except BadInput as wrong:
            raise NotAccepted("bad_request", wrong.problems) from wrong
        yield preflight


def _bounded(rows_read: Progress | None) -> Progress:
    """Tells of rows until there are too many."""

    def tell(rows: int) -> None:
        if rows > MOST_ROWS:
            too_many = f"a manifest has {MOST_ROWS:,} rows at most here: `lightfast submit` takes more."
            raise NotAccepted("bad_request", too_many)
        if rows_read is not None:
            rows_read(rows)

    return tell


def accept(
    preflight: Preflight,
    token: Token,
    *,
    agreed: int | None = None,
    request_id: int | None = None,
    rows_recorded: Progress | None = None,
) -> AcceptedBatch:
    """Puts the batch on record for the token.

    `agreed`: micro-dollars that it may cost at most (`most`); None: whatever that is. `request_id`: the request by
    OpenAI's API that it answers, which is told of it in the same transaction.

    Raises:
        NotAccepted: It would cost more than was agreed to or than the token's day leaves, or not all of it can be made.
        LightfastError: The destination or the ledger does not take it now; the same request may succeed later.
    """
    demand(preflight, agreed)
    ledger, now = _ledger(preflight), time.time()
    now += ledger.clock_offset()
    with _only_if_it_goes_on(preflight):
        try:
            store, _ = probe(preflight.dest)
            if preflight.batch is None:
                check_mark(store, preflight.name, ledger.ledger_id)
        except BadInput as wrong:
            raise NotAccepted("bad_destination", wrong.problems) from wrong
        still = at_most(preflight)
        amount = _to_hold(preflight, still)
        held = amount if token.role is Role.PRODUCER else None
        acceptance = Acceptance(token_id=token.id, amount=held, request_id=request_id)
        try:
            record(preflight, store, ledger, still=still, now=now, rows_recorded=rows_recorded, acceptance=acceptance)
        except OverDailyBudget as above:
            left = f"{money(above.left)} of this UTC day's {money(token.daily_budget or 0)}"
            raise NotAccepted(
                "budget_exceeded", f"{preflight.name} would hold {money(above.asked)}, and the token has {left} left."
            ) from above
        except NotItsOwnError as theirs:
            raise NotAccepted("batch_name_taken", _taken(preflight.name)) from theirs
        except RevokedError as revoked:
            raise NotAccepted("token_revoked", "the token was revoked meanwhile.") from revoked
        except BadInput as wrong:
            raise NotAccepted("bad_request", wrong.problems) from wrong
    return AcceptedBatch(name=preflight.name, images=preflight.seen.images, held=amount)


def demand(preflight: Preflight, agreed: int | None = None) -> None:
    """Looks whether the batch may be recorded as it is planned.

    Raises:
        NotAccepted: Not, and why.
    """
    options, seen = preflight.options, preflight.seen
    if seen.bad and not options.skip_bad:
        raise NotAccepted("bad_rows", preflight.reasons, seen.problems)
    boundless = replace(preflight.limits, budget=sys.maxsize if preflight.limits.budget is not None else None)
    if reasons := replace(preflight, limits=boundless).reasons:
        raise NotAccepted("bad_request", reasons)
    if seen.unpriced:
        names = ", ".join(f"{line.provider} {line.label}" for line in seen.routes if line.price is None)
        raise NotAccepted(
            "price_unknown",
            f"the price of {count(seen.unpriced, 'image')} is not known ({names}), and nobody is here to agree to it. "
            "Prices are given under [accounts.NAME.prices].",
        )
    if preflight.mistake:
        raise NotAccepted("made_already", f"{preflight.mistake}. That needs `reuse`, or `buy_again`.")
    if preflight.reasons:  # nothing but the budget is left of them
        raise NotAccepted("budget_exceeded", [f"{reason} Nothing was spent." for reason in preflight.reasons])
    if agreed is not None and (may := most(preflight)) > agreed:
        raise NotAccepted(
            "budget_exceeded",
            f"{count(seen.images, 'image')} may cost {money(may)}, and {money(agreed)} was agreed to. "
            "Nothing was spent.",
        )


def _bound(options: BatchOptions, ledger: Ledger, token: Token) -> BatchOptions:
    """The options, with the destination that the token's batches have unless another is asked for."""
    if options.new_ledger or options.notify:
        raise NotAccepted("bad_request", "`new_ledger` and `notify` are said in a terminal.")
    scheme = options.manifest.partition("://")[0] if "://" in options.manifest else ""
    name = batch_name(options)
    batch = ledger.batches.find(name)
    if token.role is not Role.PRODUCER:
        return options
    if batch is not None and batch.token_id != token.id:
        raise NotAccepted("batch_name_taken", _taken(name))
    if scheme in OBJECTS and not any(is_below(options.manifest, each) for each in token.reads):
        raise NotAccepted("not_allowed", f"this token may read objects {readable(token.reads)}.")
    below = token.writes_to or ""
    to = options.to or (batch.dest if batch else below)
    if not _lies_below(to, below):
        raise NotAccepted("not_allowed", f"this token writes below {below}, and not to {to}.")
    return replace(options, to=to)


def _taken(name: str) -> str:
    return f'there is a batch "{name}" that is not this token\'s: choose another name.'


def _lies_below(dest: str, prefix: str) -> bool:
    """Whether a destination lies below a token's; of folders, whatever links lead to them."""
    address = normal_dest(dest)
    if "://" in address or "://" in prefix:
        return is_below(address, prefix)
    return is_below(os.path.realpath(address), os.path.realpath(prefix))


def _to_hold(preflight: Preflight, still: int) -> int:
    """Micro-dollars: what is left of its budget, else what it is planned to cost."""
    budget = preflight.limits.budget
    return still if budget is None else left_of(budget, preflight)


def _ledger(preflight: Preflight) -> Ledger:
    if preflight.ledger is None:
        raise LightfastError("There is no ledger to record the batch in.")
    return preflight.ledger


@contextlib.contextmanager
def _only_if_it_goes_on(preflight: Preflight) -> Iterator[None]:
    """A folder that was made for the probe goes again when the batch is not recorded."""
    with contextlib.ExitStack() as cleaning:
        cleaning.enter_context(trackless(preflight.dest))
        yield
        cleaning.pop_all()
