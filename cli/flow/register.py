"""From a manifest to a batch on record: look, refuse or ask, leave the mark, record."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cli.flow import budgets, emergency_stop, overlap_screen, plan_screen, stored_images
from cli.flow.consent import agree
from cli.flow.environment import check_mark, probe, trackless
from cli.flow.options import RunOptions, WorkLimits
from cli.flow.preflight import Preflight, counting, take
from cli.flow.session import note, show
from cli.output import wording
from jobs import formatting
from jobs.errors import BadInput, LightfastError, StoreError
from jobs.ledger import Ledger, open_ledger
from jobs.ledger.batches.values import NewBatch
from jobs.planning import intake
from jobs.policy.failover import Failover
from worker.references import bring, place_of
from worker.storage.ownership_mark import claim_destination

if TYPE_CHECKING:
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
def recording(settings: Settings, options: RunOptions, command: str) -> Iterator[RegisteredBatch]:
    """Looks at everything, asks, records; while it lasts, the ledger is open. `BadInput` before anything is written.

    For `run` the ledger is held, so that a second one ends before it records anything.
    """
    with take(options, settings, counting(options, "rows read", 10_000)) as preflight:
        if preflight.reasons:
            raise BadInput(preflight.reasons)
        with _only_if_it_goes_on(preflight):
            store, probed = probe(preflight.dest)
            if preflight.batch is None and not options.new_ledger:
                check_mark(store, preflight.name, preflight.ledger.ledger_id if preflight.ledger else None)
            short = options.quiet or options.json
            if page := list(plan_screen.before_money(preflight) if short else plan_screen.page(preflight, probed)):
                show(page, sandbox=settings.is_sandbox, stderr=True)
            stored_images.warn(preflight.ledger, preflight.batch, store)
            emergency_stop.warn(preflight.ledger, sandbox=settings.is_sandbox)
            for risk in preflight.ledger.risks(sandbox=settings.is_sandbox) if preflight.ledger else ():
                note(f"warning: {risk}.")
            if command == "submit":  # a run tells the ledger of its own settings
                budgets.warn(settings, preflight.ledger, time.time())
            still = _at_most(preflight)
            amount, unpriced = _to_agree(preflight, still)
            agree(
                amount,
                unpriced=unpriced,
                yes=options.yes,
                sandbox=settings.is_sandbox,
                command=command,
                again=overlap_screen.mistake(preflight),
            )
        ledger = open_ledger(settings.database_url)
        with contextlib.closing(ledger), ledger.hold(time.time()) if command == "run" else contextlib.nullcontext():
            _record(preflight, store, ledger, still)
            yield RegisteredBatch(
                name=preflight.name, ledger=ledger, limits=preflight.limits, images=preflight.seen.images
            )


@contextlib.contextmanager
def _only_if_it_goes_on(preflight: Preflight) -> Iterator[None]:
    """A folder that was made for the probe goes again when the command ends here."""
    cleaning = trackless(preflight.dest)
    cleaning.__enter__()
    try:
        yield
    except BaseException:
        cleaning.__exit__(None, None, None)
        raise


def _to_agree(preflight: Preflight, still: int) -> tuple[int, int]:
    """Micro-dollars and unpriced images not yet agreed to for this batch."""
    seen, batch = preflight.seen, preflight.batch
    if batch is None:
        return still, seen.unpriced
    beyond = batch.charged + batch.reserved + still - batch.agreed
    return (min(still, beyond), seen.unpriced if seen.new or seen.changed else 0) if beyond > 0 else (0, 0)


def _at_most(preflight: Preflight) -> int:
    """Micro-dollars still to be spent: as planned; where rows may go to a dearer provider, up to the budget given."""
    budget, batch, planned = _budget(preflight), preflight.batch, preflight.seen.aside + _for_others(preflight)
    if budget is None or not preflight.seen.images or _failover(preflight) is Failover.OFF:
        return planned
    return max(planned, budget - (batch.charged + batch.reserved if batch else 0))


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


def _record(preflight: Preflight, store: Store, ledger: Ledger, still: int) -> None:
    now = time.time() + ledger.clock_offset()
    if preflight.batch is None or preflight.options.new_ledger:
        claim_destination(
            store, preflight.name, ledger.ledger_id, now, new_ledger=preflight.options.new_ledger, path=preflight.path
        )
    _bring_files(preflight, store)
    ours = replace(preflight.intake, ledger=ledger)
    intake.record(ours, preflight.seen, _new_batch(preflight, still), now)


def _bring_files(preflight: Preflight, store: Store) -> None:
    """Local references go to the destination before any row that needs them is on record."""
    files = intake.files_to_bring(preflight.intake, preflight.batch, preflight.seen) if preflight.seen.files else ()
    tell = counting(preflight.options, "reference files brought", 10)
    try:
        brought = bring(store, preflight.files, files, tell)
    except StoreError as refused:
        raise LightfastError(f"{preflight.dest}: {refused.message} ({refused.code}). Nothing was spent.") from None
    if brought:
        note(f"{formatting.count(brought, 'reference file')} at {preflight.dest}/{place_of('')}")


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
        delimiter=preflight.manifest.delimiter or None,
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
    return wording.shorten(f"{preflight.batch.source}{_AND}{name}", _LONGEST_SOURCE)
