"""Takes callbacks: a hint that is checked later, never a fact. A wrong one costs a signature check and nothing else."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI, Request, Response
from starlette.requests import ClientDisconnect

from providers.dialects.callbacks import read_callback
from web.callbacks.buffer import CallbackBuffer
from worker.stages.hint import PATH

#: Bytes of a callback; the largest documented one, ten links, is far below.
LARGEST = 64 * 1024
#: Seconds a caller has to deliver it.
PATIENCE = 5.0

TAKEN, NO_TASK, NOT_OURS, TOO_SLOW, TOO_LARGE, TOO_OFTEN, AWAY = 204, 400, 404, 408, 413, 429, 503


def add_hooks(app: FastAPI, buffer: CallbackBuffer) -> None:
    """Adds the path that attempts name as their callback's address."""

    @app.post(PATH + "{token}")
    async def hook(token: str, request: Request) -> Response:
        return Response(status_code=await hear(buffer, token, request))


async def hear(buffer: CallbackBuffer, token: str, request: Request) -> int:
    """Checks the address, reads what is said, keeps it; the answer's status. Nothing here waits for the ledger."""
    ledger = await buffer.ledger()
    if ledger is None:
        return AWAY
    if not ledger.hints.is_token(token):
        return NOT_OURS
    body = await _body(request)
    if isinstance(body, int):
        return body
    task_id = read_callback(body)
    if task_id is None:
        return NO_TASK
    return TAKEN if buffer.take(token, task_id) else TOO_OFTEN


async def _body(request: Request) -> bytes | int:
    """The body, or the status that says why it is not read. What is not read the connection lets pass, for a while."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > LARGEST:
        return TOO_LARGE
    parts = bytearray()
    try:
        async with asyncio.timeout(PATIENCE):
            async for part in request.stream():
                parts += part
                if len(parts) > LARGEST:
                    return TOO_LARGE
    except (TimeoutError, ClientDisconnect):
        return TOO_SLOW
    return bytes(parts)
