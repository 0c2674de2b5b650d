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
from cli.flow.session import LedgerSession, find_batch, is_worked_on, open_session, show, show_json
from cli.output import wording
from cli.output.commands import command
from jobs import formatting
from jobs.errors import BadInput, StoreError
from jobs.policy.verification import Condition, Report
from jobs.states import BatchState

if TYPE_CHECKING:
    from jobs.ledger.batches.values import Batch
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
    from cli.flow.environment import probe
    from cli.flow.preflight import is_same_place, normal_dest

    dest = normal_dest(new)
    with open_session(config, sandbox=sandbox) as session:
        found = find_batch(session.ledger, batch)
        if is_same_place(dest, found.dest):
            raise BadInput(f"batch {batch} is at {found.dest} already. Nothing was changed.")
        with _alone(session, found):
            store, _ = probe(dest)
            is_told = not (quiet or json) and sys.stderr.isatty()
            move = _checked(session, found, dest, store, is_hashed=hash_, is_told=is_told)
            if move.is_whole or (partial and not move.report.counts[Condition.UNREADABLE]):
                move = _record(session, move, store)
        if json:
            show_json(document(move))
        else:
            show(page(move, everything=all), sandbox=found.sandbox)
    return 0 if move.recorded else 3


@contextlib.contextmanager
def _alone(session: LedgerSession, batch: Batch) -> Iterator[None]:
    """While it lasts, nobody stores an image of this batch at the old place."""
    ledger = session.ledger
    if ledger.is_sqlite:
        with ledger.hold(time.time()):
            yield
        return
    now = time.time() + ledger.clock_offset()
    progress = ledger.reports.progress(batch.name, now)
    moving = progress.images_in_flight + progress.images_generated
    waits = progress.images_ready and batch.state is BatchState.ACTIVE
    if is_worked_on(ledger, now) and (moving or waits):
        pause = command("pause", batch.name, sandbox=batch.sandbox)
        first = f"Pause it, and wait until these are stored:  {pause}" if waits else "Wait until these are stored."
        raise BadInput(
            f"batch {batch.name} is being worked on: {formatting.count(moving, 'image')} on their way. "
            f"Nothing was changed. {first}"
        )
    yield


def _checked(session: LedgerSession, batch: Batch, dest: str, store: Store, *, is_hashed: bool, is_told: bool) -> Move:
    from cli.flow.outputs import is_folder
    from providers.references import file_name
    from worker.references import place_of

    how = "hash" if is_hashed or is_folder(dest) else "quick"
    report = inspected(store, batch.name, session.ledger.images.stored(batch.name), how, is_told=is_told)
    requests = (result.request for result in session.ledger.reports.results(batch.name) if result.request)
    names = {name for request in requests for each in request.references if (name := file_name(each))}
    lacking = tuple(place_of(name) for name in sorted(names) if store.look(place_of(name)) is None)
    return Move(batch=batch, dest=dest, how=how, report=report, references=lacking, recorded=False)


def _record(session: LedgerSession, move: Move, store: Store) -> Move:
    """The mark at the new place, then the ledger, then the old mark goes: whatever breaks off may be done again."""
    from worker.storage.opening import open_store
    from worker.storage.ownership_mark import claim_destination, release

    batch, ledger = move.batch, session.ledger
    now = time.time() + ledger.clock_offset()
    claim_destination(store, batch.name, ledger.ledger_id, now, path=batch.path)
    ledger.batches.move(batch.name, move.dest, now)
    with contextlib.suppress(StoreError):  # it says nothing wrong: this ledger is the one that knows the batch
        if "://" in batch.dest or Path(batch.dest).is_dir():
            release(open_store(batch.dest), batch.name, ledger.ledger_id)
    return replace(move, recorded=True)


# -- what is said --------------------------------------------------------------------------------------------------

_HOW = {"quick": "by size", "hash": "by hash"}


def page(move: Move, *, everything: bool) -> Iterator[Line]:
    """Counts, what is not there, and what helps."""
    report, batch = move.report, move.batch
    bad = [f"{report.counts[each]:,} {each}" for each in Condition if each is Condition.SOUND or report.counts[each]]
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
        **{each.value: move.report.counts[each] for each in Condition},
        "images": [
            {"key": each.kept.key, "path": each.kept.path, "condition": each.condition.value, "reason": each.reason}
            for each in move.report.findings
        ],
        "references_missing": list(move.references),
        "exit_code": 0 if move.recorded else 3,
    }
