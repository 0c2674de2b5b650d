"""Python's collector of cyclic garbage, in a process that works for long."""

from __future__ import annotations

import gc

#: Objects more after which the young ones are looked at, and how often that is before older ones are: Python's own
#: (700, 10, 10) suit a short script. Little of what a worker makes is cyclic.
_THRESHOLDS = (20_000, 20, 20)


def collect_rarely() -> None:
    """Looks for garbage less often, and never among what is there now: modules, settings, statements.

    To be called once a process has loaded what it needs. It is 5 to 10 % of a worker's CPU.
    """
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
