"""A backlog of ten thousand images, shuffled: in which order a worker fetches them, and when one that dies sooner."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from pathlib import Path

from jobs.facts import MadeImage, SubmitAccepted, TaskSucceeded
from providers.types import Link
from tests.soak.judge import Findings
from tests.support.worker_world import Provider, close_all, row, stock, world
from worker.lanes.worker import Worker
from worker.runtime.timings import Timings
from worker.services import Services

COPIES_CLAIMED = Timings().copies_claimed

#: Seconds from one death to the next.
APART = 5.0
#: Images that are fetched before those that die sooner come, and of these how many.
BEFORE, LATE = 200, 20
#: Seconds for which the whole is waited for.
PATIENCE = 120.0


def show_order(folder: Path, *, images: int, seed: int) -> Findings:
    """What is due when a claim is made goes by its death; between claims up to 48 are on their way already."""
    found = Findings(title=f"order: a backlog of {images:,} images over two batches, shuffled")
    folder.mkdir(parents=True, exist_ok=True)
    fetched = asyncio.run(_fetch_some(folder, images, random.Random(seed)))
    places = [number for number in fetched if number >= 0]
    early, late = places[:BEFORE], [at for at, number in enumerate(fetched) if number < 0]
    found.show("fetched first, by their places in the order of death", ", ".join(map(str, early[:20])))
    off = max(abs(number - at) for at, number in enumerate(early))
    found.show(f"of the first {BEFORE}, the farthest from its place", off, must=off < COPIES_CLAIMED)
    waited = max(late, default=images) - min(len(early), BEFORE) - LATE
    found.show(f"of {LATE} that came then and die sooner than all, fetched", len(late), must=len(late) == LATE)
    found.show("... others fetched before the last of them", waited, must=waited <= COPIES_CLAIMED)
    return found


async def _fetch_some(folder: Path, images: int, chance: random.Random) -> list[int]:
    """The order of downloads; -1 for those that came late."""
    provider = Provider()
    services = world(folder, provider, max_in_flight=images + LATE)
    fetched: list[int] = []
    enough = asyncio.Event()

    def note(url: str) -> None:
        fetched.append(int(url.rpartition("/")[2].partition(".")[0]))
        if len(fetched) == BEFORE:
            late = [-1] * LATE
            _generate(services, folder, "late", late)
        if fetched.count(-1) == LATE or len(fetched) > 2 * BEFORE:
            enough.set()

    places = list(range(images))
    chance.shuffle(places)
    for name, part in (("one", places[::2]), ("two", places[1::2])):
        _generate(services, folder, name, part)
    provider.on_download = note
    worker = Worker(services)
    await worker.start()
    work = asyncio.ensure_future(worker.run_lane("copy"))
    async with asyncio.timeout(PATIENCE):
        await enough.wait()
    worker.stop()
    await worker.drain(0.0)
    work.cancel()
    await close_all()
    return fetched


def _generate(services: Services, folder: Path, batch: str, places: list[int]) -> None:
    """Images that wait, the n-th of all to die named n."""
    now, first = services.clock.now(), 3600.0
    rows = [dataclasses.replace(row(at), path=f"{batch}/k{at}/{{index}}.{{ext}}") for at in range(len(places))]
    stock(services, folder, rows, name=batch)
    waiting = iter(places)
    while intents := services.ledger.claims.submits("main", now, lease=900.0, at_most=1000, horizon=1e6).intents:
        facts: list[SubmitAccepted | TaskSucceeded] = []
        for intent in intents:
            place = next(waiting)
            task, link = f"{batch}-{intent.attempt_id}", Link(url=f"https://cdn.test/{place}.png")
            told = {"attempt_id": intent.attempt_id, "at": now}
            made = MadeImage(link=link, spool=None, expires_at=now + first + APART * place)
            facts.append(SubmitAccepted(**told, task_id=task, poll_path=None, next_poll_at=now + 1e6))
            facts.append(TaskSucceeded(**told, images=(made,)))
        services.ledger.facts.record(facts)
