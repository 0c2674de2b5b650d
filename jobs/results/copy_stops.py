"""What is said while submits wait because nothing can be stored: what happens by itself, and what helps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from jobs.command_lines import command
from jobs.results.sentences import failing_line, next_try_line

if TYPE_CHECKING:
    from jobs.ledger.claims.values import Failing


def lines(failing: Failing, *, sandbox: bool, own: str = "") -> Iterator[str]:
    """Why, when the next single submit tries it, and the command to use when it is fixed. `own`: the waiting batch."""
    yield failing_line(failing)
    yield next_try_line(failing)
    yield helps(failing, own, sandbox=sandbox)


def helps(failing: Failing, own: str, *, sandbox: bool) -> str:
    """The command that tries the paid images again at once: of this batch, or of the batch that is to blame."""
    name = failing.batch or own or "BATCH"
    whose = f", to try again what batch {name} has paid" if failing.batch and failing.batch != own else ""
    return f"when that is fixed{whose}:  {command('resume', name, sandbox=sandbox)}"
