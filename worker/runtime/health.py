"""Whether a worker process is healthy, judged by what it did: what a restart would mend, and nothing else.

A process whose ledger or Redis is away is healthy: it goes on by itself when they are back, and a restart would only
cut off what is on its way. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

#: Seconds after which a lane hangs whose look for work has not come back: longer than the ledger's own limits, of
#: which waiting for a lock (60 s) and for a connection (30 s) are the longest.
STUCK = 120.0
#: Seconds without a wakeup after which waiting wakeups say that nobody here takes them; twelve beats.
DEAF = 120.0
#: Looks in a row at which wakeups must be found waiting: a queue is never empty at every moment.
LOOKS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthSigns:
    """What is seen of a process, in seconds."""

    since_looks: Mapping[str, float]  # in each lane that runs: since a look for work last came back
    turns: bool = True  # its event loop
    since_run: float = 0.0  # since any lane last ran
    since_wakeup: float = 0.0
    wakeups_waited: int = 0  # looks in a row at which wakeups of its lanes waited in Redis


def unhealthy_reason(signs: HealthSigns, ledger_answers: Callable[[], bool]) -> str | None:
    """Why the process should be started again; None: it works, or does what it can."""
    if not signs.turns:
        return "its event loop does not turn"
    if signs.since_run > STUCK:
        return f"no lane was at work for {signs.since_run:.0f} s"
    stuck = {lane: seconds for lane, seconds in signs.since_looks.items() if seconds > STUCK}
    if stuck and ledger_answers():
        lanes = ", ".join(f"{lane} for {seconds:.0f} s" for lane, seconds in sorted(stuck.items()))
        return f"no look for work came back, though the ledger answers others: {lanes}"
    if signs.since_wakeup > DEAF and signs.wakeups_waited >= LOOKS:
        return f"wakeups wait in Redis, and none was taken for {signs.since_wakeup:.0f} s"
    return None
