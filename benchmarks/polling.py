"""Polls an image, and how late results are found: the worker's own pacing in virtual time, and a real run.

In virtual time an account keeps its places filled with tasks whose durations are drawn; what it learns, and what that
costs, is all there, from the first image on. `python -m benchmarks.polling --real` also runs the program against the
stand-in, with the stand-in counting; `--bound` shows what no schedule with as many polls can do better.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import heapq
import itertools
import math
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
from jobs.ledger.accounts.values import PollRoom
from jobs.ledger.claims.polls_and_copies import FILLED_AHEAD
from jobs.policy import adaptive_limits, poll_schedule, rate
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
#: Images of a batch whose time is told, from an empty ledger on.
BATCH = 400
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
    "uniform 5-20 s, from the middle on 10-40 s": lambda rng, n: rng.uniform(5, 20) * (1 + (n >= BATCH // 2)),
}
#: Those whose bound is computed.
STEADY = list(DURATIONS)[:4]


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
    late: float  # lateness in all / duration in all
    median: float  # of lateness / duration

    @classmethod
    def of(cls, found: Sequence[Found]) -> Figures:
        """Averages, and the median."""
        return cls(
            polls=statistics.fmean(each.polls for each in found),
            late=sum(each.at - each.took for each in found) / sum(each.took for each in found),
            median=statistics.median((each.at - each.took) / each.took for each in found),
        )

    def __str__(self) -> str:
        return f"{self.polls:.2f} polls, {self.late:.1%} late (median {self.median:.1%})"


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
class _PollRate:
    """In place of the account's row, what is learnt of the polls a second; and the bucket of the provider."""

    answered: float  # requests a second
    learnt: float = adaptive_limits.FIRST_POLLS_PER_SECOND
    tat: float = 0.0
    cut_at: float | None = None
    is_full: bool = True
    refused: int = 0
    _bucket: float = 1.0
    _filled_at: float = 0.0

    def permits(self, now: float) -> rate.Permits:
        return rate.permits(tat=self.tat, now=now, per_second=self.learnt, horizon=0.25, most=32)

    def used(self, permits: rate.Permits, count: int, now: float) -> None:
        self.tat = permits.tat(count)
        calm = self.cut_at is None or now - self.cut_at >= adaptive_limits.POLLS_CALM
        if count == permits.count and not permits.short and calm:
            self.learnt = adaptive_limits.more_polls(self.learnt, count)

    def answers(self, now: float) -> bool:
        """Whether a poll of now is answered and not refused."""
        self._bucket = min(max(1.0, self.answered), self._bucket + (now - self._filled_at) * self.answered)
        self._filled_at = now
        if self._bucket >= 1.0:
            self._bucket -= 1.0
            return True
        self.refused += 1
        if self.cut_at is None or now > self.cut_at:
            self.cut_at = now + adaptive_limits.POLL_COOLDOWN
            self.tat = max(self.tat, self.cut_at)
            self.learnt = adaptive_limits.fewer_polls(self.learnt)
        return False


@dataclass(slots=True)
class _Memory:
    """In place of the ledger: what is learnt."""

    half_life: float
    told: bool
    room: _PollRate
    known: Durations = field(default_factory=Durations)
    running: dict[int, _Task] = field(default_factory=dict)  # by number

    def durations(self) -> dict[TaskKind, Durations]:
        if not poll_schedule.is_young(self.known):
            return {KIND: self.known}
        return {KIND: poll_schedule.with_running(self.known, [task.ran for task in self.running.values()])}

    def poll_rooms(self) -> dict[str, PollRoom]:
        return {
            "main": PollRoom(
                per_second=self.room.learnt,
                is_learnt=True,
                in_flight=len(self.running),
                is_full=self.room.is_full,
            )
        }

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
    chance: random.Random  # of the durations: the same whatever the polls do
    full_until: int  # images: while more are to begin, every place waits for the next
    found: list[Found] = field(default_factory=list)
    of_least: float = 0.0  # the time of all, as a multiple of what their durations ask for at least
    took: dict[int, float] = field(default_factory=dict)  # by number
    _due: list[tuple[float, int, _Task]] = field(default_factory=list)
    _begun: int = 0

    async def work(self, images: int, places: int) -> None:
        """Makes all images."""
        began, first = self.clock.t, [place * BREATH for place in range(places)]
        for place in range(places):
            self._begin(self.clock.t + place * BREATH)
        while self._due:
            self.clock.t = max(self.clock.t + BREATH, self._due[0][0])
            self.memory.room.is_full = self._begun < self.full_until
            await self.poll_scheduler.refresh()
            ended = [self._ask(task, 1 / len(asked)) for asked in self._claim() for task in asked]
            for _ in range(min(sum(ended), images - self._begun)):
                self._begin(self.clock.t)
        self.of_least = (self.clock.t - began) / least_time([self.took[number] for number in sorted(self.took)], first)

    def _begin(self, at: float) -> None:
        task = _Task(number=self._begun, took=self.draw(self.chance, self._begun), began=at)
        self._begun += 1
        self.took[task.number] = task.took
        self.memory.running[task.number] = task
        self._push(at + self.poll_scheduler.first_wait(task.number, KIND, ROUTE), task)

    def _push(self, at: float, task: _Task) -> None:
        heapq.heappush(self._due, (at, task.number, task))

    def _claim(self) -> list[list[_Task]]:
        """As jobs.ledger.claims.polls_and_copies does: what is due, and in a request that has room what is due next."""
        together, permits = self.poll_batching.most("main"), self.memory.room.permits(self.clock.t)
        requests: list[list[_Task]] = []
        while self._due and self._due[0][0] <= self.clock.t and len(requests) < permits.count:
            asked: list[_Task] = []
            while self._due and len(asked) < together and self._due[0][0] <= self.clock.t + FILLED_AHEAD:
                asked.append(heapq.heappop(self._due)[2])
            requests.append(asked)
        if requests:
            self.memory.room.used(permits, len(requests), self.clock.t)
            self.poll_batching.note("main", sum(map(len, requests)), len(requests))
        return requests

    def _ask(self, task: _Task, part: float) -> bool:
        """Whether it has ended; `part` of the request is its own."""
        task.polls += part
        if part == 1 and not self.memory.room.answers(self.clock.t):
            self._push(self.clock.t + 1.0, task)
            return False
        age = self.clock.t + OVERHEAD - task.began
        if age < task.took:
            task.ran = age
            self._push(self.clock.t + self.poll_scheduler.next_wait(task.number, KIND, ROUTE, age), task)
            return False
        del self.memory.running[task.number]
        self.memory.learn(task, age)
        self.found.append(Found(polls=task.polls, took=task.took, at=age))
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How an account's polls are made."""

    label: str
    polling: str = "prompt"
    full: bool = True  # rows wait for places
    limit: float | None = None  # polls a second that the provider answers


SETTINGS = (
    Setting(label="places wait"),
    Setting(label="places wait, 10 polls a second", limit=10.0),
    Setting(label="places are free", full=False),
    Setting(label="thrifty", polling="thrifty"),
)


def tried(
    draw: Draw, setting: Setting, *, told: bool = True, together: bool = False, seed: int = 1, images: int = IMAGES
) -> Trial:
    """What becomes of that many images with durations like these."""
    rng, clock = random.Random(seed), _Clock()
    places = MANY if together else PLACES
    provider = "apimaster" if together else "maxapi.io"
    accounts = {
        "main": AccountSettings.model_validate({"provider": provider, "api_key": "key", "polling": setting.polling})
    }
    room = _PollRate(answered=setting.limit or 1e9)
    memory = _Memory(half_life=max(poll_schedule.HALF_LIFE, OF_PLACES * places), told=told, room=room)
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
        draw=draw,
        poll_scheduler=poll_scheduler,
        poll_batching=poll_batching,
        memory=memory,
        clock=clock,
        chance=random.Random(seed),
        full_until=images if setting.full else 0,
    )
    asyncio.run(trial.work(images, places))
    return trial


def measure(images: int = IMAGES, seeds: int = 3, *, bound: bool = False) -> list[tuple[str, str]]:
    """Every line of the table in docs/explanation/polling.md that needs no server."""
    lines = []
    for name, draw in DURATIONS.items():
        for setting in SETTINGS:
            figures = []
            for told in (True, False):
                runs = [tried(draw, setting, told=told, seed=seed, images=images) for seed in range(seeds)]
                figures.append(Figures.of([each for run in runs for each in run.found[min(START, images // 2) :]]))
            best = f"; at best {least_late(_drawn(draw), figures[0].polls):.1%}" if bound and name in STEADY else ""
            times = [tried(draw, setting, seed=seed, images=BATCH).of_least for seed in range(seeds)]
            time = f"time of {BATCH} {statistics.fmean(times):.2f}"
            lines.append((f"{name}, {setting.label}", f"{figures[0]}{best}; not told {figures[1]}; {time}"))
    uniform = DURATIONS["uniform 5-20 s"]
    runs = [tried(uniform, SETTINGS[0], together=True, seed=seed, images=2 * images) for seed in range(seeds)]
    shared = Figures.of([each for run in runs for each in run.found[min(START, images) :]])
    lines.append((f"uniform 5-20 s, {MANY} in flight, asked about together", str(shared)))
    return lines


# -- what no schedule can do better --------------------------------------------------------------------------------


def least_late(ends: Sequence[float], polls: float) -> float:
    """The part of their durations that tasks are found late by, on average, by the best schedule of that many polls.

    `ends`: durations, each as likely as the others. Lagrange: for whatever a poll may cost, the least of lateness and
    cost together, less what these polls cost, is a lower bound, for mixtures of schedules too. It is the best of them.
    """
    bound = lambda cost: _least_cost(ends, cost) - cost * polls  # noqa: E731  concave
    low, high = 0.0, ends[-1]
    while high - low > 1e-3 * ends[-1]:
        left, right = low + (high - low) / 3, high - (high - low) / 3
        low, high = (left, high) if bound(left) < bound(right) else (low, right)
    return bound((low + high) / 2) / statistics.fmean(ends)


def _least_cost(ends: Sequence[float], cost: float) -> float:
    """The least that lateness and polls come to for one task, where a poll costs that many seconds."""
    count, sums = len(ends), [0.0, *itertools.accumulate(ends)]
    costs = [0.0] * (count + 1)
    for here in range(count - 1, -1, -1):
        best = math.inf
        for then in range(here + 1, count + 1):
            late = (ends[then - 1] * (then - here) - sums[then] + sums[here]) / count
            if late >= best:
                break
            best = min(best, late + costs[then])
        costs[here] = best + cost * (count - here) / count
    return costs[0]


def _drawn(draw: Draw, steps: int = 200) -> list[float]:
    chance = random.Random(1)
    drawn = sorted(draw(chance, 0) for _ in range(50 * steps))
    return drawn[25::50]


# -- for real ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RealRun:
    """What a run against the stand-in came to."""

    label: str
    whole: Figures
    second_half: Figures
    of_least: float  # its time, as a multiple of the least possible
    refused: int  # 429s

    def lines(self) -> Iterator[tuple[str, str]]:
        """Lines of a table."""
        yield self.label, str(self.whole)
        yield f"{self.label}: the second half", str(self.second_half)
        yield f"{self.label}: time, of the least possible", f"{self.of_least:.2f}; {self.refused} 429s"


def real(provider: str, images: int, places: int, polling: str = "prompt", limit: float | None = None) -> RealRun:
    """`lightfast run` against the stand-in, from an empty ledger on; the stand-in counts.

    `limit`: polls a second that the stand-in answers; the rest gets a 429.
    """
    scenario = {"takes": {"default": [5, 20]}, "pictures": {"tiny": True}, "seed": 7}
    scenario |= {"limits": {"default": {"polls_per_second": limit}}} if limit else {}
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
        refused = box.stats()["providers"][provider]["refused_429"]
        tasks = box.tasks()
        found = list(_found(Path(folder) / "lightfast.db", tasks, polls))
    allowed = f", {limit:g} polls a second" if limit else ""
    label = f"{provider}, uniform 5-20 s, {polling}, {images} images, {places} in flight{allowed}"
    return RealRun(
        label=label,
        whole=Figures.of(found),
        second_half=Figures.of(found[len(found) // 2 :]),
        of_least=_time_of_all(tasks, places),
        refused=refused,
    )


def _time_of_all(tasks: Sequence[dict[str, Any]], places: int) -> float:
    """Seconds from the first submit to the last task's end, as a multiple of what the same tasks take at least."""
    tasks = sorted(tasks, key=lambda task: task["created_at"])
    began = tasks[0]["created_at"]
    first = [task["created_at"] - began for task in tasks[:places]]
    took = [task["ends_at"] - task["created_at"] for task in tasks]
    return (max(task["ends_at"] for task in tasks) - began) / least_time(took, first)


def least_time(took: Sequence[float], first: Sequence[float]) -> float:
    """Seconds until the last of tasks that take so long has ended, where each place is taken again at once.

    `first`: when the first task of each place begins.
    """
    free = list(first)
    heapq.heapify(free)
    ends = [heapq.heapreplace(free, free[0] + seconds) + seconds for seconds in took]
    return max(ends)


def _prepare(folder: Path, provider: str, images: int, places: int, polling: str, url: str) -> None:
    price = 'prices = { "gpt-image-2" = { 1k = 0.03 } }' if provider == "apimaster" else ""
    settings = f"""
        allow_private_hosts = true
        [accounts.main]
        provider = "{provider}"
        api_key = "key"
        base_url = "{url}/{provider}"
        submits_per_second = 20.0
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
    show("Polls and lateness, in virtual time", measure(given.images, given.seeds, bound=given.bound))
    if given.real:
        slow = real("maxapi.io", BATCH, PLACES, limit=10.0)
        runs = (real("maxapi.io", BATCH, PLACES), slow, real("apimaster", 800, MANY))
        show("For real", [line for each in runs for line in each.lines()])


if __name__ == "__main__":
    main()
