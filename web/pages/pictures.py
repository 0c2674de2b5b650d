"""Pictures of a batch, page by page, through our own server only: whoever looks needs no right to the bucket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, HTTPException, Query, Request, Response

from jobs.ledger.batches.values import Batch
from jobs.ledger.reports.values import Result, RowFilter, StoredImage
from jobs.results.contact_sheet import has_picture
from jobs.results.rows import listed_images
from jobs.states import JobState
from web.api.images import get_image, get_thumbnail
from web.pages.frame import PageRoute, fragment, page, rendered
from web.pages.rows import After, Key, prompt_of, query_of
from web.pages.visitors import PagesState, Sees, pages_of

routes = APIRouter(route_class=PageRoute, include_in_schema=False)

#: Rows that come at once, and those after which a new page begins: a browser scrolls this many pictures with ease.
MOST, LONG = 48, 1_200
#: States of rows that may have a picture.
HAVE_PICTURES = (JobState.DONE, JobState.PARTIAL, JobState.WORKING, JobState.HELD, JobState.LOST, JobState.FAILED)
Shown = Annotated[int, Query(ge=0, le=100_000)]
Index = Annotated[int, Query(ge=0, le=10_000)]
Revision = Annotated[int | None, Query(ge=1, le=1_000_000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """A picture, and whose it is."""

    key: str
    prompt: str
    image: StoredImage
    several: bool  # whether its row has more than one

    @property
    def query(self) -> str:
        """What names it."""
        return query_of(self.key, self.image)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shots:
    """Some pictures, and how to come by the next."""

    batch: Batch
    list: list[Shot]
    next: str  # query; "": there is none
    goes_on: bool  # on the same page


@routes.get("/batches/{name}/pictures")
def show_pictures(request: Request, visitor: Sees, name: str, after: After = "", shown: Shown = 0) -> Response:
    """The pictures, in the manifest's order; for a page that is scrolled the next of them alone."""
    pages = pages_of(request)
    batch = pages.door.batch_of(name, visitor.token)
    shots = _shots(pages, batch, after, shown)
    if "hx-request" in request.headers:
        return fragment(rendered("pictures_part.html.j2", shots=shots))
    return page(request, visitor, "pictures.html.j2", shots=shots, batch=batch, after=after)


def _shots(pages: PagesState, batch: Batch, after: str, shown: int) -> Shots:
    if batch.archive is not None:
        raise HTTPException(409, f"{batch.name} is archived: lightfast contact-sheet {batch.name} shows its pictures.")
    try:
        found = pages.door.ledger.reports.rows(batch, RowFilter(states=HAVE_PICTURES), after, MOST)
    except ValueError as wrong:
        raise HTTPException(422, "This address has a part that cannot be read.") from wrong
    shown += len(found.rows)
    goes_on = shown < LONG
    return Shots(
        batch=batch,
        list=[shot for row in found.rows for shot in shots_of(row)],
        next=urlencode({"after": found.next, **({"shown": shown} if goes_on else {})}) if found.next else "",
        goes_on=goes_on,
    )


def shots_of(row: Result) -> list[Shot]:
    """The pictures of a row."""
    images = [image for image in listed_images(row) if has_picture(image)]
    return [Shot(key=row.key, prompt=prompt_of(row), image=image, several=len(images) > 1) for image in images]


@routes.get("/batches/{name}/image")
async def show_image(
    request: Request, visitor: Sees, name: str, key: Key, index: Index, revision: Revision = None
) -> Response:
    """A picture as it is stored."""
    return await get_image(pages_of(request).door, visitor.token, request, name, key, index, revision)


@routes.get("/batches/{name}/thumbnail")
async def show_thumbnail(
    request: Request, visitor: Sees, name: str, key: Key, index: Index, revision: Revision = None
) -> Response:
    """A small copy of it."""
    return await get_thumbnail(pages_of(request).door, visitor.token, request, name, key, index, revision)
