"""The ledger's verbs. Each is one transaction, synchronous and safe to call from any thread."""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from jobs.errors import LedgerBusy, LedgerGone
from jobs.facts import Fact
from jobs.ledger.accounts import configured, daily_budgets, destinations, durations, emergency_stop, usage, workers
from jobs.ledger.accounts.durations import TaskKind
from jobs.ledger.accounts.values import Account, AccountLimits, DayLimit, Stranded, Use
from jobs.ledger.accounts.worker_values import DestinationTrouble, EmergencyStop, WorkerProcess
from jobs.ledger.batches import adopted, batches, failure_breaker, manifests, overlap, steering, unknowns, verification
from jobs.ledger.batches.adopted_values import AdoptedRow
from jobs.ledger.batches.values import Batch, KnownRow, MadeBefore, NewBatch, RecordedRow, Row, UnknownAttempt
from jobs.ledger.claims import copy_failures, copy_stops, hints, polls_and_copies, reuse, submits
from jobs.ledger.claims.reuse import ReuseOptions
from jobs.ledger.claims.values import Claim, DueCopy, DueHint, DuePoll, Failing
from jobs.ledger.database import engine, ledger_file, server
from jobs.ledger.database.send_journal import SendJournal
from jobs.ledger.facts import failover, leases, record
from jobs.ledger.facts.leases import SweepResult
from jobs.ledger.reports import money, reports, token_costs
from jobs.ledger.reports.books import AuditLine, Entry
from jobs.ledger.reports.values import Learnt, Progress, Result, Story
from jobs.policy import rate
from jobs.policy.copy_headroom import Backlog
from jobs.policy.poll_schedule import Durations
from jobs.policy.reuse import ReuseSource
from jobs.policy.verification import AwaitedImage, StoredCopy
from jobs.states import ImageState
from providers.types import Request

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordEffects:
    """What recording changed: the lanes that may have work now, and for what submits wait from now on, or go on."""

    wakeups: frozenset[str]
    stopped: tuple[Failing, ...] = ()
    mended: tuple[Failing, ...] = ()


class Ledger:
    """The record of every batch, job, attempt and image. Made by `open_ledger`."""

    def __init__(self, database: engine.Database) -> None:
        self._database = database
        self.is_sqlite = database.is_sqlite
        self.path: Path | None = database.path
        self.existed = database.existed
        self.address = engine.shown(database.url)
        self.ledger_id, self.created_at, self._secret = engine.identity(database)
        self._file = ledger_file.identity_of(self.path)
        self._departures = SendJournal(path=self.path and self.path.with_name(f"{self.path.name}.departures"))
        self.routes: failover.Routes | None = None  # set by who knows the catalogue: where --failover may lead
        self._looked_at: dict[int, int] = {}
        self._providers: dict[str, str] = {}  # of the accounts, as this process has them
        self._tells_origin = server.tells_origin(database)
        if self._tells_origin:
            server.learn_origin(database)

    def close(self) -> None:
        """Closes every connection."""
        self._database.close()

    def clock_offset(self) -> float:
        """Seconds to add to this machine's clock to have the ledger's."""
        return engine.clock_offset(self._database)

    @contextlib.contextmanager
    def hold(self, now: float) -> Iterator[None]:
        """On SQLite: be the one crew. Having the lock proves that older holders are dead, so their leases end now."""
        with engine.worker_lock(self._database):
            if self.is_sqlite:
                self._end_leases(now)
            yield
            self._departures.forget()

    def is_displaced(self) -> bool:
        """Whether the file that is open is not at its place any more. Only a SQLite ledger is a file."""
        return self.path is not None and ledger_file.identity_of(self.path) != self._file

    def gone(self, now: float) -> LedgerGone:
        """Saves what a displaced ledger holds; the error to raise."""
        return ledger_file.gone(self._database, self.path or Path(), now)

    def departs(self, attempt_id: int) -> None:
        """This attempt's request leaves now: to be said before its first byte. Only a SQLite ledger keeps a list."""
        self._departures.note(attempt_id)

    def is_held(self) -> bool:
        """On SQLite: whether a crew is at work on it."""
        try:
            with engine.worker_lock(self._database):
                return False
        except LedgerBusy:
            return True

    def _end_leases(self, now: float) -> None:
        with self._database.writing() as tx:
            leases.end_all(tx, now, self._departures)
        self._departures.forget()

    def _write(self, work: Callable[[Connection], _T]) -> _T:
        tries = 0
        while True:
            try:
                with self._database.writing() as tx:
                    return work(tx)
            except DBAPIError as error:
                tries += 1
                if not engine.retried(error, tries):
                    raise

    def _read(self, work: Callable[[Connection], _T]) -> _T:
        with self._database.reading() as tx:
            return work(tx)

    # -- batches and manifests

    def find_batch(self, name: str) -> Batch | None:
        """The batch of that name."""
        return self._read(lambda tx: batches.find_batch(tx, name))

    def dest_of(self, batch_id: int) -> str:
        """Where a batch's images go: bound to it when it is recorded."""
        return self._read(lambda tx: batches.dest_of(tx, batch_id))

    def batches(self) -> list[Batch]:
        """Every batch, newest first."""
        return self._read(batches.all_batches)

    def known(self, batch_id: int, keys: Sequence[str]) -> dict[str, KnownRow]:
        """What the ledger already holds under these keys."""
        return self._read(lambda tx: manifests.known(tx, batch_id, keys))

    def made_elsewhere(self, hashes: Sequence[str], *, besides: int | None, sandbox: bool) -> list[MadeBefore]:
        """How often other batches than `besides` have made each of these requests."""
        return self._read(lambda tx: overlap.made_elsewhere(tx, hashes, besides=besides, sandbox=sandbox))

    def sources(self, hashes: Sequence[str], *, besides: int | None, sandbox: bool) -> list[ReuseSource]:
        """Rows of other batches than `besides` whose images a row with such a request may take."""
        return self._read(lambda tx: reuse.sources(tx, hashes, batch_id=besides, sandbox=sandbox, here=False))

    def same_rows(self, batch_id: int, keys: Sequence[str]) -> dict[str, str]:
        """The request's hash by key, of those of these rows that the batch has."""
        return self._read(lambda tx: overlap.same_rows(tx, batch_id, keys))

    def count_rows(self, batch_id: int) -> int:
        """Rows on record that stand for a job, in the newest manifest or not."""
        return self._read(lambda tx: overlap.count_rows(tx, batch_id))

    def rows_on_record(self, batch_id: int) -> Iterator[RecordedRow]:
        """All of these, by number."""
        after = 0
        while page := self._read(functools.partial(overlap.on_record, batch_id=batch_id, after=after)):
            yield from page
            after = page[-1].id

    def record_manifest(  # noqa: PLR0913  the manifest, and how it is taken
        self,
        new: NewBatch,
        rows: Iterable[Row],
        *,
        redo_changed: bool = False,
        keep_changed: bool = False,
        append: bool = False,
        reuse_images: ReuseOptions | None = None,
        now: float,
    ) -> Batch:
        """Records a whole manifest, or nothing of it. Not retried: `rows` can be read once."""
        options = manifests.RecordOptions(
            redo_changed=redo_changed, keep_changed=keep_changed, append=append, reuse=reuse_images
        )
        with self._database.writing() as tx:
            return manifests.record_manifest(tx, new, rows, options, now)

    def adopt(self, new: NewBatch, rows: Sequence[AdoptedRow], now: float) -> int:
        """Takes rows that their objects tell of on record, all or none; keys that are there are left alone."""
        return self._write(lambda tx: adopted.adopt(tx, new, rows, now))

    def pause(self, name: str, reason: str, now: float) -> None:  # noqa: ARG002  the contract's shape
        """No new submits until `resume`."""
        self._write(lambda tx: steering.pause(tx, name, reason))

    def resume(self, name: str, now: float) -> None:
        """Submits go on; failures seen so far are no reason to pause again, and copies that failed are tried now."""
        self._write(lambda tx: steering.resume(tx, name, now))

    def try_again(self, name: str, now: float) -> None:
        """Copies that failed are tried now, and once more those that waited for a person."""
        self._write(lambda tx: copy_failures.try_again(tx, batches.batch_id_of(tx, name), now))

    def stop_all(self, now: float, by: str) -> emergency_stop.StopOutcome:
        """The emergency stop. When it returns, nobody claims a submit until `lift_stop`. A second one changes nothing.

        `by`: USER@HOST.
        """
        return self._write(lambda tx: emergency_stop.stop(tx, now, by))

    def lift_stop(self) -> EmergencyStop | None:
        """Ends the emergency stop, and nothing else; returns the one that stood."""
        return self._write(emergency_stop.lift)

    def stopped(self) -> EmergencyStop | None:
        """The emergency stop, while there is one."""
        return self._read(emergency_stop.standing)

    def fates(self, attempt_ids: Collection[int]) -> emergency_stop.Fates:
        """What became of attempts that were claimed before a stop."""
        return self._read(lambda tx: emergency_stop.fates(tx, attempt_ids))

    def pause_hopeless(self) -> list[tuple[str, str]]:
        """Pauses batches most of whose rows fail alike; their names, and the code."""
        return self._write(failure_breaker.pause_hopeless)

    def cancel(self, name: str, now: float) -> int:  # noqa: ARG002  the contract's shape
        """Ends new submits for good; returns how many rows will not be made."""
        return self._write(lambda tx: steering.cancel(tx, name))

    def agree(self, name: str, agreed: int, budget: int | None) -> None:
        """Notes the money the user has agreed to in all, and the budget."""
        self._write(lambda tx: steering.agree(tx, name, agreed, budget))

    def retry(
        self,
        name: str,
        now: float,
        *,
        only: str | None = None,
        error: str | None = None,
        keys: Sequence[str] | None = None,
    ) -> int:
        """Failed and lost rows are ready again (moderated ones only with error="moderation"); returns how many."""
        return self._write(lambda tx: steering.retry(tx, name, now, only=only, error=error, keys=keys))

    def redo(
        self,
        name: str,
        changes: Sequence[tuple[str, Request | None]],
        now: float,
        prices: Mapping[str, int] | None = None,
    ) -> int:
        """New images for these keys, beside the old; a request of None means the same request again.

        `prices`: what one image costs at most now, in micro-dollars; a row that is not in it keeps its price.
        """
        return self._write(lambda tx: steering.redo(tx, name, changes, prices or {}, now))

    def unknown(self, batch: str | None = None, key: str | None = None) -> list[UnknownAttempt]:
        """Attempts whose outcome nobody can know."""
        return self._read(lambda tx: unknowns.unknown(tx, batch, key))

    def given_up(self, batch: str, key: str) -> list[UnknownAttempt]:
        """A row's attempts that were given up or paid again, while no provider task of theirs is known."""
        return self._read(lambda tx: unknowns.given_up(tx, batch, key))

    def resolve_unknown(
        self,
        attempt_ids: Sequence[int],
        how: str,
        now: float,
        task_id: str | None = None,
        poll_path: str | None = None,
    ) -> int:
        """What a person decided: "pay-again", "give-up", or "found" with the provider task's id, and where to ask."""
        found = unknowns.FoundTask(task_id=task_id, poll_path=poll_path) if task_id is not None else None
        return self._write(lambda tx: unknowns.resolve(tx, attempt_ids, how, now, found))

    def pay_unknown_again(self, now: float, budget: int) -> int:
        """The policy `pay-again`: settles what may be made anew within `budget` micro-dollars a batch."""
        return self._write(lambda tx: unknowns.pay_again(tx, now, budget))

    # -- callbacks

    def callback_token(self, attempt_id: int) -> str:
        """What the attempt's callback address ends with."""
        return hints.token(self._secret, attempt_id)

    def hear(self, token: str, task_id: str, now: float) -> str | None:
        """A callback said that the token's attempt has this provider task; the lane to ring, or None."""
        return next(iter(self.hear_all([(token, task_id)], now)), None)

    def hear_all(self, heard: Sequence[tuple[str, str]], now: float) -> set[str]:
        """The same of many (token, task id), in one transaction; the lanes to ring."""
        numbered = [(hints.attempt_of(self._secret, token), task_id) for token, task_id in heard]
        ours = [(number, task_id) for number, task_id in numbered if number is not None]
        return self._write(lambda tx: hints.hear_all(tx, ours, now))

    def is_callback_token(self, token: str) -> bool:
        """Whether we made this token."""
        return hints.attempt_of(self._secret, token) is not None

    def claim_hints(self, account: str, now: float, *, lease: float, at_most: int = 16) -> list[DueHint]:
        """Provider tasks named by callbacks, to be asked about now."""
        return self._write(lambda tx: hints.claim(tx, account, now, lease=lease, at_most=at_most))

    def drop_hints(self, settled: Sequence[tuple[int, str]]) -> None:
        """Hints that came true, (attempt, task id) each, are forgotten."""
        self._write(lambda tx: hints.drop(tx, settled))

    def refute_hints(self, settled: Sequence[tuple[int, str]]) -> None:
        """Hints that turned out wrong are kept aside, so that nobody has them looked into again."""
        self._write(lambda tx: hints.refute(tx, settled))

    def called_back(self, since: float) -> set[str]:
        """Accounts whose callbacks came through since then, give or take a minute."""
        return self._read(lambda tx: hints.called_back(tx, since))

    def hints_waiting(self) -> int:
        """Hints that nobody has looked into yet."""
        return self._read(hints.waiting)

    # -- accounts and workers

    def sync_accounts(
        self,
        declared: Sequence[AccountLimits],
        now: float,  # noqa: ARG002  the contract's shape
        *,
        daily_budget: int | None = None,
    ) -> None:
        """Takes over the accounts, limits and budgets of the settings; other accounts are no longer configured."""
        self._write(lambda tx: configured.sync_accounts(tx, declared, daily_budget))
        self._providers = {account.name: account.provider for account in declared}

    def stranded(self, declared: Sequence[AccountLimits]) -> list[Stranded]:
        """Accounts that paid work still needs and these settings do not have: no work may start."""
        return self._read(lambda tx: configured.stranded(tx, declared))

    def accounts(self) -> list[Account]:
        """The configured accounts as they stand."""
        return self._read(reports.all_accounts)

    def uses(self, now: float) -> dict[str, Use]:
        """How far the configured accounts use what they may, by name."""
        return self._read(lambda tx: usage.uses(tx, now))

    def learnt(self) -> Learnt:
        """What was learnt of accounts: their limits, how long their tasks take, and what images cost."""
        return self._read(
            lambda tx: Learnt(limits=usage.learnt(tx), durations=durations.known(tx), costs=token_costs.known(tx))
        )

    def wake_account(self, name: str, now: float) -> None:
        """The account's next submit is tried at once, as a probe; its tasks are asked about at once, too."""
        self._write(lambda tx: configured.wake(tx, name, now))

    def durability(self) -> dict[str, str]:
        """The server's settings that money depends on; see `jobs.ledger.database.durability`."""
        return server.durability(self._database)

    def has_moved(self) -> bool:
        """Whether submits wait: the server is not the one on record, and may have forgotten the newest."""
        return self._tells_origin and self._read(server.has_moved)

    def trust(self) -> None:
        """A person's word that submits may go on with the server as it is."""
        if self._tells_origin:
            self._write(server.trust)

    def tasks_of_nobody(self) -> list[str]:
        """Provider tasks whose attempts a restore has forgotten: paid, and nobody's."""
        return self._read(server.tasks_of_nobody)

    def touch_worker(self, name: str, now: float, looked_at: float | None = None) -> None:
        """Notes that a worker process lives, and when the laziest of its lanes last looked for work."""
        self._write(lambda tx: workers.touch(tx, name, now, looked_at))

    def workers_seen(self, now: float, within: float) -> int:
        """Worker processes that gave a sign of life within so many seconds."""
        return len(self.workers(now, within))

    def workers(self, now: float, within: float) -> list[WorkerProcess]:
        """Worker processes that gave a sign of life within so many seconds, by name."""
        return self._read(lambda tx: workers.seen(tx, now - within))

    def answers(self) -> bool:
        """Whether the database answers somebody who asks anew."""
        return engine.answers(self._database)

    def unwritable(self) -> str | None:
        """Why the ledger answers and takes no writes, in words that follow "the ledger"; None: it takes them."""
        return engine.unwritable(self._database)

    # -- claims

    def claim_submits(  # noqa: PLR0913  when, how long, how many, for whom, by whom
        self,
        account: str,
        now: float,
        *,
        lease: float,
        at_most: int = 64,
        ahead: float = rate.AHEAD,
        only: str | None = None,
        holder: str | None = None,
    ) -> Claim:
        """Claims what may be sent within `ahead` seconds, with its intent on record; `only`: for that batch."""
        if holder:
            self._departures.begin(holder)
        at = self._providers.get(account)
        terms = submits.Terms(lease=lease, at_most=at_most, ahead=ahead, only=only, holder=holder, provider=at)
        return self._write(lambda tx: self._claim(tx, account, now, terms))

    def _claim(self, tx: Connection, account: str, now: float, terms: submits.Terms) -> Claim:
        # Asked each time, on the claim's own connection: a server may be replaced while we hold one through a pooler.
        if self._tells_origin and server.has_moved(tx):
            return Claim(intents=())
        return submits.claim_submits(tx, account, now, terms)

    def claim_polls(
        self,
        account: str,
        now: float,
        *,
        lease: float,
        at_most: int = 64,
        together: int = 1,
        alone: frozenset[int] = frozenset(),
    ) -> tuple[list[DuePoll], float | None]:
        """Claims provider tasks to be asked about in `at_most` requests of `together` tasks each, but for `alone`.

        Also tells when to ask again (None: when a bell rings).
        """
        at = self._providers.get(account)
        terms = polls_and_copies.PollTerms(lease=lease, at_most=at_most, together=together, alone=alone, provider=at)
        return self._write(lambda tx: polls_and_copies.claim_polls(tx, account, now, terms))

    def claim_copies(
        self,
        now: float,
        *,
        holder: str,
        lease: float,
        at_most: int,
        barred: Sequence[str] = (),
        only: str | None = None,
    ) -> tuple[list[DueCopy], float | None]:
        """Claims images to be copied, those whose links die first first; also when to ask again. `barred`: not there.

        `only`: of that batch.

        It orders what is due when it is asked. Of what one process has claimed and not yet begun (32 images), none
        makes room for an image that became due since and dies sooner.
        """
        terms = {"holder": holder, "barred": barred, "only": only}
        return self._write(lambda tx: polls_and_copies.claim_copies(tx, now, lease=lease, at_most=at_most, **terms))  # type: ignore[arg-type]

    def sweep(self, now: float) -> SweepResult:
        """Submits whose lease ended without an outcome become unknown; tells which lanes have work."""
        return self._write(lambda tx: leases.sweep(tx, now))

    def durations(self) -> dict[TaskKind, Durations]:
        """How long provider tasks took lately, by kind."""
        return self._read(durations.known)

    # -- facts

    def record(self, facts: Sequence[Fact], now: float) -> RecordEffects:  # noqa: ARG002  the contract's shape
        """Records facts in one transaction. Recording them twice is harmless."""
        news = self._write(lambda tx: record.record(tx, facts, self.routes))
        return RecordEffects(wakeups=frozenset(news.wakeups), stopped=tuple(news.stopped), mended=tuple(news.mended))

    def fail_over(self, now: float) -> int:
        """Rows that wait for a provider in long trouble go elsewhere, where their batch allows it; returns how many."""
        routes = self.routes
        return self._write(lambda tx: failover.move_waiting(tx, now, routes, self._looked_at)) if routes else 0

    # -- destinations

    def say_troubles(self, holder: str, troubles: Sequence[DestinationTrouble], now: float) -> None:
        """What is wrong with destinations, as this process sees it now: nothing new is sent for these for a while."""
        self._write(lambda tx: destinations.say(tx, holder, troubles, now))

    def troubles(self, now: float) -> tuple[DestinationTrouble, ...]:
        """What is wrong with destinations, as any process says it."""
        return self._read(lambda tx: destinations.heard(tx, now))

    def hasten_copies(self, dest: str, now: float) -> None:
        """A destination takes writes again: what it refused is due now."""
        self._write(lambda tx: destinations.hasten(tx, dest, now))

    def backlogs(self, now: float) -> dict[str, Backlog]:
        """What waits to be copied to each destination, by when its links die, and how fast copies were."""
        return self._read(lambda tx: destinations.backlogs(tx, now))

    def failing(self, now: float) -> tuple[Failing, ...]:
        """For what nothing more is bought, since images that it makes fail one after the other to be stored."""
        return self._read(lambda tx: copy_stops.everywhere(tx, now))

    # -- images that are stored

    def kept(self, name: str) -> Iterator[StoredCopy]:
        """Every stored image of a batch; read page by page, so a run is not held up."""
        after = -1
        batch_id = self._read(lambda tx: batches.batch_id_of(tx, name))
        while page := self._read(lambda tx, after=after: verification.kept(tx, batch_id, after)):  # type: ignore[misc]
            yield from page
            after = page[-1].image_id

    def named(self, name: str) -> dict[str, int]:
        """How many images of a batch are only named, by the destination where they lie: another batch's to look at."""
        return self._read(lambda tx: verification.named(tx, batches.batch_id_of(tx, name)))

    def copy_again(self, reasons: Mapping[int, str], now: float) -> int:
        """Stored images that are gone are to be copied once more, for a reason each; nothing is paid."""
        return self._write(lambda tx: verification.copy_again(tx, reasons, now))

    def awaited(self, name: str, keys: Sequence[str], now: float) -> list[AwaitedImage]:
        """The paid images of these rows that are not stored yet."""
        return self._read(lambda tx: verification.awaited(tx, batches.batch_id_of(tx, name), keys, now))

    def give_up(self, image_ids: Sequence[int], now: float) -> int:
        """Paid images that cannot be had are lost on a person's word; returns how many. One that comes late counts."""
        return self._write(lambda tx: verification.give_up(tx, image_ids, now))

    def states_of_images(self, image_ids: Sequence[int]) -> Counter[ImageState]:
        """How many of these images are in which state."""
        return self._read(lambda tx: verification.states(tx, image_ids))

    # -- reports

    def progress(self, name: str, now: float | None = None) -> Progress:
        """A batch, counted; with `now`, also the daily budgets that hold it up."""
        counted = self._read(lambda tx: reports.progress(tx, name, now))
        return replace(counted, moved=True) if self.has_moved() else counted

    def daily_budgets(self, now: float) -> list[DayLimit]:
        """Every daily budget, the overall one first, with what today has cost."""
        return self._read(lambda tx: daily_budgets.every(tx, now))

    def results(self, name: str) -> Iterator[Result]:
        """One line a row, in the newest manifest's order; read page by page, so a run is not held up."""
        after = -1
        batch_id = self._read(lambda tx: batches.batch_id_of(tx, name))
        while page := self._read(lambda tx, after=after: reports.results_page(tx, batch_id, after)):  # type: ignore[misc]
            yield from page
            after = page[-1].position

    def story(self, name: str, key: str) -> Story | None:
        """Everything that happened to one job."""
        return self._read(lambda tx: reports.story(tx, name, key))

    def reused(self, batch: str | None = None) -> tuple[int, int]:
        """Images that were taken from other rows, and what they would have cost in micro-dollars."""
        return self._read(lambda tx: reuse.taken(tx, batch))

    def money(self, batch: str | None = None) -> list[Entry]:
        """Where the money of one batch, or of all, is: by batch and account."""
        return self._read(lambda tx: money.entries(tx, batch))

    def audit(
        self,
        batch: str | None = None,
        account: str | None = None,
        since: float | None = None,
        until: float | None = None,
    ) -> Iterator[AuditLine]:
        """One line an attempt; read page by page, so a run is not held up."""
        wish = money.AuditFilter(batch=batch, account=account, since=since, until=until)
        numbers = self._read(lambda tx: money.audited(tx, wish))
        for start in range(0, len(numbers), money.PAGE):
            ids = list(numbers[start : start + money.PAGE])
            yield from self._read(lambda tx, ids=ids: money.audit_lines(tx, ids))  # type: ignore[misc]

    def first_death(self) -> float | None:
        """When the first link dies that is not copied yet, of all batches; Unix seconds."""
        return self._read(reports.first_death)

    def in_flight(self, batch: str) -> dict[str, int]:
        """A batch's open attempts, by the account they were sent with."""
        return self._read(lambda tx: reports.in_flight_of(tx, batch))

    def at_risk(self, batch: str | None = None) -> tuple[int, int]:
        """If everything died now: images, micro-dollars; of one batch, or of the whole ledger."""
        return self._read(lambda tx: reports.at_risk(tx, batch))


def open_ledger(url: str, *, create: bool = True, upgrade: bool = False) -> Ledger:
    """Opens a ledger. An empty schema is made (one process does, the others wait); SQLite upgrades after a copy.

    Raises:
        WrongSchema: The schema is older or newer than this program.
        LightfastError: There is no ledger and `create` is False, or it cannot be opened.
    """
    database = engine.connect(url)
    try:
        engine.prepare(database, create=create, upgrade=upgrade)
        return Ledger(database)
    except BaseException:
        database.close()
        raise
