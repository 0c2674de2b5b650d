"""A process on virtual time: the real stages, recorder, worker and ledger over a world that can stop it anywhere."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import OperationalError

from jobs.ledger.claims.values import Claim, Intent
from jobs.ledger.claims.verbs import ClaimVerbs
from jobs.ledger.database.engine import Database
from jobs.ledger.database.send_journal import SendJournal
from jobs.ledger.ledger import Ledger
from providers.registry import DIALECTS, MANY_TASKS
from worker.images.staging import Staging
from worker.lanes.lane import Lane
from worker.lanes.liveness import show_life
from worker.lanes.submit_lane import SubmitLane
from worker.lanes.worker import Worker, lanes_of
from worker.notifications.sender import Sender
from worker.polling.batching import PollBatching
from worker.polling.schedule import PollScheduler
from worker.recording.recorder import Recorder
from worker.recording.rescue_file import RescueFile
from worker.runtime.clock import SystemClock
from worker.runtime.departures import Departures
from worker.runtime.emergency_stop import StopCheck
from worker.runtime.ledger_writes import LedgerWrites
from worker.runtime.timings import Timings
from worker.runtime.wakeups import Wakeups
from worker.services import Services
from worker.stages import submit
from worker.storage.destinations import Destinations

from .network import SimHttp
from .schedule import EPOCH, DiesError, Loop

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from .world import World


class Machine:
    """Where a process runs: its wall clock can be set, its boot clock cannot."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.ahead = 0.0  # seconds the wall clock is ahead of true time

    def wall(self) -> float:
        return EPOCH + self._world.timeline.now + self.ahead


class SimClock(SystemClock):
    """The real clock over a machine of this world."""

    __slots__ = ("_machine", "_world")

    def __init__(self, world: World, machine: Machine) -> None:
        super().__init__()
        self._world = world
        self._machine = machine

    def wall(self) -> float:
        return self._machine.wall()

    def boot(self) -> float:
        return self._world.timeline.now

    def cpu(self) -> float:
        return 0.0


class SimCalls:
    """Every call inline, with a moment before and after it in which anything may happen to the process."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def write(self, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        await self._gap()
        value = function(*args, **kwargs)
        await self._gap()
        return value

    read = blocking = write

    async def _gap(self) -> None:
        slow = self._world.database.slow
        await asyncio.sleep(self._world.rng.uniform(0, slow) if slow else 0)

    def close(self) -> None:
        pass


def _trouble(words: str) -> OperationalError:
    return OperationalError("COMMIT", None, RuntimeError(words))


class Wire(Database):
    """One process's way to the database: it may be down, and a commit may end without anybody hearing how."""

    def __init__(self, world: World, process: Process | None) -> None:
        shared = world.database.shared
        super().__init__(url=shared.url, writer=shared.writer, reader=shared.reader, path=None)
        self._world = world
        self._process = process

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        self._demand_up()
        fate = self._fate()
        with self.writer.begin() as connection:
            yield connection
            if self._process is not None:
                self._process.notice("before commit")
            if fate == "rolled back":
                raise _trouble("the connection broke, and the transaction with it")
        if self._process is not None:
            self._process.notice("after commit")
        if fate == "committed":
            raise _trouble("the connection broke after the commit")

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        self._demand_up()
        with self.reader.begin() as connection:
            yield connection

    def _demand_up(self) -> None:
        if self._process is not None and self._world.database.down:
            raise _trouble("the database is away")

    def _fate(self) -> str:
        rng, unsure = self._world.rng, self._world.database.unsure
        if self._process is None or rng.random() >= unsure:
            return "known"
        return rng.choice(("rolled back", "committed"))


class SimClaims(ClaimVerbs):
    """The real claims; the world hears of them."""

    def __init__(self, real: ClaimVerbs, world: World, process: Process | None) -> None:
        super().__init__(real._database, real._accounts, real._journal)
        self._world = world
        self._process = process

    def submits(self, account: str, now: float, **terms: Any) -> Claim:
        watch = self._world.watch
        before = watch.claims.begins(account, now)
        try:
            claim = super().submits(account, now, **terms)
        except BaseException:
            watch.claims.is_lost(account)
            raise
        watch.claims.made(account, self._process, before, now, claim)
        for intent in claim.intents:
            watch.claimed(intent, terms["lease"])
        if claim.intents and self._world.office.emergency_stop.current() is not None:
            watch.fault("nothing is claimed while all is stopped", f"{account}: {len(claim.intents)} submits")
        if claim.intents and self._process is not None:
            self._process.notice("claimed")
        return claim


class SimLedger(Ledger):
    """The real ledger; its clock is the world's, and the world hears of claims."""

    def __init__(self, world: World, process: Process | None, machine: Machine) -> None:
        super().__init__(Wire(world, process))
        self._world = world
        self._machine = machine
        self.facts.routes = world.elsewhere
        if world.local:
            self._journal = self.claims._journal = SendJournal(path=world.folder / "departures")
        self.claims = SimClaims(self.claims, world, process)

    def clock_offset(self) -> float:
        if self._world.local:
            return 0.0
        self._database._demand_up()  # type: ignore[attr-defined]
        return self._world.true_now() - self._machine.wall()


class SimWakeups(Wakeups):
    """Wakes at the next turn of the loop, in an order that is the same in every run."""

    __slots__ = ("_pending", "_process")

    def __init__(self, process: Process) -> None:
        super().__init__(None if process.world.local else process.world.wake_far(process))
        self._process = process
        self._pending: set[str] = set()

    def wake(self, lane: str) -> None:
        if not self._pending:
            self._process.loop.call_soon(self._flush)
        self._pending.add(lane)

    def _flush(self) -> None:
        pending, self._pending = sorted(self._pending), set()
        for lane in pending:
            super().wake(lane)


class SimSubmitLane(SubmitLane):
    """The real lane; the world learns whose sent flag is whose."""

    __slots__ = ("process",)
    process: Process

    def send(self, attempt: submit.ClaimedSubmit) -> None:
        self.process.sent_flags[id(attempt.sent_flag)] = (attempt.sent_flag, attempt.intent)
        super().send(attempt)


class SimWorker(Worker):
    """The real worker over such lanes."""

    __slots__ = ("process",)
    process: Process

    def _make_lane(self, name: str) -> Lane:
        lane = super()._make_lane(name)
        if isinstance(lane, SubmitLane):
            lane = SimSubmitLane(**{each.name: getattr(lane, each.name) for each in fields(lane) if each.init})
            lane.process = self.process
        return lane


class Process:
    """One life of one worker."""

    def __init__(self, world: World, name: str, machine: Machine) -> None:
        self.world = world
        self.name = name
        self.machine = machine
        self.alive = True
        self.born_at = world.timeline.now
        self.died_at: float | None = None
        self.sent_flags: dict[int, tuple[Any, Intent]] = {}
        self.loop = Loop(world.timeline, world.loop_trouble)
        self.worker: SimWorker | None = None
        self._hold: Any = None  # the lock of the one worker, until it ends in peace
        self._inside = False
        self._armed: list[list[Any]] = []
        self._pair = (self.loop, self._step)
        world.timeline.loops.append(self._pair)
        self._tasks = [self.loop.create_task(self._live())]

    def intent_of(self, sent_flag: Any) -> Intent:
        return self.sent_flags[id(sent_flag)][1]

    # -- its life --------------------------------------------------------------------------------------------------

    async def _live(self) -> None:
        world = self.world
        try:
            services = self._services()
            self.rescue_file = services.rescue_file
            worker = SimWorker(services, only=world.only)
            worker.process = self
            if world.local:
                self._hold = services.ledger.hold(services.clock.now())
                self._hold.__enter__()
            await worker.start()
        except OperationalError:
            world.say(self.name, "cannot start")
            self._die()
            return
        self.worker = worker
        if not world.local:
            self._tasks.append(self.loop.create_task(show_life(worker)))
        self._tasks += [self.loop.create_task(worker.run_lane(lane)) for lane in lanes_of(services.accounts)]

    def _services(self) -> Services:
        world = self.world
        clock = SimClock(world, self.machine)
        executors = SimCalls(world)
        ledger = SimLedger(world, self, self.machine)
        wakeups = SimWakeups(self)
        rescue_file = RescueFile(world.folder, ledger.ledger_id)
        rescue_file._folders = (world.folder,)  # the machine's own temporary folder is no part of this world
        rng, writes = random.Random(world.rng.random()), LedgerWrites()
        accounts = world.settings.accounts
        poll_batching = PollBatching(accounts=accounts, able=MANY_TASKS, clock=clock)
        http = SimHttp(self)
        return Services(
            settings=world.settings,
            ledger=ledger,
            executors=executors,
            recorder=Recorder(
                ledger=ledger,
                executors=executors,
                clock=clock,
                rescue_file=rescue_file,
                wake=wakeups.wake,
                rng=rng,
                writes=writes,
            ),
            writes=writes,
            http=http,
            sender=Sender(channels=(), ledger=ledger, executors=executors, http=http, clock=clock, rng=rng),
            destinations=Destinations(opener=world.buckets.__getitem__),
            staging=Staging(world.folder / "spool"),
            catalog=world.catalog,
            routes=world.routes,
            poll_batching=poll_batching,
            poll_scheduler=PollScheduler(
                accounts=accounts,
                ledger=ledger,
                executors=executors,
                clock=clock,
                rng=rng,
                poll_batching=poll_batching,
                timings=world.timings,
            ),
            stop_check=StopCheck(ledger=ledger, executors=executors, clock=clock),
            departures=Departures(clock=clock),
            dialects=DIALECTS,
            clock=clock,
            rng=rng,
            wakeups=wakeups,
            rescue_file=rescue_file,
            timings=world.timings,
            holder=self.name,
        )

    def take(self, timings: Timings) -> None:
        """Other timings from now on."""
        if self.worker is not None:
            object.__setattr__(self.worker.services, "timings", timings)

    # -- what may happen to it -------------------------------------------------------------------------------------

    def arm(self, moment: str, count: int, act: str, seconds: float = 0.0) -> None:
        """`act` ("kill", "freeze") at the count-th `moment` from now."""
        self._armed.append([moment, count, act, seconds])

    def notice(self, moment: str) -> None:
        """Something worth dying at has just happened."""
        for trap in self._armed if self.alive else ():
            if trap[0] == moment:
                trap[1] -= 1
                if trap[1] == 0:
                    self.world.say(self.name, f"{trap[2]} at", moment)
                    self.kill() if trap[2] == "kill" else self.freeze(trap[3])

    def kill(self) -> None:
        """SIGKILL."""
        if not self.alive:
            return
        self._die()
        if self._inside:
            raise DiesError

    def freeze(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after so long."""
        if not self.alive:
            return
        self.loop.frozen_until = self.world.timeline.now + seconds
        self.world.timeline.after(seconds, self._thaw)
        self.world.froze(self, seconds)

    def drain(self, seconds: float, *, hurry: bool) -> None:
        """SIGTERM; in a hurry, the second Ctrl-C."""
        if self.worker is None:
            self.kill()
            return
        pressed = asyncio.Event()
        if hurry:
            pressed.set()

        async def end() -> None:
            assert self.worker is not None
            with contextlib.suppress(OperationalError):
                await self.worker.drain(seconds, hurry=pressed)
            if self._hold is not None:
                self._hold.__exit__(None, None, None)
            self._die()

        self._tasks.append(self.loop.create_task(end()))

    def wake(self, lane: str) -> None:
        if self.alive and self.worker is not None:
            worker = self.worker
            self.loop.call_soon(lambda: worker.wake(lane))

    # -- turning ---------------------------------------------------------------------------------------------------

    def _step(self) -> None:
        self._inside = True
        try:
            self.loop.step()
            self.notice("step")
        except DiesError:
            pass
        finally:
            self._inside = False

    def _thaw(self) -> None:
        if self.alive:
            self.world.say(self.name, "thaws")
            self.loop.catch_up()

    def _die(self) -> None:
        self.alive = False
        self.died_at = self.world.timeline.now
        self.world.timeline.loops.remove(self._pair)
        rescue_file = getattr(self, "rescue_file", None)
        if rescue_file is not None and rescue_file._file is not None:
            rescue_file._file.close()  # the system frees its lock
        self.world.died(self)
