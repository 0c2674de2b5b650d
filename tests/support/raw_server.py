"""A server that misbehaves at every stage of a request: what it does with a connection is a function of the test."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

from tests.support.patience import AT_LAST


class Server:
    """A raw socket server; `behave` is called for every connection. `tls`: what it shows where it speaks TLS."""

    def __init__(self, behave, *, tls=None):
        self.behave, self.tls = behave, tls
        self.seen = bytearray()
        self.connections = 0
        self.busy = asyncio.Event()
        self.tasks = set()

    @property
    def posts(self):
        return self.seen.count(b"POST /")

    @property
    def gets(self):
        return self.seen.count(b"GET /")

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=self.tls)
        self.port = self.server.sockets[0].getsockname()[1]
        self.url = f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_):
        self.server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def serve(self, reader, writer):
        self.connections += 1
        self.tasks.add(asyncio.current_task())
        try:
            await self.behave(self, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def head(self, reader):
        head = await reader.readuntil(b"\r\n\r\n")
        self.seen += head
        return head

    async def whole(self, reader):
        head = await self.head(reader)
        lines = dict(line.split(b": ", 1) for line in head.strip().split(b"\r\n")[1:])
        body = await reader.readexactly(int(lines.get(b"Content-Length", b"0")))
        self.seen += body
        self.busy.set()
        return body


def reset(writer):
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def answering(answer: bytes, *, then_reset=False, then_hang=False):
    async def behave(server, reader, writer):
        await server.whole(reader)
        writer.write(answer)
        await writer.drain()
        if then_hang:
            await asyncio.sleep(AT_LAST)
        if then_reset:
            await asyncio.sleep(0.02)  # real time: what was written leaves before the reset, or not
            reset(writer)

    return behave


async def resets_on_accept(server, reader, writer):
    reset(writer)


async def closes_on_accept(server, reader, writer):
    pass


async def resets_after_headers(server, reader, writer):
    await server.head(reader)
    reset(writer)


async def resets_in_body(server, reader, writer):
    await server.head(reader)
    await reader.read(1000)
    reset(writer)


async def resets_after_all(server, reader, writer):
    await server.whole(reader)
    reset(writer)


async def closes_after_all(server, reader, writer):
    await server.whole(reader)


async def hangs(server, reader, writer):
    await server.whole(reader)
    await asyncio.sleep(AT_LAST)


async def never_reads(server, reader, writer):
    server.seen += b"POST /"  # it would
    reader._transport.pause_reading()
    await asyncio.sleep(AT_LAST)


async def trickles(server, reader, writer):
    await server.whole(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        writer.write(b".")
        await writer.drain()
        await asyncio.sleep(0.05)  # real time: for ever


OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
BROKEN = {
    "closes on accept": closes_on_accept,
    "resets on accept": resets_on_accept,
    "resets after the headers": resets_after_headers,
    "resets in the body": resets_in_body,
    "resets after reading all": resets_after_all,
    "closes after reading all": closes_after_all,
    "hangs": hangs,
    "trickles": trickles,
    "half a status line": answering(b"HTTP/1.1 20"),
    "reset in the answer's head": answering(b"HTTP/1.1 200 OK\r\nConte", then_reset=True),
    "reset in the answer's body": answering(OK + b'Content-Length: 99\r\n\r\n{"code', then_reset=True),
    "answer cut short": answering(OK + b'Content-Length: 99\r\n\r\n{"code'),
    "chunked answer cut short": answering(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{abcd\r\n"),
    "head, then hangs": answering(OK + b"Content-Length: 99\r\n\r\n", then_hang=True),
    "garbage": answering(b"\x00\xff\x13 not http at all\r\n\r\n"),
    "another protocol": answering(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "bad chunk": answering(OK + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\nabc\r\n"),
    "huge header": answering(OK + b"X-Big: " + b"x" * 1_000_000 + b"\r\n\r\n"),
    "bad gzip": answering(OK + b"Content-Encoding: gzip\r\nContent-Length: 20\r\n\r\n" + b"not gzip at all....."),
}
