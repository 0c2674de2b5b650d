"""Giving an answer, whole or with trouble."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import struct
from collections.abc import Callable
from typing import Final

from aiohttp import web

from sandbox.troubles.words import Trouble
from sandbox.values import HUGE, Answer

FOREVER: Final = 3_600.0  # seconds; no client waits as long
PIECES: Final = 20  # of a slow answer
PRIVATE: Final = "http://169.254.169.254/latest/meta-data/"
LONG_HEADER: Final = 100_000  # bytes
PAGE: Final = b"<!doctype html><html><head><title>502</title></head><body><h1>Please wait a moment</h1></body></html>"


class Hanging:
    """Answers that hang. They come when their time is over, or when they are let go."""

    def __init__(self) -> None:
        self._held: set[asyncio.Event] = set()
        self._all_go = False

    async def wait(self, seconds: float) -> None:
        """Holds one answer back."""
        if self._all_go:
            return
        told = asyncio.Event()
        self._held.add(told)
        try:
            async with asyncio.timeout(seconds):
                await told.wait()
        except TimeoutError:
            return
        finally:
            self._held.discard(told)

    def let_go(self) -> None:
        """Gives all that hang now, and lets none hang, until the next scenario."""
        self._all_go = True
        for told in self._held:
            told.set()

    def hold_again(self) -> None:
        """A new scenario: what shall hang hangs."""
        self._all_go = False


HANGING: Final = Hanging()


async def give(
    request: web.BaseRequest, answer: Answer, trouble: Trouble | None = None
) -> tuple[web.StreamResponse, bool]:
    """Sends it; False when it did not go out as it should."""
    if trouble is None:
        return await _send(request, answer), True
    if trouble.kind == "hang":
        await HANGING.wait(trouble.number(FOREVER))
        return await _send(request, answer), True
    if trouble.kind in ("slow", "drip"):
        return await _trickle(request, answer, trouble.number(3)), True
    if trouble.kind in BREAKS:
        return await BREAKS[trouble.kind](request, answer), False
    return await _send(request, changed(answer, trouble)), False


def changed(answer: Answer, trouble: Trouble) -> Answer:
    """What a trouble makes of an answer."""
    change = CHANGES.get(trouble.kind)
    return change(answer, trouble) if change else answer


def _page(_answer: Answer, _trouble: Trouble) -> Answer:
    return Answer(body=PAGE, content_type="text/html; charset=utf-8")


def _half(answer: Answer, _trouble: Trouble) -> Answer:
    return dataclasses.replace(answer, status=200, body=answer.body[: len(answer.body) // 2])


def _nothing(answer: Answer, _trouble: Trouble) -> Answer:
    return dataclasses.replace(answer, status=200, body=b"")


def _hurtful(answer: Answer, trouble: Trouble) -> Answer:
    return dataclasses.replace(answer, body=_with_text(answer.body, trouble.kind))


def _strange_code(_answer: Answer, trouble: Trouble) -> Answer:
    return Answer.of({"code": round(trouble.number(7)), "msg": "see the notice", "message": "see the notice"})


def _elsewhere(_answer: Answer, trouble: Trouble) -> Answer:
    place = next((word for word in trouble.arguments if "/" in word), PRIVATE)
    return Answer(status=302, headers={"Location": place})


def _long_header(answer: Answer, _trouble: Trouble) -> Answer:
    return dataclasses.replace(answer, headers={**answer.headers, "X-Long": "x" * LONG_HEADER})


def _corrupt(answer: Answer, _trouble: Trouble) -> Answer:
    body, middle = answer.body, len(answer.body) // 2
    return dataclasses.replace(answer, body=body[:middle] + b"\xff\x00\xaa\x55" * 4 + body[middle + 16 :])


def _typed(answer: Answer, trouble: Trouble) -> Answer:
    return dataclasses.replace(answer, content_type=(trouble.arguments or ("text/plain",))[0])


CHANGES: Final[dict[str, Callable[[Answer, Trouble], Answer]]] = {
    "html": _page,
    "truncated": _half,
    "empty": _nothing,
    "nul": _hurtful,
    "surrogate": _hurtful,
    "huge": _hurtful,
    "code": _strange_code,
    "redirect": _elsewhere,
    "headers": _long_header,
    "corrupt": _corrupt,
    "type": _typed,
}


def _with_text(body: bytes, kind: str) -> bytes:
    """The same JSON object with a text in it that hurts."""
    text = {"nul": b"bro\\u0000ken", "surrogate": b"bro\\ud800ken"}.get(kind) or b"x" * HUGE
    body = body.replace(b'"msg":"ok"', b'"msg":"' + text + b'"', 1)
    return b'{"note":"' + text + b'",' + body[1:] if body[:1] == b"{" else body


async def _send(request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
    response = web.Response(status=answer.status, body=answer.body, headers=_headers(answer))
    await response.prepare(request)
    await response.write_eof()
    return response


def _headers(answer: Answer) -> dict[str, str]:
    return {"Content-Type": answer.content_type, **answer.headers}


async def _begin(request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=_headers(answer))
    response.content_length = len(answer.body)
    await response.prepare(request)
    return response


async def _trickle(request: web.BaseRequest, answer: Answer, seconds: float) -> web.StreamResponse:
    response = await _begin(request, answer)
    step = max(1, -(-len(answer.body) // PIECES))
    for start in range(0, len(answer.body), step):
        await asyncio.sleep(seconds / PIECES)
        await response.write(answer.body[start : start + step])
    await response.write_eof()
    return response


async def _cut(request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
    response = await _begin(request, answer)
    await response.write(answer.body[: len(answer.body) // 2])
    _transport(request).close()
    return response


async def _drop(request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
    _transport(request).close()
    return web.Response(status=answer.status)


async def _reset(request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
    """With no time to linger the kernel sends RST."""
    transport = _transport(request)
    line: socket.socket | None = transport.get_extra_info("socket")
    if line is not None:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    return web.Response(status=answer.status)


BREAKS: Final = {"cut": _cut, "drop": _drop, "reset": _reset}


def _transport(request: web.BaseRequest) -> asyncio.Transport:
    if request.transport is None:
        raise ConnectionResetError("the client has gone")
    assert isinstance(request.transport, asyncio.Transport)  # noqa: S101  of a TCP server it always is
    return request.transport
