"""Warns of daily budgets that are set here and have no effect: on a cluster the workers' settings count."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.flow.session import note
from jobs.formatting import money
from worker.runtime.budgets import Differing, differing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobs.ledger import Ledger
    from jobs.settings.model import Settings


def unkept(settings: Settings, ledger: Ledger, now: float) -> Iterator[str]:
    """A sentence for each daily budget of these settings that workers do not keep. A local run keeps its own."""
    if ledger.is_sqlite:
        return
    for one in differing(settings, ledger, now):
        if one.here is not None:
            yield f"{_told(one)}. {_what_helps(one)}"


def _told(one: Differing) -> str:
    whose = f"account {one.account}" if one.account else "all accounts together"
    here, kept = ("none" if micros is None else money(micros) for micros in (one.here, one.kept))
    return f"daily_budget of {whose}: {here} in these settings, {kept} is what workers keep"


def _what_helps(one: Differing) -> str:
    variable = f"LIGHTFAST_ACCOUNTS__{one.account.upper()}__DAILY_BUDGET" if one.account else "LIGHTFAST_DAILY_BUDGET"
    return f"Set it where the workers run ({variable}, or in their lightfast.toml) and start them again"


def warn(settings: Settings, ledger: Ledger | None, now: float) -> None:
    """Warns before money is asked for."""
    for text in unkept(settings, ledger, now) if ledger else ():
        note(f"warning: {text}.")
