"""The list of batches, the newest first."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from web.pages.frame import PageRoute, page, rendered
from web.pages.live import Version, answer_look
from web.pages.shared_text import SharedText
from web.pages.visitors import PagesState, Sees, Visitor, pages_of

#: Batches of a page.
MOST = 40

routes = APIRouter(route_class=PageRoute, include_in_schema=False)
Before = Annotated[int | None, Query(ge=1, le=(1 << 31) - 1)]


@routes.get("/")
def show_batches(request: Request, visitor: Sees, before: Before = None) -> Response:
    """The batches."""
    return page(request, visitor, "batches.html.j2", part=_part(pages_of(request), visitor, before).text, before=before)


@routes.get("/batches")
def look_at_batches(request: Request, visitor: Sees, before: Before = None, v: Version = "") -> Response:
    """The list alone, if it is another than the one of that version."""
    return answer_look(request, visitor, _part(pages_of(request), visitor, before), v)


def _part(pages: PagesState, visitor: Visitor, before: int | None) -> SharedText:
    mine = visitor.id if visitor.is_producer else None
    return pages.texts.get(("batches", mine, before), lambda: _listed(pages, mine, before))


def _listed(pages: PagesState, mine: int | None, before: int | None) -> str:
    found = pages.door.ledger.batches.page(MOST + 1, before=before, of_token=mine)
    older = found[MOST - 1].id if len(found) > MOST else None
    return rendered("batches_part.html.j2", batches=found[:MOST], older=older, before=before)
