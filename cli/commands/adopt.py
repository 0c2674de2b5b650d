"""`lightfast adopt`: a lost ledger rebuilt from what lies at the destination."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from cli.flow.consent import confirm
from cli.flow.options import Config, Json, Quiet, Sandbox, Sure
from cli.flow.session import bring_back, show, show_json
from cli.flow.settings import NOWHERE, read_settings
from cli.output.terminal import tally
from jobs import formatting
from jobs.command_lines import command
from jobs.errors import BadInput, LightfastError, StoreError

if TYPE_CHECKING:
    from jobs.settings.model import Settings
    from worker.recovery.adoption import FoundObjects, Reading, Tell
    from worker.storage.base import Store

Line = tuple[str, str]

#: Objects that cannot be read, named without --json.
FEW = 10
#: Objects between two words of progress.
STEP = 20

Dest = Annotated[str, typer.Argument(metavar="DEST", help="Where the images are.", show_default=False)]
Only = Annotated[str, typer.Option("--batch", metavar="NAME", help="Only this batch.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """What was taken on record of one batch."""

    batch: str
    rows: int
    there: int  # rows the ledger knew already
    reading: Reading


def adopt(  # noqa: PLR0913  one parameter an option
    dest: Dest,
    *,
    batch: Only = "",
    yes: Sure = False,
    json: Json = False,
    quiet: Quiet = False,
    config: Config = None,
    sandbox: Sandbox = False,
) -> int:
    """Takes images that are stored on record, so that the same manifest does not pay for them again."""
    from worker.registration.preflight import normal_dest

    settings = read_settings(config, sandbox_url=NOWHERE if sandbox else None)
    sandbox = settings.is_sandbox
    where = normal_dest(dest)
    tell = None if quiet or json or not sys.stderr.isatty() else _tell
    try:
        store, shelf = _look(where, batch, tell)
        if not json:
            show(_page(shelf, where), sandbox=sandbox, stderr=True)
        confirm(f"Take {_names(shelf)} on record in {_ledger(settings)}?", yes=yes, sandbox=sandbox, command="adopt")
        done = _take(settings, store, shelf, where, tell)
    except StoreError as refused:
        raise LightfastError(f"{where}: {refused.message} ({refused.code}). Nothing was recorded.") from None
    if json:
        show_json(_document(shelf, where, done))
    else:
        show(_done(done, sandbox=sandbox), sandbox=sandbox)
    return 3 if any(each.reading.unreadable for each in done) else 0


def _look(where: str, batch: str, tell: Tell | None) -> tuple[Store, FoundObjects]:
    from worker.recovery.adoption import look
    from worker.storage.opening import open_store

    store = open_store(where)
    shelf = look(store, batch or None, tell)
    if shelf.deeper:
        places = ", ".join(f"{where}/{each}" for each in shelf.deeper[:FEW])
        raise BadInput(f"{where} is not where a batch went: the marks are at {places}. Nothing was recorded.")
    if shelf.found.unclear:
        raise BadInput(_unclear(shelf, where))
    if not shelf.found.rows:
        of = f" of batch {batch}" if batch else ""
        raise BadInput(
            f"{where}: no images{of} of Lightfast; {shelf.found.foreign:,} other objects. Nothing was recorded."
        )
    return store, shelf


def _unclear(shelf: FoundObjects, where: str) -> str:
    images = shelf.found.unclear
    batches = sorted({name for each in images for name in (each.batch, *each.others)})
    return (
        f"{where}: {formatting.count(len(images), 'image')} may be of batch {' or '.join(batches)}, and nothing but "
        f"their paths tells ({min(each.path for each in images)}): the templates of these batches do not name them. "
        "One batch's images would be taken for another's rows. Move what is of one batch, with its mark, to a folder "
        "of its own (.lightfast/BATCH.json below it), and adopt each folder. Nothing was recorded."
    )


def _take(settings: Settings, store: Store, shelf: FoundObjects, where: str, tell: Tell | None) -> list[Adopted]:
    """Reads all images of a batch, records them in one transaction, and then replaces the ownership mark."""
    from jobs.ledger import open_ledger
    from jobs.ledger.batches.values import NewBatch
    from jobs.planning.planner import DEFAULT_PATH
    from worker.recovery.adoption import read
    from worker.storage.ownership_mark import claim_destination

    done = []
    readings = {name: read(store, rows, time.time(), tell) for name, rows in shelf.found.rows.items()}
    ledger = open_ledger(settings.database_url)
    try:
        for name, reading in readings.items():
            found = shelf.marks.get(name)
            path = (found.path if found else "") or DEFAULT_PATH
            new = NewBatch(
                name=name,
                dest=where,
                path=path,
                columns=(),
                source=f"adopted from {where}",
                sandbox=settings.is_sandbox,
            )
            if batch := ledger.batches.find(name):
                bring_back(ledger, batch)
            now = time.time() + ledger.clock_offset()
            taken = ledger.batches.adopt(new, reading.rows, now)
            claim_destination(store, name, ledger.ledger_id, now, new_ledger=True, path=path)
            done.append(Adopted(batch=name, rows=taken, there=len(reading.rows) - taken, reading=reading))
    finally:
        ledger.close()
    return done


def _tell(count: int) -> None:
    if count % STEP == 0:
        tally(f"{count:,} objects")


# -- what is said --------------------------------------------------------------------------------------------------


def _names(shelf: FoundObjects) -> str:
    names = list(shelf.found.rows)
    return f"batch {names[0]}" if len(names) == 1 else f"{len(names)} batches"


def _ledger(settings: Settings) -> str:
    from cli.flow.environment import ledger_line

    return ledger_line(settings)


def _page(shelf: FoundObjects, where: str) -> Iterator[Line]:
    """What is at the destination, before anything is recorded."""
    found = shelf.found
    for name, rows in found.rows.items():
        images = sum(len(row.images) for row in rows)
        yield f"{name}: {formatting.count(images, 'image')} of {formatting.count(len(rows), 'row')} at {where}", "bold"
        blind = sum(row.request_hash is None for row in rows)
        if blind:
            rows_ = formatting.count(blind, "row")
            yield (
                f"  nothing tells what {rows_} asked for: the next manifest's rows of the same keys are taken for them",
                "",
            )
        mark = shelf.marks.get(name)
        if mark:
            yield (
                f"  its mark is of the ledger {mark.ledger[:12]} on {mark.host}, {mark.at}. If that one still lives,",
                "yellow",
            )
            yield "  use it: two ledgers pay twice", "yellow"
    if found.mixed:
        yield (
            f"  {formatting.count(found.mixed, 'row')} with images of different requests: the most common one counts",
            "",
        )
    if found.doubles:
        yield f"  {formatting.count(found.doubles, 'object')} for a place that another has: left out", ""
    if found.foreign:
        yield f"  {formatting.count(found.foreign, 'object')} of somebody else: left out", ""


def _done(done: list[Adopted], *, sandbox: bool) -> Iterator[Line]:
    for each in done:
        there = f", {each.there:,} were on record already" if each.there else ""
        yield f"{each.batch}: {formatting.count(each.rows, 'row')} on record as stored{there}", "bold green"
        unreadable = each.reading.unreadable
        yield from ((f"  left out: {problem}", "red") for problem in unreadable[:FEW])
        if len(unreadable) > FEW:
            yield f"  … {len(unreadable):,} in all (--json names them)", "red"
    yield "What they cost is not on record here, nor what was running when the old ledger was lost: look in your", ""
    yield "provider's console before you run rows that are missing. The same manifest goes on:", ""
    yield from ((f"  {command('plan', 'MANIFEST', '--batch', each.batch, sandbox=sandbox)}", "") for each in done)


def _document(shelf: FoundObjects, where: str, done: list[Adopted]) -> dict[str, object]:
    found = shelf.found
    return {
        "command": "adopt",
        "dest": where,
        "batches": [
            {
                "batch": each.batch,
                "rows": each.rows,
                "rows_on_record": each.there,
                "images": each.reading.images,
                "rows_without_request": sum(row.request_hash is None for row in each.reading.rows),
                "unreadable": each.reading.unreadable,
            }
            for each in done
        ],
        "told_by": {by.value: count for by, count in found.by.items()},
        "rows_of_different_requests": found.mixed,
        "doubles": found.doubles,
        "foreign": found.foreign,
        "exit_code": 3 if any(each.reading.unreadable for each in done) else 0,
    }
