"""How a worker shows that it is alive: to other workers in the ledger, and to a probe by a file on its own machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from worker.lanes.worker import Worker
from worker.runtime.health import HealthSigns, unhealthy_reason
from worker.runtime.telemetry import emit, is_telling

#: Seconds for which the ledger is asked whether it answers others.
ASKING = 6.0


async def show_life(worker: Worker) -> None:
    """Tells the ledger again and again that this process lives; until it is cancelled.

    On SQLite nobody else works on the ledger, so nobody needs to be told.
    """
    services, failed = worker.services, 0
    while not services.ledger.is_sqlite:
        wait = services.timings.sign_every
        try:
            await worker.tell_life()
            failed = 0
        except Exception as trouble:  # noqa: BLE001  the lanes tell of a ledger that is away
            failed += 1
            if is_telling(failed):
                emit("sign_of_life_failed", level="warning", times=failed, problem=repr(trouble)[:300])
            wait = services.timings.sign_retry
        await services.clock.sleep(wait)


async def show_end(worker: Worker) -> None:
    """Tells the ledger that this process has ended in order, so that nobody takes it for silent."""
    services = worker.services
    if not services.ledger.is_sqlite:
        with contextlib.suppress(Exception):  # a ledger that is away: it will be called silent for a while
            await services.executors.write(services.ledger.workers.leave, services.holder)


async def watch_health(worker: Worker) -> None:
    """Keeps the heartbeat file of a local run fresh while its lanes look for work; until it is cancelled."""
    services = worker.services
    while True:
        signs = HealthSigns(since_looks=worker.since_looks())
        # Not on a thread of `executors`: these may all be busy with uploads.
        await asyncio.to_thread(beat, services.settings.heartbeat_file, signs, services.ledger.answers)
        await services.clock.sleep(services.timings.heartbeat_every)


def beat(file: str, signs: HealthSigns, ledger_answers: Callable[[], bool]) -> None:
    """Touches the heartbeat file of a process that works; says why not of one that a restart would mend. Blocks.

    `file`: its path; "": there is none. `ledger_answers`: asks the ledger on a connection of its own.
    """
    problem = unhealthy_reason(signs, lambda: _answers_in_time(ledger_answers))
    if problem is not None:
        emit("worker_unhealthy", level="error", pid=os.getpid(), problem=problem)
    elif file:
        with contextlib.suppress(OSError):
            Path(file).touch()


def _answers_in_time(ask: Callable[[], bool]) -> bool:
    answer: Future[bool] = Future()
    threading.Thread(target=lambda: answer.set_result(ask()), name="ledger-probe", daemon=True).start()
    try:
        return answer.result(ASKING)
    except TimeoutError:
        return False
