"""`Idempotency-Key`: a POST that comes again with its key is answered as before, and does nothing."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from typing import Any
from weakref import WeakValueDictionary

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from jobs.ledger.access.values import KeptAnswer, Token
from jobs.policy.access import Role
from web.uploads import is_form, what_came

#: Characters of a key.
LONGEST = 255
#: What the field with the file is called, where it is not `manifest`.
FILE_FIELDS = {"/v1/files": "file"}
BAD, OTHER, FAILED = 400, 409, 400


class IdempotentRoute(APIRoute):
    """A route whose POSTs keep their answers where the caller gives a key. Errors are not kept."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, asked once for a key."""
        handler = super().get_route_handler()
        locks: WeakValueDictionary[tuple[int, str], asyncio.Lock] = WeakValueDictionary()

        async def answer(request: Request) -> Response:
            key = request.headers.get("idempotency-key")
            if request.method != "POST" or key is None:
                return await handler(request)
            if not 0 < len(key) <= LONGEST:
                raise HTTPException(BAD, f"Idempotency-Key: 1 to {LONGEST} characters")
            door = request.app.state.door
            token = await door.tokens.holder(request, *Role)
            fingerprint = "" if is_form(request) else _fingerprint(request, await request.body())
            lock = locks.setdefault((token.id, key), asyncio.Lock())
            async with lock:
                kept = await run_in_threadpool(door.ledger.access.answer_to, token, key)
                if kept is not None:
                    return _again(kept, fingerprint or await _of_form(request, token))
                response = await handler(request)
                fingerprint = fingerprint or _fingerprint(request, what_came(request).encode())
                if response.status_code < FAILED and isinstance(response.body, bytes):
                    told = KeptAnswer(fingerprint=fingerprint, status=response.status_code, body=response.body.decode())
                    await run_in_threadpool(door.ledger.access.keep_answer, token, key, told, door.now)
                return response

        return answer


def _again(kept: KeptAnswer, fingerprint: str) -> Response:
    if kept.fingerprint != fingerprint:
        raise HTTPException(OTHER, "this Idempotency-Key was given with another request")
    return Response(kept.body, kept.status, media_type="application/json")


async def _of_form(request: Request, token: Token) -> str:
    """Of a form by what it brings: another try of the same draws another boundary."""
    name = FILE_FIELDS.get(request.url.path, "manifest")
    async with request.app.state.door.uploads.received(request, name, token):
        return _fingerprint(request, what_came(request).encode())


def _fingerprint(request: Request, body: bytes) -> str:
    """What tells one request from another."""
    place = f"{request.method} {request.url.path}?{request.url.query}"
    return hashlib.sha256(place.encode() + b"\0" + body).hexdigest()
