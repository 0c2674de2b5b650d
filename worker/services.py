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
from jobs.settings.model import Account, Settings
from providers.catalog.models import Catalog, Unmakeable
from providers.references import By, file_name
from providers.registry import DIALECTS, MANY_TASKS
from providers.types import Dialect, Request, Route
from worker.http.client import Http
from worker.images.staging import Spool
from worker.polling.batching import Sharing
from worker.polling.routes import Routes
from worker.polling.schedule import Pacing
from worker.recording.recorder import Recorder
from worker.recording.rescue_file import Rescue
from worker.references import Recent
from worker.runtime.clock import Clock, SystemClock
from worker.runtime.deadline_semaphore import Room
from worker.runtime.emergency_stop import StopCheck
from worker.runtime.executors import POSTGRES_WRITERS, SQLITE_WRITERS, Calls, ThreadedCalls
from worker.runtime.ledger_writes import LedgerWrites
from worker.runtime.wakeups import Bells
from worker.storage.destinations import Destinations

#: Bytes of images that a process holds in memory, over all its downloads, checks and uploads: with the process itself
#: it stays well below 300 MB. One image that is larger has all of it, alone.
COPY_MEMORY = 96 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What stages receive. Nothing else in the worker reads a clock, throws dice or opens anything."""

    settings: Settings
    ledger: Ledger
    calls: Calls
    recorder: Recorder
    http: Http
    destinations: Destinations
    spool: Spool
    catalog: Catalog
    routes: Routes
    sharing: Sharing
    pacing: Pacing
    stop_check: StopCheck
    dialects: Mapping[str, Dialect]
    clock: Clock
    chance: random.Random
    bells: Bells
    rescue: Rescue
    holder: str  # this process, in leases and in lists of workers
    writes: LedgerWrites
    recent: Recent = field(default_factory=Recent)  # reference files
    memory: Room = field(default_factory=lambda: Room(COPY_MEMORY))  # bytes of images, over all copies

    @property
    def accounts(self) -> Mapping[str, Account]:
        """The accounts of the settings, by name."""
        return self.settings.accounts

    async def close(self) -> None:
        """Ends the threads and connections; the ledger too."""
        await self.http.close()
        self.calls.close()
        self.rescue.close()
        self.ledger.close()


def build(
    settings: Settings,
    *,
    clock: Clock | None = None,
    chance: random.Random | None = None,
    ring: Callable[[str], None] | None = None,
    ledger: Ledger | None = None,
    calls: Calls | None = None,
) -> Services:
    """Wires a process. `ring`: reaches the workers elsewhere, without ever blocking; None: there are none."""
    ledger = ledger or open_ledger(settings.database_url)
    calls = calls or ThreadedCalls(writers=SQLITE_WRITERS if ledger.is_sqlite else POSTGRES_WRITERS)
    clock = clock or SystemClock()
    chance = chance or random.Random(secrets.randbits(64))  # noqa: S311  jitter is no secret
    bells = Bells(ring)
    home = ledger.path.parent if ledger.path else Path.cwd()
    sharing = Sharing(accounts=settings.accounts, able=MANY_TASKS, clock=clock)
    rescue = Rescue(home, ledger.ledger_id)
    writes = LedgerWrites()
    catalog = catalog_of(settings)
    ledger.routes = _routes_of(settings, catalog)
    return Services(
        settings=settings,
        ledger=ledger,
        calls=calls,
        recorder=Recorder(
            ledger=ledger, calls=calls, clock=clock, rescue=rescue, ring=bells.ring, chance=chance, writes=writes
        ),
        writes=writes,
        http=Http(
            allow_private_hosts=settings.allow_private_hosts,
            trusted_hosts=[account.base_url for account in settings.accounts.values()],
            user_agent=settings.user_agent,
        ),
        destinations=Destinations(),
        spool=Spool(home / "lightfast-spool"),
        catalog=catalog,
        routes=Routes(catalog),
        sharing=sharing,
        pacing=Pacing(
            accounts=settings.accounts, ledger=ledger, calls=calls, clock=clock, chance=chance, sharing=sharing
        ),
        stop_check=StopCheck(ledger=ledger, calls=calls, clock=clock),
        dialects=DIALECTS,
        clock=clock,
        chance=chance,
        bells=bells,
        rescue=rescue,
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
        return [route for route in found if not (with_files and route.references_by is By.LINK)]

    return routes


def catalog_of(settings: Settings) -> Catalog:
    """The catalogue with the prices and the cadence that the settings give."""
    catalog = Catalog.load()
    for account in settings.accounts.values():
        catalog = catalog.with_prices({account.provider: account.prices}) if account.prices else catalog
        catalog = catalog.with_cadence(account.provider, account.first_poll_after, account.poll_every)
        catalog = catalog.with_route_mode(account.provider, account.route_mode)
    return catalog
