"""What every command says while the emergency stop stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.command_lines import command
from jobs.results.sentences import stop_line

if TYPE_CHECKING:
    from jobs.ledger.accounts.worker_values import EmergencyStop


def told(stop: EmergencyStop, *, sandbox: bool) -> str:
    """What every page says while it stands."""
    return f"{stop_line(stop)}; to go on:  {command('resume', '--all', sandbox=sandbox)}"
