"""Exports batches as a data set: looked through once, then read, written part by part, and described.

Ended anywhere, the same call goes on: parts on record are not made again, and all that follows is as it would have
been. Nothing but what an export of the same samples and options put there is ever written over.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from jobs.errors import BadInput, LightfastError, StoreError
from jobs.export.card import card
from jobs.export.findings import NOT_LOOKED_AT, PictureFinding
from jobs.export.options import ExportOptions
from jobs.export.records import RecordShape, has_to_state_types, record_shape
from jobs.export.samples import PROVENANCE, ImageSample
from jobs.export.survey import SampleSurvey
from jobs.export.totals import Totals, left_out
from jobs.manifest.raw_rows import OWN_PREFIX
from jobs.results.progress import rows_going_on
from jobs.results.rows import Values
from jobs.results.writers import pyarrow_for
from worker.export.flags import FlagRecorder
from worker.export.imagefolder import put_metadata
from worker.export.inspection import Inspection
from worker.export.parts import Replay, ShardWriter, opener
from worker.export.pictures import Conversion, process_pool
from worker.export.presence import keep_intact, lost_files, lost_pictures, names_in
from worker.export.reading import SampleReader
from worker.export.spool import SampleSpool
from worker.export.state import FinishedPart, Mark, begin, clear, finish, place, place_file, recorded
from worker.export.workspace import workspace
from worker.storage.destinations import Destinations

if TYPE_CHECKING:
    from jobs.ledger import Ledger
    from jobs.ledger.batches.values import Batch
    from worker.storage.base import Store

CARD, MISSING, DROPPED = "README.md", "missing.jsonl", "near_duplicates.jsonl"
_JSONL = "application/jsonl"
#: How many images are looked through, or written: the stage, how many, of how many (0: not known), bytes.
Tell = Callable[[str, int, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What came of an export."""

    was_done: bool  # before: nothing was written now
    images: int
    bytes: int
    splits: dict[str, int]  # images
    files: list[dict[str, Any]]  # of the data: file, split, samples, bytes of their pictures, sha256, file_bytes
    rows_without: int  # without a stored image
    rows_partial: int  # with fewer stored images than were asked for
    images_lacking: int  # of the latter
    blank: int  # images
    near_duplicates: int  # images that are nearly the same as an earlier one
    dropped: int  # of them: those that are not in the data set
    missing: int  # images that are gone or changed
    first_missing: list[dict[str, Any]]
    lost: int = 0  # files that are gone, or of another size, since it was done
    first_lost: list[dict[str, str]] = field(default_factory=list)
    flags_not_recorded: str | None = None  # why, in words that follow "the ledger"; None: it has what was found


#: Images or files that are gone and named in words.
NAMED = 10


def export(  # noqa: PLR0913  what, where to, and what it works with
    ledger: Ledger,
    batches: Sequence[Batch],
    options: ExportOptions,
    dest: str,
    *,
    stores: Destinations,
    tell: Tell,
    pool: Callable[[], Executor] = process_pool,
) -> Exported:
    """Exports the stored images of these batches to `dest`. Blocks. `pool`: what decodes pictures, where any are.

    Raises:
        BadInput: The options don't fit the batches, there is nothing to export, or something else is at `dest`.
        LightfastError: A store does not answer.
    """
    if options.shape == "parquet":
        pyarrow_for("--as parquet")
    try:
        with workspace() as folder:
            survey, spool = _surveyed(ledger, batches, options, folder, tell)
            shape = record_shape(survey.own, options, (sample.own for sample in spool))
            survey.demand_whole()
            if options.shape == "imagefolder" and has_to_state_types(shape, spool):
                pyarrow_for("--as imagefolder, of text that looks like dates or numbers that some rows lack,")
                shape = replace(shape, states_types=True)
            mark = Mark(
                fingerprint=survey.fingerprint,
                options=options.fingerprint,
                shape=options.shape,
                batches=tuple(each.name for each in batches),
            )
            store = stores.store(dest)
            there = begin(store, dest, mark, stores.store)
            if there.state == "done":
                clear(store, recorded(store))
                lost = list(_lost(store, there, spool))
                return Exported(was_done=True, lost=len(lost), first_lost=lost[:NAMED], **there.ending)
            return _Export(
                survey=survey,
                spool=spool,
                shape=shape,
                store=store,
                dest=dest,
                folder=folder,
                stores=stores,
                tell=tell,
                pool=pool,
                flags=FlagRecorder(ledger),
            ).run(mark)
    except StoreError as refused:
        if refused.code == "bad_destination":
            raise BadInput(f"--to {refused.message}") from None
        raise LightfastError(
            f"the export to {dest} stopped: {refused.message} ({refused.code}). What is there stays; when that is "
            "mended, the same command goes on."
        ) from None
    except BrokenExecutor:
        raise LightfastError(
            f"the export to {dest} stopped: a process that decodes pictures was ended, perhaps for want of memory. "
            "The same command goes on."
        ) from None
    except OSError as trouble:  # of the folder here that shards are written in first
        raise LightfastError(
            f"the export to {dest} stopped: {trouble.strerror or trouble} ({tempfile.gettempdir()}; TMPDIR names "
            "another folder for shards that are being written). The same command goes on."
        ) from None


def _surveyed(
    ledger: Ledger, batches: Sequence[Batch], options: ExportOptions, folder: Path, tell: Tell
) -> tuple[SampleSurvey, SampleSpool]:
    survey, spool = SampleSurvey(batches=batches, options=options), SampleSpool(folder)
    survey.rows_going_on = sum(rows_going_on(ledger.reports.progress(batch.name)) for batch in batches)
    results = ((batch, result) for batch in batches for result in ledger.reports.results(batch.name))
    with contextlib.closing(spool):
        for sample in survey.walk(results):
            spool.add(sample)
            tell("looked through", survey.images, 0, 0)
    return survey, spool


def _lost(store: Store, done: Mark, samples: Iterable[ImageSample]) -> Iterator[dict[str, str]]:
    lost = list(lost_files(store, done.sizes))
    yield from lost
    lists = [path for path in (MISSING, DROPPED) if path in done.sizes]
    if done.shape == "imagefolder" and not any(each["file"] in lists for each in lost):
        left_out = frozenset[str]().union(*(names_in(store, path) for path in lists))
        yield from lost_pictures(store, samples, left_out)


@dataclass(slots=True, kw_only=True)
class _Export:
    """The pass that reads and writes."""

    survey: SampleSurvey
    spool: SampleSpool
    shape: RecordShape
    store: Store
    dest: str
    folder: Path  # for what is written here first
    stores: Destinations
    tell: Tell
    pool: Callable[[], Executor]
    flags: FlagRecorder
    totals: Totals = field(default_factory=Totals)
    bytes_through: int = 0

    def run(self, mark: Mark) -> Exported:
        """Writes all parts, then what describes them, then that it is done.

        Flags are recorded before that: an export that is done looks at nothing when it is asked for again.
        """
        finished = keep_intact(self.store, recorded(self.store))
        self._write(finished)
        self.flags.record()
        return self._describe(mark, finished)

    def _write(self, finished: list[FinishedPart]) -> None:
        """Writes the parts that are not finished, and adds them to those that are."""
        options = self.survey.options
        open_part = opener(
            self.store, self.dest, self.folder, shape=options.shape, records=self.shape, most=options.shard_size
        )
        with contextlib.ExitStack() as stack:
            parts = stack.enter_context(ShardWriter(self.store, self.dest, open_part, finished))
            pool = stack.enter_context(self.pool()) if options.converts or options.looks else None
            reader = SampleReader(self.stores, pool, _conversion(options))
            inspection = Inspection(finished, looks=options.looks)
            for read in reader.read(self._wanted(Replay(finished), inspection)):
                if read.lacking is not None:
                    parts.lack(read.position, read.lacking)
                    self._count(read.sample, read.lacking)
                    continue
                found = inspection.judge(read.sample, read.look)
                if not self._drops(found):
                    record = self.shape.record(read.sample, sha256=read.sha256, finding=found, pixels=read.pixels)
                    parts.add(read.position, read.sample, read.ending, read.data, record)
                parts.note(read.position, found)
                self._count(read.sample, found=found)
            parts.put_open(self.survey.images)

    def _wanted(self, replay: Replay, inspection: Inspection) -> Iterator[tuple[int, ImageSample]]:
        """The samples that have to be read; the others are counted."""
        for position, sample in enumerate(self.spool):
            lacking, found = replay.lacks(position), inspection.replay(sample)
            if lacking is not None or (found and self._drops(found)) or replay.has(sample):
                self._count(sample, lacking, found=found or NOT_LOOKED_AT)
            else:
                yield position, sample

    def _drops(self, found: PictureFinding) -> bool:
        return found.duplicate_of is not None and self.survey.options.near_duplicates == "drop"

    def _count(self, sample: ImageSample, lacking: str | None = None, *, found: PictureFinding = NOT_LOOKED_AT) -> None:
        if lacking is not None:
            self.totals.lack(sample, lacking)
        elif self._drops(found):
            self.totals.dropped += 1
            with (self.folder / DROPPED).open("ab") as file:
                file.write(self._list_line({**left_out(sample), "duplicate_of": found.duplicate_of}))
        else:
            self.totals.add(sample, found)
        self.flags.note(sample, found)
        self.bytes_through += sample.size
        self.tell("exported", self.totals.through, self.survey.images, self.bytes_through)

    def _list_line(self, values: Values) -> bytes:
        """A line of a list of images that are left out: its columns have the names that they have in records."""
        taken = {name for name in self.survey.own if name in PROVENANCE}
        line = {f"{OWN_PREFIX}{name}" if name in taken else name: value for name, value in values.items()}
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)

    def _describe(self, mark: Mark, parts: Sequence[FinishedPart]) -> Exported:
        pictures: Counter[str] = Counter()  # bytes
        for part in parts:
            pictures[part.split] += part.bytes
        sizes: dict[str, int | None] = {CARD: None}  # people may change it
        missing = self.totals.missing
        if missing:
            lines = b"".join(self._list_line(each) for each in missing)
            place(self.store, self.dest, MISSING, lines, _JSONL)
            sizes[MISSING] = len(lines)
        if self.totals.dropped:
            sizes[DROPPED] = place_file(self.store, self.dest, DROPPED, self.folder / DROPPED, _JSONL).file_bytes
        if self.survey.options.shape == "imagefolder":
            files = put_metadata(self.store, self.dest, self.folder, parts, self.shape)
        else:
            told = ("file", "split", "samples", "bytes", "sha256", "file_bytes")
            files = [{name: getattr(part, name) for name in told} for part in parts]
        sizes |= {each["file"]: each["file_bytes"] for each in files}
        text = card(self.survey, self.shape, self.totals, pictures)
        place(self.store, self.dest, CARD, text, "text/markdown; charset=utf-8")
        ending: dict[str, Any] = {
            "images": self.totals.images,
            "bytes": pictures.total(),
            "splits": dict(sorted(self.totals.splits.items())),
            "files": files,
            "rows_without": self.survey.rows_without,
            "rows_partial": self.survey.rows_partial,
            "images_lacking": self.survey.images_lacking,
            "blank": self.totals.blank,
            "near_duplicates": self.totals.flagged + self.totals.dropped,
            "dropped": self.totals.dropped,
            "missing": len(missing),
            "first_missing": [dict(each) for each in missing[:NAMED]],
        }
        finish(self.store, mark, ending, sizes)
        clear(self.store, parts)
        return Exported(was_done=False, flags_not_recorded=self.flags.trouble, **ending)


def _conversion(options: ExportOptions) -> Conversion | None:
    if not options.converts:
        return None
    return Conversion(format=options.format, quality=options.quality, max_side=options.max_side, looks=options.looks)
