"""The ledger's verbs on batches, on unknown attempts and on paid images. Each is one transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import count

from jobs.ledger.access.values import Acceptance
from jobs.ledger.batches import (
    adopted,
    batches,
    failure_breaker,
    manifests,
    moved,
    overlap,
    steering,
    unknowns,
    verification,
)
from jobs.ledger.batches.adopted_values import AdoptedRow
from jobs.ledger.batches.plain_rows import PlainRows
from jobs.ledger.batches.values import (
    Batch,
    ImageFlags,
    ImageHolder,
    KnownRow,
    MadeBefore,
    NewBatch,
    RecordedRow,
    Row,
    StillStoring,
    StoredPlace,
    StoredTotal,
    UnknownAttempt,
)
from jobs.ledger.claims import reuse
from jobs.ledger.claims.reuse import ReuseOptions
from jobs.ledger.database.engine import Database
from jobs.ledger.schedules.values import Attachment
from jobs.policy.reuse import ReuseSource
from jobs.policy.verification import AwaitedImage, StoredCopy
from jobs.states import BatchState, ImageState
from providers.types import Request


class BatchVerbs:
    """`ledger.batches`: manifests on record, and what a person asks of a batch."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- what is on record

    def find(self, name: str) -> Batch | None:
        """The batch of that name."""
        return self._database.read(batches.find_batch, name)

    def other_name(self, name: str) -> str:
        """The batch that takes a cancelled one's rows: spring-2, or the first like it that is not cancelled too."""
        others = (f"{name[:90]}-{number}" for number in count(2))
        return next(each for each in others if (it := self.find(each)) is None or it.state is not BatchState.CANCELLED)

    def all(self) -> list[Batch]:
        """Every batch, newest first."""
        return self._database.read(batches.all_batches)

    def page(self, most: int, *, before: int | None = None, of_token: int | None = None) -> list[Batch]:
        """The newest batches first; `before`: older than the one of that number; `of_token`: those it has made."""
        return self._database.read(batches.page, most, before=before, of_token=of_token)

    def dest_of(self, batch_id: int) -> str:
        """Where a batch's images go: bound to it when it is recorded."""
        return self._database.read(batches.dest_of, batch_id)

    def known(self, batch_id: int, keys: Sequence[str]) -> dict[str, KnownRow]:
        """What the ledger already holds under these keys."""
        return self._database.read(manifests.known, batch_id, keys)

    def made_elsewhere(
        self, hashes: Sequence[str], *, besides: int | None, sandbox: bool, of_token: int | None = None
    ) -> list[MadeBefore]:
        """How often other batches than `besides` have made each of these requests; `of_token`: of that token alone."""
        read = self._database.read
        return read(overlap.made_elsewhere, hashes, besides=besides, sandbox=sandbox, of_token=of_token)

    def waiting_elsewhere(self, hashes: Sequence[str], *, besides: int, sandbox: bool) -> list[tuple[str, int, int]]:
        """Rows of other batches that wait, and will be bought as they are: request, batch, and how many."""
        return self._database.read(overlap.waiting_elsewhere, hashes, besides=besides, sandbox=sandbox)

    def waiting_twice(self, batch_id: int, *, sandbox: bool) -> list[tuple[int, int]]:
        """Rows of the batch that wait, and whose request waits in another batch too: that batch, and how many."""
        return self._database.read(overlap.waiting_twice, batch_id, sandbox=sandbox)

    def reuse_sources(
        self, hashes: Sequence[str], *, besides: int | None, sandbox: bool, of_token: int | None = None
    ) -> list[ReuseSource]:
        """Rows of other batches than `besides` whose images a row may take; `of_token`: of that token's alone."""
        read = self._database.read
        return read(reuse.sources, hashes, batch_id=besides, sandbox=sandbox, here=False, of_token=of_token)

    def same_rows(self, batch_id: int, keys: Sequence[str]) -> dict[str, str]:
        """The request's hash by key, of those of these rows that the batch has."""
        return self._database.read(overlap.same_rows, batch_id, keys)

    def without_images(self, batch_id: int, keys: Sequence[str]) -> dict[str, str]:
        """The request's hash by key, of those of these rows that have no image and none on its way, nor reused one."""
        return self._database.read(overlap.without_images, batch_id, keys)

    def count_rows(self, batch_id: int) -> int:
        """Rows on record that stand for a job, in the newest manifest or not."""
        return self._database.read(overlap.count_rows, batch_id)

    def rows_on_record(self, batch_id: int) -> Iterator[RecordedRow]:
        """All of these, by number; read page by page, so a run is not held up."""
        after = 0
        while page := self._database.read(overlap.on_record, batch_id, after):
            yield from page
            after = page[-1].id

    def image_holders(self, batch_id: int, job_ids: Sequence[int]) -> list[ImageHolder]:
        """Which rows of the batch have the images that these have: themselves, and those that they were copied to."""
        return self._database.read(overlap.image_holders, batch_id, job_ids)

    def first_rows(self, batch_id: int, most: int) -> list[tuple[str, bytes]]:
        """Key and own columns (a JSON object) of the batch's first rows that stand for a job."""
        return self._database.read(overlap.first_rows, batch_id, most)

    # -- manifests

    def record_manifest(  # noqa: PLR0913  the manifest, and how it is recorded
        self,
        new: NewBatch,
        rows: Iterable[Row] | Iterable[PlainRows],
        *,
        redo_changed: bool = False,
        keep_changed: bool = False,
        append: bool = False,
        reuse_images: ReuseOptions | None = None,
        given_back: int = 0,
        attachment: Attachment | None = None,
        acceptance: Acceptance | None = None,
        now: float,
    ) -> Batch:
        """Records a whole manifest, or nothing of it. Not retried: `rows` can be read once.

        Raises:
            FewerToReuse: Images that `reuse_images` or `given_back` (changed rows) counts on are not there any more.
            ChangedRows: Rows changed that were paid, and neither `redo_changed` nor `keep_changed` was said.
            NotOursError: The schedule's time that it is recorded for is somebody else's by now.
            OverDailyBudget, NotItsOwnError, RevokedError: The token that it is recorded for may not have it.
        """
        options = manifests.RecordOptions(
            redo_changed=redo_changed,
            keep_changed=keep_changed,
            append=append,
            reuse=reuse_images,
            given_back=given_back,
            attachment=attachment,
            acceptance=acceptance,
        )
        if self._database.read(manifests.is_new, new.name):
            with self._database.filling() as tx:
                if manifests.is_new(tx, new.name):  # else another process was first
                    return manifests.record_manifest(tx, new, rows, options, now)
        with self._database.writing() as tx:
            return manifests.record_manifest(tx, new, rows, options, now)

    def adopt(self, new: NewBatch, rows: Sequence[AdoptedRow], now: float) -> int:
        """Records rows that are known from their objects alone, all or none; keys that are there are left alone."""
        return self._database.write(adopted.adopt, new, rows, now)

    # -- what a person asks

    def pause(self, name: str, reason: str) -> None:
        """No new submits until `resume`."""
        self._database.write(steering.pause, name, reason)

    def pause_failing(self, only: str | None = None) -> list[tuple[str, str]]:
        """Pauses batches most of whose rows fail alike; their names, and the code. `only`: that batch.

        It counts every row. `Progress.fails_alike` tells whether it is worth a call.
        """
        return self._database.write(failure_breaker.pause_failing, only)

    def resume(self, name: str, now: float) -> None:
        """Submits go on; failures seen so far are no reason to pause again, and copies that failed are tried now.

        Rows of a batch with --reuse that wait take what was made elsewhere meanwhile.
        """
        self._database.write(steering.resume, name, now)

    def take_what_was_made(self, name: str, now: float) -> int:
        """Rows of a batch with --reuse that wait take what was made elsewhere meanwhile; returns how many."""
        return self._database.write(steering.take_what_was_made, name, now)

    def retry_copies(self, name: str, now: float) -> None:
        """Copies that failed are tried now, and once more those that waited for a person."""
        self._database.write(steering.retry_copies, name, now)

    def move(
        self, name: str, dest: str, now: float, *, within: float, compared: StoredTotal | None = None
    ) -> StillStoring | None:
        """The batch's images lie at another destination now. Returns why not, and nothing was changed; None: they do.

        On SQLite only with the ledger held. `within`: as `still_storing`. `compared`: `stored_total` from before the
        images were compared with those at the new place.
        """
        alive_since = None if self._database.is_sqlite else now - within
        return self._database.write(moved.move, name, dest, now, compared=compared, alive_since=alive_since)

    def still_storing(self, name: str, now: float, within: float) -> StillStoring | None:
        """Why images of a batch may yet be stored at its destination; None: they will not.

        `within`: seconds since its last sign of life in which a worker counts as alive.
        """
        return self._database.read(moved.still_storing, name, now, now - within)

    def stored_total(self, name: str) -> StoredTotal:
        """How many images of a batch are stored at its destination, and when the newest of them was."""
        return self._database.read(moved.stored_total, name)

    def cancel(self, name: str, reason: str | None = None) -> int:
        """Ends new submits for good; returns how many rows will not be made. `reason`: None: a person says so."""
        return self._database.write(steering.cancel, name, reason)

    def agree(self, name: str, agreed: int, budget: int | None) -> None:
        """Notes the money the user has agreed to in all, and the budget, in micro-dollars."""
        self._database.write(steering.agree, name, agreed, budget)

    def retry(  # noqa: PLR0913  which rows, how their images are taken, and for whom
        self,
        name: str,
        now: float,
        *,
        only: str | None = None,
        error: str | None = None,
        keys: Sequence[str] | None = None,
        reuse: ReuseOptions | None = None,
        acceptance: Acceptance | None = None,
    ) -> int:
        """Failed and lost rows are ready again (moderated ones only with error="moderation"); returns how many.

        They take images that were made elsewhere meanwhile: as `reuse` says, else as the batch was recorded.

        Raises:
            FewerToReuse: Images that `reuse` counts on are not there any more. Nothing was changed.
            OverDailyBudget, NotItsOwnError, RevokedError: The token that it is accepted for may not have it.
        """
        return self._database.write(
            steering.retry, name, now, only=only, error=error, keys=keys, reuse=reuse, acceptance=acceptance
        )

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
        return self._database.write(steering.redo, name, changes, prices or {}, now)


class UnknownVerbs:
    """`ledger.unknowns`: attempts whose outcome nobody can know, and what is decided about them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self, batch: str | None = None, key: str | None = None) -> list[UnknownAttempt]:
        """The unknown attempts, of one batch or of one key; oldest first."""
        return self._database.read(unknowns.unknown, batch, key)

    def given_up(self, batch: str, key: str) -> list[UnknownAttempt]:
        """A row's attempts that were given up or paid again, while no provider task of theirs is known."""
        return self._database.read(unknowns.given_up, batch, key)

    def resolve(
        self,
        attempt_ids: Sequence[int],
        how: str,
        now: float,
        task_id: str | None = None,
        poll_path: str | None = None,
    ) -> int:
        """What a person decided: "pay-again", "give-up", or "found" with the provider task's id, and where to ask.

        Raises:
            BadInput: The provider task is another attempt's.
        """
        found = unknowns.FoundTask(task_id=task_id, poll_path=poll_path) if task_id is not None else None
        return self._database.write(unknowns.resolve, attempt_ids, how, now, found)

    def pay_again(self, now: float, budget: int) -> int:
        """The policy `pay-again`: settles what may be made anew within `budget` micro-dollars a batch."""
        return self._database.write(unknowns.pay_again, now, budget)


class ImageVerbs:
    """`ledger.images`: paid images, stored or awaited."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def stored(self, name: str) -> Iterator[StoredCopy]:
        """Every stored image of a batch; read page by page, so a run is not held up."""
        after = -1
        batch_id = self._database.read(batches.batch_id_of, name)
        while page := self._database.read(verification.kept, batch_id, after):
            yield from page
            after = page[-1].image_id

    def places(self, name: str) -> Iterator[StoredPlace]:
        """Where each current image of a batch is stored at its destination; read page by page."""
        after = -1
        batch_id = self._database.read(batches.batch_id_of, name)
        while page := self._database.read(moved.places, batch_id, after):
            yield from page
            after = page[-1].image_id

    def ends(self, name: str, few: int) -> tuple[int, list[StoredPlace]]:
        """How many current images of a batch are stored, and where the first and the last `few` of them are."""
        return self._database.read(moved.ends, name, few)

    def named(self, name: str) -> dict[str, int]:
        """How many images of a batch are only named, by the destination where they lie: another batch's to look at."""
        return self._database.read(verification.named, name)

    def copy_again(self, reasons: Mapping[int, str], now: float) -> int:
        """Stored images that are gone are to be copied once more, for a reason each; nothing is paid."""
        return self._database.write(verification.copy_again, reasons, now)

    def set_flags(self, found: Sequence[ImageFlags], among: Collection[str]) -> None:
        """Of the flags `among`, each of these images has from now on those that were found of it, and no other.

        Its other flags stay. Left alone are images that are not stored any more as they were looked at, and those of
        archived batches. For some hundred images at once: it is one transaction.
        """
        self._database.write(verification.set_flags, found, among)

    def awaited(self, name: str, keys: Sequence[str], now: float) -> list[AwaitedImage]:
        """The paid images of these rows that are not stored yet."""
        return self._database.read(verification.awaited, name, keys, now)

    def give_up(self, image_ids: Sequence[int], now: float) -> set[int]:
        """Paid images that cannot be had are lost on a person's word, but for those that are being copied just now.

        Returns the ids of those that are lost. One that is stored late all the same counts as stored.
        """
        return self._database.write(verification.give_up, image_ids, now)

    def states(self, image_ids: Sequence[int]) -> Counter[ImageState]:
        """How many of these images are in which state."""
        return self._database.read(verification.states, image_ids)
