"""`lightfast move-destination`: a batch's images lie elsewhere now. Compared with the objects first, then recorded."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.commands.verify import FEW, inspected
from cli.flow.options import BatchName, Config, Json, Quiet, Sandbox
from cli.flow.session import LedgerSession, bring_back, find_batch, open_session, show, show_json
from cli.output import wording
from jobs import formatting
from jobs.command_lines import command
from jobs.errors import BadInput, StoreError
from jobs.policy.liveness import SEEN_WITHIN
from jobs.policy.verification import ObjectCondition, Report

if TYPE_CHECKING:
    from jobs.ledger import Ledger
    from jobs.ledger.batches.values import Batch, StillStoring, StoredTotal
    from worker.storage.base import Store

Line = tuple[str, str]

New = Annotated[str, typer.Argument(metavar="NEW", help="Where the images lie now: a bucket or a folder.")]
Hash = Annotated[bool, typer.Option("--hash", help="Read and hash each object of a bucket too, not only its size.")]
Partial = Annotated[bool, typer.Option("--partial", help="Record it although images are missing there.")]
All = Annotated[bool, typer.Option("--all", help="Show every image that is missing or changed.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What was found at the new destination, and whether it is on record now."""

    batch: Batch  # as it was before
    dest: str
    how: str
    report: Report
    references: tuple[str, ...]  # files that rows are made from and that are not there
    recorded: bool

    @property
    def is_whole(self) -> bool:
        """Whether everything is there as it was stored."""
        return not (self.report.findings or self.references)


def move_destination(  # noqa: PLR0913  one parameter an option
    batch: BatchName,
    new: New,
    *,
    hash_: Hash = False,
    partial: Partial = False,
    all: All = False,  # noqa: A002  the option's name
    json: Json = False,
    quiet: Quiet = False,
    config: Config = None,
    sandbox: Sandbox = False,
) -> int:
    """Checks that each stored image of a batch is at NEW, where you copied them, then binds the batch to it."""
    from worker.registration.preflight import is_same_place, normal_dest

    dest = normal_dest(new)
    with open_session(config, sandbox=sandbox) as session:
        found = find_batch(session.ledger, batch)
        if is_same_place(dest, found.dest):
            move = _finish(session, found)
        else:
            move = _move(session, found, dest, is_hashed=hash_, is_partial=partial, is_told=not (quiet or json))
        if json:
            show_json(document(move))
        else:
            show(page(move, everything=all), sandbox=found.sandbox)
    return 0 if move.recorded else 3


def _move(session: LedgerSession, batch: Batch, dest: str, *, is_hashed: bool, is_partial: bool, is_told: bool) -> Move:
    from cli.flow.environment import probe

    with _alone(session, batch):
        store, _ = probe(dest)
        before = session.ledger.batches.stored_total(batch.name)
        is_told = is_told and sys.stderr.isatty()
        move = _checked(session, batch, dest, store, is_hashed=is_hashed, is_told=is_told)
        if move.is_whole or (is_partial and not move.report.counts[ObjectCondition.UNREADABLE]):
            return _record(session, move, store, before)
        return move


@contextlib.contextmanager
def _alone(session: LedgerSession, batch: Batch) -> Iterator[None]:
    """While it lasts, nobody stores an image of this batch at the old place; on PostgreSQL: nobody did so far."""
    ledger = session.ledger
    if ledger.is_sqlite:
        with ledger.hold(time.time()):
            yield
        return
    now = time.time() + ledger.clock_offset()
    if found := ledger.batches.still_storing(batch.name, now, SEEN_WITHIN):
        raise _refused(batch, found)
    yield


def _refused(batch: Batch, found: StillStoring) -> BadInput:
    if found.stored:
        return BadInput(
            f"images of batch {batch.name} were stored at {batch.dest} while the others were compared. Nothing was "
            "changed. Copy them too, and run this again."
        )
    pause = command("pause", batch.name, sandbox=batch.sandbox)
    first = f"Pause it, and wait until these are stored:  {pause}" if found.waits else "Wait until these are stored."
    return BadInput(
        f"batch {batch.name} is being worked on: {formatting.count(found.moving, 'image')} on their way. "
        f"Nothing was changed. {first}"
    )


def _checked(session: LedgerSession, batch: Batch, dest: str, store: Store, *, is_hashed: bool, is_told: bool) -> Move:
    from providers.references import file_name
    from worker.references import place_of
    from worker.registration.destination import is_folder

    how = "hash" if is_hashed or is_folder(dest) else "quick"
    report = inspected(store, batch.name, session.ledger.images.stored(batch.name), how, is_told=is_told)
    requests = (result.request for result in session.ledger.reports.results(batch.name) if result.request)
    names = {name for request in requests for each in request.references if (name := file_name(each))}
    lacking = tuple(place_of(name) for name in sorted(names) if store.look(place_of(name)) is None)
    return Move(batch=batch, dest=dest, how=how, report=report, references=lacking, recorded=False)


def _record(session: LedgerSession, move: Move, store: Store, before: StoredTotal) -> Move:
    """The mark at the new place, then the ledger, then the old mark goes: whatever breaks off may be done again.

    `before`: what was stored before the images were compared.
    """
    from worker.storage.ownership_mark import claim_destination, release

    batch, ledger = move.batch, session.ledger
    now = time.time() + ledger.clock_offset()
    bring_back(ledger, batch)
    claim_destination(store, batch.name, ledger.ledger_id, now, path=batch.path, moved_from=batch.dest)
    if found := ledger.batches.move(batch.name, move.dest, now, within=SEEN_WITHIN, compared=before):
        release(store, batch.name, ledger.ledger_id)
        raise _refused(batch, found)
    with contextlib.suppress(StoreError):
        _leave(ledger, batch, batch.dest, store, now)
    return replace(move, recorded=True)


def _leave(ledger: Ledger, batch: Batch, old: str, store: Store, now: float) -> None:
    """Removes the mark at the old place. Left there, it would not be wrong: this ledger has the batch.

    `store`: of the new place, whose mark tells of the old one until then.
    """
    from worker.storage.opening import open_store
    from worker.storage.ownership_mark import is_moved, release

    if "://" in old or Path(old).is_dir():
        release(open_store(old), batch.name, ledger.ledger_id)
    is_moved(store, batch.name, ledger.ledger_id, now, path=batch.path)


def _finish(session: LedgerSession, batch: Batch) -> Move:
    """Of a move that broke off when the ledger knew the new place already: removes the old mark."""
    from worker.storage.opening import open_store
    from worker.storage.ownership_mark import look

    ledger, mark = session.ledger, None
    if "://" in batch.dest or Path(batch.dest).is_dir():
        store = open_store(batch.dest)
        mark = look(store, batch.name)
    if mark is None or mark.ledger != ledger.ledger_id or not mark.moved_from:
        raise BadInput(f"batch {batch.name} is at {batch.dest} already. Nothing was changed.")
    _leave(ledger, batch, mark.moved_from, store, time.time() + ledger.clock_offset())
    before = replace(batch, dest=mark.moved_from)
    return Move(batch=before, dest=batch.dest, how="quick", report=Report(), references=(), recorded=True)


# -- what is said --------------------------------------------------------------------------------------------------

_HOW = {"quick": "by size", "hash": "by hash"}


def page(move: Move, *, everything: bool) -> Iterator[Line]:
    """Counts, what is not there, and what helps."""
    report, batch = move.report, move.batch
    if (
        move.recorded and move.is_whole and not report.checked
    ):  # nothing is stored, or an earlier move broke off after it was recorded
        yield f"{batch.name} is at {move.dest} on record, and no longer at {batch.dest}", "bold green"
        return
    bad = [
        f"{report.counts[each]:,} {each}"
        for each in ObjectCondition
        if each is ObjectCondition.SOUND or report.counts[each]
    ]
    head = f"{batch.name}: {formatting.count(report.checked, 'image')} looked for at {move.dest} {_HOW[move.how]}"
    yield f"{head}: {', '.join(bad)}", "bold green" if move.is_whole else "bold red"
    missing = sorted((f"  {each.kept.path}", f"{each.condition}: {each.reason}") for each in report.findings)
    missing += [(f"  {path}", "missing: a reference that rows are made from") for path in move.references]
    shown = missing if everything else missing[:FEW]
    yield from ((line, "") for line in wording.aligned(shown))
    if len(missing) > len(shown):
        yield f"  … {len(missing):,} in all (--all shows them)", ""
    if move.recorded:
        yield f"  recorded: {batch.name} is at {move.dest} now, and no longer at {batch.dest}", ""
    else:
        yield f"  nothing was changed: {batch.name} stays at {batch.dest}", ""
        again = command("move-destination", batch.name, move.dest, sandbox=batch.sandbox)
        yield f"  when they are copied there too:  {again}", ""


def document(move: Move) -> dict[str, object]:
    """The same for programs."""
    return {
        "command": "move-destination",
        "batch": move.batch.name,
        "from": move.batch.dest,
        "dest": move.dest,
        "how": move.how,
        "recorded": move.recorded,
        "checked": move.report.checked,
        **{each.value: move.report.counts[each] for each in ObjectCondition},
        "images": [
            {"key": each.kept.key, "path": each.kept.path, "condition": each.condition.value, "reason": each.reason}
            for each in move.report.findings
        ],
        "references_missing": list(move.references),
        "exit_code": 0 if move.recorded else 3,
    }
