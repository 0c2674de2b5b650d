"""What people ask the ledger. Each is one reading transaction, or one a page."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import replace

from jobs.errors import LightfastError
from jobs.ledger.batches import batches
from jobs.ledger.batches.values import Batch
from jobs.ledger.claims import reuse
from jobs.ledger.database import server
from jobs.ledger.database.engine import Database
from jobs.ledger.reports import archived, history, money, progress, results, row_pages
from jobs.ledger.reports.archived import Archives
from jobs.ledger.reports.books import AuditLine, Entry
from jobs.ledger.reports.history import Stretch
from jobs.ledger.reports.values import DyingLinks, LearntFigures, Progress, Result, RowFilter, RowPage, Story


class ReportVerbs:
    """`ledger.reports`: progress, results and money, as they stand."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.archives: Archives = archived.unread  # given by whoever opens the ledger to make reports

    def progress(self, name: str, now: float | None = None) -> Progress:
        """A batch, counted; with `now`, also the daily budgets that hold it up."""
        counted = self._database.read(progress.progress, name, now)
        moved = self._database.tells_origin and self._database.read(server.has_moved)
        return replace(counted, moved=True) if moved else counted

    def has_redone(self, name: str) -> bool:
        """Whether rows of the batch that were made anew are not finished."""
        return self._database.read(progress.has_redone, name)

    def results(self, name: str) -> Iterator[Result]:
        """One line a row, in the newest manifest's order; read page by page, so a run is not held up."""
        after = -1
        while page := self._database.read(results.results_page, name, after):
            if isinstance(page, str):  # perhaps since the last page
                yield from archived.results_after(self.archives(page), after)
                return
            yield from page
            after = page[-1].position

    def rows(self, batch: Batch, wish: RowFilter, after: str, most: int) -> RowPage:
        """Some rows of a batch that is not archived, and where the next page begins; `after`: as the last one said.

        Raises:
            ValueError: `after` is not what a page has said.
        """
        return self._database.read(row_pages.page, batch.id, wish, after, most)

    def ended_badly(self, batch: Batch) -> Iterator[Result]:
        """The rows that ended without all of their images; read page by page, so a run is not held up."""
        ids = self._database.read(results.ended_badly, batch.id)
        for start in range(0, len(ids), results.PAGE):
            yield from self._database.read(results.of_jobs, ids[start : start + results.PAGE])

    def story(self, name: str, key: str) -> Story | None:
        """Everything that happened to one job."""
        batch = self._database.read(batches.find_batch, name)
        if batch is None or batch.archive is None:
            return self._database.read(results.story, name, key)
        job_id = self._database.read(archived.job_id_of, batch.id, key)
        found = self.archives(batch.archive).of_job(job_id) if job_id is not None else None
        if job_id is None or found is None:
            return None
        return replace(archived.story(found), taken_from=self._database.read(archived.taken_from, job_id))

    def reused(self, batch: str | None = None) -> tuple[int, int]:
        """Images that were taken from other rows, and what they would have cost in micro-dollars."""
        return self._database.read(reuse.taken, batch)

    def money(self, batch: str | None = None) -> list[Entry]:
        """Where the money of one batch, or of all, is: by batch and account."""
        with self._database.reading() as tx:
            return [*money.entries(tx, batch), *archived.entries(tx, batch)]

    def audit(
        self,
        batch: str | None = None,
        account: str | None = None,
        since: float | None = None,
        until: float | None = None,
    ) -> Iterator[AuditLine]:
        """One line an attempt; read page by page, so a run is not held up.

        Raises:
            LightfastError: An archive cannot be read, or batches were archived while this went on.
        """
        wish = money.AuditFilter(batch=batch, account=account, since=since, until=until)
        with self._database.reading() as tx:
            numbers, books = money.audited(tx, wish), archived.books_of(tx, wish)
        yield from archived.merged(self._audit(numbers), books, self.archives, wish)

    def _audit(self, numbers: array[int]) -> Iterator[AuditLine]:
        for start in range(0, len(numbers), money.PAGE):
            page = list(numbers[start : start + money.PAGE])
            lines = self._database.read(money.audit_lines, page)
            if len(lines) < len(page):
                raise LightfastError("batches were archived while this was read. Run the same command again.")
            yield from lines

    def learnt(self) -> LearntFigures:
        """What was learnt of accounts: their limits, how long their tasks take, and what images cost."""
        return self._database.read(progress.learnt)

    def first_death(self) -> float | None:
        """When the first link dies that is not copied yet, of all batches; Unix seconds."""
        return self._database.read(progress.first_death)

    def dying_links(self, now: float, *, within: float, waited: float) -> list[DyingLinks]:
        """By batch, the paid images that have waited `waited` seconds for their copy, and whose links die `within`."""
        return self._database.read(lambda tx: progress.dying_links(tx, now, within=within, waited=waited))

    def stored_span(self, batch_id: int) -> tuple[float, float] | None:
        """When the first and the newest image of a batch were stored; None: none is."""
        return self._database.read(history.span, batch_id)

    def stored_by_time(self, batch_id: int, since: float, width: float) -> list[Stretch]:
        """What a batch has stored from `since` on, by stretches of `width` seconds that have an image."""
        return self._database.read(history.stored, batch_id, since, width)

    def in_flight(self, batch: str) -> dict[str, int]:
        """A batch's open attempts, by the account they were sent with."""
        return self._database.read(progress.in_flight_of, batch)

    def at_risk(self, batch: str | None = None) -> tuple[int, int]:
        """If everything died now: images, micro-dollars; of one batch, or of the whole ledger."""
        return self._database.read(progress.at_risk, batch)
