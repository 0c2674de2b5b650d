"""What would be paid again, and what an update takes out: a manifest's rows held against those on record. Pure.

A row is a repeat of an earlier purchase when its key is new to the batch and its request is not new to the ledger: in
another batch, or in this one under a key that the manifest has no more. Each row on record answers for one new row, so
that repeats within one manifest are no repeats of a purchase.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from jobs.ledger import Ledger
from jobs.ledger.batches.values import ImageHolder, MadeBefore, RecordedRow, Row
from jobs.planning.duplicates import BUCKETS, RepeatedHashes, hash64
from jobs.policy.reuse import Allotment, ReuseSource, is_reusable
from jobs.states import JobState

#: Repeats from which on a plain yes is not enough, where they are over half of all rows to be paid.
MANY = 10
#: Repeats in this batch under keys that a spreadsheet may have made of the old: from so many on that is no coincidence.
REWRITTEN = 3
#: Keys that are kept while a manifest is read, to name one of those that were rewritten.
EXAMPLES = 10_000
#: Requests whose answers are kept while a manifest is read: one that comes again soon is not looked up again.
KEPT = 16_384
#: Rows on record that are held against the manifest's keys at once.
ABSENT = 1_000
#: Batches in which a chunk's rows are looked for by their keys, too.
LOOKED_INTO = 4
#: A count that is kept in two bytes.
_MOST = 0xFFFF

#: Rows on record with images that somebody has.
_WITH_IMAGES = (JobState.DONE, JobState.PARTIAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherBatch:
    """Another batch that has made some of these requests."""

    batch_id: int
    rows: int  # of the manifest
    same_keys: int  # of these, under the same key
    rewritten: tuple[str, str] | None = None  # a key there and the manifest's, if they look like one that was rewritten


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """The outcome, in rows of the manifest unless it says otherwise."""

    to_pay: int = 0  # rows that cost money
    matched: int = 0  # rows whose key the batch has on record
    rows: int = 0  # to be paid although their request has been made
    images: int = 0
    money: int = 0  # micro-dollars; unpriced images are not in it
    here: int = 0  # of `rows`: made in this batch, under keys that the manifest does not have
    rewritten: int = 0  # of `here`: the keys look like those on record, rewritten
    renumbered: int = 0  # rows to be paid whose keys look so, whatever they ask for: where no key is as on record
    example: tuple[str, str] | None = None  # a key on record, and what the manifest has of it
    places: tuple[OtherBatch, ...] = ()  # the others, those with most first
    not_takeable: int = 0  # of `rows`: with --reuse, and yet the images that were made cannot be taken
    copyable: int = 0  # of `rows`: --reuse may take their images from where they are
    reused: int = 0  # rows that cost nothing, as their images are taken from where they are
    reused_images: int = 0
    reused_money: int = 0  # micro-dollars that are not spent
    absent: int = 0  # rows on record, in the last manifest and not in this one
    absent_with_images: int = 0
    absent_numbered: int = 0  # of `absent`: known by their number, as of a manifest without a key column
    replaces: bool = False  # the manifest takes the place of the one before
    by_another_column: bool = False  # its keys were taken from another column than those on record

    @property
    def needs_buy_again(self) -> bool:
        """Whether a plain yes is not enough: most of what would be paid for is there already.

        However few they are, where images that are there should have been taken, and where the manifest has none of the
        batch's keys: they were rewritten, or read otherwise. A few are enough whose keys look rewritten. A single row
        that is appended may be a new product that is called as another.
        """
        is_certain = self.replaces or self.here > 1 or self.by_another_column
        is_same_batch = not self.matched and 2 * self.here > self.to_pay and is_certain
        are_all = 0 < self.rewritten == self.to_pay
        is_rewritten = are_all or max(self.rewritten, self.renumbered) >= REWRITTEN
        return bool(self.not_takeable or is_same_batch or is_rewritten or (self.rows >= MANY and self.are_most))

    @property
    def are_most(self) -> bool:
        """Whether over half of what would be paid for was made already."""
        return 2 * self.rows > self.to_pay

    @property
    def were_numbered(self) -> bool:
        """Whether the batch knows by their numbers the rows that the manifest has under other keys."""
        return bool(self.here and not self.matched and self.absent_numbered == self.absent)


@dataclass(slots=True)
class _Bucket:
    """New rows by request: 31 bytes each."""

    requests: array[int] = field(default_factory=lambda: array("Q"))
    numbers: array[float] = field(default_factory=lambda: array("d"))
    elsewhere: array[int] = field(default_factory=lambda: array("H"))
    images: array[int] = field(default_factory=lambda: array("H"))
    money: array[int] = field(default_factory=lambda: array("Q"))
    lines: array[int] = field(default_factory=lambda: array("H"))
    copyable: array[int] = field(default_factory=lambda: array("B"))


@dataclass(slots=True, kw_only=True)
class Comparison:
    """Counts while a manifest is read. `batch_id`: None for a batch that is not on record yet."""

    ledger: Ledger | None
    batch_id: int | None
    sandbox: bool
    of_token: int | None = None  # only batches of that token are looked into; None: all
    reuse: bool = False
    append: bool = False
    to_pay: int = 0
    matched: int = 0
    reused: int = 0
    reused_images: int = 0
    reused_money: int = 0
    bad_keys: RepeatedHashes = field(default_factory=RepeatedHashes)  # of bad rows
    #: Rows that turned out to cost nothing when all keys were known: by line of the routes, images and money a row.
    saved: Counter[tuple[int, int, int]] = field(default_factory=Counter)
    _allotment: Allotment = field(init=False)
    _buckets: list[_Bucket] = field(default_factory=lambda: [_Bucket() for _ in range(BUCKETS)])
    _answers: OrderedDict[str, list[MadeBefore]] = field(default_factory=OrderedDict)
    _places: Counter[int] = field(default_factory=Counter)
    _same_keys: Counter[int] = field(default_factory=Counter)
    _rewritten: dict[int, tuple[str, str]] = field(default_factory=dict)
    _examples: dict[tuple[int, float], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._allotment = Allotment(self._find)

    def _find(self, hashes: Sequence[str]) -> list[ReuseSource]:
        return (
            self.ledger.batches.reuse_sources(
                hashes, besides=self.batch_id, sandbox=self.sandbox, of_token=self.of_token
            )
            if self.ledger
            else []
        )

    def look_for_images(self, rows: Sequence[Row]) -> None:
        """A chunk's rows whose images may be taken from where they are: one question for all of them."""
        if self.reuse:
            self._allotment.ask(row.request_hash or "" for row in rows if row.request and is_reusable(row.request))

    def takes(self, row: Row, images: int) -> bool:
        """Whether all `images` that would be paid for the row are taken from where they are."""
        request = row.request
        if not (self.reuse and request and images == request.n and is_reusable(request)):
            return False
        found = self._allotment.take(row.request_hash or "", request.to_json()) is not None
        if found:
            self._count_reused(images, row.price)
        return found

    def _count_reused(self, images: int, price: int | None) -> None:
        self.reused += 1
        self.reused_images += images
        self.reused_money += images * (price or 0)

    def look(self, fresh: Sequence[Row]) -> None:
        """A chunk's rows that are new to the batch: one question for all, and one a batch that has repeats of them."""
        if self.ledger is None or not fresh:
            return
        self._ask(self.ledger, {row.request_hash or "" for row in fresh})
        unsure: dict[int, list[Row]] = {}
        for row in fresh:
            for made in self._answers[row.request_hash or ""]:
                self._places[made.batch_id] += 1
                if made.key == row.key:
                    self._same_keys[made.batch_id] += 1
                elif looks_rewritten(made.key, row.key):
                    self._rewritten.setdefault(made.batch_id, (made.key, row.key))
                elif made.rows > 1:
                    unsure.setdefault(made.batch_id, []).append(row)
        for batch_id in sorted(unsure, key=lambda each: -self._places[each])[:LOOKED_INTO]:
            keys = self.ledger.batches.same_rows(batch_id, [row.key for row in unsure[batch_id]])
            self._same_keys[batch_id] += sum(keys.get(row.key) == row.request_hash for row in unsure[batch_id])

    def _ask(self, ledger: Ledger, hashes: set[str]) -> None:
        for known in [each for each in hashes if each in self._answers]:
            self._answers.move_to_end(known)
        unknown = sorted(each for each in hashes if each not in self._answers)
        self._answers.update({each: [] for each in unknown})
        if unknown:
            found = ledger.batches.made_elsewhere(
                unknown, besides=self.batch_id, sandbox=self.sandbox, of_token=self.of_token
            )
            for made in found:
                self._answers[made.request_hash].append(made)
        while len(self._answers) > KEPT:
            self._answers.popitem(last=False)

    def add(self, row: Row, images: int, line: int) -> None:
        """A row of the chunk that is new to the batch, the images to be paid for it, and its line of the routes."""
        copyable = row.request is not None and is_reusable(row.request)
        made = self._answers.get(row.request_hash or "", ())
        if self.reuse and copyable:  # what there was is taken, but for this
            elsewhere = sum(each.apart for each in made) + self._allotment.made_anew(row.request_hash or "")
        else:
            elsewhere = sum(each.rows for each in made)
        if not (images and (elsewhere or self.batch_id is not None)):
            return
        request = hash64(row.request_hash or "")
        bucket = self._buckets[request % BUCKETS]
        number = _number(row.key)
        if not math.isnan(number) and len(self._examples) < EXAMPLES:
            self._examples.setdefault((request, number), row.key)
        bucket.requests.append(request)
        bucket.numbers.append(number)
        bucket.elsewhere.append(min(elsewhere, _MOST))
        bucket.images.append(images)
        bucket.money.append(images * (row.price or 0))
        bucket.lines.append(line)
        bucket.copyable.append(copyable)

    def outcome(self, keys: RepeatedHashes) -> Overlap:
        """`keys`: those of the manifest's good rows."""
        gone = [_Gone() for _ in range(BUCKETS)]
        absent = with_images = numbered = 0
        example = None
        by_number = {} if self.matched else {number: key for (_, number), key in self._examples.items()}
        renumbered = 0
        for row, is_free in self._not_in(keys):
            absent += row.listed
            with_images += row.listed and row.state in _WITH_IMAGES
            numbered += row.numbered
            number = _number(row.key)
            if row.made and number in by_number:
                renumbered += 1
                example = example or (row.key, by_number[number])
            if row.made and row.request_hash:
                request = hash64(row.request_hash)
                gone[request % BUCKETS].add(request, number, free=is_free, lost=not (row.usable or self.append))
                if example is None and (now := self._examples.get((request, number))):
                    example = row.key, now
        again = here = rewritten = images = money = copyable = not_takeable = 0
        for bucket, absentees in zip(self._buckets, gone, strict=True):
            for each in _asking(bucket, absentees):
                asked, taken = self._take_here(bucket, each) if self.reuse else (each.places, 0)
                elsewhere, mine = bucket.elsewhere[each.places[0]], each.made - taken
                answered = asked[: elsewhere + mine]
                alike = min(mine, _alike([bucket.numbers[at] for at in asked], each.numbers))
                again, rewritten = again + len(answered), rewritten + alike
                here += max(alike, min(mine, len(answered) - elsewhere))
                not_takeable += min(elsewhere + each.lost, len(answered)) if self.reuse else 0
                images += sum(bucket.images[at] for at in answered)
                money += sum(bucket.money[at] for at in answered)
                copyable += sum(bucket.copyable[at] for at in answered)
        to_pay = self.to_pay - sum(self.saved.values())
        renumbered = min(max(0, renumbered - self.reused), to_pay)
        return Overlap(
            to_pay=to_pay,
            matched=self.matched,
            rows=again,
            images=images,
            money=money,
            here=here,
            rewritten=rewritten,
            renumbered=renumbered,
            example=example if rewritten or renumbered else None,
            not_takeable=not_takeable,
            copyable=copyable,
            places=tuple(self._found()),
            reused=self.reused,
            reused_images=self.reused_images,
            reused_money=self.reused_money,
            absent=absent,
            absent_with_images=with_images,
            absent_numbered=numbered,
            replaces=not self.append,
        )

    def _take_here(self, bucket: _Bucket, each: _Request) -> tuple[list[int], int]:
        """The new rows that still have to be paid for, and how many take the images of rows that are gone."""
        takers = [at for at in each.places if bucket.copyable[at]][: each.free]
        for at in takers:
            images = bucket.images[at]
            self._count_reused(images, bucket.money[at] // images)
            self.saved[bucket.lines[at], images, bucket.money[at]] += 1
        taken = frozenset(takers)
        return [at for at in each.places if at not in taken], len(takers)

    def _not_in(self, keys: RepeatedHashes) -> Iterator[tuple[RecordedRow, bool]]:
        """The batch's rows on record that the manifest does not have; they are read only where there are any.

        Each with whether a new row may take its images. A product that comes as a bad row stays with its images.
        """
        if (
            self.ledger is None
            or self.batch_id is None
            or self.ledger.batches.count_rows(self.batch_id) == self.matched
        ):
            return
        rows = (
            row
            for row in self.ledger.batches.rows_on_record(self.batch_id)
            if not (keys.holds(row.key) or (row.state in _WITH_IMAGES and self.bad_keys.holds(row.key)))
        )
        while chunk := list(islice(rows, ABSENT)):
            usable = [row.id for row in chunk if row.usable]
            # Rows that are appended take no row's place: those on record stay with their images.
            holders = self.ledger.batches.image_holders(self.batch_id, usable) if self.reuse and not self.append else ()
            free = self._free(holders, keys)
            yield from ((row, row.id in free) for row in chunk)

    def _free(self, holders: Sequence[ImageHolder], keys: RepeatedHashes) -> set[int]:
        """Rows that are gone and whose images no row of the new manifest has or gets, one for each image."""
        of_row: dict[int, list[ImageHolder]] = {}
        for each in holders:
            of_row.setdefault(each.job_id, []).append(each)
        free = set()
        for job_id, mine in of_row.items():
            origin = mine[0].origin
            stays = any(each.holder_id != job_id and keys.holds(each.holder_key) for each in mine)
            if stays or self._allotment.has_given(origin):
                continue
            if len(mine) > 1:  # another row that is gone may have them, too
                self._allotment.give(origin)
            free.add(job_id)
        return free

    def _found(self) -> Iterator[OtherBatch]:
        for batch_id, rows in self._places.most_common():
            rewritten = self._rewritten.get(batch_id)
            yield OtherBatch(batch_id=batch_id, rows=rows, same_keys=self._same_keys[batch_id], rewritten=rewritten)


def looks_rewritten(key: str, other: str) -> bool:
    """Whether a spreadsheet may have made one key of the other: zeros in front go, .0 comes, long numbers get an E."""
    return key != other and _number(key) == _number(other)


def _alike(numbers: Sequence[float], others: Sequence[float]) -> int:
    """How many are in both, each as often as it is in both."""
    return (Counter(numbers) & Counter(others)).total() if others else 0


def _number(key: str) -> float:
    """What a spreadsheet takes the key for; NaN, which is like no other, if not for a number."""
    try:
        return float(key)
    except ValueError:
        return math.nan


@dataclass(slots=True)
class _Gone:
    """Rows that are gone from the batch and were made, by request; those whose images may be taken, or cannot be."""

    made: array[int] = field(default_factory=lambda: array("Q"))
    numbers: array[float] = field(default_factory=lambda: array("d"))
    free: array[int] = field(default_factory=lambda: array("Q"))
    lost: array[int] = field(default_factory=lambda: array("Q"))

    def add(self, request: int, number: float, *, free: bool, lost: bool) -> None:
        self.made.append(request)
        self.numbers.append(number)
        if free:
            self.free.append(request)
        if lost:
            self.lost.append(request)


class _Request(NamedTuple):
    """One request: the places of the new rows that ask for it, and rows gone from the batch that were made of it."""

    places: list[int]
    made: int
    free: int  # of these: a new row may take their images
    lost: int  # of these: their images are not those of the request, or not all there
    numbers: Sequence[float]  # the keys of the rows that are gone, as far as they are numbers


def _asking(bucket: _Bucket, gone: _Gone) -> Iterator[_Request]:
    made, free, lost = Counter(gone.made), Counter(gone.free), Counter(gone.lost)
    asking: dict[int, list[int]] = {}
    numbers: dict[int, list[float]] = {}
    for request, number in zip(gone.made, gone.numbers, strict=True):
        if not math.isnan(number):
            numbers.setdefault(request, []).append(number)
    for at, request in enumerate(bucket.requests):
        asking.setdefault(request, []).append(at)
    return (
        _Request(places, made[request], free[request], lost[request], numbers.get(request, ()))
        for request, places in asking.items()
    )
