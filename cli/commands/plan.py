"""`lightfast plan`: everything `run` would do first, and nothing more."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from cli.flow.options import RunOptions, is_terminal, takes
from cli.output.terminal import put
from jobs.command_lines import repeated

if TYPE_CHECKING:
    from worker.registration.preflight import Preflight


@takes(RunOptions)
def plan(options: RunOptions) -> int:
    """Shows what a run would make; spends nothing, records nothing."""
    from cli.flow import emergency_stop, notify, plan_screen, stored_images
    from cli.flow.environment import probe, settings_for
    from cli.flow.session import show, show_json
    from cli.output.terminal import counting
    from worker.registration.destination import check_mark, trackless
    from worker.registration.preflight import take

    with (
        settings_for(options.config, sandbox=options.sandbox, traceless=True) as settings,
        take(
            options.asked, settings, attended=is_terminal(), links_seen=counting("links looked at", quiet=options.json)
        ) as preflight,
    ):
        notify.addresses(options.notify, settings, here=True)
        reasons = [reason for reason in preflight.reasons if options.to or not reason.startswith("--to")]
        with trackless(preflight.dest):
            store, probed = probe(preflight.dest) if preflight.dest else (None, None)
            if store is not None and preflight.batch is None and not options.new_ledger:
                check_mark(store, preflight.name, preflight.ledger.ledger_id if preflight.ledger else None)
            gone = stored_images.warn(preflight.ledger, preflight.batch, store) if store else None
        if options.json:
            told = plan_screen.document(preflight, probed) | stored_images.document(gone)
            show_json(told | {"reasons": reasons})
        else:
            show(plan_screen.page(preflight, probed, everything=options.all), sandbox=settings.is_sandbox)
            sys.stdout.flush()
        emergency_stop.warn(preflight.ledger, sandbox=settings.is_sandbox)
        return _verdict(reasons, preflight)


def _verdict(reasons: list[str], preflight: Preflight) -> int:
    for reason in reasons:
        put(f"error: {_without_rows(reason)}")
    if not reasons:
        put(f"Nothing was spent. {_what_next(preflight)}")
    return 2 if reasons else 0


def _what_next(preflight: Preflight) -> str:
    from worker.registration.preflight import ANOTHER_BATCH

    seen, again = preflight.seen, preflight.mistake
    if preflight.is_cancelled:
        return f"Nothing new is made in a cancelled batch. {ANOTHER_BATCH}\n  {preflight.another_batch}"
    if not (seen.images or seen.changed or seen.open or seen.again.reused):
        return "There is nothing to make."
    skipped = f" without the {seen.bad:,} bad" if seen.bad else ""
    more = [*([] if preflight.dest else ["--to", "DEST"]), *(["--buy-again"] if again else [])]
    bought = " all the same, and pay again for what was made already" if again else ""
    return f"To do it{skipped}{bought}:\n  {repeated(*more)}"


def _without_rows(reason: str) -> str:
    """The bad rows, and what is to be looked at, are on the page already."""
    return "\n".join(line for line in reason.splitlines() if not line.startswith(("  line ", "  …", "  look at ")))
