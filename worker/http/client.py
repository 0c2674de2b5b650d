"""The one HTTP session of a process: calls to providers, and downloads of what they made.

`Http.send` answers the question money asks: did it leave? `Exchange.sent` False means certainly not; True without a
response means that nobody can know. Behind a proxy this holds, too: a CONNECT that is refused has sent nothing to the
provider. Which proxy: `jobs.settings.proxies`.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
from collections.abc import Awaitable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Protocol, TypeVar
from urllib.parse import quote, unquote

import aiohttp
import httpx2
import yarl
from pydantic import SecretStr

from jobs.settings.model import USER_AGENT
from jobs.settings.proxies import NO_PROXIES, Proxies, Proxy
from providers.types import Call, Response
from worker.http.address_policy import GATE, Gate, checked_socket
from worker.http.direct import Direct, OpenAnswer, is_plain
from worker.http.multipart import File, encode_form
from worker.http.proxying import PROXY_AUTHENTICATION, Lookups, ProxyRefusedError, through, trusted_authorities, url_of
from worker.http.transport import (
    PASSWORD_WANTED,
    ProviderNetwork,
    ReplacedNetwork,
    SentFlag,
    SessionTransport,
    describe,
    plain_headers,
    tracing,
)
from worker.images.check import plain_words

__all__ = ["Download", "Exchange", "FetchError", "File", "Http", "SentFlag"]

T = TypeVar("T")

#: Seconds a kept connection stays usable: shorter than the 5 after which Node and uvicorn close theirs, since a POST
#: that meets a closing connection becomes unknown.
KEEPALIVE = 4.0
#: Seconds for DNS, TCP and TLS; what fails here is certainly not sent.
CONNECT_TIMEOUT = 15.0
#: Seconds after the deadline in which an answer that has arrived already is still read.
LAST_LOOK = 0.05
#: Grace after the deadline, in seconds. If the process was suspended for more than `SUSPENDED` seconds, a paid answer
#: may already be in the socket: wait `AFTER_SUSPENSION` for it.
SUSPENDED = 1.0
AFTER_SUSPENSION = 5.0
#: Seconds a download's server may say nothing at all; a slow one is bounded by the whole body's time.
SILENCE = 60.0
REDIRECTS = 5
REFERENCE_LIMIT = 50 * 1024 * 1024
HEADER_LIMIT = 64 * 1024  # bytes of one header; an answer that is paid for should not be lost to aiohttp's 8,190
CHUNK = 256 * 1024
#: For calls of providers, which are bounded as a whole; and for downloads.
CALLS = aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT)
PATIENCE = aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT, sock_read=SILENCE)

#: What is asked of a CDN that has a picture in several formats: to `*/*` some answer with AVIF.
ASKED_FOR = {"Accept-Encoding": "identity", "Accept": "image/png,image/jpeg,image/webp;q=0.9,*/*;q=0.1"}
#: Bytes of a refusal that are read for its words, and the seconds for which they are waited for.
WORDS_BYTES, WORDS_WAIT = 2_000, 2.0

DEAD_LINK = frozenset({400, 401, 403, 404, 410})  # 400: an expired link at Google Cloud Storage
FORBIDDEN = 403
RETRYABLE = frozenset({408, 425, 429})
REDIRECT = frozenset({301, 302, 303, 307, 308})
SERVER_ERROR = 500
OK = 200
NOT_MODIFIED = 304

#: A GET asks for the answer of now. Providers' answers carry no lifetime, and a cache on the way (RFC 9111, 4.2.2) may
#: then choose one: a task would seem to run long after it is done. Pragma is for caches of HTTP/1.0.
NO_CACHE = (("Cache-Control", "no-cache"), ("Pragma", "no-cache"))

#: Addresses of which no character has to be encoded.
PLAIN_URL = re.compile(r"https?://[a-z0-9.-]+(:[0-9]+)?/[A-Za-z0-9._~/-]*")
#: What HTTP can carry in a link as it is.
CARRIED = re.compile(r"[!-~]*")
AUTHORITY = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")

SNIFF = (
    (b"\x89PNG\r\n\x1a\n", "image/png", ".png"),
    (b"\xff\xd8\xff", "image/jpeg", ".jpg"),
    (b"RIFF", "image/webp", ".webp"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """How a call ended. No response and not `sent`: certainly not sent. No response and `sent`: nobody can know."""

    sent: bool
    response: Response | None
    problem: str | None  # what went wrong, for people; no secrets in it
    took: float  # seconds
    partial: Response | None = None  # what came of an answer that broke off


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """A body that came whole."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    size: int

    @property
    def content_type(self) -> str:
        """As the server names it, in lower case, without parameters; images are told by their bytes, not by this."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


class FetchError(Exception):
    """A download that did not work. `dead_link`: only a fresh link can help."""

    def __init__(self, code: str, message: str, *, retryable: bool = False, dead_link: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retryable = retryable
        self.dead_link = dead_link


class Sink(Protocol):
    """Where a download goes: a file opened for bytes, or anything that takes them."""

    def write(self, data: bytes, /) -> object:
        """Takes the next bytes."""


class Http:
    """Owns one aiohttp session for provider calls and downloads; belongs to one event loop.

    `trusted_hosts`: base URLs the user has set; what is on the same host and port may be private. Any other address
    must be public, unless `allow_private_hosts`. `transport` replaces the network for provider calls in tests; a
    handler says that a request left with `request.extensions[MARK].sent = True`. `user_agent`: what all are told.
    `proxies`: through which all of it goes.
    """

    def __init__(
        self,
        *,
        allow_private_hosts: bool,
        trusted_hosts: Iterable[str] = (),
        transport: httpx2.AsyncBaseTransport | ProviderNetwork | None = None,
        user_agent: str = USER_AGENT,
        proxies: Proxies = NO_PROXIES,
    ) -> None:
        self._proxies = proxies
        self._lookups = Lookups()
        self._user_agent = user_agent
        self._allow_private = allow_private_hosts
        self._trusted = {_origin(url) for url in trusted_hosts}
        self._made: aiohttp.ClientSession | None = None
        self._ways: dict[aiohttp.ClientTimeout, Direct] = {}
        self._network: ProviderNetwork = (
            ReplacedNetwork(transport)
            if isinstance(transport, httpx2.AsyncBaseTransport)
            else transport
            or SessionTransport(
                self._session, direct=lambda: self._direct(CALLS), connect_timeout=CONNECT_TIMEOUT, proxies=proxies
            )
        )

    # -- provider calls --------------------------------------------------------------------------------------------

    async def send(  # noqa: PLR0913  each is given by its name
        self,
        call: Call,
        *,
        base_url: str,
        key: SecretStr,
        key_header: str,
        timeout: float,  # noqa: ASYNC109  bounded by waiting, not by cancelling first
        files: Mapping[str, File] | None = None,
        sent_flag: SentFlag | None = None,
    ) -> Exchange:
        """Makes a call that may cost money: once, without following anything. Never raises but when cancelled.

        `key_header`: where the key goes, see `Dialect.key_header`. `files`: the bytes of every `ReferenceFile` in the
        call's form, by URL. `sent_flag`: to be asked by a caller that cancels.
        """
        sent_flag = sent_flag or SentFlag()
        loop = asyncio.get_running_loop()
        start = loop.time()
        try:
            answering = self._answer(call, base_url, _key_line(key_header, key), files or {}, sent_flag)
            response = _without(key, await _bounded(answering, timeout))
        except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError, _BadCallError) as error:
            problem, partial = _problem(error, key), sent_flag.partial and _without(key, sent_flag.partial)
            return Exchange(
                sent=sent_flag.sent, response=None, problem=problem, took=loop.time() - start, partial=partial
            )
        return Exchange(sent=True, response=response, problem=None, took=loop.time() - start)

    async def get(
        self,
        call: Call,
        *,
        base_url: str,
        key: SecretStr,
        key_header: str,
        timeout: float,  # noqa: ASYNC109  as in send
    ) -> Exchange:
        """Makes a call that costs nothing; it may reach the provider twice."""
        return await self.send(call, base_url=base_url, key=key, key_header=key_header, timeout=timeout)

    async def _answer(
        self, call: Call, base_url: str, key_line: tuple[str, str], files: Mapping[str, File], sent_flag: SentFlag
    ) -> Response:
        if not call.path.startswith("/"):
            raise _BadCallError(
                f"the path {call.path[:80]!r} does not start with a slash"
            )  # it could name another host
        headers = [key_line]
        body = call.body
        if call.form:
            content_type, body = encode_form(call.form, files)
            headers.append(("Content-Type", content_type))
        elif body:
            headers.append(("Content-Type", "application/json"))
        if call.method == "GET":
            headers.extend(NO_CACHE)
        GATE.set(Gate(open=True))
        return await self._network.send(call.method, _url(base_url.rstrip("/") + call.path), headers, body, sent_flag)

    # -- messages --------------------------------------------------------------------------------------------------

    async def post(
        self,
        url: SecretStr,
        body: bytes,
        *,
        headers: Mapping[str, str],
        timeout: float,  # noqa: ASYNC109  as in send
    ) -> Exchange:
        """A POST to an address of the settings, which may be private; no redirect is followed, no body is read.

        The address may hold secrets: nothing of it is in what is said of a problem. Never raises but when cancelled.
        """
        loop = asyncio.get_running_loop()
        start, proxy = loop.time(), self._proxies.of(url.get_secret_value())
        try:
            status = await _bounded(self._posted(url, body, headers, proxy), timeout)
        except TimeoutError:
            return Exchange(sent=True, response=None, problem=f"no answer within {timeout:g} s", took=timeout)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            problem = _about_connection(error) + through(proxy)
            return Exchange(sent=True, response=None, problem=problem, took=loop.time() - start)
        response = Response(status=status, headers={}, body=b"")
        return Exchange(sent=True, response=response, problem=None, took=loop.time() - start)

    async def _posted(self, url: SecretStr, body: bytes, headers: Mapping[str, str], proxy: Proxy | None) -> int:
        GATE.set(Gate(open=True))
        async with self._session().post(
            yarl.URL(url.get_secret_value()),
            data=body,
            headers=headers,
            allow_redirects=False,
            timeout=PATIENCE,
            proxy=url_of(proxy) if proxy else None,
        ) as answer:
            return answer.status

    # -- downloads -------------------------------------------------------------------------------------------------

    async def download(
        self,
        url: str,
        into: Sink,
        *,
        limit: int,
        timeout: float,  # noqa: ASYNC109  bounds the whole body's time
        unless: Mapping[str, str] | None = None,
    ) -> Download:
        """Fetches a link into `into`, `limit` bytes and `timeout` seconds at most.

        `unless`: headers that say what is known of it; a server that has nothing newer answers 304, without a body.

        Raises:
            FetchError: It did not work; what is in `into` is then worthless.
        """
        try:
            return await _bounded(self._follow(_link(url), into, limit, unless or {}), timeout)
        except TimeoutError:
            raise FetchError("download_timeout", f"not done within {timeout:g} s", retryable=True) from None

    async def fetch_reference(self, url: str, *, timeout: float = 60.0) -> File:  # noqa: ASYNC109  as in download
        """The bytes behind a reference image, `REFERENCE_LIMIT` at most.

        Raises:
            FetchError: It did not work: "reference_unreachable".
        """
        body = io.BytesIO()
        try:
            done = await self.download(url, body, limit=REFERENCE_LIMIT, timeout=timeout)
        except FetchError as error:
            message = f"the reference cannot be read: {error.message}"
            raise FetchError("reference_unreachable", message, retryable=error.retryable) from error
        return _file(url, body.getvalue(), done.content_type)

    async def _follow(self, url: yarl.URL, into: Sink, limit: int, unless: Mapping[str, str]) -> Download:
        for _ in range(REDIRECTS + 1):
            proxy = self._proxies.of(str(url))
            with _reasons(await self._gate_for(url, proxy), proxy):
                found = await self._fetch(url, into, limit, proxy, unless)
            if isinstance(found, Download):
                return found
            url = found
        raise FetchError("too_many_redirects", f"more than {REDIRECTS} redirects, the last to {url.host}")

    async def _gate_for(self, url: yarl.URL, proxy: Proxy | None) -> Gate:
        if url.scheme not in {"http", "https"} or not url.host:
            raise FetchError("bad_link", f"not an http(s) link: {url.scheme or 'no scheme'}")
        is_trusted = self._allow_private or (url.host, url.port) in self._trusted
        if proxy and not is_trusted and (reason := await self._lookups.refusal(url.host)):
            raise FetchError("forbidden_address", reason)
        gate = Gate(
            open=is_trusted or proxy is not None
        )  # the socket then leads to the proxy, whose address is private
        GATE.set(gate)
        return gate

    async def _fetch(
        self, url: yarl.URL, into: Sink, limit: int, proxy: Proxy | None, unless: Mapping[str, str]
    ) -> Download | yarl.URL:
        headers = {**ASKED_FOR, **unless}
        if not proxy and is_plain(url, b""):
            direct = await self._direct(PATIENCE).send("GET", url, headers.items(), read_at_once=CHUNK)
            try:
                return await _taken(url, direct, into, limit, None, unless)
            finally:
                direct.release()
        async with self._session().get(
            url,
            headers=headers,
            allow_redirects=False,
            read_bufsize=CHUNK,
            timeout=PATIENCE,
            proxy=url_of(proxy) if proxy else None,
        ) as answer:
            return await _taken(url, answer, into, limit, proxy, unless)

    # -- the session -----------------------------------------------------------------------------------------------

    def trust(self, base_url: str) -> None:
        """Lets downloads reach the host and port of an address the user has set."""
        self._trusted.add(_origin(base_url))

    def _session(self) -> aiohttp.ClientSession:
        if self._made is None:
            self._made = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0, keepalive_timeout=KEEPALIVE, socket_factory=checked_socket, ssl=trusted_authorities()
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": self._user_agent, "Accept": "*/*", "Accept-Encoding": "gzip, deflate"},
                timeout=CALLS,
                trace_configs=[tracing()],
                max_line_size=HEADER_LIMIT,
                max_field_size=HEADER_LIMIT,
            )
        return self._made

    def _direct(self, timeout: aiohttp.ClientTimeout) -> Direct:
        if timeout not in self._ways:
            self._ways[timeout] = Direct(self._session(), timeout=timeout, header_limit=HEADER_LIMIT)
        return self._ways[timeout]

    async def close(self) -> None:
        """Closes every connection."""
        made, self._made = self._made, None
        self._ways.clear()
        if made is not None:
            await made.close()


def _key_line(header: str, key: SecretStr) -> tuple[str, str]:
    scheme = "Bearer " if header == "Authorization" else ""
    return header, scheme + key.get_secret_value()


def _url(url: str) -> str:
    """An address as it goes into a request. Most are written so already; to find that out costs a tenth of parsing."""
    return url if PLAIN_URL.fullmatch(url) and "/." not in url else str(httpx2.URL(url))


class _BadCallError(Exception):
    """A call that must not be sent."""


async def _bounded(work: Awaitable[T], seconds: float) -> T:
    """Waits, and cancels only when time is up; what arrived meanwhile still counts."""
    loop = asyncio.get_running_loop()
    end, limit = loop.time() + seconds, asyncio.timeout(None)

    def time_is_up() -> None:
        """A process that was stopped finds its time over and the answer unread."""
        now = loop.time()
        limit.reschedule(now + (AFTER_SUSPENSION if now - end > SUSPENDED else LAST_LOOK))

    try:
        async with limit:
            timer = loop.call_at(end, time_is_up)
            try:
                return await work
            finally:
                timer.cancel()
    except TimeoutError as error:
        if limit.expired():
            raise TimeoutError(f"no whole answer within {seconds:g} s") from error
        raise


#: Characters from which a key is long enough not to be found in an answer by chance.
LONG_KEY = 8


def _without(key: SecretStr, response: Response) -> Response:
    """An answer that repeats our key ("invalid key abc…") must not carry it into the ledger, logs and results."""
    secret = key.get_secret_value().encode()
    if len(secret) < LONG_KEY or secret not in response.body:
        return response
    if re.search(rb"https?://[^\s\"]*" + re.escape(secret), response.body):
        return response  # a link that needs it leads to what is paid
    return replace(response, body=response.body.replace(secret, b"***"))


def _about_connection(error: Exception) -> str:
    """What kept a request from its answer, in words that name nothing of the address but its host."""
    if isinstance(error, aiohttp.ClientConnectionError | aiohttp.ClientHttpProxyError | ProxyRefusedError):
        return describe(error)
    return f"no answer that can be read ({type(error).__name__})"


def _problem(error: Exception, key: SecretStr) -> str:
    text = str(error) if isinstance(error, httpx2.TransportError) else describe(error)
    return text.replace(key.get_secret_value() or "\n", "***")


@contextlib.contextmanager
def _reasons(gate: Gate, proxy: Proxy | None) -> Iterator[None]:
    """Turns what aiohttp raises in a download into a `FetchError`."""
    after = through(proxy)
    try:
        yield
    except FetchError:
        raise
    except aiohttp.ClientConnectorError as error:
        if gate.refused:
            raise FetchError("forbidden_address", gate.refused[0]) from error
        raise FetchError("download_failed", f"{describe(error)}{after}", retryable=True) from error
    except aiohttp.InvalidURL as error:
        raise FetchError("bad_link", describe(error)) from error
    except aiohttp.ClientPayloadError as error:
        raise FetchError("truncated", f"the body broke off: {describe(error)}{after}", retryable=True) from error
    except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
        raise FetchError("download_failed", f"{describe(error)}{after}", retryable=True) from error


async def _taken(
    url: yarl.URL,
    answer: aiohttp.ClientResponse | OpenAnswer,
    into: Sink,
    limit: int,
    proxy: Proxy | None,
    unless: Mapping[str, str],
) -> Download | yarl.URL:
    if proxy and answer.status == PROXY_AUTHENTICATION:
        raise ProxyRefusedError(PASSWORD_WANTED)
    if unless and answer.status == NOT_MODIFIED:
        return Download(status=answer.status, headers=plain_headers(answer.raw_headers), size=0)
    if answer.status in REDIRECT:
        return _next(url, answer.headers.get("location", ""))
    if answer.status != OK:
        raise _refusal(url, answer.status, await _first_words(answer), proxy)
    size = await _stream(answer, into, limit)
    return Download(status=answer.status, headers=plain_headers(answer.raw_headers), size=size)


def _refusal(url: yarl.URL, status: int, words: str, proxy: Proxy | None) -> FetchError:
    message = f"{url.host} answered {status}" + (f': "{words}"' if words else "") + through(proxy)
    if status == FORBIDDEN and proxy and url.scheme == "http":  # it may be the proxy's, which knows no links
        return FetchError("download_failed", message, retryable=True)
    if status in DEAD_LINK:
        return FetchError("link_dead", message, dead_link=True)
    retryable = status >= SERVER_ERROR or status in RETRYABLE or status < 400  # noqa: PLR2004  odd success
    return FetchError("download_failed", message, retryable=retryable)


async def _first_words(answer: aiohttp.ClientResponse | OpenAnswer) -> str:
    """What a refusal says of itself, which is told to people; "" where it says nothing, or not soon."""
    with contextlib.suppress(aiohttp.ClientError, TimeoutError, ConnectionError):
        async with asyncio.timeout(WORDS_WAIT):
            return plain_words(await answer.content.read(WORDS_BYTES))
    return ""


async def _stream(answer: aiohttp.ClientResponse | OpenAnswer, into: Sink, limit: int) -> int:
    size = 0
    _demand_below(answer.content_length or 0, limit)
    async for part in answer.content.iter_any():
        size += len(part)
        _demand_below(size, limit)
        into.write(part)
    return size


def _demand_below(size: int, limit: int) -> None:
    if size > limit:
        raise FetchError("too_large", f"more than {limit} bytes")


def _link(url: str) -> yarl.URL:
    """Takes a link as it is: to rewrite a signed link breaks its signature. Only what HTTP cannot carry is escaped."""
    text = url.strip()
    try:
        authority = AUTHORITY.match(text)
        host = str(yarl.URL(authority.group())) if authority else ""
        rest = text[authority.end() :] if authority else text
        if not CARRIED.fullmatch(rest):
            rest = "".join(c if "!" <= c <= "~" else quote(c) for c in rest)
        return yarl.URL(host + rest, encoded=True)
    except (ValueError, UnicodeError) as error:
        raise FetchError("bad_link", f"not a link: {describe(error)}") from error


def _next(url: yarl.URL, location: str) -> yarl.URL:
    if not location:
        raise FetchError("download_failed", f"{url.host} redirects to nowhere")
    return url.join(_link(location))


def _origin(url: str) -> tuple[str | None, int | None]:
    parsed = yarl.URL(url)
    return parsed.host, parsed.port


def _file(url: str, content: bytes, content_type: str) -> File:
    for magic, known, ending in SNIFF:
        if content.startswith(magic):
            return File(content=content, content_type=known, filename=_name(url, ending))
    return File(content=content, content_type=content_type or "application/octet-stream", filename=_name(url, ""))


def _name(url: str, ending: str) -> str:
    stem = PurePosixPath(unquote(_link(url).path)).stem[:60]
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "-" for c in stem)
    return f"{plain or 'reference'}{ending}"
