"""Takes callbacks: a hint that is checked later, never a fact. A wrong one costs a signature check and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fastapi import FastAPI, Request, Response

from jobs.ledger import Ledger
from providers.callbacks import read_callback
from worker.stages.hint import PATH
from worker.telemetry import emit

#: Bytes of a callback; the largest documented one, ten links, is far below.
LARGEST = 64 * 1024
#: Seconds a caller has to deliver it.
PATIENCE = 5.0

Ring = Callable[[str], object]


def add_hooks(app: FastAPI, opened: Callable[[], Ledger], clock: Callable[[], float], ring: Ring) -> None:
    """Adds the path that attempts name as their callback's address."""

    @app.post(PATH + "{token}")
    async def hook(token: str, request: Request) -> Response:
        try:
            ledger = await asyncio.to_thread(opened)
        except Exception as error:  # noqa: BLE001  a caller is answered, whatever the database does
            emit("hook_not_taken", level="warning", problem=type(error).__name__)
            return Response(status_code=503)
        if not ledger.is_callback_token(token):
            return Response(status_code=404)
        body = await _body(request)
        task_id = read_callback(body) if body is not None else None
        if task_id is None:
            return Response(status_code=413 if body is None else 400)
        lane = await asyncio.to_thread(ledger.hear, token, task_id, clock())
        if lane is not None:
            ring(lane)
        return Response(status_code=204)


async def _body(request: Request) -> bytes | None:
    """The body, or None when it is too large or too slow."""
    parts = bytearray()
    try:
        async with asyncio.timeout(PATIENCE):
            async for part in request.stream():
                parts += part
                if len(parts) > LARGEST:
                    return None
    except TimeoutError:
        return None
    return bytes(parts)
