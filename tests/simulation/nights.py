"""What the tests of schedules share: a worker that looks seldom, a catalogue, and nights that go by in virtual time."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from jobs.ledger.schedules.values import NewSchedule
from jobs.results.messages import messages_of
from providers.types import MICROS
from tests.support.worker_world import world
from worker.local.serve import serve
from worker.runtime.shutdown import StopSignal
from worker.runtime.timings import Timings
from worker.scheduling import reading
from worker.scheduling.clock import read_taken, take


def timings(sweep_every):
    return Timings(
        idle=3 * 7_200.0,
        sweep_every=sweep_every,
        news_every_alone=sweep_every,
        sign_every=3 * 7_200.0,
        heartbeat_every=1e9,
    )


#: Nights are long: nobody looks every second.
SELDOM = timings(7_200.0)
#: Where something is to be over before the next time, which is less than two hours away.
OFTEN = timings(1_800.0)


def calm(tmp_path, provider, *, looks=SELDOM, **changes):
    return world(tmp_path, provider, timings=looks, **changes)


NIGHT = 86_400.0
DAILY = "0 9 * * *"  # virtual time begins at 8:16:40
TO_NINE = 2_600.0


def write(rows, name="cat.csv"):
    """A manifest of `key: prompt`, written a while ago."""
    path = Path(name)
    path.write_text("key,prompt\n" + "".join(f"{key},{prompt}\n" for key, prompt in rows.items()))
    os.utime(path, ns=(1_000_000_000 * write.count, 1_000_000_000 * write.count))
    write.count += 1


write.count = 1_000


def spoil(name="cat.csv"):
    """What nobody could read, in a file that looks as it did."""
    path = Path(name)
    before = path.stat()
    path.write_bytes(path.read_bytes().replace(b"lamp", b"\xff\xff\xff\xff"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def modified(name="cat.csv"):
    return Path(name).stat().st_mtime


def stored(batch):
    return sorted(path.parent.name for path in Path("dest", batch).rglob("*.png"))


def catalogue(count, **changes):
    return {f"k{number}": f"lamp {number}" for number in range(count)} | changes


def scheduled(services, **changes):
    options = {"manifest": str(Path("cat.csv").absolute()), "to": str(Path("dest").absolute()), "changed": "redo"}
    options |= changes.pop("options", {})
    known = {"name": "nightly", "cron": DAILY, "timezone": "UTC", "budget": 100 * MICROS}
    new = NewSchedule(**{**known, "options": options, **changes})
    assert services.ledger.schedules.add(new, services.clock.now())


async def nights(services, count=1.0):
    """Works for so many nights."""
    await minutes(services, count * NIGHT / 60)


async def minutes(services, count):
    stop = StopSignal()
    asyncio.get_running_loop().call_later(count * 60, stop.terminate)
    with services.ledger.hold(services.clock.now(), serves=True):
        await serve(services, stop=stop)


async def read_one(services):
    """Whether there was a time whose manifest was to be read, and is read now."""
    taken = await take(services)
    if taken is not None:
        await read_taken(services, taken, lambda: False)
    return taken is not None


def history(services, name="nightly"):
    """The schedule's times, the oldest first."""
    return services.ledger.schedules.history(services.ledger.schedules.find(name).id, 100)[::-1]


def states(services):
    return [firing.state for firing in history(services)]


def while_it_records(monkeypatch, act):
    """Does something once, between the look at a manifest and its record."""
    record, acts = reading.record, [act]

    def act_and_record(*given, **named):
        if acts:
            acts.pop()()
        return record(*given, **named)

    monkeypatch.setattr(reading, "record", act_and_record)


def edited(services, **changes):
    """The schedule, edited as its owner would: other options, another budget."""
    before = services.ledger.schedules.find("nightly")
    options = {**before.options, **changes.pop("options", {})}
    new = NewSchedule(name="nightly", cron=before.cron, timezone="UTC", options=options, **changes)
    assert services.ledger.schedules.edit(new, services.clock.now())


def heard(monkeypatch):
    """Each message that people get from now on, as (type, title, text)."""
    sent = []

    def keep(change, standing, hearers):
        del hearers
        sent.extend((one.type, one.title, one.text) for one in messages_of(change, standing))
        return []

    monkeypatch.setattr("worker.lanes.news.outgoing", keep)
    return sent
