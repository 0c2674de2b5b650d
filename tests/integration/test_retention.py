"""Batches of schedules that are added with `--keep`: they go into archives by themselves."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from jobs.ledger.database.schema import batches
from jobs.ledger.schedules.values import NewSchedule
from jobs.policy.firing import Into
from tests.support.old_shop import DAY, live
from tests.support.worker_world import Provider, world
from worker.archives import prune as archive_files
from worker.archives.restore import bring_back
from worker.lanes import retention
from worker.lanes.maintenance import SweepLane


@pytest.fixture
def told(monkeypatch):
    """The events that the retention tells."""
    heard = []
    monkeypatch.setattr(retention, "emit", lambda name, **more: heard.append((name, more)))
    return heard


def kept(services, tmp_path, *, keep=30 * DAY):
    """Three nights of one schedule: 50, 40 and 20 days ago; and a batch of nobody's, as old as the first."""
    ledger, now = services.ledger, time.time()
    for name, days in (("night-1", 50), ("night-2", 40), ("night-3", 20), ("by-hand", 50)):
        live(ledger, tmp_path / "out", now - days * DAY, batch=name)
    options = {"cron": "0 3 * * *", "timezone": "UTC", "options": {}, "into": Into.NEW, "keep": keep}
    ledger.schedules.add(NewSchedule(name="night", **options), now)
    with ledger._database.writing() as tx:
        tx.execute(batches.update().where(batches.c.name != "by-hand").values(schedule_id=1))


def archived(services):
    return {each.name for each in services.ledger.batches.all() if each.archive}


async def test_each_sweep_archives_one_batch_that_its_schedule_does_not_keep(tmp_path, told):
    services = world(tmp_path, Provider())
    kept(services, tmp_path)
    lane = SweepLane(name="sweep", services=services)
    seen = []

    for _ in range(4):
        await lane.claim()
        while lane.on_its_way:
            await next(iter(lane.on_its_way))
        seen.append(archived(services))

    assert seen == [{"night-1"}, {"night-1", "night-2"}, {"night-1", "night-2"}, {"night-1", "night-2"}]
    assert [(name, more["batch"], more["rows"]) for name, more in told] == [
        ("batch_archived", "night-1", 6),
        ("batch_archived", "night-2", 6),
    ]


async def test_a_batch_that_cannot_be_archived_stays_and_holds_nobody_up(tmp_path, told, monkeypatch):
    services = world(tmp_path, Provider())
    kept(services, tmp_path)
    keeper, prune = retention.Retention(), retention.prune

    def refuses_the_first(ledger, candidate, place, *more, **options):
        if candidate.batch.name == "night-1":
            place = "/proc/nowhere"
        return prune(ledger, candidate, place, *more, **options)

    monkeypatch.setattr(retention, "prune", refuses_the_first)
    for _ in range(3):
        await keeper.archive_one(services, lambda: False)

    assert archived(services) == {"night-2"}
    assert Counter(name for name, _ in told) == {"batch_not_archived": 1, "batch_archived": 1}
    assert "/proc/nowhere" in told[0][1]["problem"]


@pytest.mark.parametrize(
    ("trouble", "told_of"),
    [
        (OSError(28, "No space left on device"), "No space left on device."),
        (ValueError("a fault of a library"), "ValueError('a fault of a library')"),
    ],
)
async def test_an_archive_that_cannot_be_made_here_is_not_begun_anew_at_each_sweep(
    tmp_path, told, monkeypatch, trouble, told_of
):
    services = world(tmp_path, Provider())
    kept(services, tmp_path)
    keeper, tried = retention.Retention(), []

    def fail(path, *_):
        tried.append(path)
        raise trouble

    monkeypatch.setattr(archive_files, "PartWriter", fail)
    for _ in range(6):
        await keeper.archive_one(services, lambda: False)

    assert not archived(services)
    assert len(tried) == 2
    assert [name for name, _ in told] == ["batch_not_archived"] * 2
    assert told[0][1]["problem"].endswith(told_of)


async def test_a_process_that_ends_leaves_the_batch_whole_for_the_next(tmp_path, told):
    services = world(tmp_path, Provider())
    kept(services, tmp_path)

    await retention.Retention().archive_one(services, lambda: True)

    assert not archived(services)
    assert not told
    assert services.ledger.pruning.due(services.clock.now()).batch.name == "night-2"  # the first still looks taken
    assert services.ledger.pruning.due(services.clock.now() + 3600).batch.name == "night-1"


async def test_a_batch_that_was_brought_back_is_kept_as_long_again(tmp_path, told):
    services = world(tmp_path, Provider())
    kept(services, tmp_path)
    pruning = services.ledger.pruning
    await retention.Retention().archive_one(services, lambda: False)
    assert archived(services) == {"night-1"}

    assert bring_back(services.ledger, "night-1")
    back = time.time()

    assert pruning.due(back).batch.name == "night-2"
    assert pruning.due(back + 29 * DAY, {"night-2", "night-3"}) is None
    assert pruning.due(back + 31 * DAY, {"night-2", "night-3"}).batch.name == "night-1"
