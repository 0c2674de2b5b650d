"""Workers stop paying where what is paid cannot be put, or not in time; everybody is told, and it goes on by itself."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from jobs.errors import StoreError
from jobs.policy import copy_headroom
from jobs.policy.copy_headroom import Backlog
from jobs.states import TroubleKind
from tests.support.worker_world import Provider, row, stock, world
from worker.lanes.backpressure import LOOK_EVERY, BackpressureMonitor
from worker.lanes.worker import Worker
from worker.runtime.deadline_semaphore import DeadlineSemaphore
from worker.storage.destinations import Destinations

DENIED = StoreError(code="bucket_denied", message="403", retryable=False, denied=True)
SLOW = StoreError(code="bucket_slow_down", message="503 SlowDown", retryable=True)


pytestmark = pytest.mark.virtual_time


class Overlay:
    """The same, but for what the test says."""

    def __init__(self, real, **said):
        self._real = real
        self.__dict__.update(said)

    def __getattr__(self, name):
        return getattr(self._real, name)


class Backlogs:
    """A ledger whose backlog is what the test says."""

    def __init__(self, ledger):
        self._ledger = ledger
        self.now = Backlog()
        self.destinations = Overlay(ledger.destinations, backlogs=self.backlogs)

    def __getattr__(self, name):
        return getattr(self._ledger, name)

    def backlogs(self, _now):
        return {"dest": self.now} if self.now.deaths else {}


class Clock:
    """Moved by the test."""

    offset = 0.0

    def __init__(self):
        self.at = 1_800_000_000.0

    def now(self):
        return self.at

    def boot(self):
        return self.at

    def cpu(self):
        return 0.0


def watched(tmp_path):
    services = world(tmp_path, Provider())
    services = dataclasses.replace(services, clock=Clock(), ledger=Backlogs(services.ledger))
    return services, BackpressureMonitor(services)


def waiting(services, count, *, lives, stored):
    now = services.clock.now()
    return Backlog(deaths=((count, now + lives),), stored_short=stored, stored_long=stored)


async def look(services, backpressure, backlog):
    services.ledger.now = backlog
    await backpressure.refresh()
    services.clock.at += LOOK_EVERY
    return [trouble.kind for trouble in services.ledger.destinations.troubles(services.clock.at)]


async def test_images_that_would_die_uncopied_stop_submits_and_a_better_pace_lets_them_go_on(tmp_path):
    services, backpressure = watched(tmp_path)
    slow, fast = ({"count": 1000, "lives": 100.0, "stored": number} for number in (50, 500))

    told = [await look(services, backpressure, waiting(services, **pace)) for pace in (slow, slow, slow, fast)]

    assert told == [[], [TroubleKind.BEHIND], [TroubleKind.BEHIND], []]


async def test_one_dead_link_or_a_burst_that_is_worked_off_stops_nothing(tmp_path):
    services, backpressure = watched(tmp_path)
    burst = waiting(services, 1000, lives=100.0, stored=50)

    assert await look(services, backpressure, waiting(services, 1, lives=0.1, stored=50)) == []
    assert await look(services, backpressure, burst) == []
    assert await look(services, backpressure, waiting(services, 100, lives=95.0, stored=500)) == []
    assert (
        await look(services, backpressure, waiting(services, copy_headroom.ENOUGH_WAITING - 1, lives=0.1, stored=50))
        == []
    )


async def test_a_bucket_that_refuses_one_worker_stops_the_submits_of_all(tmp_path):
    services = world(tmp_path, Provider())
    stock(services, tmp_path, [row(0)])
    dest = str(tmp_path / "dest")
    services.destinations.refused(dest, DENIED, services.clock.now())
    await BackpressureMonitor(services).publish()
    other = dataclasses.replace(services, destinations=Destinations(), holder="other")

    worker = Worker(other)
    await worker.run_lane("submit:main", 1.0)

    assert worker.open_submits == 0
    (told,) = services.ledger.reports.progress("b", services.clock.now()).troubles
    assert (told.code, told.said_by) == ("bucket_denied", services.holder)


async def test_a_slow_down_narrows_the_copies_to_that_bucket_and_stops_nothing():
    destinations = Destinations()
    for second in range(60):
        destinations.refused("slow", SLOW, float(second))
    for _ in range(3):
        destinations.refused("slow", SLOW, 100.0)

    assert not destinations.troubles
    assert (destinations.width("slow"), destinations.width("other")) == (1, 16)
    for _ in range(200):
        destinations.worked("slow")
    assert destinations.width("slow") == 16


async def test_a_write_that_was_on_its_way_before_a_bucket_refused_does_not_end_its_trouble():
    destinations = Destinations()
    destinations.refused("dest", DENIED, 10.0)

    assert not destinations.worked("dest", began=9.0)
    assert not destinations.worked("dest", began=9.0, seen=True)
    assert destinations.troubles

    assert destinations.worked("dest", began=11.0)
    assert not destinations.troubles


def test_probes_of_a_bucket_that_refuses_come_ever_more_seldom():
    destinations = Destinations()
    destinations.refused("dest", DENIED, 0.0)

    probed = [tenth / 10 for tenth in range(1000) if destinations.to_probe(tenth / 10)]

    assert probed[:3] == [1.0, 2.0, 4.0]
    assert 5 <= len([at for at in probed if at > 40]) <= 7


# -- the semaphore -------------------------------------------------------------------------------------------------


async def test_room_goes_to_whoever_dies_first_and_is_never_more_than_there_is():
    semaphore, order, most = DeadlineSemaphore(10), [], []

    async def work(amount, before):
        async with semaphore.acquire(amount, before):
            order.append(before)
            most.append(semaphore.used)
            await asyncio.sleep(0)

    await asyncio.gather(*(work(6, before) for before in (5, 9, 1, 7)), work(99, 8), work(2, 6))

    assert order[:4] == [5, 1, 6, 7]
    assert set(order) == {5, 9, 1, 7, 8, 6}
    assert max(most) <= 10
    assert semaphore.used == 0


async def test_who_is_cancelled_while_waiting_leaves_the_room_to_the_others():
    semaphore = DeadlineSemaphore(1)
    async with semaphore.acquire(1, 0.0):
        waits, next_ = (asyncio.ensure_future(semaphore.take(1, before)) for before in (1.0, 2.0))
        await asyncio.sleep(0)
        waits.cancel()
        await asyncio.sleep(0)

    assert await next_ == 1
    semaphore.release(1)
    assert semaphore.used == 0
