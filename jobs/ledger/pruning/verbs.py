"""Batches on their way into an archive, and back."""

from __future__ import annotations

import json
from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from jobs.ledger.database import compacting
from jobs.ledger.database.engine import Database
from jobs.ledger.pruning import candidates, pages, slimming
from jobs.ledger.pruning.pages import JobsPage, Place
from jobs.ledger.pruning.values import Candidate, ColumnKind, Fingerprint, NotPrunable, Table


class PruningVerbs:
    """`ledger.pruning`: each verb is one short transaction, so that nobody beside it is held up."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- who may be archived

    def candidates(self, now: float, older_than: float, names: Sequence[str] = ()) -> list[Candidate]:
        """Batches that are not archived, oldest first: those of these names, or all. `older_than`: seconds."""
        return self._database.read(candidates.candidates, now, older_than, names)

    def due(self, now: float, besides: Collection[str] = ()) -> Candidate | None:
        """The first batch that its schedule does not keep any longer, or whose pruning broke off; none of `besides`."""
        return self._database.read(candidates.due, now, besides)

    # -- into an archive

    def begin(self, name: str, archive: str, now: float, older_than: float, *, yields: bool = False) -> Fingerprint:
        """Says that an archive of the batch is being written there. `yields`: not while somebody else writes one.

        Raises:
            NotPrunable: It may not be archived.
        """
        self._database.read(slimming.demand_prunable, name, now, older_than)
        batch_id = self._database.write(slimming.begin, name, archive, now, yields=yields)
        return self._database.read(pages.fingerprint, batch_id)  # whatever comes before this is archived too

    def touch(self, batch_id: int, archive: str, now: float) -> None:
        """A sign of life of whoever writes the archive."""
        self._database.write(slimming.touch, batch_id, archive, now)

    def jobs(self, batch_id: int) -> Iterator[JobsPage]:
        """All jobs of a batch with their images and events; read page by page."""
        after: Place | None = None
        while (page := self._database.read(pages.jobs_page, batch_id, after)).rows:
            yield page
            after = (page.rows[-1]["position"], page.rows[-1]["id"])

    def books(self, name: str) -> Iterator[list[dict[str, Any]]]:
        """All attempts of a batch in the order of their intents, with what an audit says of each; page by page."""
        ids: array[int] = self._database.read(pages.numbers, name)
        return (self._database.read(pages.books_page, some) for some in pages.in_pages(ids))

    def columns(self, table: Table) -> dict[str, ColumnKind]:
        """The columns of an archive's table."""
        return pages.columns(table)

    def commit(self, name: str, archive: str, was: Fingerprint, now: float, older_than: float) -> None:
        """The archive is whole and was read back: from here on it is what reports read.

        Raises:
            NotPrunable: Something happened to the batch since `begin` told what it `was` like.
        """
        sums = json.dumps(self._database.read(pages.sums, name))
        why = self._database.write(slimming.commit, name, archive, was, now, sums=sums, older_than=older_than)
        if why is not None:
            raise NotPrunable(f"batch {name} is not archived: {why}. It stays as it is.")

    def slim(self, batch_id: int, archive: str, after: int, now: float) -> int | None:
        """Empties some jobs after a number; returns the last. None: all are done, or somebody brings them back."""
        return self._database.write(slimming.slim, batch_id, archive, after, now)

    # -- and back

    def begin_restoring(self, name: str) -> str | None:
        """The address of the archive that the batch's rows are to be brought back from; None: the ledger has them."""
        return self._database.write(slimming.begin_restoring, name)

    def restore_books(self, batch_id: int, archive: str, rows: Sequence[Mapping[str, Any]]) -> bool:
        """Brings attempts back; False: somebody else has brought back all."""
        return self._database.write(slimming.restore_books, batch_id, archive, rows)

    def restore_rows(
        self,
        batch_id: int,
        archive: str,
        rows: Sequence[Mapping[str, Any]],
        images: Sequence[Mapping[str, Any]],
        events: Sequence[Mapping[str, Any]],
    ) -> bool:
        """Brings the bulk of jobs, of their images, and their events back; False: somebody else has done it all."""
        return self._database.write(slimming.restore_rows, batch_id, archive, rows, images, events)

    def end_restoring(self, batch_id: int, archive: str, now: float) -> None:
        """The ledger has all of the batch again, from now on."""
        self._database.write(slimming.end_restoring, batch_id, archive, now)

    # -- the file

    def compact(self) -> tuple[int, int] | None:
        """Gives the file's free space back to the disk: bytes before and after. None: there is no file, or no room.

        Nobody else can write to the ledger meanwhile: only for who holds it.
        """
        return compacting.compact(self._database)
