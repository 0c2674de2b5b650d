"""TLS before a server that has none, with certificates of a CA that only the test knows."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Iterator
from pathlib import Path

import trustme

from tests.support.own_loop import own_loop


class Authority:
    """A CA; `file` is what a client must trust."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self.file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.file))

    def server(self, *names: str) -> ssl.SSLContext:
        """What a server of these names shows."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._ca.issue_cert(*names).configure_cert(context)
        return context


@contextlib.contextmanager
def relay(port: int, context: ssl.SSLContext) -> Iterator[int]:
    """A port of 127.0.0.1 where TLS is spoken, which leads to another port of it."""
    with own_loop() as call:
        listening = call(asyncio.start_server(lambda *ends: _both_ways(port, *ends), "127.0.0.1", 0, ssl=context))
        try:
            yield listening.sockets[0].getsockname()[1]
        finally:
            call(_closed(listening))


async def _closed(listening: asyncio.Server) -> None:
    listening.close()


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
