"""`lightfast run`: plan, agree, record, and do it here and now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.flow.options import RunOptions, takes

if TYPE_CHECKING:
    from jobs.settings.model import Settings


@takes(RunOptions)
def run(options: RunOptions) -> int:
    """Plans, asks, records, works. Nothing is written or spent before everything is checked and agreed to."""
    from cli.flow.environment import settings_for

    with settings_for(options.config, sandbox=options.sandbox) as settings:
        return run_with(settings, options)


def run_with(settings: Settings, options: RunOptions, *, then: str = "") -> int:
    """The same, with settings that are read already. `then`: what the summary says to do next."""
    from cli.flow.execute import OutputMode, work
    from cli.flow.register import recording
    from worker.notifications.channels import of_this_run

    with recording(settings, options, "run") as recorded:
        mode = OutputMode(json=options.json, quiet=options.quiet, next=then)
        also = of_this_run(recorded.notify, recorded.name)
        return work(settings, recorded.ledger, recorded.name, recorded.limits, mode, also)
