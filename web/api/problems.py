"""What the API answers where it cannot do what was asked: the same statuses and the same form everywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import HTTPException, Request, Response
from pydantic import BaseModel, Field

from jobs.errors import LightfastError
from jobs.ledger import is_away
from web.idempotency import IdempotentRoute
from web.uploads import is_form


class ProblemAnswer(BaseModel):
    """Why not."""

    detail: str | dict[str, Any] | list[dict[str, Any]] = Field(
        description="In words; `code` and `message` where programs may want to tell; a list of what cannot be read."
    )


#: Seconds that a change waits for the ledger: well below the time after which a connection is given up.
WRITE_PATIENCE = 20.0
#: Where manifests are read and recorded, which takes as long as it does.
TAKES_LONG = ("/api/v1/plan", "/api/v1/batches")
_LATER = {"Retry-After": "30"}
#: Bytes of a request without a file (while JSON is read nobody else is answered), and faults of it that are told.
LARGEST_JSON, MOST_FAULTS = 4 * 1024 * 1024, 20
#: What is answered where it would cost too much.
TOO_MUCH = 402
_MEANINGS = {
    400: "An Idempotency-Key that is none.",
    401: "No token, or one that is wrong or revoked.",
    402: "It costs more than was agreed to, or than the token's day leaves.",
    403: "This is not for a token of that role.",
    404: "There is no such thing; for a producer also: it is somebody else's.",
    409: "Not possible as things stand; `detail` says why.",
    413: "The upload is too large.",
    422: "What was sent cannot be read.",
    429: "Too many wrong tokens are being tried.",
    503: "The ledger does not answer, or too much is being asked: the same request later.",
}


def problems() -> dict[int | str, dict[str, Any]]:
    """The answers of a router's routes that are none of success."""
    return {status: {"model": ProblemAnswer, "description": meaning} for status, meaning in _MEANINGS.items()}


def refused(status: int, code: str, message: str) -> HTTPException:
    """An answer whose reason programs can tell."""
    return HTTPException(status, {"code": code, "message": message})


def demand_small(request: Request, most: int = LARGEST_JSON) -> None:
    """Looks how long a request without a file says that it is.

    Raises:
        HTTPException: Longer than `most` bytes (413).
    """
    length = request.headers.get("content-length", "")
    if not is_form(request) and length.isascii() and length.isdecimal() and int(length[:20]) > most:
        raise HTTPException(413, f"a request without a file has {most:,} bytes at most")


async def _in_time(request: Request, answer: Coroutine[Any, Any, Response]) -> Response:
    """The answer; of a change that the ledger does not take, that it does not. It may take it later all the same.

    A manifest or a file may take as long as it does.
    """
    if request.method == "GET" or is_form(request) or request.url.path in TAKES_LONG:
        return await answer
    working = asyncio.ensure_future(answer)
    done, _ = await asyncio.wait([working], timeout=WRITE_PATIENCE)
    if not done:
        working.add_done_callback(_forget)
        raise HTTPException(503, "the ledger takes no writes now; look first whether it was done", headers=_LATER)
    return working.result()


def _forget(working: asyncio.Future[Response]) -> None:
    """Nobody waits for what becomes of it."""
    if not working.cancelled():
        working.exception()


class ApiRoute(IdempotentRoute):
    """A route that answers as documented where the ledger is away, or refuses what was asked of it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of a request."""
        handle = super().get_route_handler()

        async def handle_or_say_why(request: Request) -> Response:
            demand_small(request)
            try:
                return await _in_time(request, handle(request))
            except LightfastError as refused:
                raise HTTPException(409, str(refused)) from refused
            except Exception as trouble:
                if is_away(trouble):
                    raise HTTPException(503, "the ledger does not answer") from trouble
                raise

        return handle_or_say_why
