"""Polls an image, and how late results are found: the worker's own pacing in virtual time, and a real run.

In virtual time an account keeps its places filled with tasks whose durations are drawn; what it learns, and what that
costs, is all there, from the first image on. `python -m benchmarks.polling --real` also runs the program against the
stand-in, with the stand-in counting; `--bound` shows what no schedule can do better.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import heapq
import random
import sqlite3
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from benchmarks.measure import LIGHTFAST, run, show
from jobs.ledger import Ledger
from jobs.ledger.accounts.durations import OF_PLACES, TaskKind
from jobs.ledger.claims.polls_and_copies import FILLED_AHEAD
from jobs.policy import poll_schedule
from jobs.policy.poll_schedule import Durations
from jobs.settings.model import AccountSettings
from providers.registry import MANY_TASKS
from providers.types import Route
from sandbox import launch
from worker.polling.batching import PollBatching
from worker.polling.schedule import PollScheduler
from worker.runtime.executors import InlineExecutors

Draw = Callable[[random.Random, int], float]  # chance, the image's number -> seconds

IMAGES = 2_000
#: Places in flight; those of a batch query's own line.
PLACES, MANY = 50, 200
#: Images until what was learnt has settled; the lines tell of those after it, and of all.
START = 200
#: Seconds between two claims of polls, and from one to its answer on record.
BREATH, OVERHEAD = 0.1, 0.05

DURATIONS: dict[str, Draw] = {
    "uniform 5-20 s": lambda rng, _: rng.uniform(5, 20),
    "log-normal, as wide": lambda rng, _: 11.8 * rng.lognormvariate(0, 0.337),
    "log-normal, wider (sigma 0.5)": lambda rng, _: 11.0 * rng.lognormvariate(0, 0.5),
    "two humps, 5-8 and 17-20 s": lambda rng, _: rng.uniform(5, 8) + 12 * (rng.random() < 0.5),
    "always 12 s": lambda _chance, _number: 12.0,
    "uniform 5-20 s, from the middle on 10-40 s": lambda rng, n: rng.uniform(5, 20) * (1 + (n >= IMAGES // 2)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One image: how often it was asked about, how long it took, and when it was found, in seconds."""

    polls: float
    took: float
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a number of images came to."""

    polls: float
    of_duration: float  # median of lateness / duration
    of_wait: float  # median of lateness / time until it was found
    mean: float  # lateness in all / duration in all

    @classmethod
    def of(cls, found: Sequence[Found]) -> Figures:
        """Averages and medians."""
        return cls(
            polls=statistics.fmean(each.polls for each in found),
            of_duration=statistics.median((each.at - each.took) / each.took for each in found),
            of_wait=statistics.median((each.at - each.took) / each.at for each in found),
            mean=sum(each.at - each.took for each in found) / sum(each.took for each in found),
        )

    def __str__(self) -> str:
        late = f"late {self.of_duration:.1%} of the duration, {self.of_wait:.1%} of the wait, mean {self.mean:.1%}"
        return f"{self.polls:.2f} polls, {late}"


# -- in virtual time -----------------------------------------------------------------------------------------------

KIND = TaskKind(account="main", provider_model="m", resolution="1k")
ROUTE = Route(
    provider="p", model="m", provider_model="m", pixels=None, max_n=1, price=None, first_poll_after=8.0, poll_every=5.0
)


@dataclass(slots=True)
class _Clock:
    """Virtual time."""

    t: float = 1_000_000.0
    offset: float = 0.0

    def now(self) -> float:
        return self.t

    boot = now

    async def sleep(self, seconds: float) -> None:
        self.t += seconds


@dataclass(slots=True)
class _Memory:
    """In place of the ledger: what is learnt."""

    half_life: float
    told: bool
    known: Durations = field(default_factory=Durations)
    running: dict[int, _Task] = field(default_factory=dict)  # by number

    def durations(self) -> dict[TaskKind, Durations]:
        if not poll_schedule.is_young(self.known):
            return {KIND: self.known}
        return {KIND: poll_schedule.with_running(self.known, [task.ran for task in self.running.values()])}

    def learn(self, task: _Task, age: float) -> None:
        told = (task.took, task.took) if self.told else None
        span = poll_schedule.observed(ran=task.ran, found=age, told=told)
        self.known = poll_schedule.learn(self.known, [span], half_life=self.half_life, told=self.told)


@dataclass(slots=True)
class _Task:
    """One image on its way."""

    number: int
    took: float
    began: float
    polls: float = 0.0
    ran: float = 0.0  # its age when a poll last said that it runs


@dataclass(slots=True)
class Trial:
    """An account whose places are always filled, until all images are made."""

    draw: Draw
    poll_scheduler: PollScheduler
    poll_batching: PollBatching
    memory: _Memory
    clock: _Clock
    rng: random.Random
    found: list[Found] = field(default_factory=list)
    _due: list[tuple[float, int, _Task]] = field(default_factory=list)
    _begun: int = 0

    async def work(self, images: int, places: int) -> list[Found]:
        """All images, as they were found."""
        for place in range(places):
            self._begin(self.clock.t + place * BREATH)
        while self._due:
            self.clock.t = max(self.clock.t + BREATH, self._due[0][0])
            await self.poll_scheduler.refresh()
            ended = [self._ask(task, 1 / len(asked)) for asked in self._claim() for task in asked]
            for _ in range(min(sum(ended), images - self._begun)):
                self._begin(self.clock.t)
        return self.found

    def _begin(self, at: float) -> None:
        task = _Task(number=self._begun, took=self.draw(self.rng, self._begun), began=at)
        self._begun += 1
        self.memory.running[task.number] = task
        self._push(at + self.poll_scheduler.first_wait(task.number, KIND, ROUTE), task)

    def _push(self, at: float, task: _Task) -> None:
        heapq.heappush(self._due, (at, task.number, task))

    def _claim(self) -> list[list[_Task]]:
        """As jobs.ledger.claims.polls_and_copies does: what is due, and in a request that has room what is due next."""
        together = self.poll_batching.most("main")
        requests: list[list[_Task]] = []
        while self._due and self._due[0][0] <= self.clock.t:
            asked: list[_Task] = []
            while self._due and len(asked) < together and self._due[0][0] <= self.clock.t + FILLED_AHEAD:
                asked.append(heapq.heappop(self._due)[2])
            requests.append(asked)
        if requests:
            self.poll_batching.note("main", sum(map(len, requests)), len(requests))
        return requests

    def _ask(self, task: _Task, part: float) -> bool:
        """Whether it has ended; `part` of the request is its own."""
        task.polls += part
        age = self.clock.t + OVERHEAD - task.began
        if age < task.took:
            task.ran = age
            self._push(self.clock.t + self.poll_scheduler.next_wait(task.number, KIND, ROUTE, age), task)
            return False
        del self.memory.running[task.number]
        self.memory.learn(task, age)
        self.found.append(Found(polls=task.polls, took=task.took, at=age))
        return True


def tried(
    draw: Draw,
    *,
    polling: str = "prompt",
    told: bool = True,
    together: bool = False,
    seed: int = 1,
    images: int = IMAGES,
) -> list[Found]:
    """What becomes of that many images with durations like these."""
    rng, clock = random.Random(seed), _Clock()
    places = MANY if together else PLACES
    provider = "apimaster" if together else "maxapi.io"
    accounts = {"main": AccountSettings.model_validate({"provider": provider, "api_key": "key", "polling": polling})}
    memory = _Memory(half_life=max(poll_schedule.HALF_LIFE, OF_PLACES * places), told=told)
    poll_batching = PollBatching(accounts=accounts, able=MANY_TASKS, clock=clock)
    poll_scheduler = PollScheduler(
        accounts=accounts,
        ledger=cast("Ledger", SimpleNamespace(accounts=memory)),
        executors=InlineExecutors(),
        clock=clock,
        rng=rng,
        poll_batching=poll_batching,
    )
    trial = Trial(
        draw=draw, poll_scheduler=poll_scheduler, poll_batching=poll_batching, memory=memory, clock=clock, rng=rng
    )
    return asyncio.run(trial.work(images, places))


def measure(images: int = IMAGES, seeds: int = 3) -> list[tuple[str, str]]:
    """Every line of the table in docs/explanation/polling.md that needs no server."""
    lines = []
    for name, draw in DURATIONS.items():
        for polling in poll_schedule.AIMS:
            for told in (True, False):
                runs = [tried(draw, polling=polling, told=told, seed=seed, images=images) for seed in range(seeds)]
                label = f"{name}, {polling}, {'told' if told else 'not told'}"
                lines.append((label, _line(runs, images)))
    runs = [tried(DURATIONS["uniform 5-20 s"], together=True, seed=seed, images=2 * images) for seed in range(seeds)]
    lines.append((f"uniform 5-20 s, {MANY} in flight, asked about together", _line(runs, 2 * images)))
    return lines


def _line(runs: list[list[Found]], images: int) -> str:
    settled = [each for found in runs for each in found[min(START, images // 2) :]]
    return f"{Figures.of(settled)}; from the start on {Figures.of([each for found in runs for each in found])}"


# -- what no schedule can do better --------------------------------------------------------------------------------


def least_polls(chances: Sequence[tuple[float, float]], late: float) -> float:
    """Polls an image that any schedule takes which finds half of the tasks within `late` of their duration.

    `chances`: (duration, chance) on a fine grid. Lagrange: for whatever price of being late, the least of polls and
    price together, less what half of the tasks pay, is a lower bound, for mixtures of schedules too. The best of these
    bounds is told.
    """
    ends = [duration for duration, _ in chances]
    below = [0.0]
    for _, rng in chances:
        below.append(below[-1] + rng)
    in_time = [below[sum(end < limit / (1 + late) - 1e-9 for end in ends)] for limit in ends]
    bound = lambda price: _least_cost(below, in_time, price) - price / 2  # noqa: E731  concave
    low, high = 0.0, 32.0
    while high - low > 0.1:
        left, right = low + (high - low) / 3, high - (high - low) / 3
        low, high = (left, high) if bound(left) < bound(right) else (low, right)
    return bound((low + high) / 2)


def _least_cost(below: Sequence[float], in_time: Sequence[float], price: float) -> float:
    """The least that polls cost together with `price` for each task that is found too late."""
    count = len(in_time)
    costs = [0.0] * (count + 1)
    for here in range(count - 1, -1, -1):
        missed = ((max(0.0, in_time[then] - below[here]), costs[then + 1]) for then in range(here, count))
        costs[here] = 1 - below[here] + min(price * late + rest for late, rest in missed)
    return costs[0]


def bounds() -> list[tuple[str, str]]:
    """For the durations of the table, drawn often enough to be smooth."""
    lines = []
    for name, draw in list(DURATIONS.items())[:4]:
        rng = random.Random(1)
        drawn = sorted(draw(rng, 0) for _ in range(20_000))
        chances = [(drawn[place + 49], 1 / 400) for place in range(0, 20_000, 50)]
        told = ", ".join(f"{least_polls(chances, late):.2f} polls for {late:.0%}" for late in (0.1, 0.15, 0.2))
        lines.append((f"{name}: no schedule takes less than", told))
    return lines


# -- for real ------------------------------------------------------------------------------------------------------


def real(provider: str, images: int, places: int, polling: str = "prompt") -> list[tuple[str, str]]:
    """`lightfast run` against the stand-in, from an empty ledger on; the stand-in counts."""
    scenario = {"takes": {"default": [5, 20]}, "pictures": {"tiny": True}, "seed": 7}
    with launch.running(scenario) as box, tempfile.TemporaryDirectory() as folder:
        _prepare(Path(folder), provider, images, places, polling, box.url)
        command = [
            LIGHTFAST,
            "run",
            "lamps.csv",
            "--to",
            f"{folder}/images",
            "--provider",
            provider,
            "--yes",
            "--quiet",
        ]
        run(command, folder=Path(folder))
        polls = box.stats()["providers"][provider]["polls"]
        found = list(_found(Path(folder) / "lightfast.db", box.tasks(), polls))
    label = f"{provider}, uniform 5-20 s, {polling}, {images} images, {places} in flight"
    return [(label, str(Figures.of(found))), (f"{label}: the second half", str(Figures.of(found[len(found) // 2 :])))]


def _prepare(folder: Path, provider: str, images: int, places: int, polling: str, url: str) -> None:
    price = 'prices = { "gpt-image-2" = { 1k = 0.03 } }' if provider == "apimaster" else ""
    settings = f"""
        allow_private_hosts = true
        [accounts.main]
        provider = "{provider}"
        api_key = "key"
        base_url = "{url}/{provider}"
        submits_per_second = 20.0
        polls_per_second = 40.0
        max_in_flight = {places}
        polling = "{polling}"
        {price}
    """
    (folder / "lightfast.toml").write_text(settings, encoding="utf-8")
    with (folder / "lamps.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["key", "prompt"])
        rows.writerows((f"lamp-{number:05}", f"Photo of lamp {number}") for number in range(images))


def _found(ledger: Path, tasks: Sequence[dict[str, Any]], requests: int) -> Iterator[Found]:
    """In the order they were found. The stand-in counts requests; the ledger knows who was asked about how often."""
    ends = {task["id"]: task for task in tasks}
    with sqlite3.connect(ledger) as database:
        rows = database.execute("SELECT task_id, finished_at, polls FROM attempts WHERE state = 'succeeded' ORDER BY 2")
        found = rows.fetchall()
    part = requests / sum(polls for _, _, polls in found)  # of a request, each time
    for task_id, finished_at, polls in found:
        began, ended = ends[task_id]["created_at"], ends[task_id]["ends_at"]
        yield Found(polls=polls * part, took=ended - began, at=finished_at - began)


def main() -> None:
    """Measures and prints."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--images", type=int, default=IMAGES)
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--bound", action="store_true")
    options.add_argument("--real", action="store_true")
    given = options.parse_args()
    show("Polls and lateness, in virtual time", measure(given.images, given.seeds))
    if given.bound:
        show("What no schedule can do better", bounds())
    if given.real:
        show("For real", [*real("maxapi.io", 700, 50), *real("apimaster", 800, 200)])


if __name__ == "__main__":
    main()
