"""Paid images that only a person can help, as lines for a screen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from jobs import formatting
from jobs.command_lines import command, keyed

if TYPE_CHECKING:
    from jobs.ledger.reports.values import Progress


def stuck_lines(progress: Progress) -> Iterator[str]:
    """Paid images that only a person can help: which, why, and what ends it."""
    name, sandbox = progress.batch.name, progress.batch.sandbox
    for each in progress.stuck:
        yield f"key {each.key}, image {each.slot} is paid and cannot be stored: {each.code}: {each.message}"
        end = command("give-up", name, *keyed(each.key), sandbox=sandbox)
        yield f"  fix that and run the same command, or end it:  {end}"
    if more := progress.images_stuck - len(progress.stuck):
        held = command("results", name, "--only", "held", sandbox=sandbox)
        yield f"and {formatting.count(more, 'image')} more:  {held}"
