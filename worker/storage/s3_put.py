"""Puts of one kind, of which botocore has made the first: later ones are built after it, and cost a third of the CPU.

Most of the CPU of a `put_object` goes into what comes out the same each time: parameters checked, the endpoint found,
the request written down, the answer parsed. So the request that botocore has sent is kept as a pattern. The next one
differs in its key, its bytes, a few headers and its signature. It goes over a connection that botocore keeps open
(`worker/storage/s3_connection.py`), or else botocore's session sends it: endpoint, certificates, proxies and time
limits are those of every other request, and the credentials are those that botocore renews.

A pattern is kept only if it gives the very request, signature and all, that botocore made of the first put: whatever
is signed or written in another way goes botocore's whole way. So does every put that does not end well at once, with
botocore's repeats, redirects and errors: to put twice does no harm.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import mmap
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlsplit

from botocore.awsrequest import AWSPreparedRequest
from botocore.exceptions import BotoCoreError, ClientError

from worker.storage import s3_connection

#: Seconds for which all puts go botocore's whole way after one that did not end well: botocore knows how to wait.
REST = 10.0
#: The header of each parameter that differs from put to put. All others are the same for one kind of put.
HEADERS = {
    "ContentType": "Content-Type",
    "ContentMD5": "Content-MD5",
    "ChecksumCRC32": "x-amz-checksum-crc32",
    "ChecksumSHA256": "x-amz-checksum-sha256",
}
METADATA = "x-amz-meta-"
#: Headers of one request alone.
OF_ONE = frozenset(
    {"Authorization", "Content-Length", "X-Amz-Content-SHA256", "X-Amz-Date", "X-Amz-Security-Token"}
    | {"amz-sdk-invocation-id"}
)
UNSIGNED = "UNSIGNED-PAYLOAD"
ALGORITHM = "AWS4-HMAC-SHA256"
PORTS = {"http": 80, "https": 443}
#: What botocore makes of an answer 412.
_EXISTS: Any = {
    "Error": {"Code": "PreconditionFailed", "Message": "there is an object already"},
    "ResponseMetadata": {"HTTPStatusCode": HTTPStatus.PRECONDITION_FAILED.value},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pattern:
    """What is the same in all puts of one kind."""

    url: str  # up to the key
    path: str  # of the URL, up to the key
    host: str
    headers: Mapping[str, str]
    signed: tuple[str, ...]  # the headers that are signed, in lower case
    scope: str  # region, service, and how the request is signed
    signs_bytes: bool

    @classmethod
    def of(
        cls, made: AWSPreparedRequest, content: bytes, fields: Mapping[str, Any], credentials: Any
    ) -> _Pattern | None:
        """The pattern of a request that botocore has made; None where it is not put together as it is here."""
        headers = {name: value.decode() if isinstance(value, bytes) else value for name, value in made.headers.items()}
        key, parts = quote(fields["Key"], safe="/~"), urlsplit(made.url)
        told, _, rest = headers.get("Authorization", "").partition(", SignedHeaders=")
        is_first_try = headers.get("amz-sdk-request", "").startswith("attempt=1;")
        if made.method != "PUT" or not parts.path.endswith(f"/{key}") or parts.query or not is_first_try:
            return None
        own = OF_ONE.union(_own_headers(fields))
        pattern = cls(
            url=made.url.removesuffix(key),
            path=parts.path.removesuffix(key),
            host=str(parts.hostname) + (f":{parts.port}" if parts.port not in (None, PORTS.get(parts.scheme)) else ""),
            headers={name: value for name, value in headers.items() if name not in own},
            signed=tuple(rest.partition(", ")[0].split(";")),
            scope=told.split("/", 2)[-1],
            signs_bytes=headers.get("X-Amz-Content-SHA256") != UNSIGNED,
        )
        number, at = headers.get("amz-sdk-invocation-id", ""), headers.get("X-Amz-Date", "")
        again = pattern.headers_of(key, content, fields, credentials, sha256="", at=at, number=number)
        return pattern if (pattern.url + key, again) == (made.url, headers) else None

    def headers_of(  # noqa: PLR0913  each is given by its name
        self,
        key: str,
        content: bytes,
        fields: Mapping[str, Any],
        credentials: Any,
        *,
        sha256: str,
        at: str,
        number: str,
    ) -> dict[str, str]:
        """The headers of another request of the kind, as botocore would make them. `key`: as it is in its address.

        `sha256`: of the content, in hex; "": it is not known yet. `at`: when it is signed. `number`: the request's own.
        """
        headers = {**self.headers, **_own_headers(fields)}
        headers["X-Amz-Date"] = at
        if credentials.token:
            headers["X-Amz-Security-Token"] = credentials.token
        hashed = (sha256 or hashlib.sha256(content).hexdigest()) if self.signs_bytes else UNSIGNED
        headers["X-Amz-Content-SHA256"] = hashed
        values = {name.lower(): " ".join(value.split()) for name, value in headers.items()} | {"host": self.host}
        lines = "".join(f"{name}:{values.get(name, '')}\n" for name in self.signed)
        canonical = f"PUT\n{self.path}{key}\n\n{lines}\n{';'.join(self.signed)}\n{hashed}"
        scope = f"{at[:8]}/{self.scope}"
        to_sign = f"{ALGORITHM}\n{at}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        signing_key = _signing_key(credentials.secret_key, scope)
        headers["Authorization"] = (
            f"{ALGORITHM} Credential={credentials.access_key}/{scope}, SignedHeaders={';'.join(self.signed)}, "
            f"Signature={hmac.digest(signing_key, to_sign.encode(), 'sha256').hex()}"
        )
        headers["amz-sdk-invocation-id"], headers["Content-Length"] = number, str(len(content))
        return headers

    def head(self, key: str, headers: Mapping[str, str]) -> bytes:
        """A request up to its bytes, as it goes out."""
        lines = [f"{name}: {value}" for name, value in headers.items()]
        if any("\r" in line or "\n" in line for line in lines):
            raise ValueError("a header has more than one line")
        first = (f"PUT {self.path}{key} HTTP/1.1", f"Host: {self.host}", "Accept-Encoding: identity")
        return "\r\n".join([*first, *lines, "\r\n"]).encode("latin-1")


@functools.lru_cache(maxsize=8)
def _signing_key(secret_key: str, scope: str) -> bytes:
    """What one day's requests of one region are signed with."""
    key = f"AWS4{secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _own_headers(fields: Mapping[str, Any]) -> dict[str, str]:
    named = {header: fields[name] for name, header in HEADERS.items() if name in fields}
    return named | {METADATA + name: value for name, value in fields.get("Metadata", {}).items()}


class _Sent(threading.local):
    """The request that botocore sends in this thread. It knows no client, which would never be freed at once."""

    def __init__(self) -> None:
        self.request: AWSPreparedRequest | None = None

    def note(self, request: AWSPreparedRequest, **_: object) -> None:
        """As botocore's event tells it."""
        self.request = request


class RepeatedPuts:
    """The puts of one client, which has one bucket, one way to encrypt, and one payer. Safe to use from threads.

    `credentials`: as they are now; botocore renews them.
    """

    def __init__(self, client: Any, credentials: Callable[[], Any]) -> None:
        self._client = client
        self._credentials = credentials
        self._sent = _Sent()
        self._patterns: dict[tuple[str, ...], _Pattern | None] = {}
        self._pool: Any = None  # of open connections; None: the session is to send
        self._rests_until = 0.0
        self._is_plain = True  # what the server answers can be read here
        # Where botocore itself keeps a rate, each put has to ask it.
        self._is_usable = (client.meta.config.retries or {}).get("mode") != "adaptive"
        client.meta.events.register("before-send.s3.PutObject", self._sent.note)

    def put(self, content: bytes | mmap.mmap, fields: Mapping[str, Any], *, sha256: str = "") -> None:
        """As the client's `put_object`, whose answer nobody needs. `sha256`: of the content, in hex, if known.

        Raises:
            BotoCoreError, ClientError: As the client's.
        """
        kind = (*fields, *fields.get("Metadata", ()))
        pattern = self._patterns.get(kind)
        if pattern is not None and isinstance(content, bytes) and time.monotonic() >= self._rests_until:
            status = self._send(pattern, content, fields, sha256)
            if status == HTTPStatus.OK:
                return
            if status == HTTPStatus.PRECONDITION_FAILED:  # said in one way only: the bytes need not go again
                raise ClientError(_EXISTS, "PutObject")
            self._rests_until = time.monotonic() + REST
        try:
            self._client.put_object(Body=content, **fields)
            if self._is_usable and isinstance(content, bytes) and self._sent.request is not None:
                self._patterns[kind] = self._pattern_of(self._sent.request, content, fields)
        finally:
            self._sent.request = None  # it holds the bytes

    def _pattern_of(self, made: AWSPreparedRequest, content: bytes, fields: Mapping[str, Any]) -> _Pattern | None:
        try:
            pattern = _Pattern.of(made, content, fields, self._credentials())
            self._pool = s3_connection.pool_of(self._session, made.url) if pattern and self._is_plain else None
        except Exception:  # noqa: BLE001  the object is put: what cannot be read of its request costs CPU alone
            return None
        return pattern

    @property
    def _session(self) -> Any:
        return self._client._endpoint.http_session  # noqa: SLF001  what sends for the client

    def _send(self, pattern: _Pattern, content: bytes, fields: Mapping[str, Any], sha256: str) -> int:
        """The status of the answer; 0: none came, or one that is not what its status says."""
        try:
            key = quote(fields["Key"], safe="/~")
            at = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"  # as signatures have it
            number = str(uuid.uuid4())
            credentials = self._credentials()
            headers = pattern.headers_of(key, content, fields, credentials, sha256=sha256, at=at, number=number)
            pool = self._pool
            answer = pool and s3_connection.put(pool, pattern.head(key, headers), content)
            if answer is None:
                request = AWSPreparedRequest("PUT", pattern.url + key, headers, content, stream_output=False)
                sent = self._session.send(request)
                answer = s3_connection.PutAnswer(int(sent.status_code), sent.content, is_last=False)
        except s3_connection.OddAnswerError:
            self._is_plain, self._pool = False, None
            return 0
        except (BotoCoreError, OSError, ValueError):
            return 0
        return 0 if answer.status == HTTPStatus.OK and b"<Error" in answer.body else answer.status
