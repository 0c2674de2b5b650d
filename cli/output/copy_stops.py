"""What goes on by itself, and what helps, where nothing can be stored and submits wait."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cli.output.commands import command
from cli.output.sentences import failing_line, next_try_line

if TYPE_CHECKING:
    from jobs.ledger.claims.values import Failing


def lines(failing: Failing, *, sandbox: bool, own: str = "") -> Iterator[str]:
    """Why, what is tried by itself and when, and the command for when it is mended. `own`: the batch that waits."""
    yield failing_line(failing)
    yield next_try_line(failing)
    yield helps(failing, own, sandbox=sandbox)


def helps(failing: Failing, own: str, *, sandbox: bool) -> str:
    """What tries at once, when that is mended, the images that this batch or the other that is to blame has paid."""
    name = failing.batch or own or "BATCH"
    whose = f", to try again what batch {name} has paid" if failing.batch and failing.batch != own else ""
    return f"when that is mended{whose}:  {command('resume', name, sandbox=sandbox)}"
