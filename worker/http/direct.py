"""One request over an aiohttp session's connections, without what the session does around each.

The session's own way builds a request, a response, a task and the values of its tracing for every call. That costs more
CPU than to send and to read. Here a request goes out in one write over a connection of the session's connector, and the
answer is read as aiohttp's protocol parses it. Connections, TLS, resolving, the check of addresses, keep-alive,
unpacking and time limits are the session's, and so are the exceptions. What is not plain (`is_plain`) is the session's
to send: large bodies, addresses with a password, and all that goes through a proxy.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from functools import cached_property
from http import HTTPStatus
from typing import Any

import aiohttp
import yarl
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.helpers import TimerNoop
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict, CIMultiDictProxy

#: Bytes of a body that leave in one write. A larger one is sent in pieces by the session.
ONE_WRITE = 64 * 1024
#: Origins of which is kept how to reach them: those of the settings and a few CDNs.
KEPT = 256
FORBIDDEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # in a header: it could begin another request
SWITCHES = HTTPStatus.SWITCHING_PROTOCOLS
FIRST_FINAL = 200
READ_AT_ONCE = 64 * 1024

Headers = Iterable[tuple[str, str]]


class Origin(aiohttp.ClientRequest):
    """What the connector is told of where a request goes; made once for each scheme, host and port."""

    @cached_property
    def connection_key(self) -> ConnectionKey:
        """By which connections are kept."""
        return super().connection_key


class OpenAnswer:
    """An answer whose body comes; to be released in any case."""

    __slots__ = ("_connection", "content", "headers", "raw_headers", "status")

    def __init__(self, connection: Any, message: Any, content: aiohttp.StreamReader) -> None:
        self._connection = connection
        self.status: int = message.code
        self.headers = message.headers
        self.raw_headers: tuple[tuple[bytes, bytes], ...] = message.raw_headers
        self.content = content

    @property
    def content_length(self) -> int | None:
        """Bytes that are to come, as far as it is said."""
        said = self.headers.get("Content-Length", "")
        return int(said) if said.isdecimal() else None

    def release(self) -> None:
        """Keeps the connection where all of the body has come, and closes it else."""
        self._connection.release()


def is_plain(url: yarl.URL, body: bytes) -> bool:
    """Whether a request without a proxy can be sent here."""
    return bool(url.scheme in ("http", "https") and url.raw_host) and len(body) <= ONE_WRITE and url.raw_user is None


class Direct:
    """Sends over the connections of one session, whose headers go with every request."""

    def __init__(self, session: aiohttp.ClientSession, *, timeout: aiohttp.ClientTimeout, header_limit: int) -> None:
        self._session = session
        self._timeout = timeout
        self._header_limit = header_limit
        self._origins: dict[tuple[str, str], Origin] = {}
        self._usual = dict(session.headers)

    async def send(
        self,
        method: str,
        url: yarl.URL,
        headers: Headers,
        body: bytes = b"",
        *,
        leaves: Callable[[], None] | None = None,
        read_at_once: int = READ_AT_ONCE,
    ) -> OpenAnswer:
        """Sends, follows nothing, and returns when the answer's headers are there.

        POST is sent once. GET is sent again where a connection that was kept proves dead, as the session does.
        `leaves`: called directly before the first byte leaves; what it raises keeps the request here.

        Raises:
            aiohttp.ClientError, OSError, ValueError: As the session's `request`.
        """
        origin = self._origin(url)
        request = self._written(method, url, origin, headers, body)
        try:
            return await self._once(origin, request, leaves, read_at_once)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
            if method != "GET":
                raise
        return await self._once(origin, request, leaves, read_at_once)

    async def _once(
        self, origin: Origin, request: bytes, leaves: Callable[[], None] | None, read_at_once: int
    ) -> OpenAnswer:
        connector: Any = self._session.connector
        if connector is None:
            raise RuntimeError("Session is closed")
        try:
            connection = await connector.connect(origin, traces=[], timeout=self._timeout)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError(f"Connection timeout to host {origin.url}") from error
        protocol, is_read = connection.protocol, False
        try:
            protocol.set_response_params(
                timer=TimerNoop(),
                read_until_eof=True,
                auto_decompress=True,
                read_timeout=self._timeout.sock_read,
                read_bufsize=read_at_once,
                max_line_size=self._header_limit,
                max_field_size=self._header_limit,
            )
            if not protocol.is_connected():
                raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")
            if leaves is not None:
                leaves()
            protocol.transport.write(request)
            protocol.start_timeout()
            message, content = await _final(protocol, origin.url)
            is_read = True
        finally:
            if not is_read:
                connection.close()
        return OpenAnswer(connection, message, content)

    def _origin(self, url: yarl.URL) -> Origin:
        key = (url.scheme, url.raw_authority)
        found = self._origins.get(key)
        if found is None:
            if len(self._origins) >= KEPT:
                self._origins.clear()
            found = self._origins[key] = Origin("GET", url.origin(), loop=asyncio.get_running_loop())
        return found

    def _written(self, method: str, url: yarl.URL, origin: Origin, headers: Headers, body: bytes) -> bytes:
        given = {name: f"{name}: {value}" for name, value in self._usual.items()}
        given.update((name, f"{name}: {value}") for name, value in headers)
        if body:
            given["Content-Length"] = f"Content-Length: {len(body)}"
        lines = [f"{method} {url.raw_path_qs} HTTP/1.1", f"Host: {origin.headers['Host']}", *given.values()]
        if any(map(FORBIDDEN.search, lines)):
            raise ValueError("Forbidden control character detected in headers. Potential header injection attack.")
        return "\r\n".join([*lines, "\r\n"]).encode() + body


async def _final(protocol: Any, url: yarl.URL) -> tuple[Any, aiohttp.StreamReader]:
    """The head of the answer that counts, and its body; "100 Continue" and its kin say nothing."""
    while True:
        try:
            message, content = await protocol.read()
        except HttpProcessingError as error:
            told = aiohttp.RequestInfo(url, "", CIMultiDictProxy(CIMultiDict()), url)
            raise aiohttp.ClientResponseError(
                told, (), status=error.code, message=error.message, headers=error.headers
            ) from error
        if message.code >= FIRST_FINAL or message.code == SWITCHES:
            return message, content
