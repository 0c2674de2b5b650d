"""A process that lives shows it in time to whoever would take its work."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from structlog.testing import capture_logs

from tests.support.worker_world import Provider, row, stock, world
from worker.lanes.worker import Worker
from worker.local.run import StopSignal, run_batch

#: Seconds after which others take a worker for silent, as an operator reads it in docs/how-to/cluster.md.
SILENT = 20.0

pytestmark = pytest.mark.virtual_time


async def test_a_run_whose_signs_of_life_fail_twice_is_not_taken_for_silent_by_others(tmp_path):
    services = world(tmp_path, Provider(on_submit=lambda _: asyncio.Event().wait()))
    services.ledger.is_sqlite = False  # others may work on it too
    stock(services, tmp_path, [row(0)])
    told, tries, touch, stop = [], [], services.ledger.workers.touch, StopSignal()
    loop = asyncio.get_running_loop()

    def touch_worker(name, now, looked_at=None):
        if name != services.holder:
            return touch(name, now)
        tries.append(now)
        if len(tries) in (2, 3):
            raise OSError("connection refused")
        told.append(now)
        if len(told) == 4:
            loop.call_soon_threadsafe(stop.interrupt)
            loop.call_soon_threadsafe(stop.interrupt)
        return touch(name, now, looked_at)

    services.ledger.workers.touch = touch_worker

    await run_batch(services, "b", stop=stop)

    gaps = [after - before for before, after in itertools.pairwise(told)]
    assert max(gaps) < SILENT, gaps


async def test_a_run_without_a_heartbeat_file_tells_of_a_lane_that_hangs_as_a_worker_does(tmp_path, monkeypatch):
    services = world(tmp_path, Provider(on_submit=lambda _: asyncio.sleep(60)))
    stock(services, tmp_path, [row(0)])
    monkeypatch.setattr(Worker, "since_looks", lambda _: {"copy": 130.0})

    with capture_logs() as said:
        await run_batch(services, "b", stop_after=30.0)

    assert {event["problem"] for event in said if event["event"] == "worker_unhealthy"} == {
        "no look for work came back, though the ledger answers others: copy for 130 s"
    }
