"""Connection poolers before a PostgreSQL server: a strict stand-in of our own, and Debian's pgbouncer where it is.

The stand-in hands out its server sessions in turn, so what a client leaves in one (a prepared statement, a setting, a
temporary table) is never there at its next transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import struct
import tempfile
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from sandbox import servers
from tests.support.s3_server import in_thread
from tests.support.tls import end_all

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")  # where Debian puts it

_PROTOCOL_3, _SSL, _GSS = 196_608, 80_877_103, 80_877_104
#: A client waits for an answer after a Query, a Sync, and the end of the rows that it copies, or gives up to copy.
_ASKS = b"QScf"
#: A server waits after ReadyForQuery, and when it is ready for rows that are copied.
_WAITS = b"ZG"


class Pooler:
    """Takes clients at `url` and shares `size` sessions of the server between them.

    `mode`: what a client keeps a session for, a "transaction" or a "statement". `drops_options`: start-up options are
    dropped without a word, as pgbouncer does with `ignore_startup_parameters = options`; else they are refused.
    `hides_sessions`: clients are greeted with no session's own number.
    """

    def __init__(
        self,
        server: str,
        *,
        size: int = 3,
        mode: str = "transaction",
        drops_options: bool = False,
        hides_sessions: bool = True,
    ) -> None:
        self._server = urlsplit(server)
        self._size, self._mode, self._drops_options = size, mode, drops_options
        self._hides_sessions = hides_sessions
        self._idle: deque[_Session] = deque()
        self._places = asyncio.Semaphore(size)
        self._sessions: list[_Session] = []  # all that were ever opened
        self._greeting = b""

    async def serve(self) -> Callable[[], Awaitable[None]]:
        """Begins to listen; returns what ends it."""
        first = await self._open()
        self._greeting = first.greeting
        self._idle.append(first)
        self._listening = await asyncio.start_server(self._client, "127.0.0.1", 0)
        port = self._listening.sockets[0].getsockname()[1]
        self.url = self._server._replace(netloc=f"postgres@127.0.0.1:{port}").geturl()
        return self._close

    async def _close(self) -> None:
        self._listening.close()
        await end_all()
        for session in self._sessions:
            session.writer.close()
            with contextlib.suppress(ConnectionError):
                await session.writer.wait_closed()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError), contextlib.closing(writer):
            if await self._greet(reader, writer):
                while await self._transaction(reader, writer):
                    pass

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        while (told := await _start_up(reader)) is None:
            writer.write(b"N")
        if "options" in told and not self._drops_options:
            self._refuse(writer, "unsupported startup parameter: options")
            return False
        writer.write(self._greeting)
        await writer.drain()
        return True

    async def _transaction(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One transaction of a client on one session; False: the client is done."""
        question = await _question(reader)
        if question is None:
            return False
        session, is_whole = await self._take(), False
        try:
            while question is not None:
                session.writer.write(question)
                answer = await session.answer()
                is_whole = answer.endswith(b"I")  # idle, not in a transaction
                if self._mode == "statement" and not is_whole:
                    self._refuse(writer, "transaction blocks not allowed in statement pooling mode")
                    return False
                writer.write(answer)
                await writer.drain()
                if is_whole:
                    return True
                question = await _question(reader)
            return False
        finally:
            self._give_back(session, is_whole=is_whole)

    async def _take(self) -> _Session:
        await self._places.acquire()
        if len(self._idle) >= self._size:
            return self._idle.popleft()
        return await self._open()

    async def _open(self) -> _Session:
        session = await _Session.open(self._server, hidden=self._hides_sessions)
        self._sessions.append(session)
        return session

    def _give_back(self, session: _Session, *, is_whole: bool = True) -> None:
        if is_whole:
            self._idle.append(session)
        else:
            session.writer.close()
        self._places.release()

    def _refuse(self, writer: asyncio.StreamWriter, words: str) -> None:
        fields = b"SFATAL\0VFATAL\0C08P01\0M" + words.encode() + b"\0\0"
        writer.write(b"E" + struct.pack("!i", len(fields) + 4) + fields)


class _Session:
    """A session at the server, and what the server said when it began."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.greeting = b""

    @classmethod
    async def open(cls, server: object, *, hidden: bool) -> _Session:
        session = cls(*await asyncio.open_connection(server.hostname, server.port))
        told = f"user\0postgres\0database\0{server.path.removeprefix('/')}\0client_encoding\0UTF8\0\0".encode()
        session.writer.write(struct.pack("!ii", len(told) + 8, _PROTOCOL_3) + told)
        kind = b""
        while kind != b"Z":
            kind, message = await _message(session.reader)
            if kind == b"K" and hidden:  # its process and secret are not the client's business
                message = b"K" + struct.pack("!iii", 12, 1, 1)
            session.greeting += message
        return session

    async def answer(self) -> bytes:
        """The server's answer, up to the message after which it waits."""
        kind, answer = b" ", b""
        while kind not in _WAITS:
            kind, message = await _message(self.reader)
            answer += message
        return answer


async def _start_up(reader: asyncio.StreamReader) -> Mapping[str, str] | None:
    """The client's start-up parameters; None: it asks for encryption first."""
    length, code = struct.unpack("!ii", await reader.readexactly(8))
    if code in (_SSL, _GSS):
        return None
    if code != _PROTOCOL_3:
        raise ConnectionError("a cancelled query, or a protocol nobody speaks")
    words = (await reader.readexactly(length - 8)).decode().split("\0")
    return dict(zip(words[::2], words[1::2], strict=False))


async def _question(reader: asyncio.StreamReader) -> bytes | None:
    """A client's messages up to the one after which it waits; None: it leaves."""
    question = b""
    while True:
        kind, message = await _message(reader)
        if kind == b"X":
            return None
        question += message
        if kind in _ASKS:
            return question


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readexactly(5)
    return head[:1], head + await reader.readexactly(struct.unpack("!i", head[1:])[0] - 4)


@contextlib.contextmanager
def stand_in(server: str, **how: object) -> Iterator[Pooler]:
    """The stand-in before a database; its `url` leads through it."""
    pooler = Pooler(server, **how)
    with in_thread(pooler.serve):
        yield pooler


@contextlib.contextmanager
def pgbouncer(server: str, **settings: object) -> Iterator[servers.Server]:
    """Debian's pgbouncer before a database; its `url` leads through it. `settings`: of its [pgbouncer] section."""
    to, port = urlsplit(server), servers.free_port()
    user = servers.NEVER_ROOT if os.geteuid() == 0 else ""  # it refuses to run as root
    lines = {"listen_addr": "127.0.0.1", "listen_port": port, "unix_socket_dir": "", "auth_type": "any", **settings}
    text = "".join(f"{name} = {value}\n" for name, value in lines.items())
    with tempfile.TemporaryDirectory(prefix="lightfast-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        database = f"* = host={to.hostname} port={to.port} user=postgres"
        (folder / "pgbouncer.ini").write_text(f"[databases]\n{database}\n[pgbouncer]\n{text}")
        yield from servers.running(
            servers.Server(
                name="pgbouncer",
                url=to._replace(netloc=f"postgres@127.0.0.1:{port}").geturl(),
                folder=folder,
                command=[str(PGBOUNCER), str(folder / "pgbouncer.ini")],
                is_up=lambda: servers.listens(port),
                user=user,
            )
        )
