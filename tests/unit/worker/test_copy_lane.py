"""How many copies a process runs at once, and what counts as one."""

from __future__ import annotations

import asyncio
import dataclasses

from jobs.facts import ImageStored, MadeImage, SubmitAccepted, TaskSucceeded
from providers.types import Link
from tests.support.worker_world import Provider, row, stock, world
from worker.lanes.backpressure import BackpressureMonitor
from worker.lanes.copy_lane import CopyLane
from worker.runtime.timings import Timings


def generated(services, tmp_path, count):
    """Images that wait to be copied."""
    stock(services, tmp_path, [row(position) for position in range(count)])
    now = services.clock.now()
    for intent in services.ledger.claims.submits("main", now, lease=900.0, horizon=60.0).intents:
        about = {"attempt_id": intent.attempt_id, "at": now}
        link = Link(url=f"https://cdn.test/t{intent.attempt_id}/0.png?sig=1")
        accepted = SubmitAccepted(task_id=f"t{intent.attempt_id}", poll_path=None, next_poll_at=now + 60, **about)
        made = TaskSucceeded(images=(MadeImage(link=link, spool=None, expires_at=now + 3600),), **about)
        services.ledger.facts.record([accepted, made])


async def test_while_the_end_of_a_copy_is_recorded_the_next_one_runs(tmp_path):
    fetched = []
    provider = Provider(on_download=fetched.append)
    services = world(tmp_path, provider, timings=Timings(copies_at_once=1))
    generated(services, tmp_path, 2)
    both, goes_on = asyncio.Event(), asyncio.Event()
    record = services.recorder.record

    async def record_late(*facts):
        if any(isinstance(fact, ImageStored) for fact in facts):
            if len(fetched) == 2:
                both.set()
            await goes_on.wait()
        await record(*facts)

    services = dataclasses.replace(services, recorder=Standing(services.recorder, record_late))
    lane = CopyLane(name="copy", services=services, backpressure=BackpressureMonitor(services))

    await lane.claim()
    async with asyncio.timeout(30):
        await both.wait()
        goes_on.set()
        await asyncio.gather(*lane.on_its_way)

    assert [image.state for each in services.ledger.reports.results("b") for image in each.images] == ["stored"] * 2


class Standing:
    """A recorder whose `record` is another."""

    def __init__(self, recorder, record):
        self._recorder, self.record = recorder, record

    def __getattr__(self, name):
        return getattr(self._recorder, name)
