"""TLS before a server that has none."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Iterator

from tests.support.s3_server import in_thread


@contextlib.contextmanager
def relay(port: int, context: ssl.SSLContext) -> Iterator[int]:
    """A port of 127.0.0.1 where TLS is spoken, which leads to another port of it."""
    found: list[int] = []

    async def start() -> Callable[[], Awaitable[None]]:
        listening = await asyncio.start_server(lambda *ends: _both_ways(port, *ends), "127.0.0.1", 0, ssl=context)
        found.append(listening.sockets[0].getsockname()[1])

        async def stop() -> None:
            listening.close()
            await end_all()

        return stop

    with in_thread(start):
        yield found[0]


async def end_all() -> None:
    """Cancels whatever else runs on this loop."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def _both_ways(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    to_reader, to_writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        await asyncio.gather(pipe(reader, to_writer), pipe(to_reader, writer))
    finally:
        for end in (writer, to_writer):
            end.transport.abort()


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Hands on what comes until it ends."""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while data := await reader.read(64 * 1024):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
