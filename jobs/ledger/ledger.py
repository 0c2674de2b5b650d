"""The ledger: one database, and its verbs by subject. Each verb is one transaction, safe to call from any thread."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from jobs.errors import LedgerGone, LedgerUnreadable
from jobs.ledger.access.verbs import AccessVerbs
from jobs.ledger.accounts.verbs import (
    AccountVerbs,
    ConditionVerbs,
    DestinationVerbs,
    EmergencyStopVerbs,
    OutboxVerbs,
    WorkerVerbs,
)
from jobs.ledger.batches.verbs import BatchVerbs, ImageVerbs, UnknownVerbs
from jobs.ledger.claims.verbs import ClaimVerbs, HintVerbs
from jobs.ledger.database import engine, glance, ledger_file, opening, server, worker_lock
from jobs.ledger.database.durability import remarks
from jobs.ledger.database.send_journal import SendJournal
from jobs.ledger.facts import leases
from jobs.ledger.facts.verbs import FactVerbs
from jobs.ledger.openai.verbs import OpenAIBatchVerbs, OpenAIFileVerbs
from jobs.ledger.pruning.verbs import PruningVerbs
from jobs.ledger.reports.verbs import ReportVerbs
from jobs.ledger.schedules import firings
from jobs.ledger.schedules.verbs import ScheduleVerbs


class Ledger:
    """The record of every batch, job, attempt and image. Made by `open_ledger`."""

    def __init__(self, database: engine.Database) -> None:
        self._database = database
        self.is_sqlite = database.is_sqlite
        self.path: Path | None = database.path
        self.existed = database.existed
        self.address = engine.shown(database.url)
        self.ledger_id, self.created_at, secret = engine.identity(database)
        self._file = ledger_file.identity_of(self.path)
        self._journal = SendJournal(path=self.path and self.path.with_name(f"{self.path.name}.departures"))
        database.tells_origin = server.tells_origin(database)
        if database.tells_origin:
            server.learn_origin(database)
        self.accounts = AccountVerbs(database)
        self.workers = WorkerVerbs(database)
        self.destinations = DestinationVerbs(database)
        self.conditions = ConditionVerbs(database)
        self.outbox = OutboxVerbs(database)
        self.emergency_stop = EmergencyStopVerbs(database)
        self.claims = ClaimVerbs(database, self.accounts, self._journal)
        self.hints = HintVerbs(database, secret)
        self.facts = FactVerbs(database)
        self.batches = BatchVerbs(database)
        self.unknowns = UnknownVerbs(database)
        self.images = ImageVerbs(database)
        self.reports = ReportVerbs(database)
        self.schedules = ScheduleVerbs(database)
        self.pruning = PruningVerbs(database)
        self.access = AccessVerbs(database, secret)
        self.openai_files = OpenAIFileVerbs(database)
        self.openai_batches = OpenAIBatchVerbs(database)

    def close(self) -> None:
        """Closes every connection."""
        self._database.close()

    def clock_offset(self) -> float:
        """Seconds to add to this machine's clock to have the ledger's."""
        return engine.clock_offset(self._database)

    @contextlib.contextmanager
    def hold(self, now: float, *, serves: bool = False) -> Iterator[None]:
        """On SQLite: be the one worker. Having the lock proves that older holders are dead, so their leases end now.

        `serves`: works on everything on record, and on what comes later.
        """
        with worker_lock.worker_lock(self._database, serves=serves):
            if self.is_sqlite:
                self._database.write(leases.end_all, now, self._journal)
                self._database.write(firings.release, now)
                self._journal.forget()
            yield
            self._journal.forget()

    def is_displaced(self) -> bool:
        """Whether the file that is open is not at its place any more. Only a SQLite ledger is a file."""
        return self.path is not None and ledger_file.identity_of(self.path) != self._file

    def gone(self, now: float) -> LedgerGone:
        """Saves what a displaced ledger holds; the error to raise."""
        return ledger_file.gone(self._database, self.path or Path(), now)

    def departs(self, attempt_id: int) -> None:
        """This attempt's request leaves now: to be said before its first byte. Only a SQLite ledger keeps a list."""
        self._journal.note(attempt_id)

    def is_held(self) -> bool:
        """On SQLite: whether somebody is at work on it."""
        return worker_lock.is_locked(self._database)

    def is_served(self) -> bool:
        """On SQLite: whether somebody works on everything on record, and on what is recorded now."""
        return worker_lock.is_served(self._database)

    def durability(self) -> dict[str, str]:
        """The server's settings that money depends on; see `jobs.ledger.database.durability`."""
        return server.durability(self._database)

    def risks(self, *, sandbox: bool) -> list[str]:
        """What is wrong with the server's settings, in words: `run`, `submit`, workers and `doctor` say the same."""
        return [text for verdict, text in remarks(self.durability(), sandbox=sandbox) if verdict == "problem"]

    def has_moved(self) -> bool:
        """Whether submits wait: the server is not the one on record, and may have forgotten the newest."""
        return self._database.tells_origin and self._database.read(server.has_moved)

    def trust(self) -> None:
        """A person's word that submits may go on with the server as it is."""
        if self._database.tells_origin:
            self._database.write(server.trust)

    def tasks_of_nobody(self) -> list[str]:
        """Provider tasks whose attempts a restore has forgotten: paid, and nobody's."""
        return self._database.read(server.tasks_of_nobody)

    def answers(self) -> bool:
        """Whether the database answers somebody who asks anew."""
        return engine.answers(self._database)

    def unwritable(self) -> str | None:
        """Why the ledger answers and takes no writes, in words that follow "the ledger"; None: it takes them."""
        return engine.unwritable(self._database)


def open_ledger(url: str, *, create: bool = True, upgrade: bool = False) -> Ledger:
    """Opens a ledger. An empty schema is made (one process does, the others wait); SQLite upgrades after a copy.

    Raises:
        WrongSchema: The schema is older or newer than this program.
        LightfastError: There is no ledger and `create` is False, or it cannot be opened.
    """
    database = engine.connect(url)
    try:
        opening.prepare(database, create=create, upgrade=upgrade)
        return Ledger(database)
    except BaseException:
        database.close()
        raise


@contextlib.contextmanager
def glance_into(path: Path) -> Iterator[Ledger]:
    """A SQLite ledger that is not this command's own: it is not made, upgraded or written to.

    Raises:
        LedgerUnreadable: It is damaged, locked, or of another version.
    """
    with contextlib.closing(glance.only_to_read(path)) as database:
        try:
            yield Ledger(database)
        except (SQLAlchemyError, OSError) as error:
            raise LedgerUnreadable(f"the ledger {path} cannot be read") from error
