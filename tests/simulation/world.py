"""One seed's world: a small batch, accounts, a database, workers, and a schedule of everything that goes wrong."""

from __future__ import annotations

import hashlib
import random
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import orjson
from pydantic import SecretStr
from sqlalchemy import update

from jobs.ledger.batches.values import NewBatch, Row
from jobs.ledger.database import engine, opening
from jobs.ledger.database.engine import Database
from jobs.ledger.database.schema import ledger as ledger_table
from jobs.policy import liveness
from jobs.policy.failover import Failover
from jobs.settings.model import AccountSettings, Settings
from providers.catalog import offers
from providers.catalog.models import Catalog
from providers.dialects.callbacks import read_callback
from providers.types import MICROS, Request
from worker.polling.routes import TaskRoutes
from worker.runtime.limits import budget_of, limits_of
from worker.runtime.timings import Timings
from worker.services import _routes_of

from .gates import Gate, gate
from .invariants import Watch
from .network import Bucket, Roads
from .person import Person
from .process import Machine, Process, SimLedger
from .providers_model import TOKENS, Model, Moods, Task
from .schedule import EPOCH, Timeline
from .together import Manner

PRICES = {"maxapi.io": 20_000, "maxapi.dev": 40_000, "apimaster": 60_000}
#: What only takes long is shortened: a lane looks for itself less often (wakeups mostly come first), and a task is
#: forgotten after minutes instead of a day. Signs of life come late, but not so late that a worker counts as gone.
TIMINGS = Timings(
    idle=60.0,
    idle_hinted=3.0,
    sweep_every=30.0,
    copies_at_once=2,
    copies_claimed=6,
    sign_every=1.5 * liveness.SIGN_EVERY,
    forgotten_after=400.0,
    forgotten_for_sure=800.0,
    slowest_poll=120.0,
    durations_every=15.0,
    unknown_link_life=1_200.0,
    gone_after=200.0,
    unanswered_after=1_200.0,
)
#: Once nothing is lost any more.
CALM_TIMINGS = replace(TIMINGS, idle=120.0, sweep_every=120.0, sign_every=0.95 * liveness.SILENT_AFTER)
#: Seconds that a link lives where the provider does not say when it dies; the real ones take a week.
LINK_LIFE = 1_200.0
#: Seconds.
SUBMIT_TIMEOUT = {"maxapi.io": 60.0, "maxapi.dev": 100.0, "apimaster": 160.0}
PROVIDERS = tuple(PRICES)
MODELS = {"maxapi.io": "gpt-image-2/text-to-image", "maxapi.dev": "openai/gpt-image-2-beta", "apimaster": "gpt-image-2"}


# -- made once a process, since to make it costs more than a whole seed --------------------------------------------


@dataclass(slots=True)
class Shelf:
    """The database that every seed begins anew."""

    shared: Database
    empty: sqlite3.Connection

    @property
    def connection(self) -> sqlite3.Connection:
        return self.shared.writer.raw_connection().driver_connection  # type: ignore[return-value]


@cache
def shelf() -> Shelf:
    shared = engine.connect("sqlite://")
    opening.prepare(shared, create=True, upgrade=False)
    with shared.writing() as tx:
        tx.execute(update(ledger_table).values(id="5" * 32, secret="5" * 64, created_at=EPOCH))
    empty = sqlite3.connect(":memory:")
    shared.writer.raw_connection().driver_connection.backup(empty)  # type: ignore[union-attr]
    return Shelf(shared, empty)


@cache
def catalog(*, by_tokens: bool) -> tuple[Catalog, TaskRoutes]:
    """The real one, in more of a hurry: links die within the hour, and there are fewer polls.

    `by_tokens`: MaxAPI.dev bills what its answers say they used.
    """
    contents = offers.load()
    made = Catalog(replace(contents, offers=tuple(_hasty(offer) for offer in contents.offers)))
    prices = {name: price for name, price in PRICES.items() if not (by_tokens and name == "maxapi.dev")}
    made = made.with_prices({name: {"gpt-image-2": {"1k": price / MICROS}} for name, price in prices.items()})
    made = made.with_route_mode("maxapi.dev", "official-cheap") if by_tokens else made
    return made, HastyRoutes(made)


class HastyRoutes(TaskRoutes):
    """Leases end sooner: apimaster's would take a quarter of an hour."""

    @staticmethod
    def longest_submit(provider: str) -> float:
        return SUBMIT_TIMEOUT[provider]


def _hasty(offer: offers.Offer) -> offers.Offer:
    timeout = dict.fromkeys(offer.submit_timeout, SUBMIT_TIMEOUT[offer.provider])
    return replace(offer, link_life=LINK_LIFE, first_poll_after=12.0, poll_every=10.0, submit_timeout=timeout)


@dataclass(slots=True)
class Trouble:
    """How the database is."""

    shared: Database
    down: bool = False
    unsure: float = 0.0  # part of the commits that end without a word
    slow: float = 0.0  # seconds a call may take
    usual: float = 0.0  # `unsure` when nothing else is the matter


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a history."""

    at: float
    text: str


class World(Roads):
    """Everything outside the processes, and the list of them."""

    def __init__(self, seed: int, *, verbose: bool = False) -> None:
        self.seed = seed
        self.rng = random.Random(f"lightfast {seed}")
        self.history: list[Line] = []
        self._verbose = verbose
        self._digest = hashlib.sha256()
        self.folder = Path(tempfile.mkdtemp(prefix="lightfast-sim-", dir=_memory()))
        found = shelf()
        found.empty.backup(found.connection)
        self.raw = found.connection
        usual = self.rng.choice((0.0, 0.0, 0.0, 0.02, 0.15))
        self.database = Trouble(found.shared, unsure=usual, usual=usual)
        self.timeline = Timeline(random.Random(f"turns {seed}"))
        self.moods = _moods(self.rng)
        self.manner = self.rng.choice((Manner.ABSENT, Manner.PLAIN, Manner.PLAIN, Manner.ODD))
        self.model = Model(self.timeline, random.Random(f"model {seed}"), self.moods, random.Random(f"odd {seed}"))
        self.model.call_back = self._call_back
        self.crawl = 0.0  # seconds more that a download may take
        self.met: Counter[str] = Counter()  # what happened, and how often
        self.by_tokens = random.Random(f"tokens {seed}").random() < 0.3
        self.catalog, self.routes = catalog(by_tokens=self.by_tokens)
        self.local = self.rng.random() < 0.3
        self.machines = [Machine(self)] if self.local else [Machine(self) for _ in range(3)]
        self.settings = self._settings()
        self.gates = {name: self._gate(account) for name, account in self.settings.accounts.items()}
        self.elsewhere = _routes_of(self.settings, self.catalog)
        self.processes: list[Process] = []
        self.dead: list[Process] = []  # kept, so that nothing in them runs on
        self.calm = False
        self.timings = TIMINGS
        self.wanted = 1 if self.local else self.rng.choice((1, 2, 2, 3))
        self.only: str | None = None
        self._born = 0
        self.watch = Watch(self)
        if usual:
            self.watch.database_fails()
        self.office = SimLedger(self, None, self.machines[0] if self.local else Machine(self))
        self.office.accounts.sync(limits_of(self.settings), daily_budget=budget_of(self.settings.daily_budget))
        self.batches: list[str] = []
        self.dests = self._dests()
        self.buckets = {dest: Bucket(self, dest) for dest in sorted(set(self.dests.values()))}
        self.batches += [self._batch(name) for name in self.dests]
        self.person = Person(self)

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- time and history ------------------------------------------------------------------------------------------

    def true_now(self) -> float:
        """The ledger's clock: the database's, or the one machine's."""
        return self.machines[0].wall() if self.local else EPOCH + self.timeline.now

    def say(self, *words: Any) -> None:
        """A line of the history."""
        text = " ".join(map(str, words))
        self._digest.update(f"{self.timeline.now:.6f} {text}\n".encode())
        if self._verbose:
            self.history.append(Line(self.timeline.now, text))

    @property
    def digest(self) -> str:
        """Stands for the whole history."""
        return self._digest.hexdigest()[:16]

    def calm_down(self) -> None:
        """Nothing goes wrong any more; lanes look less often."""
        self.calm, self.timings = True, CALM_TIMINGS
        for process in self.processes:
            process.take(CALM_TIMINGS)

    def loop_trouble(self, text: str) -> None:
        self.watch.fault("an event loop complains", text)

    # -- what this seed is about -----------------------------------------------------------------------------------

    def _settings(self) -> Settings:
        rng = self.rng
        accounts: dict[str, AccountSettings] = {}
        first = rng.sample(PROVIDERS, rng.randrange(1, 4))
        providers = [*first, *([rng.choice(first)] if rng.random() < 0.2 and len(first) < 3 else [])]
        for place, provider in enumerate(providers):
            name = f"a{place}"
            rate_declared, places_declared = rng.choice(DECLARED)
            accounts[name] = AccountSettings(
                provider=provider,
                api_key=SecretStr("key"),
                base_url=f"http://{name}.sim",
                submits_per_second=rng.choice((0.2, 1.0, 5.0, 20.0)) if rate_declared else None,
                polls_per_second=20.0,
                max_in_flight=rng.choice((1, 2, 4, 10)) if places_declared else None,
                daily_budget=rng.choice((0.2, 1.0)) if rng.random() < 0.1 else None,
                webhook_base_url="http://us.sim" if provider == "maxapi.io" and rng.random() < 0.6 else "",
            )
        for name, account in accounts.items():
            by_tokens = self.by_tokens and account.provider == "maxapi.dev"
            self.model.prices[name] = TOKENS.bound((1024, 1024), None, 0) if by_tokens else PRICES[account.provider]
        pays = rng.random() < 0.25
        return Settings(
            database_url="sqlite:///nowhere.db",
            accounts=accounts,
            daily_budget=rng.choice((0.2, 1.0)) if rng.random() < 0.1 else None,
            on_unknown="pay-again" if pays else "hold",
            unknown_budget=rng.choice((0.05, 0.2, 5.0)) if pays else 0.0,
        )

    def _dests(self) -> dict[str, str]:
        """The batches by name, and where each goes: to a place of its own, or all to one."""
        apart = self.rng.random() < 0.6
        names = [f"b{place}" for place in range(self.rng.choice((1, 1, 2, 3)))]
        return {name: f"sim://{name}" if apart else "sim://all" for name in names}

    def _gate(self, account: AccountSettings) -> Gate:
        """What is declared is allowed; what is not is the provider's secret."""
        allowed = gate(self.rng)
        return Gate(
            rate=allowed.rate if account.submits_per_second is None else 1e6,
            places=allowed.places if account.max_in_flight is None else 1_000_000,
        )

    def _batch(self, name: str) -> str:
        rng = self.rng
        rows = [self._row(position) for position in range(5 + int(26 / len(self.dests) * rng.random() ** 2))]
        cost = sum((row.price or 0) * (row.request.n if row.request else 0) for row in rows)
        unpriced = rng.random() < 0.1
        budget = None if unpriced else rng.choice((None, None, cost, cost // 2, cost // 3, 2 * cost))
        if unpriced:
            rows = [replace(row, price=None) if rng.random() < 0.5 else row for row in rows]
        new = NewBatch(
            name=name, dest=self.dests[name], path="{batch}/{key}/{index}.{ext}", columns=(), source="sim",
            budget=budget, allow_partial=True, weight=rng.choice((0.5, 1.0, 1.0, 3.0)),
            retries=rng.choice((0, 2, 2, 5)), failover=rng.choice(tuple(Failover)),
        )  # fmt: skip
        keyed = [
            replace(row, key=f"{name}-{row.key}", path=f"{name}/{name}-{row.key}/{{index}}.{{ext}}") for row in rows
        ]
        keyed = [_with_prompt(row) for row in keyed]
        self.office.batches.record_manifest(new, keyed, now=self.true_now())
        self.watch.budget_is(name, budget)
        if rng.random() < 0.2:
            place = f"{name}/{rng.choice(keyed).key}/0.png"
            self.buckets[self.dests[name]].held[place] = (b"somebody else's", {})
        self.say("batch", name, f"rows={len(rows)}", f"budget={budget}")
        return name

    def _row(self, position: int) -> Row:
        provider = self.rng.choice([account.provider for account in self.settings.accounts.values()])
        request = Request(
            prompt="lamp",
            model="gpt-image-2",
            ratio="1:1",
            resolution="1k",
            n=self.rng.choice((1, 1, 1, 2, 3, 4)),
        )
        route = self.catalog.route_of(provider, MODELS[provider], request)
        return Row(
            position=position,
            line=position + 2,
            key=f"k{position}",
            carried=b"{}",
            request=request,
            request_hash=request.hash(),
            path="",
            provider=provider,
            provider_model=MODELS[provider],
            price=route.price_of(" " * 40),
            mode=route.mode,
            pixels=route.pixels,
            max_n=min(route.max_n, self.rng.choice((1, 2, 10))),
        )

    # -- processes -------------------------------------------------------------------------------------------------

    def hire(self) -> None:
        """Another process, unless there are enough."""
        if len(self.processes) >= self.wanted:
            return
        self._born += 1
        machine = self.machines[self._born % len(self.machines)]
        process = Process(self, f"w{self._born}", machine)
        self.processes.append(process)
        self.say("starts", process.name)
        if not self.calm:
            self._arm(process)

    def died(self, process: Process) -> None:
        self.say("ends", process.name)
        self.processes.remove(process)
        self.dead.append(process)
        wait = 1.0 if self.calm else self.rng.choice((0.5, 5.0, 60.0, 400.0))
        self.timeline.after(wait, self.hire)

    def froze(self, process: Process, seconds: float) -> None:
        self.say(process.name, f"freezes for {seconds:.0f} s")
        self.watch.froze(process)
        if self.local:
            return  # the worker's lock is still held: nobody else may start
        # Somebody notices that a worker is silent, and starts another.
        self.processes.remove(process)
        self.processes.insert(0, process)
        self.wanted += 1
        self.timeline.after(self.rng.uniform(1, 60), self.hire)
        self.timeline.after(seconds, self._one_less)

    def _one_less(self) -> None:
        self.wanted = max(1, self.wanted - 1)

    def _arm(self, process: Process) -> None:
        rng = self.rng
        if rng.random() < 0.6:
            moment = rng.choice(MOMENTS)
            count = rng.randrange(1, 3_000) if moment == "step" else int(rng.expovariate(1 / 6)) + 1
            process.arm(moment, count, "kill")
        if rng.random() < 0.4:
            seconds = rng.choice((5.0, 25.0, 200.0, 200.0, 320.0, 800.0))
            process.arm(rng.choice(STOPS), int(rng.expovariate(1 / 3)) + 1, "freeze", seconds)

    def wake_far(self, process: Process) -> Callable[[str], None]:
        """The broker: a wakeup reaches the others, perhaps twice, perhaps never."""

        def wake(lane: str) -> None:
            if self.rng.random() < (0.0 if self.calm else 0.4):
                return
            for other in self.processes:
                if other is not process:
                    self.timeline.after(self.rng.uniform(0.01, 2), lambda other=other: other.wake(lane))

        return wake

    # -- callbacks -------------------------------------------------------------------------------------------------

    def _call_back(self, task: Task) -> None:
        rng, moods = self.rng, self.moods
        if rng.random() < moods.webhook_lost:
            return
        times = rng.choice((1, 2, 3)) if rng.random() < moods.webhook_odd else 1
        for _ in range(times):
            wait = rng.choice((0.1, 5.0, 300.0)) if rng.random() < moods.webhook_odd else 0.1
            self.timeline.after(wait, lambda: self._hear(task, task.id))
        if rng.random() < moods.webhook_odd:
            # A task of the same row with the same input is not to be told from ours; nobody loses by that mistake.
            others = [other.id for other in self.model.tasks.values() if other.prompt != task.prompt]
            self.timeline.after(1.0, lambda: self._hear(task, rng.choice((*others, "task-nobody-knows"))))

    def _hear(self, task: Task, said: str) -> None:
        """As web/callbacks/hooks.py does."""
        told = self.model.tasks.get(said, task)
        body = orjson.dumps({"code": 0, "data": {**self.model.io_data(told, self.timeline.now), "taskId": said}})
        token = str(task.callback).rpartition("/")[2]
        named = read_callback(body)
        if not self.office.hints.is_token(token) or named is None or self.database.down:
            return
        lane = self.office.hints.hear(token, named, self.true_now())
        self.say("callback", task.attempt_id, said, lane)
        if lane is not None:
            for process in self.processes:
                process.wake(lane)


def _with_prompt(row: Row) -> Row:
    """The prompt tells the key, so the model knows whose picture is whose."""
    assert row.request is not None
    request = replace(row.request, prompt=f"lamp {row.key}")
    return replace(row, request=request, request_hash=request.hash())


def _memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


#: Whether an account declares its rate, and its places.
DECLARED = ((True, True), (True, True), (True, False), (False, True), (False, False), (False, False))
#: When a process may be killed or frozen.
MOMENTS = (
    "step", "before commit", "after commit", "claimed", "claimed", "departed", "departed", "accepted", "accepted",
    "answered", "answered",
)  # fmt: skip
STOPS = ("claimed", "claimed", "claimed", "departed", "accepted", "answered", "after commit")


def _moods(rng: random.Random) -> Moods:
    """This seed's troubles: some are absent, some rare, some frequent."""
    moods = Moods()
    for name in Moods.__slots__:
        setattr(moods, name, rng.choice((0.0, 0.0, 0.03, 0.15, 0.4)))
    moods.forgets = min(moods.forgets, 0.15)
    moods.twins = min(moods.twins, 0.15)
    return moods
