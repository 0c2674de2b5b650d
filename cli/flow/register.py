"""From a manifest to a batch on record: look, refuse or ask, leave the mark, record."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import SecretStr

from cli.flow import budgets, emergency_stop, plan_screen, stored_images
from cli.flow.consent import agree
from cli.flow.environment import probe
from cli.flow.notify import addresses
from cli.flow.options import RunOptions, is_terminal
from cli.flow.session import bring_back, note, show
from cli.output.terminal import counting
from jobs import formatting
from jobs.errors import BadInput
from jobs.ledger import Ledger, open_ledger
from worker.references import place_of
from worker.registration.destination import check_mark, trackless
from worker.registration.options import WorkLimits
from worker.registration.preflight import Preflight, take
from worker.registration.register import at_most, record, to_agree

if TYPE_CHECKING:
    from jobs.settings.model import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredBatch:
    """A batch that is ready to be worked."""

    name: str
    ledger: Ledger  # open
    limits: WorkLimits
    images: int  # still to be paid for
    notify: Sequence[SecretStr] = ()  # addresses of the command line


@contextlib.contextmanager
def recording(settings: Settings, options: RunOptions, command: str) -> Iterator[RegisteredBatch]:
    """Looks at everything, asks, records; while it lasts, the ledger is open. `BadInput` before anything is written.

    For `run` the ledger is held, so that a second one ends before it records anything.
    """
    short = options.quiet or options.json
    told = addresses(options.notify, settings, here=command == "run")
    rows_read, links_seen = counting("rows read", 10_000, quiet=short), counting("links looked at", quiet=short)
    taken = take(
        options.asked,
        settings,
        attended=is_terminal(),
        rows_read=rows_read,
        links_seen=links_seen,
        keeps_rows=True,
    )
    with taken as preflight:
        if preflight.reasons:
            raise BadInput(preflight.reasons)
        with _only_if_it_goes_on(preflight):
            store, probed = probe(preflight.dest)
            if preflight.batch is None and not options.new_ledger:
                check_mark(store, preflight.name, preflight.ledger.ledger_id if preflight.ledger else None)
            whole = plan_screen.page(preflight, probed, everything=options.all)
            if page := list(plan_screen.before_money(preflight) if short else whole):
                show(page, sandbox=settings.is_sandbox, stderr=True)
            stored_images.warn(preflight.ledger, preflight.batch, store)
            emergency_stop.warn(preflight.ledger, sandbox=settings.is_sandbox)
            for risk in preflight.ledger.risks(sandbox=settings.is_sandbox) if preflight.ledger else ():
                note(f"warning: {risk}.")
            if command == "submit":  # a run tells the ledger of its own settings
                budgets.warn(settings, preflight.ledger, time.time())
            still = at_most(preflight)
            amount, unpriced = to_agree(preflight, still)
            agree(
                amount,
                unpriced=unpriced,
                yes=options.yes,
                sandbox=settings.is_sandbox,
                command=command,
                again=preflight.mistake,
            )
        ledger = open_ledger(settings.database_url)
        with contextlib.closing(ledger), ledger.hold(time.time()) if command == "run" else contextlib.nullcontext():
            if preflight.batch is not None:
                bring_back(ledger, preflight.batch)
            now, tell = time.time() + ledger.clock_offset(), counting("reference files brought", 10, quiet=short)
            recorded = counting("rows recorded", 10_000, quiet=short)
            if brought := record(preflight, store, ledger, still=still, now=now, tell=tell, rows_recorded=recorded):
                note(f"{formatting.count(brought, 'reference file')} at {preflight.dest}/{place_of('')}")
            yield RegisteredBatch(
                name=preflight.name,
                ledger=ledger,
                limits=preflight.limits,
                images=preflight.seen.images,
                notify=told,
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
