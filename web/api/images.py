"""Pictures of a batch by the API: its stored images and small copies of them, read from the destination through us."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from jobs.ledger.access.values import Token
from jobs.ledger.batches.values import Batch
from jobs.ledger.reports.values import StoredImage
from jobs.results.rows import listed_images
from jobs.states import ImageState
from web.api.problems import ApiRoute, problems
from web.door import NOT_NOW, NOT_THERE, Door, TheDoor, WhoSees
from web.pictures import NoPictureError, ShownPicture

Show = Callable[[str, StoredImage], Awaitable[ShownPicture]]

routes = APIRouter(
    prefix="/api/v1/batches/{batch}/images/{key:path}/{index:int}",
    tags=["images"],
    responses=problems(),
    route_class=ApiRoute,
)

Revision = Annotated[int | None, Query(ge=1, le=1_000_000, description="Of a row that was made anew: an earlier one.")]
#: What is stored stays the same under its hash, and a token may be revoked: browsers ask each time whether it is.
CACHED = "private, no-cache"
SAME = 304
#: What a picture may do where it is opened by itself: nothing.
ALONE = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
HAS_PICTURES: dict[int | str, dict[str, Any]] = {200: {"content": {"image/*": {}}, "description": "The picture."}}


@routes.get("", response_class=Response, responses=HAS_PICTURES)
async def get_image(  # noqa: PLR0913, PLR0917  what names an image
    door: TheDoor, token: WhoSees, request: Request, batch: str, key: str, index: int, revision: Revision = None
) -> Response:
    """An image of a row as it is stored; `index` counts from 0."""
    found, image = await run_in_threadpool(_image, door, token, batch, key, index, revision)
    return await _answer(request, image, found, door.pictures.original, image.sha256 or "")


@routes.get("/thumbnail", response_class=Response, responses=HAS_PICTURES)
async def get_thumbnail(  # noqa: PLR0913, PLR0917  what names an image
    door: TheDoor, token: WhoSees, request: Request, batch: str, key: str, index: int, revision: Revision = None
) -> Response:
    """A small copy of it, WebP of at most 512 pixels a side. It is made once and kept."""
    found, image = await run_in_threadpool(_image, door, token, batch, key, index, revision)
    return await _answer(request, image, found, door.pictures.small, f"{image.sha256}-small")


def _image(
    door: Door, token: Token, batch: str, key: str, index: int, revision: int | None
) -> tuple[Batch, StoredImage]:
    found = door.batch_of(batch, token)
    story = door.ledger.reports.story(batch, key) if "\0" not in key else None
    if story is not None:
        shown = listed_images(story.result) if revision is None else (*story.older, *story.result.images)
        for image in shown:
            if image.slot == index and image.state == ImageState.STORED and revision in (None, image.revision):
                return found, image
    raise HTTPException(NOT_THERE, f"{batch} has no stored image {index} of row {key}")


async def _answer(request: Request, image: StoredImage, batch: Batch, show: Show, tag: str) -> Response:
    headers = {"ETag": f'"{tag}"', "Cache-Control": CACHED, "X-Content-Type-Options": "nosniff"}
    if tag and f'"{tag}"' in request.headers.get("if-none-match", ""):
        return Response(status_code=SAME, headers=headers)
    try:
        picture = await show(batch.dest, image)
    except NoPictureError as why:
        raise HTTPException(NOT_NOW, f"image {image.slot}: {why}") from why
    return Response(
        picture.data, media_type=picture.content_type, headers={**headers, "Content-Security-Policy": ALONE}
    )
