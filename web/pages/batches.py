"""The list of batches, the newest first."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from jobs.formatting import money
from jobs.ledger.batches.values import Batch
from jobs.results.completion import rows_for_you, waits_for_you
from jobs.results.documents import BatchFigures
from jobs.results.progress import images_to_come, rows_going_on, seconds_left, spent, state_of_batch
from jobs.results.reasons import why
from web.pages.frame import PageRoute, page, rendered
from web.pages.live import Version, answer_look
from web.pages.shared_text import SharedText
from web.pages.visitors import PagesState, Sees, Visitor, pages_of

#: Batches of a page.
MOST = 40
#: Seconds that the counts of all batches of a page are waited for, together.
PATIENCE = 1.0

routes = APIRouter(route_class=PageRoute, include_in_schema=False)
Before = Annotated[int | None, Query(ge=1, le=(1 << 31) - 1)]


@dataclass(frozen=True, slots=True)
class BatchLine:
    """A batch of the list; its figures may be counted still."""

    batch: Batch
    state: str
    spent: str
    figures: BatchFigures | None
    for_you: int = 0
    going_on: int = 0
    left: float | None = None  # seconds
    waits: str = ""  # why it waits for a person


@routes.get("/")
def show_batches(request: Request, visitor: Sees, before: Before = None) -> Response:
    """The batches."""
    return page(request, visitor, "batches.html.j2", part=_part(pages_of(request), visitor, before).text, before=before)


@routes.get("/batches")
def look_at_batches(request: Request, visitor: Sees, before: Before = None, v: Version = "") -> Response:
    """The list alone, if it is another than the one of that version."""
    return answer_look(request, _part(pages_of(request), visitor, before), v)


def _part(pages: PagesState, visitor: Visitor, before: int | None) -> SharedText:
    mine = visitor.token.id if visitor.is_producer else None
    return pages.texts.get(("batches", mine, before), lambda: _listed(pages, mine, before))


def _listed(pages: PagesState, mine: int | None, before: int | None) -> str:
    found = pages.door.ledger.batches.page(MOST + 1, before=before, of_token=mine)
    older = found[MOST - 1].id if len(found) > MOST else None
    return rendered("batches_part.html.j2", lines=_lines(pages, found[:MOST]), older=older, before=before)


def _lines(pages: PagesState, batches: list[Batch]) -> list[BatchLine]:
    """All counts are begun first, then waited for together."""
    figures = pages.door.figures
    for each in batches:
        figures.of(each, 0.0)
    until = time.monotonic() + PATIENCE
    return [_line(each, figures.of(each, max(0.0, until - time.monotonic()))) for each in batches]


def _line(batch: Batch, figures: BatchFigures | None) -> BatchLine:
    if figures is None:
        return BatchLine(batch, batch.state.value, money(batch.charged), None)
    progress, standing = figures.progress, figures.standing
    reason = waits_for_you(standing)
    return BatchLine(
        batch,
        state_of_batch(progress),
        spent(progress),
        figures,
        for_you=rows_for_you(standing),
        going_on=rows_going_on(progress),
        left=seconds_left(progress, figures.accounts, figures.now) if images_to_come(progress) else None,
        waits=why(reason, standing) if reason else "",
    )
