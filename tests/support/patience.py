"""How long a test waits for what must come: long enough for any machine, for it only ends a test that is broken."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Seconds. A test that is well takes a small part of it where only a sixth of a core is left; pytest's own limit for a
#: test is longer (`timeout` in pyproject.toml), so that what was waited for is told.
AT_LAST = 600.0
#: Seconds between two looks at what tells nobody when it changes: another process, a server's books.
LOOK_EVERY = 0.02


def until(found: Callable[[], T], *, meanwhile: Callable[[], object] = lambda: None) -> T:
    """Returns what is found as soon as it is true. `meanwhile` raises where it cannot come any more."""
    end = time.monotonic() + AT_LAST
    while not (said := found()):
        meanwhile()
        assert time.monotonic() < end, "it never came"
        time.sleep(LOOK_EVERY)
    return said


async def soon(found: Callable[[], T]) -> T:
    """`until`, on an event loop, which goes on meanwhile."""
    end = time.monotonic() + AT_LAST
    while not (said := found()):
        assert time.monotonic() < end, "it never came"
        await asyncio.sleep(LOOK_EVERY / 10)
    return said
