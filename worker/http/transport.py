"""Provider calls over an aiohttp session, with a truthful error map.

Whether a request left this machine is never read from an exception's class: aiohttp raises one class for a connection
that was never made and for one that was closed after the whole body was read. It is read from the `SentFlag`, which
is set directly before the first byte leaves. Classes only say what happened, for people.
"""

from __future__ import annotations

import errno
import io
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import aiohttp
import httpx2
import yarl
from aiohttp.http_exceptions import ContentEncodingError, HttpProcessingError

from jobs.formatting import in_words
from jobs.settings.proxies import NO_PROXIES, Proxies, Proxy
from providers.types import Response
from worker.http.direct import Direct, OpenAnswer, is_plain
from worker.http.proxying import PROXY_AUTHENTICATION, ProxyRefusedError, through, url_of

#: Bytes of one answer: four 4k images as base64 are about 130 MB; a paid answer should not be lost to a cap.
BODY_LIMIT = 160 * 1024 * 1024
#: Bytes that are kept of an answer that broke off.
PARTIAL_LIMIT = 64 * 1024
#: Bytes that leave in one write.
ONE_WRITE = 1024 * 1024
#: Characters of a problem.
PROBLEM_LIMIT = 300

SENT_FLAG = "lightfast.sent_flag"  # where a request's extensions hold its sent flag


@dataclass(slots=True)
class SentFlag:
    """Set directly before the first byte of a request leaves; unset: certainly not sent."""

    sent: bool = False
    bodyless: bool = False
    partial: Response | None = None  # what came of an answer that broke off
    may_leave: Callable[[], bool] | None = None  # asked directly before the first byte; None: it may
    too_late: bool = False  # it was asked, and might not

    def leaves(self) -> None:
        """The first byte leaves now.

        Raises:
            TooLateError: It may not.
        """
        if self.sent:
            return
        if self.may_leave is not None and not self.may_leave():
            self.too_late = True
            raise TooLateError("the right to send ended while the connection was made")
        self.sent = True


class TooLateError(Exception):
    """The right to send has ended since the call began; nothing left."""


class AnswerTooLargeError(Exception):
    """An answer longer than `BODY_LIMIT`."""


def tracing() -> aiohttp.TraceConfig:
    """Sets the sent flag given as `trace_request_ctx`.

    The hook runs at the top of the stream writer's `write`, before headers or body leave; a request without a body
    never gets there, so its headers count.
    """
    config = aiohttp.TraceConfig(trace_config_ctx_factory=_context)  # type: ignore[arg-type]  # the sent flag is the context
    config.on_request_chunk_sent.append(_chunk_leaves)
    config.on_request_headers_sent.append(_headers_leave)
    return config


def _context(trace_request_ctx: SentFlag | None) -> SentFlag:
    return trace_request_ctx or SentFlag()


async def _chunk_leaves(_session: aiohttp.ClientSession, sent_flag: object, _params: object) -> None:
    if isinstance(sent_flag, SentFlag):
        sent_flag.leaves()


async def _headers_leave(_session: aiohttp.ClientSession, sent_flag: object, _params: object) -> None:
    if isinstance(sent_flag, SentFlag) and sent_flag.bodyless:
        sent_flag.sent = True


class ProviderNetwork(Protocol):
    """What carries provider calls."""

    async def send(
        self, method: str, url: str, headers: Sequence[tuple[str, str]], body: bytes, sent_flag: SentFlag
    ) -> Response:
        """Sends once, follows nothing, and reads the whole answer. Raises `httpx2.TransportError` alone.

        `url`: as `httpx2.URL` writes it.
        """


class SessionTransport:
    """Sends over the connections of an aiohttp session.

    POST is never repeated; aiohttp repeats a GET once on a kept connection that proves dead.
    """

    def __init__(
        self,
        session: Callable[[], aiohttp.ClientSession],
        *,
        direct: Callable[[], Direct],
        connect_timeout: float,
        proxies: Proxies = NO_PROXIES,
    ) -> None:
        self._session = session
        self._direct = direct
        self._proxies = proxies
        self._timeout = aiohttp.ClientTimeout(total=None, connect=connect_timeout)

    async def send(
        self, method: str, url: str, headers: Sequence[tuple[str, str]], body: bytes, sent_flag: SentFlag
    ) -> Response:
        """See `ProviderNetwork`."""
        sent_flag.bodyless = not body
        proxy = self._proxies.of(url)
        try:
            return await self._exchange(method, url, headers, body, sent_flag, proxy)
        except Exception as error:  # whatever it is, the sent flag says whether it left
            raise truthful(error, sent_flag, proxy) from error

    async def _exchange(
        self,
        method: str,
        url: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        sent_flag: SentFlag,
        proxy: Proxy | None,
    ) -> Response:
        address = yarl.URL(url, encoded=True)
        if not proxy and is_plain(address, body):
            direct = await self._direct().send(method, address, headers, body, leaves=sent_flag.leaves)
            try:
                return await _whole(direct, sent_flag)
            finally:
                direct.release()
        async with self._session().request(
            method,
            address,
            headers=headers,
            data=_payload(body),
            allow_redirects=False,
            timeout=self._timeout,
            trace_request_ctx=sent_flag,
            proxy=url_of(proxy) if proxy else None,
        ) as answer:
            # Inside a tunnel every answer is the server's own: it has read the request.
            if proxy and answer.status == PROXY_AUTHENTICATION and url.startswith("http:"):
                sent_flag.sent = False  # it went to the proxy, and no further
                raise ProxyRefusedError(PASSWORD_WANTED)
            return await _whole(answer, sent_flag)


class ReplacedNetwork:
    """Sends over a transport of httpx2, as tests and simulations have them."""

    def __init__(self, transport: httpx2.AsyncBaseTransport) -> None:
        self._transport = transport

    async def send(
        self, method: str, url: str, headers: Sequence[tuple[str, str]], body: bytes, sent_flag: SentFlag
    ) -> Response:
        """See `ProviderNetwork`."""
        stream = httpx2.ByteStream(body)
        request = httpx2.Request(method, url, headers=list(headers), stream=stream, extensions={SENT_FLAG: sent_flag})
        response = await self._transport.handle_async_request(request)
        return Response(
            status=response.status_code, headers=plain_headers(response.headers.raw), body=await response.aread()
        )


def plain_headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by their names in lower case; one that comes several times with all its values."""
    plain: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("utf-8", "replace")
        plain[name] = f"{plain[name]}, {value}" if name in plain else value
    return plain


def _payload(body: bytes) -> bytes | io.BytesIO | None:
    """Above a MiB aiohttp wants a stream, which it sends in pieces: one write of it all would hold the event loop."""
    return io.BytesIO(body) if len(body) > ONE_WRITE else body or None


#: Headers that no longer fit once the body is unpacked and whole.
REWRITTEN = frozenset({b"content-encoding", b"content-length", b"transfer-encoding"})


async def _whole(answer: aiohttp.ClientResponse | OpenAnswer, sent_flag: SentFlag) -> Response:
    content = await _read(answer, sent_flag)
    kept = (each for each in answer.raw_headers if each[0].lower() not in REWRITTEN)
    return Response(status=answer.status, headers=plain_headers(kept), body=content)


async def _read(answer: aiohttp.ClientResponse | OpenAnswer, sent_flag: SentFlag) -> bytes:
    parts: list[bytes] = []
    size = 0
    try:
        async for part in answer.content.iter_any():
            parts.append(part)
            size += len(part)
            _demand_bounded(size)
    except BaseException:  # also when time is up: the part that came may hold the task id
        sent_flag.partial = Response(status=answer.status, headers={}, body=b"".join(parts)[:PARTIAL_LIMIT])
        raise
    return b"".join(parts) if len(parts) != 1 else parts[0]


def _demand_bounded(size: int) -> None:
    if size > BODY_LIMIT:
        raise AnswerTooLargeError(f"the answer is longer than {BODY_LIMIT} bytes")


# -- the error map -------------------------------------------------------------------------------------------------

Told: TypeAlias = type[httpx2.TransportError]

#: Nothing left: most specific first.
NOT_SENT: tuple[tuple[type[Exception], Told], ...] = (
    (aiohttp.ConnectionTimeoutError, httpx2.ConnectTimeout),
    (ProxyRefusedError, httpx2.ProxyError),
    (aiohttp.ClientHttpProxyError, httpx2.ProxyError),
    (aiohttp.ClientProxyConnectionError, httpx2.ProxyError),
    (aiohttp.InvalidURL, httpx2.UnsupportedProtocol),
    (aiohttp.NonHttpUrlClientError, httpx2.UnsupportedProtocol),
    (Exception, httpx2.ConnectError),
)

#: Something left, and no readable answer came back: most specific first.
SENT: tuple[tuple[type[Exception], Told], ...] = (
    (aiohttp.SocketTimeoutError, httpx2.ReadTimeout),
    (TimeoutError, httpx2.ReadTimeout),
    (aiohttp.ServerDisconnectedError, httpx2.RemoteProtocolError),
    (aiohttp.ClientResponseError, httpx2.RemoteProtocolError),
    (HttpProcessingError, httpx2.RemoteProtocolError),
    (Exception, httpx2.ReadError),
)


def truthful(error: Exception, sent_flag: SentFlag, proxy: Proxy | None = None) -> httpx2.TransportError:
    """The httpx2 error that says what happened; its class agrees with the sent flag."""
    table = SENT if sent_flag.sent else NOT_SENT
    told = next(told for known, told in table if isinstance(error, known))
    return told(f"{describe(error)}{through(proxy)}")


PASSWORD_WANTED = f"the proxy asks for a user and password ({PROXY_AUTHENTICATION}): http://USER:PASSWORD@HOST:PORT"

#: What happened, for people: most specific first.
PLAIN: tuple[tuple[type[BaseException], str], ...] = (
    (aiohttp.ClientConnectorDNSError, "the host's name could not be looked up"),
    (aiohttp.ClientConnectorCertificateError, "the host's certificate is not valid"),
    (aiohttp.ClientSSLError, "no secure connection could be made"),
    (aiohttp.ConnectionTimeoutError, "no connection came about in time"),
    (aiohttp.SocketTimeoutError, "the server said nothing for too long"),
    (aiohttp.ServerDisconnectedError, "the server closed the connection"),
    (aiohttp.ClientConnectorError, "no connection could be made"),
    (aiohttp.ClientPayloadError, "the answer broke off"),
    (aiohttp.ClientResponseError, "the answer is no proper HTTP"),
    (HttpProcessingError, "the answer is no proper HTTP"),
    (aiohttp.ClientOSError, "the connection broke"),
    (ConnectionError, "the connection broke"),
    (aiohttp.InvalidURL, "the address is none"),
)


def describe(error: BaseException) -> str:
    """What happened in plain words, and the library's own: one line, bounded, a link without its signature."""
    if isinstance(error, aiohttp.ClientHttpProxyError):  # its own text may hold the proxy's password
        status = getattr(error, "status", 0)
        return PASSWORD_WANTED if status == PROXY_AUTHENTICATION else f"the proxy answered {status}"
    if isinstance(error, aiohttp.ClientProxyConnectionError):  # its address is told with every problem on the way
        return f"the proxy cannot be reached{_reason(error)}"
    text = re.sub(r"(://[^\s?'\"]*)\?[^\s'\"]*", r"\1?…", " ".join(str(error).split()))
    if _is_bad_encoding(error):
        text = f"unreadable content encoding: {text}"
    own = text or in_words(error)
    if type(error) in (aiohttp.ClientConnectorError, aiohttp.ClientConnectorDNSError):
        own = f"{error.host}:{error.port}"  # type: ignore[attr-defined]  # its text says no more than the words do
    plain = next((words for known, words in PLAIN if isinstance(error, known)), None)
    return (f"{plain}{_reason(error)} ({own})" if plain else own)[:PROBLEM_LIMIT]


def _reason(error: BaseException) -> str:
    """: connection refused. As the system calls it, where that says more."""
    number = error.errno if isinstance(error, OSError) else None
    known = number is not None and number in errno.errorcode and not isinstance(error, aiohttp.ClientSSLError)
    return f": {os.strerror(number).lower()}" if known and number is not None else ""


def _is_bad_encoding(error: BaseException) -> bool:
    return isinstance(error.__cause__, ContentEncodingError)
