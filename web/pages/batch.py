"""One batch: how it goes, alive; and its steering."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from jobs.formatting import count, duration, money, size
from jobs.ledger.batches.values import Batch
from jobs.ledger.reports.values import Progress
from jobs.results.at_work import is_worked_on, nobody_works
from jobs.results.budgets import of_budget_words
from jobs.results.completion import rows_for_you, waits_for_you
from jobs.results.contact_sheet import Figure, trouble_figures
from jobs.results.documents import BatchFigures
from jobs.results.progress import (
    counted_by,
    images_per_second,
    images_to_come,
    is_paused,
    rows_going_on,
    seconds_left,
    spent,
    state_of_batch,
)
from jobs.results.reasons import why
from jobs.results.sentences import out_of_manifest, row_words, under_way
from jobs.results.stuck import stuck_lines
from jobs.results.troubles import troubles
from jobs.states import ENDED_BADLY, BatchState, JobState
from web.api.batches import cancel_batch, pause_batch, resume_batch
from web.api.results import Format, stream_results
from web.pages.charts import charts_of_batch
from web.pages.frame import PageRoute, go, page, rendered
from web.pages.live import Version, answer_look
from web.pages.shared_text import SharedText
from web.pages.visitors import FormOfMaker, Makes, PagesState, Sees, Visitor, pages_of

routes = APIRouter(route_class=PageRoute, include_in_schema=False)
Action = Literal["pause", "resume", "cancel"]

#: Seconds that the first count of a batch is waited for.
PATIENCE = 3.0


@routes.get("/batches/{name}")
def show_batch(request: Request, visitor: Sees, name: str) -> Response:
    """The batch."""
    pages = pages_of(request)
    batch = pages.door.batch_of(name, visitor.token)
    part, figures = _part(pages, batch), pages.door.figures.of(batch, 0.0)
    return page(
        request,
        visitor,
        "batch.html.j2",
        batch=batch,
        part=part.text,
        formats=list(Format),
        actions=list(_actions(batch, figures.progress if figures else None, visitor)),
    )


@routes.get("/batches/{name}/live")
def look_at_batch(request: Request, visitor: Sees, name: str, v: Version = "") -> Response:
    """What is alive of it, if it is another than the one of that version."""
    pages = pages_of(request)
    return answer_look(request, _part(pages, pages.door.batch_of(name, visitor.token)), v)


@routes.get("/batches/{name}/results/{as_format}")
async def download_results(request: Request, visitor: Sees, name: str, as_format: Format) -> Response:
    """A line for each row, as a file."""
    door = pages_of(request).door
    batch = await run_in_threadpool(door.batch_of, name, visitor.token)
    return await stream_results(door, visitor.token, request, batch, as_format)


def _part(pages: PagesState, batch: Batch) -> SharedText:
    return pages.texts.get(("batch", batch.id), lambda: _rendered(pages, batch))


def _rendered(pages: PagesState, batch: Batch) -> str:
    figures = pages.door.figures.of(batch, PATIENCE)
    if figures is None:
        return rendered("batch_part.html.j2", batch=batch, state=batch.state.value, figures=None)
    ledger, progress = pages.door.ledger, figures.progress
    worked_on = is_worked_on(ledger, figures.now)
    nobody = "" if worked_on or not rows_going_on(progress) else nobody_works(ledger, progress)
    reason = waits_for_you(figures.standing)
    return rendered(
        "batch_part.html.j2",
        batch=batch,
        state=state_of_batch(progress),
        figures=figures,
        progress=progress,
        head=[*_figures(figures, worked_on=worked_on), *trouble_figures(progress)],
        nobody=nobody,
        reason=why(reason, figures.standing) if reason else "",
        troubles=list(troubles(progress, figures.accounts, figures.now)),
        stuck=list(stuck_lines(progress)),
        rows=list(row_words(progress)),
        out=out_of_manifest(progress) if progress.rows_out else "",
        charts=list(charts_of_batch(pages.histories.of(batch.id), going_on=bool(rows_going_on(progress)))),
    )


def _figures(figures: BatchFigures, *, worked_on: bool) -> Iterator[Figure]:
    progress, now = figures.progress, figures.now
    coming = under_way(progress)
    note = f"of {progress.images_total:,}, {size(progress.bytes_stored)}"
    yield Figure(
        label="images stored", value=f"{progress.images_stored:,}", note=f"{note}; {coming}" if coming else note
    )
    if worked_on and images_to_come(progress):
        pace = images_per_second(progress, now)
        if pace is not None:
            left = seconds_left(progress, figures.accounts, now)
            about = f"about {duration(left)} left" if left is not None else "time left not known"
            yield Figure(label="images a minute", value=f"{pace * 60:,.0f}", note=about)
    yield Figure(label="spent", value=spent(progress), note=", ".join(_money_notes(figures)))
    if for_you := rows_for_you(figures.standing):
        yield Figure(label="need you", value=f"{for_you:,}", note="rows", tone="warn")
    images, at_risk = figures.at_risk
    if images:
        yield Figure(label="at risk", value=money(at_risk), note=f"if everything died now: {count(images, 'image')}")


def _money_notes(figures: BatchFigures) -> Iterator[str]:
    progress = figures.progress
    yield f"{of_budget_words(progress).strip()} ({counted_by(progress)})".strip()
    if progress.in_flight_money:
        yield f"{money(progress.in_flight_money)} reserved in flight"
    if progress.remaining_money:
        yield f"{money(progress.remaining_money)} for the rest at most"


# -- steering ------------------------------------------------------------------------------------------------------


def _actions(batch: Batch, progress: Progress | None, visitor: Visitor) -> Iterator[tuple[str, str]]:
    """What may be done, by its word in the address."""
    if not visitor.acts or batch.archive is not None:
        return
    if visitor.operates and (progress is None or progress.images_unknown):
        yield f"/unknown?batch={batch.name}", "Unknown …"
    if batch.state is BatchState.CANCELLED:
        return
    at = f"/batches/{batch.name}"
    if progress is None or any(progress.jobs.get(state) for state in ENDED_BADLY):
        yield f"{at}/retry", "Retry …"
    if progress is not None and not rows_going_on(progress):
        return
    yield (f"{at}/resume", "Resume …") if batch.state is BatchState.PAUSED else (f"{at}/pause", "Pause …")
    yield f"{at}/cancel", "Cancel …"


STEERS = {"pause": pause_batch, "resume": resume_batch, "cancel": cancel_batch}


@routes.get("/batches/{name}/{action}")
def ask_steer(request: Request, visitor: Makes, name: str, action: Action) -> Response:
    """What it would do, and whether that is meant."""
    pages = pages_of(request)
    batch = pages.door.batch_of(name, visitor.token)
    figures = pages.door.figures.of(batch, PATIENCE)
    return page(request, visitor, "steer.html.j2", batch=batch, action=action, words=list(_words(action, figures)))


def _words(action: str, figures: BatchFigures | None) -> Iterator[str]:
    """What becomes of rows and money."""
    progress = figures.progress if figures else None
    ready = progress.jobs.get(JobState.READY, 0) if progress else 0
    rest = money(progress.remaining_money) if progress else ""
    waiting = f"{count(ready, 'row')}, at most {rest}" if progress else "rows that are not sent"
    yield {
        "pause": f"Nothing new is sent or paid until it is resumed: {waiting}, wait.",
        "resume": f"Submits go on, within the budget that it has: {waiting}, may be bought.",
        "cancel": f"Nothing new is sent or paid for good: {waiting}, will not be made. This cannot be taken back.",
    }[action]
    yield "What is paid is polled, copied and stored in any case."
    if action == "resume" and progress and progress.batch.budget is not None:
        yield f"{spent(progress)}{of_budget_words(progress)} is spent so far."
    if progress and action == "resume" and not is_paused(progress) and not ready:
        yield "It has nothing left to send."


@routes.post("/batches/{name}/{action}")
def steer(request: Request, form: FormOfMaker, name: str, action: Action) -> Response:
    """Does it, by the API's own rules."""
    pages = pages_of(request)
    STEERS[action](pages.door, form.by.token, name)
    pages.texts.forget()
    return go(f"/batches/{name}")
