"""`lightfast why`: one row's history as a person would tell it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from cli.flow.options import BatchName, Config, Json, Sandbox
from cli.flow.session import LedgerSession, demand_key, find_batch, open_session, show, show_json
from jobs.results import copy_stops
from jobs.states import JobState

if TYPE_CHECKING:
    from jobs.ledger.batches.values import Batch
    from jobs.ledger.claims.values import Failing
    from jobs.ledger.reports.values import Result, Story

Key = Annotated[str, typer.Argument(metavar="KEY", help="The row's key.", show_default=False)]
Line = tuple[str, str]


def why(batch: BatchName, key: Key, *, json: Json = False, config: Config = None, sandbox: Sandbox = False) -> int:
    """One row's history, as a person would tell it."""
    from jobs.results.story import document, tell

    with open_session(config, sandbox=sandbox) as session:
        found = find_batch(session.ledger, batch)
        story = _story_of(session, batch, key)
        failing = _failing(session, batch, story.result) if story.result.state is JobState.READY else []
    if json:
        show_json({"batch": batch, **document(story, found)})
    else:
        show([*tell(story, found, waits=bool(failing)), *_held_up(failing, found)], sandbox=found.sandbox)
    return 0


def _story_of(session: LedgerSession, batch: str, key: str) -> Story:
    """The job's story; a row that never became a job (skipped, invalid) has a short one."""
    story = session.ledger.reports.story(batch, key)
    if story is None:
        demand_key(session.ledger, [batch], key)
    return story or next(_without_a_job(session, batch, key))


def _without_a_job(session: LedgerSession, batch: str, key: str) -> Iterator[Story]:
    from jobs.ledger.reports.values import Story

    for result in session.ledger.reports.results(batch):
        if result.key == key:
            yield Story(result=result, attempts=(), events=(), next_try_at=None)


def _failing(session: LedgerSession, batch: str, result: Result) -> list[Failing]:
    """Why a row that waits is not sent, where nothing can be stored."""
    told = session.ledger.reports.progress(batch, time.time() + session.ledger.clock_offset()).failing
    return [
        each
        for each in told
        if each.provider in (None, result.provider) and each.provider_model in (None, result.provider_model)
    ]


def _held_up(failing: Sequence[Failing], batch: Batch) -> Iterator[Line]:
    for each in failing:
        yield from (
            (f"            {line}", "red") for line in copy_stops.lines(each, sandbox=batch.sandbox, own=batch.name)
        )
