"""An event loop on a thread of its own, for servers whose clients block the thread that asks them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from tests.support.patience import AT_LAST

Call = Callable[[Coroutine[Any, Any, Any]], Any]


@contextlib.contextmanager
def own_loop() -> Iterator[Call]:
    """Lends a function that runs a coroutine there and gives its result; what still runs then is cancelled."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="own-loop", daemon=True)
    thread.start()

    def call(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(AT_LAST)

    try:
        yield call
    finally:
        call(_end_all())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(AT_LAST)
        loop.close()


async def _end_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
