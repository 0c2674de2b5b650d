"""A forward proxy, as a company has it: CONNECT for https, whole addresses for http. It counts what it passes on.

Every name leads to this machine, so that hosts can be tested which no name server knows.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.support.s3_server import in_thread


@dataclass(slots=True)
class ForwardProxy:
    """What it saw: ("CONNECT", "host:port") or ("GET", "http://host:port/path")."""

    url: str = ""
    seen: list[tuple[str, str]] = field(default_factory=list)
    allows: bool = True  # otherwise it answers 403
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = await reader.readuntil(b"\r\n\r\n")
            method, target, _ = head.partition(b"\r\n")[0].decode().split(" ")
            self.seen.append((method, target))
            if not self.allows:
                writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            elif method == "CONNECT":
                await self._pass_on(reader, writer, int(target.rpartition(":")[2]), b"")
            else:
                parts = urlsplit(target)
                path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
                asked = head.replace(target.encode(), path.encode(), 1)
                closing = asked.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")  # one request a connection
                await self._pass_on(reader, writer, parts.port or 80, closing)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            writer.close()
            await writer.wait_closed()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int, first: bytes
    ) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        if first:
            back.write(first)
        else:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        forth = asyncio.create_task(_copied(reader, back))
        try:
            await _copied(there, writer)
        finally:
            forth.cancel()
            back.close()


async def _copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()


@contextlib.contextmanager
def forward_proxy() -> Iterator[ForwardProxy]:
    """The proxy, in a thread of its own."""
    proxy = ForwardProxy()

    async def start() -> Callable[[], Awaitable[None]]:
        server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
        proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

        async def stop() -> None:
            server.close()
            for task in proxy.tasks:
                task.cancel()
            await asyncio.gather(*proxy.tasks, return_exceptions=True)

        return stop

    with in_thread(start):
        yield proxy
