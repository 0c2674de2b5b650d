"""Everything the stand-in remembers: tasks, submits, money, limits. In memory only; a task keeps no image bytes."""

from __future__ import annotations

import heapq
import math
import random
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from sandbox.troubles.scenario import Scenario
from sandbox.troubles.strikes import Troubles
from sandbox.troubles.words import Trouble
from sandbox.values import MICROS, Order, Refusal, Task

SUBMITS_KEPT = 400_000  # the newest; older ones are counted only


@dataclass(slots=True, kw_only=True)
class Counts:
    """One provider's totals since the last reset."""

    submits: int = 0
    accepted: int = 0
    refused: int = 0
    unanswered: int = 0  # accepted, and the answer did not go out whole
    succeeded: int = 0
    failed: int = 0
    charged_images: int = 0
    money_micros: int = 0
    polls: int = 0
    tasks_polled: int = 0  # a batch query of 20 is one poll of 20 tasks
    refused_429: int = 0
    downloads: int = 0
    downloads_whole: int = 0
    bytes_downloaded: int = 0
    webhooks: int = 0
    cancels: int = 0
    in_flight: int = 0
    most_in_flight: int = 0


@dataclass(slots=True, kw_only=True)
class Submit:
    """One POST that asked for images, as it came in."""

    at: float
    provider: str
    key: str
    model: str | None = None
    prompt: str | None = None
    n: int | None = None
    status: int = 0  # of the answer; 0: none was given
    task_id: str | None = None
    trouble: str | None = None


@dataclass(slots=True, kw_only=True)
class Purse:
    """One key at one provider."""

    balance: float  # micro-dollars; infinite by default
    reserved: int = 0
    in_flight: int = 0
    charged: int = 0
    buckets: dict[str, Bucket] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Bucket:
    """A token bucket."""

    tokens: float
    filled_at: float

    def take(self, now: float, rate: float, burst: float) -> bool:
        """Whether there was a token."""
        self.tokens = min(burst, self.tokens + (now - self.filled_at) * rate)
        self.filled_at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class World:
    """The state behind all APIs. `on_end` hears of each task that ended."""

    def __init__(self, scenario: Scenario, providers: Iterable[str], *, seed: int | None = None) -> None:
        self.providers = tuple(providers)
        self.on_end: Callable[[Task], None] = lambda _task: None
        self.on_accept: Callable[[Task], None] = lambda _task: None
        self._seed = seed
        self._revoked: set[str] = set()
        self.reset()
        self.arrange(scenario)

    def reset(self) -> None:
        """Forgets everything but the scenario."""
        self._revoked.clear()
        self.tasks: dict[str, Task] = {}
        self.submits: deque[Submit] = deque(maxlen=SUBMITS_KEPT)
        self.counts = {name: Counts() for name in self.providers}
        self.strange = 0  # requests to paths nobody documents
        self._purses: dict[tuple[str, str], Purse] = {}
        self._ends: list[tuple[float, int, Task]] = []
        self._sequence = 0

    def arrange(self, scenario: Scenario) -> None:
        """Behaves by this scenario from now on; tasks and money stay."""
        seed = scenario.seed if self._seed is None else self._seed
        self.scenario = scenario
        self.chance = random.Random(seed)
        self.troubles = Troubles(scenario, seed, self.now())
        self._purses = {
            (provider, key): self._refilled(purse, provider, key) for (provider, key), purse in self._purses.items()
        }

    def now(self) -> float:
        """Unix seconds."""
        return time.time()

    # -- keys and money ------------------------------------------------------------------------------------------

    def revoke(self, key: str, *, back: bool = False) -> None:
        """Refuses a key from now on, or takes it again."""
        (self._revoked.discard if back else self._revoked.add)(key)

    def knows(self, key: str) -> bool:
        """Whether a key is taken: any is, unless it was revoked."""
        return bool(key) and key not in self._revoked and key not in self.scenario.revoked

    def purse(self, provider: str, key: str) -> Purse:
        """The money and limits of a key."""
        found = self._purses.get((provider, key))
        if found is None:
            found = self._purses[provider, key] = self._refilled(Purse(balance=math.inf), provider, key)
        return found

    def top_up(self, provider: str, key: str, dollars: float) -> None:
        """Adds to a balance."""
        self.purse(provider, key).balance += dollars * MICROS

    def check_rate(self, provider: str, key: str, verb: str) -> None:
        """Takes a token for a submit or a poll, or raises the 429."""
        limits, purse, now = self.scenario.limits_of(provider, key), self.purse(provider, key), self.now()
        rate = limits.submits_per_second if verb == "submit" else limits.polls_per_second
        full = verb == "submit" and limits.in_flight is not None and purse.in_flight >= limits.in_flight
        if not full and rate is None:
            return
        burst = limits.burst if verb == "submit" else max(limits.burst, rate or 1)
        bucket = purse.buckets.setdefault(verb, Bucket(tokens=burst, filled_at=now))
        if full or (rate is not None and not bucket.take(now, rate, burst)):
            raise Refusal("throttled", "too many requests", after=retry_after(limits.retry_after, now))

    def can_pay(self, provider: str, key: str, order: Order) -> bool:
        """Whether the balance holds the whole order beside what is running."""
        purse = self.purse(provider, key)
        return purse.balance - purse.reserved >= order.cost(order.n)

    def _refilled(self, purse: Purse, provider: str, key: str) -> Purse:
        dollars = self.scenario.balance_of(provider, key)
        purse.balance = math.inf if dollars is None else dollars * MICROS
        return purse

    # -- tasks ---------------------------------------------------------------------------------------------------

    def accept(self, task: Task) -> None:
        """From here on it is paid for when it succeeds."""
        self.tasks[task.id] = task
        purse, counts = self.purse(task.provider, task.key), self.counts[task.provider]
        purse.reserved += task.cost
        purse.in_flight += 1
        counts.accepted += 1
        counts.in_flight += 1
        counts.most_in_flight = max(counts.most_in_flight, counts.in_flight)
        self.await_end(task)
        self.on_accept(task)

    def await_end(self, task: Task) -> None:
        """Puts it among those that end by the clock."""
        self._sequence += 1
        if not math.isinf(task.ends_at):
            heapq.heappush(self._ends, (task.ends_at, self._sequence, task))

    def settle(self) -> None:
        """Ends and charges all tasks whose time has come."""
        now = self.now()
        while self._ends and self._ends[0][0] <= now:
            self._end(heapq.heappop(self._ends)[2])

    def end_now(self, task: Task, outcome: str | None = None) -> None:
        """Ends a task before its time."""
        task.outcome = outcome or task.outcome
        task.ends_at = min(task.ends_at, self.now())
        self._end(task)

    def finish(self, prompt: str = "") -> int:
        """Ends all tasks that run, stuck ones too, if their prompt has that part; returns how many."""
        running = [task for task in self.tasks.values() if not task.settled and prompt in task.order.prompt]
        for task in running:
            self.end_now(task)
        return len(running)

    def _end(self, task: Task) -> None:
        if task.settled:
            return
        task.settled = True
        purse, counts = self.purse(task.provider, task.key), self.counts[task.provider]
        purse.reserved -= task.cost
        purse.in_flight -= 1
        counts.in_flight -= 1
        self._charge(task, purse, counts)
        self.on_end(task)

    def _charge(self, task: Task, purse: Purse, counts: Counts) -> None:
        if task.outcome != "success":
            counts.failed += 1
            return
        task.charged = task.cost
        purse.balance -= task.charged
        purse.charged += task.charged
        counts.succeeded += 1
        counts.charged_images += task.delivered
        counts.money_micros += task.charged

    def task_of(self, task_id: str, provider: str, key: str) -> Task:
        """A task, for the key it was made with."""
        task = self.tasks.get(task_id)
        if task is None or task.lost or (task.provider, task.key) != (provider, key):
            raise Refusal("not_found", "task not found")
        return task

    # -- what it tells ---------------------------------------------------------------------------------------------

    def repeats(self) -> dict[str, int]:
        """Prompts with more than one accepted task at one provider and model, with how many."""
        seen: dict[tuple[str, str, str], int] = {}
        for task in self.tasks.values():
            what = (task.provider, task.order.model, task.order.prompt)
            seen[what] = seen.get(what, 0) + 1
        return {prompt: tasks for (_, _, prompt), tasks in seen.items() if tasks > 1}

    def stats(self) -> dict[str, Any]:
        """Totals, by provider and in all."""
        providers = {
            name: {**asdict(counts), "money": counts.money_micros / MICROS} for name, counts in self.counts.items()
        }
        names = (field.name for field in fields(Counts))
        total = {name: sum(values[name] for values in providers.values()) for name in names}
        repeats = self.repeats()
        return {
            "providers": providers,
            "total": {**total, "money": total["money_micros"] / MICROS},
            "repeated_prompts": len(repeats),
            "repeated": dict(list(repeats.items())[:100]),
            "strange_requests": self.strange,
        }


def retry_after(value: str | float | None, now: float) -> str | None:
    """The header's text: seconds, or a date so many seconds ahead."""
    if not isinstance(value, str) or not value.startswith("date"):
        return None if value is None else value if isinstance(value, str) else f"{value:g}"
    ahead = float(value[4:] or 2)
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(math.ceil(now + ahead)))


def retry_after_of(trouble: Trouble, now: float) -> str | None:
    """Retry-After as a trouble's words ask for it: `after 2`, `date 3`."""
    if trouble.has("date"):
        return retry_after(f"date {trouble.number(2)}", now)
    return f"{trouble.number(1):g}" if trouble.has("after") else None


def task_document(task: Task) -> dict[str, Any]:
    """A task as the control API shows it."""
    names: Iterable[str] = ("id", "provider", "key", "created_at", "outcome", "reason", "delivered", "answered", "lost")
    order = task.order
    return {
        **{name: getattr(task, name) for name in names},
        "ends_at": None if math.isinf(task.ends_at) else task.ends_at,
        "model": order.model,
        "prompt": order.prompt,
        "n": order.n,
        "params": order.echo,
        "width": task.pixels[0],
        "height": task.pixels[1],
        "format": task.format,
        "over": task.settled,
        "charged_images": task.delivered if task.charged else 0,
        "money_micros": task.charged,
        "sha256": [task.hashes.get(index) for index in range(task.delivered)],
    }
