"""The composition root: everything a stage needs, wired in one place."""

from __future__ import annotations

import os
import random
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jobs.ledger import Ledger, open_ledger
from jobs.settings.model import AccountSettings, Settings
from providers.catalog.models import Catalog, Unmakeable
from providers.references import ReferencesBy, file_name
from providers.registry import DIALECTS, MANY_TASKS
from providers.types import Dialect, Request, Route
from worker.http.client import Http
from worker.images.staging import Staging
from worker.notifications.channels import Channel, channels_of
from worker.notifications.sender import Sender
from worker.polling.batching import PollBatching
from worker.polling.routes import TaskRoutes
from worker.polling.schedule import PollScheduler
from worker.recording.recorder import CROWDED, Recorder
from worker.recording.rescue_file import RescueFile
from worker.references import Recent
from worker.runtime.clock import Clock, SystemClock
from worker.runtime.deadline_semaphore import DeadlineSemaphore
from worker.runtime.departures import Departures
from worker.runtime.emergency_stop import StopCheck
from worker.runtime.executors import POSTGRES_WRITERS, SQLITE_WRITERS, Executors, ThreadedExecutors
from worker.runtime.ledger_writes import LedgerWrites
from worker.runtime.timings import Timings
from worker.runtime.wakeups import Wakeups
from worker.storage.destinations import Destinations

#: Bytes of images that a process holds in memory, over all its downloads, checks and uploads: with the process itself
#: it stays well below 300 MB. One image that is larger has all of it, alone.
COPY_MEMORY = 96 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What stages receive. Nothing else in the worker reads a clock, throws dice or opens anything."""

    settings: Settings
    ledger: Ledger
    executors: Executors
    recorder: Recorder
    http: Http
    destinations: Destinations
    staging: Staging
    catalog: Catalog
    routes: TaskRoutes
    poll_batching: PollBatching
    poll_scheduler: PollScheduler
    stop_check: StopCheck
    departures: Departures
    dialects: Mapping[str, Dialect]
    clock: Clock
    rng: random.Random
    wakeups: Wakeups
    rescue_file: RescueFile
    timings: Timings = field(default_factory=Timings)
    holder: str  # this process, in leases and in lists of workers
    writes: LedgerWrites
    sender: Sender  # of messages to people and programs
    recent: Recent = field(default_factory=Recent)  # reference files
    memory: DeadlineSemaphore = field(
        default_factory=lambda: DeadlineSemaphore(COPY_MEMORY)
    )  # bytes of images, over all copies

    @property
    def accounts(self) -> Mapping[str, AccountSettings]:
        """The accounts of the settings, by name."""
        return self.settings.accounts

    async def close(self) -> None:
        """Ends the threads and connections; the ledger too."""
        await self.sender.close()
        await self.http.close()
        self.executors.close()
        self.rescue_file.close()
        self.ledger.close()


def build(
    settings: Settings,
    *,
    clock: Clock | None = None,
    wake: Callable[[str], None] | None = None,
    ledger: Ledger | None = None,
    timings: Timings | None = None,
    also: Sequence[Channel] = (),
) -> Services:
    """Wires a process. `wake`: reaches the workers elsewhere, without ever blocking; None: there are none.

    `also`: channels that no settings name.
    """
    timings = timings or Timings()
    ledger = ledger or open_ledger(settings.database_url)
    executors = ThreadedExecutors(writers=SQLITE_WRITERS if ledger.is_sqlite else POSTGRES_WRITERS)
    clock = clock or SystemClock()
    rng = random.Random(secrets.randbits(64))  # noqa: S311  jitter is no secret
    wakeups = Wakeups(wake)
    home = ledger.path.parent if ledger.path else Path.cwd()
    poll_batching = PollBatching(accounts=settings.accounts, able=MANY_TASKS, clock=clock)
    rescue_file = RescueFile(home, ledger.ledger_id)
    writes = LedgerWrites()
    catalog = catalog_of(settings)
    ledger.facts.routes = _routes_of(settings, catalog)
    http = Http(
        allow_private_hosts=settings.allow_private_hosts,
        trusted_hosts=[account.base_url for account in settings.accounts.values()],
        user_agent=settings.user_agent,
        proxies=settings.proxies,
    )
    return Services(
        settings=settings,
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
            crowded=0.0 if ledger.is_sqlite else CROWDED,
        ),
        writes=writes,
        http=http,
        sender=Sender(
            channels=[*channels_of(settings), *also],
            ledger=ledger,
            executors=executors,
            http=http,
            clock=clock,
            rng=rng,
        ),
        destinations=Destinations(),
        staging=Staging(home / "lightfast-spool"),
        catalog=catalog,
        routes=TaskRoutes(catalog),
        poll_batching=poll_batching,
        poll_scheduler=PollScheduler(
            accounts=settings.accounts,
            ledger=ledger,
            executors=executors,
            clock=clock,
            rng=rng,
            poll_batching=poll_batching,
            timings=timings,
        ),
        stop_check=StopCheck(ledger=ledger, executors=executors, clock=clock),
        departures=Departures(clock=clock),
        dialects=DIALECTS,
        clock=clock,
        rng=rng,
        wakeups=wakeups,
        rescue_file=rescue_file,
        timings=timings,
        holder=f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}",
    )


def _routes_of(settings: Settings, catalog: Catalog) -> Callable[[Request], Sequence[Route]]:
    providers = tuple(sorted({account.provider for account in settings.accounts.values()}))

    def routes(request: Request) -> Sequence[Route]:
        try:
            found = catalog.routes(request, among=providers)
        except Unmakeable:
            return ()
        # Whether DEST has addresses to give is known when a row is planned, and not where a row is moved.
        with_files = any(map(file_name, request.references))
        return [route for route in found if not (with_files and route.references_by is ReferencesBy.LINK)]

    return routes


def catalog_of(settings: Settings) -> Catalog:
    """The catalogue with the prices and the cadence that the settings give."""
    catalog = Catalog.load()
    for account in settings.accounts.values():
        catalog = catalog.with_prices({account.provider: account.prices}) if account.prices else catalog
        catalog = catalog.with_cadence(account.provider, account.first_poll_after, account.poll_every)
        catalog = catalog.with_route_mode(account.provider, account.route_mode)
    return catalog
