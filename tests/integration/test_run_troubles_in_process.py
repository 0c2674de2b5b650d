"""A run nobody watches: it ends when only a person can help, and gives back what it claimed too late."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest
from sqlalchemy.exc import OperationalError

from jobs.errors import LedgerGone, NeedsPerson, StoreError
from jobs.ledger import open_ledger
from jobs.policy import retry
from jobs.states import JobState
from tests.support.virtual_time import Gate
from tests.support.worker_world import Provider, no_answer, row, stock, world
from worker.lanes.worker import Worker
from worker.local import run
from worker.local.run import Reason, run_batch
from worker.runtime.timings import Timings
from worker.storage.destinations import Destinations

pytestmark = pytest.mark.virtual_time


async def test_probes_of_a_provider_that_is_away_do_not_keep_a_run_alive_for_ever(tmp_path, monkeypatch):
    async def slowly_refused(_):
        await asyncio.sleep(1.0)  # long enough to be seen at work
        return no_answer(sent=False)

    async def send(self, call, *, sent_flag=None, **more):
        answered = await Provider.send(self, call, sent_flag=sent_flag, **more)
        sent_flag.sent = False
        return answered

    monkeypatch.setattr(retry, "SHORT_COOLDOWN", 0.5)
    monkeypatch.setattr(retry, "LONGEST_SHORT_COOLDOWN", 1.0)
    away = type("Away", (Provider,), {"send": send})(on_submit=slowly_refused)
    services = world(tmp_path, away)
    stock(services, tmp_path, [row(0)])

    async with asyncio.timeout(600):
        ending = await run_batch(services, "b", max_stall=10.0)

    assert (ending.exit_code, ending.reason) == (4, Reason.ACCOUNT_PAUSED)
    assert away.submits["lamp 0"] > 2


async def test_a_database_that_restarts_in_the_middle_does_not_end_the_run(tmp_path):
    provider = Provider()
    services = world(tmp_path, provider)
    stock(services, tmp_path, [row(number) for number in range(5)])
    count, looks = services.ledger.reports.progress, []

    def away_for_a_while(*name):
        looks.append(name)
        if 1 < len(looks) < 6:
            raise OperationalError("SELECT", {}, ConnectionError("connection refused"))
        return count(*name)

    services.ledger.reports.progress = away_for_a_while
    ending = await run_batch(services, "b", max_stall=60.0)

    assert (ending.exit_code, ending.progress.jobs) == (0, {JobState.DONE: 5})
    assert provider.submits.total() == 5


async def test_a_database_that_stays_away_ends_the_run_in_the_end(tmp_path):
    services = world(tmp_path, Provider())
    stock(services, tmp_path, [row(0)])

    def away(*_):
        raise OperationalError("SELECT", {}, ConnectionError("connection refused"))

    services.ledger.reports.progress = away
    with pytest.raises(
        NeedsPerson, match=r"the ledger .* cannot be reached: connection refused\. Nothing more was sent"
    ):
        await run_batch(services, "b", max_stall=30.0)


async def test_a_run_shows_life_where_others_work_on_the_ledger_too(tmp_path, postgres_ledger_url):
    services = world(tmp_path, Provider())
    shared = open_ledger(postgres_ledger_url)
    services.ledger.is_sqlite, services.ledger.workers.touch = False, shared.workers.touch
    stock(services, tmp_path, [row(0)])

    await run_batch(services, "b")

    assert len(shared.workers.seen(services.clock.now(), within=60.0)) == 1
    shared.close()


def test_a_destination_that_refuses_is_told_of_when_it_begins_and_when_it_ends(monkeypatch):
    told: list = []
    monkeypatch.setattr(
        "worker.storage.destinations.emit", lambda event, **fields: told.append((event, fields.get("code")))
    )
    destinations = Destinations()

    for _ in range(3):
        destinations.refused("out", StoreError(code="disk_full", message="no space", retryable=True), 1.0)
    for _ in range(2):
        destinations.worked("out")

    assert told == [("destination_refused_here", "disk_full"), ("destination_took_here", None)]


async def test_a_claim_that_ends_after_the_worker_did_gives_its_rows_back(tmp_path):
    services = world(tmp_path, Provider())
    stock(services, tmp_path, [row(number) for number in range(3)])
    worker, gate = Worker(services), Gate()
    claim = services.ledger.claims.submits

    def locked(*arguments, **more):  # another process holds the database meanwhile
        gate.pass_through()
        return claim(*arguments, **more)

    services.ledger.claims.submits = locked
    await worker.start()
    lane = asyncio.create_task(worker.run_lane("submit:main"))
    await gate.reached.wait()

    drained = await worker.drain(5.0)
    lane.cancel()
    gate.open()
    await asyncio.gather(lane, return_exceptions=True)
    await services.executors.write(lambda: None)  # the one writer has ended the claim

    assert drained.unknown == 0
    assert services.ledger.reports.progress("b").jobs == {JobState.READY: 3}
    assert services.ledger.reports.at_risk() == (0, 0)


@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
async def test_a_ledger_whose_file_is_taken_away_ends_the_run_and_all_it_knew_is_saved(tmp_path, replaced):
    """Who has a removed file open can go on writing to it, and nobody can read that afterwards."""
    services = world(tmp_path, provider := Provider())
    stock(services, tmp_path, [row(number) for number in range(30)])
    place = services.ledger.path

    def take_away(_progress, _accounts):
        for name in ("", "-wal", "-shm"):
            place.with_name(place.name + name).unlink(missing_ok=True)
        if replaced:
            place.write_bytes(b"another file")

    with pytest.raises(LedgerGone) as told:
        await run_batch(services, "b", on_progress=take_away)

    (saved,) = tmp_path.glob("*.saved-*")
    assert str(saved) in str(told.value)
    known = open_ledger(f"sqlite:///{saved}", create=False)
    try:
        assert {line.task_id for line in known.reports.audit()} == set(provider.tasks)
    finally:
        known.close()


@pytest.mark.real_time  # SQLite waits for a lock by itself, in a thread
async def test_a_ledger_that_another_program_locks_is_told_of_and_nothing_is_lost(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(run, "emit", lambda event, **_: said.append(event))
    services = world(tmp_path, provider := Provider(), timings=Timings(count_every=0.02, ledger_locked=0.2))
    stock(services, tmp_path, [row(number) for number in range(20)])
    other = sqlite3.connect(services.ledger.path, isolation_level=None)
    acts = iter(["BEGIN IMMEDIATE", "ROLLBACK"])

    def lock_then_let_go(_progress, _accounts):
        told = said[-1:] == ["ledger_is_locked"]
        if told is other.in_transaction and (act := next(acts, None)):
            other.execute(act)

    ending = await run_batch(services, "b", on_progress=lock_then_let_go)
    other.close()

    assert next(acts, None) is None
    assert said[0] == "ledger_is_locked"
    assert ending.exit_code == 0
    assert set(provider.submits.values()) == {1}


async def test_that_a_ledger_takes_no_writes_is_said_once_and_so_is_its_end(tmp_path, monkeypatch):
    said, over = [], asyncio.Event()

    def emit(event, **_):
        said.append(event)
        if event == "ledger_takes_writes_again":
            over.set()

    async def not_before(_wanted):
        await over.wait()

    monkeypatch.setattr(run, "emit", emit)
    monkeypatch.setattr(Worker, "since_looks", lambda _: {"copy": 0.0 if said else 16.0})
    services = world(tmp_path, Provider(on_submit=not_before))
    stock(services, tmp_path, [row(0)])

    assert (await run_batch(services, "b")).exit_code == 0
    assert said == ["ledger_is_locked", "ledger_takes_writes_again"]
