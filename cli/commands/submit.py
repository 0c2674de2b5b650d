"""`lightfast submit` and `lightfast watch`: a batch for the cluster's workers."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from cli.flow.options import BatchName, Config, Json, MaxStall, Quiet, RunOptions, Sandbox, read_stall, takes
from cli.flow.session import LedgerSession, find_batch, note, open_session, show_json
from cli.flow.settings import NOWHERE, read_settings
from jobs.command_lines import command
from jobs.errors import BadInput
from jobs.formatting import count
from jobs.policy.liveness import SEEN_WITHIN
from jobs.results.at_work import nobody_works
from jobs.results.completion import Allowed
from worker.registration.options import WorkLimits, read_allowed, read_option

if TYPE_CHECKING:
    from jobs.settings.model import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitting(RunOptions):
    """The options of `plan` and `run`, and one more."""

    wait: Annotated[bool, typer.Option("--wait", help="Watch it until it is finished.")] = False


@takes(Submitting)
def submit(options: Submitting) -> int:
    """Records the batch and wakes the workers; with --wait, watches it too."""
    from cli.flow.going_on import wake
    from cli.flow.register import recording

    settings = read_settings(options.config, sandbox_url=NOWHERE if options.sandbox else None)
    _demand_workers(settings)
    with recording(settings, options, "submit") as recorded:
        session = LedgerSession(recorded.ledger, settings)
        wake(session)
        _warn_without_workers(session)
        to_make = count(recorded.images, "image")
        note(f"{recorded.name} is on record: {to_make} to make. {command('watch', recorded.name)}")
        if options.wait:
            limits = recorded.limits
            return _watch(session, recorded.name, limits, json=options.json, quiet=options.quiet, as_="submit")
        if options.json:
            show_json({"command": "submit", "batch": recorded.name, "images": recorded.images, "exit_code": 0})
    return 0


def _demand_workers(settings: Settings) -> None:
    """On SQLite there is one process at most that would hear of the batch."""
    if settings.database_path is not None and not _is_served(settings):
        serve = command("schedule", "serve", sandbox=settings.is_sandbox)
        raise BadInput(
            f"submit hands work to others, and nobody works on {settings.database_path} for all. Start  {serve}  or "
            "use PostgreSQL for a cluster (database_url), or do it here and now with `lightfast run`."
        )


def _is_served(settings: Settings) -> bool:
    from worker.registration.preflight import existing_ledger

    with existing_ledger(settings) as ledger:
        return ledger is not None and ledger.is_served()


def watch(  # noqa: PLR0913  one parameter an option
    batch: BatchName,
    *,
    max_stall: MaxStall = None,
    allow_failed: Annotated[
        str | None, typer.Option(metavar="2%", help="Exit with 0 if no more rows than this have failed.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    config: Config = None,
    sandbox: Sandbox = False,
) -> int:
    """Shows live progress until the batch is finished. Ctrl-C ends only this command, not the work."""
    allowed = read_option("--allow-failed", allow_failed, read_allowed, Allowed())
    limits = WorkLimits(max_stall=read_stall(max_stall), allowed=allowed)
    with open_session(config, sandbox=sandbox) as session:
        find_batch(session.ledger, batch)
        _warn_without_workers(session)
        _warn_without_a_run(session, batch)
        return _watch(session, batch, limits, json=json, quiet=quiet)


def _watch(
    session: LedgerSession, name: str, limits: WorkLimits, *, json: bool, quiet: bool, as_: str = "watch"
) -> int:
    from cli.flow.execute import OutputMode, RunOutcome, exit_code, tell
    from cli.flow.watch import Watch
    from cli.output.progress import open_screen

    screen = open_screen(quiet=quiet or json, sandbox=session.settings.is_sandbox, log=session.settings.log)
    try:
        watched = Watch(ledger=session.ledger, name=name, limits=limits, screen=screen)
        ending = watched.until_it_ends()
        message = watched.message(ending)
    finally:
        screen.close()
    ended = RunOutcome(ending=ending, message=message, code=exit_code(ending, limits), seconds=None, command=as_)
    tell(ended, session.ledger, OutputMode(json=json, quiet=quiet))
    return ended.code


def _warn_without_a_run(session: LedgerSession, batch: str) -> None:
    from jobs.results.completion import is_over

    progress = session.ledger.reports.progress(batch, time.time())
    if session.ledger.is_sqlite and not session.ledger.is_held() and not is_over(progress):
        note(f"warning: {nobody_works(session.ledger, progress)}.")


def _warn_without_workers(session: LedgerSession) -> None:
    now = time.time() + session.ledger.clock_offset()
    if not session.ledger.is_sqlite and not session.ledger.workers.seen(now, SEEN_WITHIN):
        note(
            f"warning: no worker has been seen for {SEEN_WITHIN:.0f} s. The batch waits on record; start some with "
            "celery -A worker worker, and celery -A worker beat."
        )
