"""Records a batch as its preflight has found it: money agreed to, the ownership mark, its reference files, its rows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from jobs import formatting
from jobs.errors import LightfastError, StoreError
from jobs.ledger.batches.values import NewBatch
from jobs.planning import intake
from jobs.policy.failover import Failover
from worker.archives.restore import bring_back
from worker.references import bring
from worker.storage.ownership_mark import claim_destination

if TYPE_CHECKING:
    from jobs.ledger import Ledger
    from jobs.ledger.access.values import Acceptance
    from jobs.ledger.schedules.values import Attachment
    from jobs.planning.intake import Progress
    from worker.registration.preflight import Preflight
    from worker.storage.base import Store

#: Between the names of manifests that make one batch, and the characters of them all that are kept.
_AND, _LONGEST_SOURCE = " + ", 300


def to_agree(preflight: Preflight, still: int) -> tuple[int, int]:
    """Micro-dollars and unpriced images not yet agreed to for this batch."""
    seen, batch = preflight.seen, preflight.batch
    if batch is None:
        return still, seen.unpriced
    beyond = batch.charged + batch.reserved + still - batch.agreed
    return (min(still, beyond), seen.unpriced if seen.new or seen.changed else 0) if beyond > 0 else (0, 0)


def at_most(preflight: Preflight) -> int:
    """Micro-dollars still to be spent: as planned; where rows may go to a dearer provider, up to the budget given."""
    budget, planned = _budget(preflight), preflight.seen.aside + _for_others(preflight)
    if budget is None or not preflight.seen.images or _failover(preflight) is Failover.OFF:
        return planned
    return max(planned, left_of(budget, preflight))


def most(preflight: Preflight) -> int:
    """Micro-dollars that the batch may still cost: what is set aside for its images, as far as its budget goes.

    Not its estimate: images that are billed by usage hold more than they are likely to cost.
    """
    still, budget = at_most(preflight), _budget(preflight)
    return still if budget is None else min(still, left_of(budget, preflight))


def left_of(budget: int, preflight: Preflight) -> int:
    """Micro-dollars that the batch has not spent or reserved of a budget."""
    batch = preflight.batch
    return max(0, budget - (batch.charged + batch.reserved if batch else 0))


def _for_others(preflight: Preflight) -> int:
    """What rows on record still cost to which others are added: agreed to before, and not for these."""
    if preflight.ledger is None or preflight.batch is None or not preflight.options.append:
        return 0
    waiting = preflight.ledger.reports.progress(preflight.name).remaining_money
    return max(0, waiting - preflight.seen.waiting)


def _budget(preflight: Preflight) -> int | None:
    """--budget, else the batch's own."""
    if preflight.limits.budget is not None:
        return preflight.limits.budget
    return preflight.batch.budget if preflight.batch else None


def _failover(preflight: Preflight) -> Failover:
    """--failover, else what the batch was given before."""
    if preflight.options.failover:
        return Failover(preflight.options.failover)
    return preflight.batch.failover if preflight.batch else Failover.OFF


def record(  # noqa: PLR0913  the batch, and what is recorded with it
    preflight: Preflight,
    store: Store,
    ledger: Ledger,
    *,
    still: int,
    now: float,
    tell: Progress | None = None,
    rows_recorded: Progress | None = None,
    attachment: Attachment | None = None,
    acceptance: Acceptance | None = None,
) -> int:
    """Records the batch, `still` micro-dollars agreed to for it; returns how many reference files were brought.

    `tell`: called with the files that were brought so far. `rows_recorded`: called while the transaction is open, so it
    must not write to the ledger.

    Raises:
        LightfastError: The destination did not take a file, or the manifest or the ledger has changed meanwhile.
        NotOursError: The schedule's time that it is recorded for is somebody else's by now.
        OverDailyBudget, NotItsOwnError, RevokedError: The token that it is recorded for may not have it.
    """
    if preflight.batch is None or preflight.options.new_ledger:
        claim_destination(
            store, preflight.name, ledger.ledger_id, now, new_ledger=preflight.options.new_ledger, path=preflight.path
        )
    if preflight.may_have_changed():  # then it is planned again, which tells whether it asks for something else
        preflight = replace(preflight, intake=replace(preflight.intake, planned=None))
    brought = _bring_files(preflight, store, tell)
    if preflight.batch is not None:
        bring_back(ledger, preflight.name)
    ours = replace(preflight.intake, ledger=ledger)
    batch = _new_batch(preflight, still)
    intake.record(ours, preflight.seen, batch, now, rows_recorded, attachment=attachment, acceptance=acceptance)
    return brought


def _bring_files(preflight: Preflight, store: Store, tell: Progress | None) -> int:
    """Local references go to the destination before any row that needs them is on record."""
    files = intake.files_to_bring(preflight.intake, preflight.batch, preflight.seen) if preflight.seen.files else ()
    try:
        return bring(store, preflight.files, files, tell)
    except StoreError as refused:
        raise LightfastError(f"{preflight.dest}: {refused.message} ({refused.code}). Nothing was spent.") from None


def _new_batch(preflight: Preflight, still: int) -> NewBatch:
    batch = preflight.batch
    return NewBatch(
        name=preflight.name,
        dest=preflight.dest,
        path=preflight.path,
        columns=_columns(preflight),
        source=_source(preflight),
        budget=_budget(preflight),
        allow_partial=preflight.options.partial or bool(batch and batch.allow_partial),
        sandbox=preflight.settings.is_sandbox,
        agreed=max(batch.agreed, batch.charged + batch.reserved + still) if batch else still,
        retries=preflight.settings.retries,
        failover=_failover(preflight),
        weight=preflight.limits.priority or (preflight.batch.weight if preflight.batch else 1.0),
        providers=preflight.intake.options.providers,
        strict_size=preflight.options.strict_size or bool(batch and batch.strict_size),
        decode=preflight.options.verify == "decode" or bool(batch and batch.decode),
        sidecar=preflight.options.sidecar or bool(batch and batch.sidecar),
        reuse=preflight.intake.reuse or (batch.reuse if batch else None),
        delimiter=preflight.manifest.delimiter or None,
        notify=preflight.options.notify or (batch.notify if batch else ()),
    )


def _columns(preflight: Preflight) -> tuple[str, ...]:
    """The manifest's own; where it is added to a batch, those that its rows have already come first."""
    before = preflight.batch.columns if preflight.batch and preflight.options.append else ()
    return tuple(dict.fromkeys((*before, *preflight.seen.columns)))


def _source(preflight: Preflight) -> str:
    """The manifest's name; where it is added to a batch, after those before it."""
    name = preflight.manifest.name
    if not (preflight.batch and preflight.options.append) or name in preflight.batch.source.split(_AND):
        return preflight.batch.source if preflight.batch and preflight.options.append else name
    return formatting.shorten(f"{preflight.batch.source}{_AND}{name}", _LONGEST_SOURCE)
