"""From a manifest to a batch on record: look, refuse or ask, leave the mark, record."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cli.flow import budgets, emergency_stop, overlap_screen, plan_screen
from cli.flow.consent import agree
from cli.flow.environment import check_mark, probe, trackless
from cli.flow.options import RunOptions, WorkLimits
from cli.flow.preflight import Preflight, counting, take
from cli.flow.session import note, show
from cli.output import wording
from jobs.errors import BadInput, LightfastError, StoreError
from jobs.ledger import Ledger, open_ledger
from jobs.ledger.batches.values import NewBatch
from jobs.planning import intake
from jobs.policy.failover import Failover
from worker.references import bring, place_of
from worker.storage.ownership_mark import claim_destination

if TYPE_CHECKING:
    from jobs.ledger.batches.values import Batch
    from jobs.settings.model import Settings
    from worker.storage.base import Store

#: Between the names of manifests that make one batch, and the characters of them all that are kept.
_AND, _LONGEST_SOURCE = " + ", 300


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredBatch:
    """A batch that is ready to be worked."""

    name: str
    ledger: Ledger  # open
    limits: WorkLimits
    images: int  # still to be paid for


@contextlib.contextmanager
def recording(settings: Settings, making: RunOptions, command: str) -> Iterator[RegisteredBatch]:
    """Looks at everything, asks, records; while it lasts, the ledger is open. `BadInput` before anything is written.

    For `run` the ledger is held, so that a second one ends before it records anything.
    """
    with take(making, settings, counting(making, "rows read", 10_000)) as taking:
        _refuse(taking)
        with _only_if_it_goes_on(taking):
            store = probe(taking.dest)
            if taking.batch is None and not making.new_ledger:
                check_mark(store, taking.name, taking.ledger.ledger_id if taking.ledger else None)
            short = making.quiet or making.json
            if page := list(overlap_screen.lines(taking) if short else plan_screen.page(taking, probed=True)):
                show(page, sandbox=settings.is_sandbox, stderr=True)
            emergency_stop.warn(taking.ledger, sandbox=settings.is_sandbox)
            if command == "submit":  # a run tells the ledger of its own settings
                budgets.warn(settings, taking.ledger, time.time())
            still = _at_most(taking)
            amount, unpriced = _to_agree(taking, still)
            agree(
                amount,
                unpriced=unpriced,
                yes=making.yes,
                sandbox=settings.is_sandbox,
                command=command,
                again=overlap_screen.mistake(taking),
            )
        ledger = open_ledger(settings.database_url)
        with contextlib.closing(ledger), ledger.hold(time.time()) if command == "run" else contextlib.nullcontext():
            _record(taking, store, ledger, still)
            yield RegisteredBatch(name=taking.name, ledger=ledger, limits=taking.limits, images=taking.seen.images)


def _refuse(taking: Preflight) -> None:
    if taking.reasons:
        raise BadInput(taking.reasons)


@contextlib.contextmanager
def _only_if_it_goes_on(taking: Preflight) -> Iterator[None]:
    """A folder that was made for the probe goes again when the command ends here."""
    cleaning = trackless(taking.dest)
    cleaning.__enter__()
    try:
        yield
    except BaseException:
        cleaning.__exit__(None, None, None)
        raise


def _to_agree(taking: Preflight, still: int) -> tuple[int, int]:
    """Micro-dollars and unpriced images not yet agreed to for this batch."""
    seen, batch = taking.seen, taking.batch
    if batch is None:
        return still, seen.unpriced
    beyond = batch.charged + batch.reserved + still - batch.agreed
    return (min(still, beyond), seen.unpriced if seen.new or seen.changed else 0) if beyond > 0 else (0, 0)


def _at_most(taking: Preflight) -> int:
    """Micro-dollars still to be spent: as planned; where rows may go to a dearer provider, up to the budget given."""
    budget, batch, planned = _budget(taking), taking.batch, taking.seen.aside + _for_others(taking)
    if budget is None or not taking.seen.images or _failover(taking) is Failover.OFF:
        return planned
    return max(planned, budget - (batch.charged + batch.reserved if batch else 0))


def _for_others(taking: Preflight) -> int:
    """What rows on record still cost to which others are added: agreed to before, and not for these."""
    if taking.ledger is None or taking.batch is None or not taking.making.append:
        return 0
    waiting = taking.ledger.progress(taking.name).remaining_money
    return max(0, waiting - taking.seen.waiting)


def _budget(taking: Preflight) -> int | None:
    """--budget, else the batch's own."""
    if taking.limits.budget is not None:
        return taking.limits.budget
    return taking.batch.budget if taking.batch else None


def _failover(taking: Preflight) -> Failover:
    """--failover, else what the batch was given before."""
    if taking.making.failover:
        return Failover(taking.making.failover)
    return taking.batch.failover if taking.batch else Failover.OFF


def _record(taking: Preflight, store: Store, ledger: Ledger, still: int) -> None:
    now = time.time() + ledger.clock_offset()
    if taking.batch is None or taking.making.new_ledger:
        claim_destination(
            store, taking.name, ledger.ledger_id, now, new_ledger=taking.making.new_ledger, path=taking.path
        )
    _bring_files(taking, store)
    ours = replace(taking.intake, ledger=ledger)
    intake.record(ours, taking.seen, _new_batch(taking, still), now)


def _bring_files(taking: Preflight, store: Store) -> None:
    """Local references go to the destination before any row that needs them is on record."""
    files = intake.files_to_bring(taking.intake, taking.batch, taking.seen) if taking.seen.files else ()
    tell = counting(taking.making, "reference files brought", 10)
    try:
        brought = bring(store, taking.files, files, tell)
    except StoreError as refused:
        raise LightfastError(f"{taking.dest}: {refused.message} ({refused.code}). Nothing was spent.") from None
    if brought:
        note(f"{wording.count(brought, 'reference file')} at {taking.dest}/{place_of('')}")


def _new_batch(taking: Preflight, still: int) -> NewBatch:
    batch = taking.batch
    return NewBatch(
        name=taking.name,
        dest=taking.dest,
        path=taking.path,
        columns=_columns(taking),
        source=_source(taking),
        budget=_budget(taking),
        allow_partial=taking.making.partial or bool(batch and batch.allow_partial),
        sandbox=taking.settings.is_sandbox,
        agreed=_agreed(batch, still),
        retries=taking.settings.retries,
        failover=_failover(taking),
        weight=taking.limits.priority or (taking.batch.weight if taking.batch else 1.0),
        providers=taking.intake.options.providers,
        strict_size=taking.making.strict_size or bool(batch and batch.strict_size),
        decode=taking.making.verify == "decode" or bool(batch and batch.decode),
        sidecar=taking.making.sidecar or bool(batch and batch.sidecar),
    )


def _columns(taking: Preflight) -> tuple[str, ...]:
    """The manifest's own; where it is added to a batch, those that its rows have already come first."""
    before = taking.batch.columns if taking.batch and taking.making.append else ()
    return tuple(dict.fromkeys((*before, *taking.seen.columns)))


def _source(taking: Preflight) -> str:
    """The manifest's name; where it is added to a batch, after those before it."""
    name = taking.manifest.name
    if not (taking.batch and taking.making.append) or name in taking.batch.source.split(_AND):
        return taking.batch.source if taking.batch and taking.making.append else name
    return wording.shorten(f"{taking.batch.source}{_AND}{name}", _LONGEST_SOURCE)


def _agreed(batch: Batch | None, money: int) -> int:
    return max(batch.agreed, batch.charged + batch.reserved + money) if batch else money
