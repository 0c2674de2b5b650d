"""What a restart would mend is noticed; what it would not is left alone."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy.exc import OperationalError

from jobs.ledger import open_ledger
from tests.support.virtual_time import Gate
from tests.support.worker_world import Provider, close_all, world
from worker.lanes.worker import Worker
from worker.runtime.health import DEAF, LOOKS, STUCK, HealthSigns, unhealthy_reason

WELL = {"turns": True, "since_looks": {"copy": 3.0}, "since_run": 0.0, "since_wakeup": 5.0, "wakeups_waited": 0}


def ill(*, answers: bool = True, **signs) -> str | None:
    return unhealthy_reason(HealthSigns(**{**WELL, **signs}), lambda: answers)


@pytest.mark.parametrize(
    "signs",
    [
        {},
        {"since_looks": {}},
        {"since_looks": {"copy": STUCK - 1}},
        {"since_wakeup": 10 * DEAF},  # beat or Redis is away: it works by itself
        {"since_wakeup": 10 * DEAF, "wakeups_waited": LOOKS - 1},
        {"wakeups_waited": LOOKS},
        {"since_looks": {"copy": 10 * STUCK}, "answers": False},  # the ledger hangs: others would hang as well
    ],
)
def test_a_process_that_works_or_waits_for_others_is_left_alone(signs):
    assert ill(**signs) is None


@pytest.mark.parametrize(
    ("signs", "told"),
    [
        ({"turns": False}, "loop"),
        ({"since_looks": {"copy": 1.0, "poll:main": STUCK + 1}}, "poll:main for 121 s"),
        ({"since_run": STUCK + 1, "since_looks": {}}, "no lane was at work"),
        ({"since_wakeup": DEAF + 1, "wakeups_waited": LOOKS}, "wakeups wait"),
    ],
)
def test_a_process_that_only_a_restart_mends_is_told(signs, told):
    assert told in (ill(**signs) or "")


class HeldClock:
    """Boot time that a test moves."""

    def __init__(self, clock):
        self._clock, self.ahead = clock, 0.0

    def boot(self):
        return self._clock.boot() + self.ahead

    def __getattr__(self, name):
        return getattr(self._clock, name)


virtual_time = pytest.mark.virtual_time


@pytest.fixture
async def worker(tmp_path):
    services = world(tmp_path, Provider())
    object.__setattr__(services, "clock", HeldClock(services.clock))
    worker = Worker(services)
    await worker.start()
    yield worker
    await close_all()


@virtual_time
async def test_a_lane_whose_look_for_work_hangs_is_seen_and_one_that_comes_back_is_not(worker):
    claim, gate = worker.services.ledger.claims.copies, Gate()

    def hanging(*values, **named):
        gate.pass_through()
        return claim(*values, **named)

    worker.services.ledger.claims.copies = hanging
    run_lane = asyncio.create_task(worker.run_lane("copy", 0.01))
    await gate.reached.wait()
    worker.services.clock.ahead = 500.0

    assert worker.since_looks()["copy"] >= 500
    gate.open()
    await run_lane
    assert worker.since_looks() == {}
    assert worker._lanes["copy"].looked_at >= worker.services.clock.boot() - 20


@virtual_time
@pytest.mark.parametrize(
    ("trouble", "counts"), [(OperationalError("SELECT", {}, Exception("gone")), True), (TypeError("a bug"), False)]
)
async def test_a_look_that_fails_counts_when_the_ledger_is_away_and_not_when_something_is_broken(
    worker, trouble, counts
):
    looked = asyncio.Event()
    loop = asyncio.get_running_loop()

    def failing(*_values, **_named):
        worker.services.clock.ahead = 500.0
        loop.call_soon_threadsafe(looked.set)
        raise trouble

    worker.services.ledger.claims.copies = failing
    run_lane = asyncio.create_task(worker.run_lane("copy", 2000.0))
    await looked.wait()
    worker.stop()
    await run_lane

    assert (worker.services.clock.boot() - worker._lanes["copy"].looked_at < 100) is counts


async def test_a_worker_tells_the_ledger_when_its_laziest_lane_looked(worker):
    await worker.tell_life()
    now = worker.services.clock.now()

    (told,) = worker.services.ledger.workers.seen(now, 60)

    assert told.name == worker.services.holder
    assert now - 60 < told.looked_at <= now


async def test_workers_that_are_long_gone_are_forgotten(worker):
    ledger, now = worker.services.ledger, worker.services.clock.now()
    ledger.workers.touch("long ago", now - 30 * 86_400)
    ledger.workers.touch("yesterday", now - 86_400)

    await worker.tell_life()

    assert {worker.name for worker in ledger.workers.seen(now, 1e9)} == {"yesterday", worker.services.holder}


def test_the_ledger_is_asked_on_a_connection_of_its_own(postgres_url):
    ledger = open_ledger(postgres_url)
    assert ledger.answers()
    ledger.close()


def test_a_ledger_that_hangs_answers_nobody():
    from sandbox import servers  # noqa: PLC0415  a server of its own

    with servers.postgres() as server:
        ledger = open_ledger(server.new_database())
        server.kill()
        assert not ledger.answers()
        ledger.close()


async def test_a_sign_of_life_is_given_by_the_databases_clock_even_when_ours_was_just_set(tmp_path, monkeypatch):
    """By a clock two minutes ahead all others would seem silent, and their places free."""
    services = world(tmp_path, Provider())
    worker, told = Worker(services), []
    monkeypatch.setattr(services.ledger, "clock_offset", lambda: -120.0)
    monkeypatch.setattr(services.ledger.workers, "touch", lambda _name, now, _looked_at: told.append(now))
    before = services.clock.now()

    await worker.tell_life()

    assert told[0] < before - 60
