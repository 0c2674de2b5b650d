"""`/v1/files`: what programs send to be the input of a batch, and what batches have written for them."""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import IO, Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, Response, StreamingResponse
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool

from jobs.errors import LightfastError
from jobs.ledger.access.values import Token
from jobs.ledger.openai.values import FilePurpose, NewFile, RemoteFile
from jobs.policy.access import Role
from web.api.problems import ApiRoute
from web.callbacks.connection_limits import connection_of, take_long_answer
from web.door import Door, TheDoor, WhoMakes
from web.openai.errors import OpenAIError
from web.openai.lines import content_of
from web.uploads import Upload

#: Seconds for which a file is kept where nothing else is said (OpenAI's own for batches), and what may be said.
KEPT, LEAST_KEPT, MOST_KEPT = 30 * 86_400, 3_600, 30 * 86_400
#: Files of a page.
MOST = 10_000
BAD, NOT_THERE, NO_PLACE = 400, 404, 503
_SECONDS = re.compile(r"[0-9]{1,10}")

Document = dict[str, Any]
After = Annotated[str, Query(description="The last file of the page before.", max_length=100)]
Limit = Annotated[int, Query(ge=1, le=MOST)]

routes = APIRouter(prefix="/v1/files", tags=["openai"], route_class=ApiRoute)
_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"type": "string", "enum": ["batch"]},
                        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
                        "expires_after[seconds]": {"type": "integer", "minimum": LEAST_KEPT, "maximum": MOST_KEPT},
                    },
                }
            }
        },
    }
}


@routes.post("", openapi_extra=_FORM)
async def upload_file(door: TheDoor, token: WhoMakes, request: Request) -> Document:
    """Takes a file of requests, one a line."""
    async with door.uploads.received(request, "file", token) as upload:
        seconds = _asked_seconds(upload)
        if not upload.bytes:
            raise OpenAIError(BAD, "the file is empty", param="file")
        return await run_in_threadpool(_keep, door, token, upload, seconds)


@routes.get("")
def list_files(
    door: TheDoor,
    token: WhoMakes,
    after: After = "",
    limit: Limit = MOST,
    order: Literal["asc", "desc"] = "desc",
    purpose: str = "",
) -> Document:
    """The files that are there, page by page."""
    behind = _own(door, token, after).id if after else None
    if purpose not in ("", *FilePurpose):
        return as_page([], has_more=False)
    found = door.ledger.openai_files.page(
        limit + 1,
        after=behind,
        of_token=whose(token),
        purpose=purpose or None,
        oldest_first=order == "asc",
    )
    return as_page([_document(each) for each in found[:limit]], has_more=len(found) > limit)


@routes.get("/{file}")
def get_file(door: TheDoor, token: WhoMakes, file: str) -> Document:
    """One file."""
    return _document(_own(door, token, file))


@routes.get("/{file}/content", response_class=Response)
async def get_content(door: TheDoor, token: WhoMakes, file: str, request: Request) -> Response:
    """The bytes of a file. Images in a batch's results are read from where they are stored, as they are sent."""
    found = await run_in_threadpool(_own, door, token, file)
    take_long_answer(request)
    if found.purpose is FilePurpose.BATCH:
        return await run_in_threadpool(_as_it_came, door, found)
    with _its_place():
        first_and_others = await door.answers.stream(token.id, lambda into: _write(door, found, into))
    return StreamingResponse(_unless_it_breaks_off(first_and_others, request), media_type="application/jsonl")


async def _unless_it_breaks_off(parts: AsyncIterator[bytes], request: Request) -> AsyncIterator[bytes]:
    """A place that is away in the middle ends the connection, so that nobody takes a part for the whole."""
    try:
        async for part in parts:
            yield part
    except (LightfastError, FileNotFoundError):
        if (connection := connection_of(request)) is None:
            raise
        connection.leave()


@routes.delete("/{file}")
def delete_file(door: TheDoor, token: WhoMakes, file: str) -> Document:
    """Deletes a file. No image and no row of a batch goes with it."""
    found = _own(door, token, file)
    with _its_place():  # first, so that a place that is away leaves the file there to be deleted again
        door.files.remove(door.ledger, found)
    door.ledger.openai_files.delete(found.name, door.now)
    return {"id": found.name, "object": "file", "deleted": True}


def as_page(data: list[Document], *, has_more: bool) -> Document:
    """A page of a list, as OpenAI's SDK turns it."""
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": has_more}


def _keep(door: Door, token: Token, upload: Upload, seconds: float) -> Document:
    name, now = f"file-{secrets.token_hex(12)}", door.now
    new = NewFile(
        name=name,
        token_id=token.id,
        purpose=FilePurpose.BATCH,
        filename=upload.filename,
        bytes=upload.bytes,
        place=f"{name}.jsonl",
        expires_at=now + seconds,
    )
    with _its_place():
        door.files.put(door.ledger, new.place, upload.path)
    return _document(door.ledger.openai_files.add(new, now))


def _asked_seconds(upload: Upload) -> float:
    purpose, asked = upload.field("purpose"), upload.field("expires_after[seconds]")
    if purpose != FilePurpose.BATCH:
        raise OpenAIError(BAD, 'purpose: only "batch" is taken', param="purpose")
    return kept_seconds(asked, "expires_after")


def kept_seconds(asked: str, param: str) -> float:
    """Seconds for which a file is to be kept, from what a request says."""
    if not asked:
        return float(KEPT)
    if not (_SECONDS.fullmatch(asked) and LEAST_KEPT <= int(asked) <= MOST_KEPT):
        raise OpenAIError(BAD, f"{param}: {LEAST_KEPT} to {MOST_KEPT} seconds from created_at", param=param)
    return float(asked)


def _as_it_came(door: Door, file: RemoteFile) -> Response:
    opened = door.files.local(door.ledger, file)
    with _its_place():
        path = opened.__enter__()
    ending = BackgroundTask(opened.__exit__, None, None, None)
    return FileResponse(path, media_type="application/jsonl", background=ending)


def _write(door: Door, file: RemoteFile, into: IO[bytes]) -> None:
    for line in content_of(door.ledger, door.files, file):
        into.write(line)


@contextlib.contextmanager
def _its_place() -> Iterator[None]:
    """What is answered where the bytes are gone, or the place where they lie is away."""
    try:
        yield
    except FileNotFoundError as gone:
        raise OpenAIError(NOT_THERE, "the bytes of this file are gone") from gone
    except LightfastError as trouble:
        raise OpenAIError(NO_PLACE, str(trouble)) from trouble


def _own(door: Door, token: Token, name: str) -> RemoteFile:
    found = door.ledger.openai_files.find(name, whose(token)) if "\0" not in name else None
    if found is None:
        raise OpenAIError(NOT_THERE, f"No such File object: {name}", param="id")
    return found


def whose(token: Token) -> int | None:
    """A producer sees its own alone."""
    return token.id if token.role is Role.PRODUCER else None


def _document(file: RemoteFile) -> Document:
    return {
        "id": file.name,
        "object": "file",
        "bytes": file.bytes,
        "created_at": int(file.created_at),
        "expires_at": None if file.expires_at is None else int(file.expires_at),
        "filename": file.filename,
        "purpose": file.purpose.value,
        "status": "processed",
        "status_details": None,
    }
