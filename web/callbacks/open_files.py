"""Files that the process may have open, of which each connection is one: room for them, and what is said without it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
from typing import Any

from worker.runtime.telemetry import emit, is_telling

#: Files open besides connections: of the ledger, of uploads, of images.
OTHERS = 200
#: Connections that the system takes before they are asked for. asyncio takes as many in one turn of the loop, and those
#: of three turns may be open before one that is too many is closed.
BACKLOG = 128
IN_THREE_TURNS = 3 * BACKLOG
#: Seconds without a connection that could not be taken, after which the next is told of at once.
QUIET = 60.0
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def most_connections(most: int) -> int:
    """Connections that may be open: `most`, or fewer where the process may not open so many files."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most if files == resource.RLIM_INFINITY else min(most, max(files - OTHERS, files // 2))


def make_room(connections: int) -> None:
    """Lets the process open files for so many connections, as far as its system allows."""
    files, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + IN_THREE_TURNS + OTHERS
    if allowed != resource.RLIM_INFINITY:
        wanted = min(wanted, allowed)
    if files != resource.RLIM_INFINITY and files < wanted:
        with contextlib.suppress(OSError, ValueError):  # some systems have a lower limit that they do not tell
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, allowed))


def event_loop() -> asyncio.AbstractEventLoop:
    """An event loop that says now and then that it can take no connection. asyncio's writes a traceback each time."""
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(_Troubles().handle)
    return loop


class _Troubles:
    """What went wrong on a loop, outside of its tasks."""

    def __init__(self) -> None:
        self._times = 0
        self._last = 0.0

    def handle(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not (isinstance(error, OSError) and error.errno in _NO_ROOM and "socket" in context):
            loop.default_exception_handler(context)
            return
        now = loop.time()
        self._times = 1 if now - self._last > QUIET else self._times + 1
        self._last = now
        if is_telling(self._times):
            emit("connections_wait", level="warning", times=self._times, problem=os.strerror(error.errno))
