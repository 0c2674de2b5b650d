"""An S3 server with the manners that real ones have and moto has not: headers it does not know, or demands; names it
refuses; objects that nobody may delete; buckets that are only found by their own host name; TLS.

In memory, in a thread of its own; every request is written down.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import re
import ssl
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote
from xml.sax.saxutils import escape

from aiohttp import web

from tests.support.patience import AT_LAST

DOMAIN = "localhost"
COPY = "x-amz-copy-source"
META = "x-amz-meta-"
WHEN = "Thu, 01 Jan 2026 00:00:00 GMT"
LOCKED = "Access Denied because object protected by object lock."
DEMANDED_HEADER = "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock"
DENIED = "User is not authorized to perform: s3:PutObject with an explicit deny in a resource-based policy"
UNKNOWN_HEADER = "A header you provided implies functionality that is not implemented"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request, and the status of its answer."""

    method: str
    host: str  # without the port
    path: str  # as sent, with the query
    headers: Mapping[str, str]  # names in lower case
    status: int

    @property
    def access_key(self) -> str:
        """Whose key signed it."""
        found = re.search(r"Credential=([^/]+)", self.headers.get("authorization", ""))
        return found.group(1) if found else ""


@dataclass(slots=True, kw_only=True)
class Manners:
    """What the server does beside keeping objects; changed while it serves."""

    unknown: Mapping[str, tuple[int, str]] = field(default_factory=dict)  # header: status and code of the refusal
    names_the_header: bool = True  # in that refusal
    ignores_conditions: bool = False
    demands: tuple[str, ...] = ()  # headers of which a put must have one, as with Object Lock
    demands_encryption: str = ""  # "aws:kms": the bucket's policy denies every other put
    deletes: bool = True
    tells_checksums: bool = True  # SHA-256, where one was sent, or asked for with a copy
    keeps_old_metadata: bool = False  # of an object that is copied, though it is told to replace them
    before_copy: Callable[[], None] = lambda: None  # between a copy's request and its making
    denies_reading: Callable[[str], bool] = lambda _: False
    refuses_name: Callable[[str], bool] = lambda _: False
    only_virtual_hosts: bool = False  # the bucket is in the host's name, as OSS demands
    answers: list[tuple[int, str]] = field(default_factory=list)  # to the next puts, in order


@dataclass(slots=True, kw_only=True)
class S3Server:
    """The server as a test sees it."""

    manners: Manners = field(default_factory=Manners)
    port: int = 0
    tls: bool = False
    objects: dict[str, bytes] = field(default_factory=dict)  # by "bucket/key"
    described: dict[str, dict[str, str]] = field(default_factory=dict)  # their headers
    sha256: dict[str, str] = field(default_factory=dict)  # base64, as they were sent or asked for
    asked: list[Asked] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{'localhost' if self.tls else '127.0.0.1'}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to find it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "very-secret",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def puts(self, ending: str = "") -> list[Asked]:
        """The puts of objects whose path ends so, copies among them."""
        return [each for each in self.asked if each.method == "PUT" and each.path.partition("?")[0].endswith(ending)]

    def kinds(self, *, key: str = "") -> Counter[str]:
        """How many requests for objects there were of each kind, a copy as "COPY"; `key`: only those that name it."""
        asked = [each for each in self.asked if each.path.count("/") > 1 and key in each.path]
        return Counter("COPY" if COPY in each.headers else each.method for each in asked)

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            answer = await self._answer(request, headers)
        except ConnectionError:  # the client has left
            return web.Response()
        host = request.host.partition(":")[0]
        asked = Asked(method=request.method, host=host, path=request.raw_path, headers=headers, status=answer.status)
        self.asked.append(asked)
        return answer

    async def _answer(self, request: web.BaseRequest, headers: Mapping[str, str]) -> web.StreamResponse:
        body = await request.content.read()
        host, path = request.host.partition(":")[0], request.raw_path.partition("?")[0].lstrip("/")
        is_virtual = host.endswith(f".{DOMAIN}")
        bucket, key = (host.removesuffix(f".{DOMAIN}"), path) if is_virtual else path.partition("/")[::2]
        if self.manners.only_virtual_hosts and not is_virtual:
            return _error(403, "SecondLevelDomainForbidden", "The bucket must be addressed by its own host name.")
        place = f"{bucket}/{unquote(key)}"
        if not key:
            return self._bucket(request, bucket)
        if request.method == "PUT":
            return self._copy(place, headers) if COPY in headers else self._put(place, body, headers)
        if request.method == "DELETE":
            return self._delete(place, headers)
        shown = self._get(place, is_head=request.method == "HEAD")
        if "x-amz-checksum-mode" in headers and self.manners.tells_checksums and place in self.sha256:
            shown.headers["x-amz-checksum-sha256"] = self.sha256[place]
        return shown

    def _bucket(self, request: web.BaseRequest, bucket: str) -> web.Response:
        if request.method == "HEAD":
            return web.Response(headers={"x-amz-bucket-region": "eu-west-1"})
        prefix = request.query.get("prefix", "")
        keys = [place.removeprefix(f"{bucket}/") for place in sorted(self.objects)]
        listed = "".join(f"<Contents><Key>{escape(key)}</Key></Contents>" for key in keys if key.startswith(prefix))
        return web.Response(text=f"<ListBucketResult>{listed}</ListBucketResult>", content_type="application/xml")

    def _put(self, place: str, body: bytes, headers: Mapping[str, str]) -> web.Response:
        if refusal := self._refusal(place, headers):
            return refusal
        if headers.get("if-none-match") == "*" and place in self.objects and not self.manners.ignores_conditions:
            return _error(412, "PreconditionFailed", "At least one of the pre-conditions did not hold")
        self._keep(place, body, headers)
        return web.Response(headers={"ETag": _etag(body)})

    def _keep(self, place: str, body: bytes, headers: Mapping[str, str]) -> None:
        self.objects[place] = body
        self.described[place] = {name: headers[name] for name in headers if name.startswith(META)}
        self.sha256.pop(place, None)
        if (told := headers.get("x-amz-checksum-sha256")) is not None:
            self.sha256[place] = told

    def _copy(self, place: str, headers: Mapping[str, str]) -> web.Response:
        if refusal := self._refusal(place, headers):
            return refusal
        self.manners.before_copy()
        source = unquote(headers[COPY]).lstrip("/")
        if source not in self.objects:
            return _error(404, "NoSuchKey", "The key does not exist.")
        body = self.objects[source]
        is_taken = headers.get("if-none-match") == "*" and place in self.objects
        is_other = headers.get(f"{COPY}-if-match", _etag(body)) != _etag(body)
        if (is_taken or is_other) and not self.manners.ignores_conditions:
            return _error(412, "PreconditionFailed", "At least one of the pre-conditions did not hold")
        is_told = headers.get("x-amz-checksum-algorithm") == "SHA256" and self.manners.tells_checksums
        told = {"x-amz-checksum-sha256": _sha256(body)} if is_told else {}
        replaces = headers.get("x-amz-metadata-directive") == "REPLACE" and not self.manners.keeps_old_metadata
        described = headers if replaces else self.described[source]
        self._keep(place, body, {**described, **told})
        checksum = f"<ChecksumSHA256>{_sha256(body)}</ChecksumSHA256>" if is_told else ""
        text = f"<CopyObjectResult><ETag>{escape(_etag(body))}</ETag>{checksum}</CopyObjectResult>"
        return web.Response(text=text, content_type="application/xml")

    def _refusal(self, place: str, headers: Mapping[str, str]) -> web.Response | None:
        manners, encryption = self.manners, headers.get("x-amz-server-side-encryption")
        status, code = manners.answers.pop(0) if manners.answers else (200, "")
        unknown = next((name for name in manners.unknown if name in headers), "")
        if status != 200:
            refused = (status, code, "told you", "")
        elif unknown:
            named = f"<Header>{unknown}</Header>" if manners.names_the_header else ""
            refused = (*manners.unknown[unknown], f"{UNKNOWN_HEADER}.", named)
        elif manners.demands and not set(manners.demands) & set(headers):
            refused = (400, "InvalidRequest", f"{DEMANDED_HEADER} parameters", "")
        elif manners.demands_encryption and encryption != manners.demands_encryption:
            refused = (403, "AccessDenied", DENIED, "")
        elif manners.refuses_name(place.partition("/")[2]):
            refused = (400, "XMinioInvalidObjectName", "Object name contains unsupported characters.", "")
        else:
            return None
        return _error(*refused)

    def _get(self, place: str, *, is_head: bool) -> web.Response:
        if self.manners.denies_reading(place.partition("/")[2]):
            return web.Response(status=403) if is_head else _error(403, "AccessDenied", "Access Denied")
        if place not in self.objects:
            return web.Response(status=404) if is_head else _error(404, "NoSuchKey", "The key does not exist.")
        body = self.objects[place]
        headers = {"ETag": _etag(body), "Last-Modified": WHEN, **self.described[place]}
        if is_head:
            return web.Response(headers={**headers, "Content-Length": str(len(body))})
        return web.Response(headers=headers, body=body)

    def _delete(self, place: str, headers: Mapping[str, str]) -> web.Response:
        if not self.manners.deletes:
            return _error(403, "AccessDenied", LOCKED)
        body = self.objects.get(place)
        if body is not None and headers.get("if-match", _etag(body)) != _etag(body):
            return _error(412, "PreconditionFailed", "At least one of the pre-conditions did not hold")
        self.objects.pop(place, None)
        return web.Response(status=204)


def minio_names(key: str) -> bool:
    """Names that MinIO does not take."""
    return "\\" in key or any(len(part.encode()) > 255 for part in key.split("/"))


def _error(status: int, code: str, message: str, more: str = "") -> web.Response:
    text = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{message}</Message>{more}</Error>'
    return web.Response(status=status, text=text, content_type="application/xml")


def _sha256(body: bytes) -> str:
    return base64.b64encode(hashlib.sha256(body).digest()).decode()


def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


@contextlib.contextmanager
def s3_server(manners: Manners | None = None, *, tls: ssl.SSLContext | None = None) -> Iterator[S3Server]:
    """The server, with any bucket that is asked for. `tls`: speaks TLS as "localhost"."""
    server = S3Server(manners=manners or Manners(), tls=tls is not None)
    with in_thread(lambda: _listening(server, tls)):
        yield server


async def _listening(server: S3Server, tls: ssl.SSLContext | None) -> Callable[[], Awaitable[None]]:
    runner = web.ServerRunner(web.Server(server.serve), shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    server.port = runner.addresses[0][1]
    return runner.cleanup


@contextlib.contextmanager
def in_thread(start: Callable[[], Awaitable[Callable[[], Awaitable[object]]]]) -> Iterator[None]:
    """A server on an event loop in a thread of its own. `start` begins to listen, and returns what ends that."""
    loop, up, down = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    async def live() -> None:
        stop = await start()
        up.set()
        await down.wait()
        await stop()

    thread = threading.Thread(target=lambda: loop.run_until_complete(live()), daemon=True)
    thread.start()
    assert up.wait(AT_LAST)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(down.set)
        thread.join(AT_LAST)
        loop.close()
