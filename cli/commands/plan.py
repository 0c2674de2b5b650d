"""`lightfast plan`: everything `run` would do first, and nothing more."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from cli.flow.options import RunOptions, takes
from cli.output.commands import repeated

if TYPE_CHECKING:
    from jobs.planning.survey import Survey


@takes(RunOptions)
def plan(making: RunOptions) -> int:
    """Shows what a run would make; spends nothing, records nothing."""
    from cli.flow import (
        emergency_stop,
        plan_screen,
    )
    from cli.flow.environment import check_mark, probe, settings_for, trackless
    from cli.flow.preflight import take
    from cli.flow.session import show, show_json

    with (
        settings_for(making.config, sandbox=making.sandbox, traceless=True) as settings,
        take(making, settings) as taking,
    ):
        with trackless(taking.dest):
            store = probe(taking.dest) if taking.dest else None
            if store is not None and taking.batch is None and not making.new_ledger:
                check_mark(store, taking.name, taking.ledger.ledger_id if taking.ledger else None)
        reasons = [reason for reason in taking.reasons if making.to or not reason.startswith("--to")]
        if making.json:
            show_json(plan_screen.document(taking, probed=store is not None) | {"reasons": reasons})
        else:
            show(plan_screen.page(taking, probed=store is not None), sandbox=settings.is_sandbox)
            sys.stdout.flush()
        emergency_stop.warn(taking.ledger, sandbox=settings.is_sandbox)
        return _verdict(reasons, taking.seen, to=taking.dest)


def _verdict(reasons: list[str], seen: Survey, *, to: str) -> int:
    for reason in reasons:
        sys.stderr.write(f"error: {_without_rows(reason)}\n")
    if not reasons:
        sys.stderr.write(f"Nothing was spent. {_what_next(seen, to)}\n")
    return 2 if reasons else 0


def _what_next(seen: Survey, to: str) -> str:
    if not (seen.images or seen.changed or seen.open or seen.again.reused):
        return "There is nothing to make."
    skipped = f" without the {seen.bad:,} bad" if seen.bad else ""
    return f"To do it{skipped}:\n  {repeated(*([] if to else ['--to', 'DEST']))}"


def _without_rows(reason: str) -> str:
    """The bad rows are on the page already."""
    return "\n".join(line for line in reason.splitlines() if not line.startswith(("  line ", "  …")))
