"""`lightfast prune`: finished batches go into an archive, and the bulk of their rows out of the ledger."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from cli.flow.options import Config, Json, Quiet, Sandbox, Sure
from cli.flow.session import LedgerSession, find_batch, note, open_session, show, show_json
from cli.flow.session import bring_back as restore
from cli.output.wording import aligned
from jobs.command_lines import command
from jobs.errors import BadInput, LedgerBusy
from jobs.formatting import count, day_and_minute, size
from worker.registration.options import read_duration, read_option

if TYPE_CHECKING:
    from jobs.ledger.pruning.values import Candidate
    from worker.archives.prune import Pruned, Tell

Line = tuple[str, str]

Names = Annotated[
    list[str] | None, typer.Argument(metavar="[BATCH]…", help="These batches; all if not given.", show_default=False)
]
OlderThan = Annotated[str, typer.Option("--older-than", metavar="TIME", help="Only what ended this long ago.")]
BringBack = Annotated[
    bool, typer.Option("--bring-back", help="Bring the rows of these archived batches back into the ledger.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be archived, and what not and why.")]

#: Batches named that stay whole, where nobody asked for them by name.
FEW = 10


def prune(  # noqa: PLR0913  one parameter an option
    batch: Names = None,
    *,
    older_than: OlderThan = "90d",
    dry_run: DryRun = False,
    bring_back: BringBack = False,
    yes: Sure = False,
    json: Json = False,
    quiet: Quiet = False,
    config: Config = None,
    sandbox: Sandbox = False,
) -> int:
    """Archives finished batches; images are never touched, and nothing is bought again."""
    from cli.flow.consent import confirm
    from cli.output.terminal import counting
    from jobs.ledger.pruning.values import LEAST_KEPT, TOO_YOUNG, NotPrunable
    from worker.archives.files import demand_pyarrow
    from worker.registration.archive_place import place_for

    span = read_option("--older-than", older_than, read_duration, 0.0)
    if span < LEAST_KEPT:
        raise BadInput(f"--older-than {older_than}: {TOO_YOUNG}")
    demand_pyarrow()
    with open_session(config, sandbox=sandbox) as session:
        if bring_back:
            return _brought_back(session, batch or (), json=json)
        storage = session.settings.storage
        able, kept = _chosen(session, batch or (), span)
        places = {each.batch.name: place_for(each.batch, storage) for each in able if not each.begun}
        if dry_run or not able:
            _tell(session, [], able, kept, places, dry_run=dry_run, json=json)
            return 0
        if not json:
            show(_page(able, kept, places), sandbox=session.settings.is_sandbox, stderr=True)
        question = f"Archive {len(able):,} batch{'es' * (len(able) > 1)}?"
        confirm(question, yes=yes, sandbox=session.settings.is_sandbox, command="prune")
        done = []
        for each in able:
            tell = counting("rows", 1_000, quiet=quiet or json)
            try:
                done.append(_archived(session, each, places.get(each.batch.name, ""), span, tell))
            except NotPrunable as meanwhile:
                note(str(meanwhile))
        _tell(session, done, able, kept, places, dry_run=False, json=json, shrunk=_compacted(session))
    return 0


def _brought_back(session: LedgerSession, names: Sequence[str], *, json: bool) -> int:
    if not names:
        raise BadInput("--bring-back needs to know the batches: lightfast prune --bring-back BATCH…")
    found = [find_batch(session.ledger, name) for name in names]
    archived = [each for each in found if each.archive is not None]
    for each in archived:
        restore(session.ledger, each)
    if json:
        show_json({"command": "prune", "brought_back": [each.name for each in archived]})
    else:
        note(f"{len(archived):,} of {len(found):,} brought back; the others were in the ledger.")
    return 0


def _chosen(session: LedgerSession, names: Sequence[str], span: float) -> tuple[list[Candidate], list[Candidate]]:
    """What may be archived and what stays. Batches that were asked for by name all may, or nothing is done."""
    for name in names:
        find_batch(session.ledger, name)
    now = time.time() + session.ledger.clock_offset()
    found = session.ledger.pruning.candidates(now, span, names)
    able, kept = [each for each in found if each.reason is None], [each for each in found if each.reason is not None]
    if names and kept:
        raise BadInput([f"batch {each.batch.name} is not archived: {each.reason}." for each in kept])
    return able, kept


def _archived(session: LedgerSession, candidate: Candidate, place: str, span: float, tell: Tell | None) -> Pruned:
    from worker.archives.prune import prune as archive

    offset = session.ledger.clock_offset()
    return archive(session.ledger, candidate, place, span, now=lambda: time.time() + offset, tell=tell)


def _compacted(session: LedgerSession) -> tuple[int, int] | None:
    """Bytes of a SQLite ledger before and after; None where it is not written anew."""
    if not session.ledger.is_sqlite:
        return None
    with contextlib.suppress(LedgerBusy), session.ledger.hold(time.time()):
        return session.ledger.pruning.compact()
    note("A run works on this ledger: the space that is free in it now is used again, and not given back to the disk.")
    return None


# -- what is said --------------------------------------------------------------------------------------------------


def _page(able: Sequence[Candidate], kept: Sequence[Candidate], places: dict[str, str]) -> Iterator[Line]:
    for line in aligned([_row(each, places) for each in able]):
        yield line, ""
    old = [each for each in kept if each.ended_at == 0.0]  # of the others it is only too early
    for each in old[:FEW]:
        yield f"  {each.batch.name} stays: {each.reason}", "yellow"
    if len(old) > FEW:
        yield f"  … {len(old):,} stay in all (--dry-run --json names them)", ""
    if able:
        yield "Images stay where they are. Results, books and reuse go on as before; run and retry bring rows back.", ""


def _row(candidate: Candidate, places: dict[str, str]) -> tuple[str, ...]:
    batch = candidate.batch
    if candidate.begun:
        return (f"  {batch.name}", "is archived, and still partly in the ledger", f"-> {batch.archive}")
    ended = f"{count(candidate.rows, 'row')}, ended {day_and_minute(candidate.ended_at)}"
    return (f"  {batch.name}", ended, f"-> {places[batch.name]}")


def _tell(  # noqa: PLR0913  what was done, and how it is said
    session: LedgerSession,
    done: Sequence[Pruned],
    able: Sequence[Candidate],
    kept: Sequence[Candidate],
    places: dict[str, str],
    *,
    dry_run: bool,
    json: bool,
    shrunk: tuple[int, int] | None = None,
) -> None:
    if json:
        show_json(
            {
                "command": "prune",
                "dry_run": dry_run,
                "archived": [asdict(each) for each in done],
                "would_archive": [each.batch.name for each in able] if dry_run else [],
                "kept": [{"batch": each.batch.name, "reason": each.reason} for each in kept],
                "ledger_bytes": {"before": shrunk[0], "after": shrunk[1]} if shrunk else None,
            }
        )
        return
    sandbox = session.settings.is_sandbox
    if not done:
        show(_page(able, kept, places), sandbox=sandbox)
        show([("Nothing was changed." if able else "No batch is to be archived now. Nothing was changed.", "")])
        return
    told = [(f"{each.batch}: {count(each.rows, 'row')} archived -> {each.archive}", "green") for each in done]
    if shrunk:
        told.append((f"ledger: {size(shrunk[0])} before, {size(shrunk[1])} now", ""))
    show([*told, (f"To read one:  {command('results', done[0].batch, sandbox=sandbox)}", "")], sandbox=sandbox)
