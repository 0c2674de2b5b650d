"""A local run as a process of its own, to be killed: `python run_here.py FOLDER SANDBOX_URL ROWS [STALL]`.

JSON: TEST_LIMITS: other limits of the account. TEST_RESTS: other constants of jobs.policy.retry. TEST_TIMINGS: other
timings of the worker.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import sys
from pathlib import Path

from cli.output.endings import message
from jobs.policy import retry
from tests.support.worker_world import row, settings, stock
from worker.local.run import RunEnding, StopSignal, run_batch
from worker.runtime.limits import limits_of
from worker.runtime.timings import Timings
from worker.services import Services, build


def services_at(folder: Path, url: str) -> Services:
    limits = {"max_in_flight": 40, "submits_per_second": 150.0, "first_poll_after": 0.2, "poll_every": 0.2}
    limits |= json.loads(os.environ.get("TEST_LIMITS", "{}"))
    here = settings(folder, base_url=f"{url}/maxapi.io", api_key="sandbox-key", **limits)
    timings = Timings(**json.loads(os.environ.get("TEST_TIMINGS", "{}")))
    return build(here.model_copy(update={"allow_private_hosts": True}), timings=timings)


def prepare(services: Services, folder: Path, count: int) -> None:
    if services.ledger.batches.find("b") is None:
        services.ledger.accounts.sync(limits_of(services.settings))
        rows = [dataclasses.replace(row(number), pixels=(1024, 1024)) for number in range(count)]
        stock(services, folder, rows)


async def run(folder: Path, url: str, count: int, stall: float = 5.0) -> RunEnding:
    services = services_at(folder, url)
    prepare(services, folder, count)
    stop = StopSignal()
    try:
        with stop.listening():
            return await run_batch(services, "b", max_stall=stall, stop=stop)
    finally:
        await services.close()


if __name__ == "__main__":
    for name, seconds in json.loads(os.environ.get("TEST_RESTS", "{}")).items():
        setattr(retry, name, seconds)
    ending = asyncio.run(run(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), *map(float, sys.argv[4:])))
    sys.stderr.write(f"{message(ending)}\n")
    sys.exit(ending.exit_code)
