"""`lightfast verify`: compares the bucket with the ledger, and copies again what is missing."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from cli.flow.options import BatchName, Config, Json, Quiet, Sandbox
from cli.flow.session import LedgerSession, bring_back, find_batch, open_session, show, show_json
from cli.output import wording
from cli.output.terminal import tally
from jobs import formatting
from jobs.command_lines import command, keyed
from jobs.errors import BadInput, LedgerBusy, LightfastError, StoreError
from jobs.policy.verification import Finding, ObjectCondition, Remedy, Report, StoredCopy, remedy
from jobs.states import ImageState
from worker.registration.stored_images import demand_folder

if TYPE_CHECKING:
    from jobs.ledger.batches.values import Batch
    from worker.storage.base import Store

Line = tuple[str, str]

#: Findings shown without --all.
FEW = 20
#: Images between two words of progress.
STEP = 20

Quick = Annotated[bool, typer.Option("--quick", help="Check only that each object is there, with its size and name.")]
Deep = Annotated[bool, typer.Option("--deep", help="Hash each object, and decode it fully.")]
Repair = Annotated[bool, typer.Option("--repair", help="Copy missing images again, from living links. Never pays.")]
All = Annotated[bool, typer.Option("--all", help="Show every finding.")]


def verify(  # noqa: PLR0913  one parameter an option
    batch: BatchName,
    *,
    quick: Quick = False,
    deep: Deep = False,
    repair: Repair = False,
    all: All = False,  # noqa: A002  the option's name
    json: Json = False,
    quiet: Quiet = False,
    config: Config = None,
    sandbox: Sandbox = False,
) -> int:
    """Reads every stored image and compares it with the ledger; 3 when something is wrong and stays so."""
    if quick and deep:
        raise BadInput("--quick and --deep: one of them; without either every object is hashed.")
    how = "quick" if quick else "deep" if deep else "hash"
    with open_session(config, sandbox=sandbox, works=repair) as session:
        found = find_batch(session.ledger, batch)
        demand_folder(session.ledger, found)
        report = _inspect(session, found, how, is_told=not (quiet or json) and sys.stderr.isatty())
        mended = _repair(session, found.name, report) if repair else None
        named = session.ledger.images.named(found.name)
        if json:
            show_json(document(found, how, report, mended) | {"named_elsewhere": named})
        else:
            show(page(found, how, report, mended, everything=all), sandbox=found.sandbox)
            show(_named(named))
    return 3 if _is_wrong(report, mended) else 0


def _inspect(session: LedgerSession, batch: Batch, how: str, *, is_told: bool) -> Report:
    from worker.storage.opening import open_store

    try:
        store = open_store(batch.dest)
    except StoreError as refused:
        raise LightfastError(f"{batch.dest}: {refused.message} ({refused.code}). Nothing was looked at.") from None
    return inspected(store, batch.name, session.ledger.images.stored(batch.name), how, is_told=is_told)


def inspected(store: Store, batch: str, images: Iterable[StoredCopy], how: str, *, is_told: bool) -> Report:
    """What is wrong with these images at a destination. `is_told`: a count that grows is shown meanwhile."""
    from worker.recovery.verification import inspect

    report = Report()
    for each in inspect(store, batch, images, how=how):
        report.add([each])
        if is_told and report.checked % STEP == 0:
            tally(f"{report.checked:,} images looked at")
    return report


# -- repairing -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairResult:
    """What became of the images that were sent back."""

    sent_back: int
    stored: int  # here and now
    lost: int  # no link lives
    waiting: int  # for the next run, or for the cluster's workers


def _repair(session: LedgerSession, batch: str, report: Report) -> RepairResult:
    now = time.time() + session.ledger.clock_offset()
    session.ledger.batches.retry_copies(
        batch, now
    )  # what failed to be copied, or waits for a person: by the next run, or the workers
    wanted = {each.kept.image_id: each.reason for each in report.to_mend(now, Remedy.COPY)}
    if not wanted:
        return RepairResult(sent_back=0, stored=0, lost=0, waiting=0)
    bring_back(session.ledger, find_batch(session.ledger, batch))
    sent_back = _copy_again(session, batch, wanted, now)
    found = session.ledger.images.states(list(wanted))
    stored, lost = found[ImageState.STORED], found[ImageState.LOST]
    return RepairResult(sent_back=sent_back, stored=stored, lost=lost, waiting=len(wanted) - stored - lost)


def _copy_again(session: LedgerSession, batch: str, wanted: dict[int, str], now: float) -> int:
    """Copies here and now on SQLite, unless a run is at work there; else the cluster's workers do."""
    if not session.ledger.is_sqlite:
        from cli.flow.going_on import wake

        sent_back = session.ledger.images.copy_again(wanted, now)
        wake(session)
        return sent_back
    with contextlib.ExitStack() as holding:
        try:
            holding.enter_context(session.ledger.hold(now))
        except LedgerBusy:
            return session.ledger.images.copy_again(wanted, now)  # the run that is at work finds them
        sent_back = session.ledger.images.copy_again(wanted, now)
        asyncio.run(_copy_here(session, batch, wanted))
        return sent_back


async def _copy_here(session: LedgerSession, batch: str, wanted: dict[int, str]) -> None:
    from cli.flow.execute import log_events
    from worker.recovery.verification import copy_now
    from worker.services import build

    log_events(session.settings)
    services = build(session.settings, ledger=session.ledger)
    try:
        await copy_now(services, batch, wanted)
    finally:
        await services.http.close()
        services.executors.close()
        services.rescue_file.close()  # the ledger stays open: it is asked what became of them


def _is_wrong(report: Report, mended: RepairResult | None) -> bool:
    return len(report.findings) > (mended.stored if mended else 0)


# -- what is said --------------------------------------------------------------------------------------------------

_HOW = {"quick": "by size and name", "hash": "by hash", "deep": "by hash and a full decode"}


def page(batch: Batch, how: str, report: Report, mended: RepairResult | None, *, everything: bool) -> Iterator[Line]:
    """Counts, the findings in a table, and what helps."""
    bad = [
        f"{report.counts[each]:,} {each}"
        for each in ObjectCondition
        if each is ObjectCondition.SOUND or report.counts[each]
    ]
    head = f"{batch.name}: {formatting.count(report.checked, 'image')} at {batch.dest} looked at {_HOW[how]}"
    yield f"{head}: {', '.join(bad)}", "bold red" if report.findings else "bold green"
    shown = report.findings if everything else report.findings[:FEW]
    rows = [
        (f"  {each.kept.key}", each.kept.name, each.condition.value, formatting.shorten(each.reason, 100))
        for each in shown
    ]
    if rows:
        head, *lines = wording.aligned([("  KEY", "IMAGE", "IS", "BECAUSE"), *rows])
        yield head, "bold"
        yield from ((line, "") for line in lines)
    if len(report.findings) > len(shown):
        yield f"  … {len(report.findings):,} in all (--all shows them)", ""
    yield from _help(batch, report, mended)


def _named(named: dict[str, int]) -> Iterator[Line]:
    for dest, number in named.items():
        yield (
            f"  not looked at: {formatting.count(number, 'image')} at {dest}, with the batch that stored them there",
            "",
        )


def _help(batch: Batch, report: Report, mended: RepairResult | None) -> Iterator[Line]:
    now = time.time()
    to_copy, to_redo = report.to_mend(now, Remedy.COPY), report.to_mend(now, Remedy.REDO)
    if mended and mended.sent_back:
        yield _told_of(mended), ""
        if mended.lost:
            yield f"  to pay for the lost again:  {command('retry', batch.name, sandbox=batch.sandbox)}", ""
    elif to_copy and not mended:
        again = command("verify", batch.name, "--repair", sandbox=batch.sandbox)
        yield f"  {formatting.count(len(to_copy), 'image')} can be copied again for nothing:  {again}", ""
    if to_redo:
        yield from _redone(batch, to_redo)


def _redone(batch: Batch, findings: list[Finding]) -> Iterator[Line]:
    """What makes new images. A row of a lost ledger needs its manifest first, which tells what it asks for."""
    keys = list(dict.fromkeys(each.kept.key for each in findings))
    yield f"  {formatting.count(len(findings), 'image')} only a new one can replace, which costs money:", ""
    if not all(each.kept.is_planned for each in findings):
        again = command("run", "MANIFEST", "--batch", batch.name, "--to", batch.dest, sandbox=batch.sandbox)
        yield "    first its manifest again, since the ledger does not know yet what adopted rows ask for:", ""
        yield f"  {again}", ""
        yield "    then", ""
    yield f"  {command('redo', batch.name, *keyed(*keys[:FEW]), sandbox=batch.sandbox)}", ""
    if len(keys) > FEW:
        yield f"    and so for {formatting.count(len(keys) - FEW, 'row')} more (--all names them)", ""


def _told_of(mended: RepairResult) -> str:
    parts = [f"{mended.stored:,} stored again"]
    if mended.lost:
        parts.append(f"{mended.lost:,} lost, for no link lives")
    if mended.waiting:
        parts.append(f"{mended.waiting:,} wait for the next run or the cluster's workers")
    return f"  sent back to be copied: {', '.join(parts)}"


def document(batch: Batch, how: str, report: Report, mended: RepairResult | None) -> dict[str, object]:
    """The same for programs; every finding."""
    now = time.time()
    told: dict[str, object] = {
        "command": "verify",
        "batch": batch.name,
        "dest": batch.dest,
        "how": how,
        "checked": report.checked,
        **{each.value: report.counts[each] for each in ObjectCondition},
        "images": [_finding(each, now) for each in report.findings],
        "exit_code": 3 if _is_wrong(report, mended) else 0,
    }
    return told | ({"repaired": asdict(mended)} if mended else {})


def _finding(finding: Finding, now: float) -> dict[str, object]:
    kept = finding.kept
    return {
        "key": kept.key,
        "index": kept.slot,
        "revision": kept.revision,
        "surplus": kept.surplus,
        "path": kept.path,
        "condition": finding.condition.value,
        "reason": finding.reason,
        "remedy": remedy(finding, now).value,
    }
