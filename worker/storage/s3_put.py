"""Puts of one kind, of which botocore has made the first: later ones are built after it, and cost half the CPU.

Of the CPU of a `put_object`, more than half goes into what comes out the same each time: parameters checked, the
endpoint found, the request written down, the answer parsed. So the request that botocore has made is kept as a pattern.
The next one differs in its key, its bytes and a few headers. botocore signs it and its session sends it, so
credentials, endpoint, certificates, proxies and time limits are those of every other request. Whatever does not end
well at once goes botocore's whole way instead, with its repeats, redirects and errors: to put twice does no harm.
"""

from __future__ import annotations

import mmap
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from botocore.exceptions import BotoCoreError

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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pattern:
    """What is the same in all puts of one kind."""

    url: str  # up to the key
    path: str  # the same in the path that older signatures sign
    headers: Mapping[str, str]
    context: Mapping[str, Any]
    others: Mapping[str, Any]  # the request's other parts

    @classmethod
    def of(cls, made: Mapping[str, Any], fields: Mapping[str, Any]) -> _Pattern | None:
        """The pattern of a request that botocore has made; None where it is not put together as it is here."""
        key = quote(fields["Key"], safe="/~")
        url, path = made.get("url", ""), made.get("auth_path") or ""
        if made.get("query_string") or not url.endswith(f"/{key}") or not path.endswith(f"/{key}"):
            return None
        own = _own_headers(fields)
        pattern = cls(
            url=url.removesuffix(key),
            path=path.removesuffix(key),
            headers={name: value for name, value in made["headers"].items() if name not in own},
            context={name: value for name, value in made["context"].items() if name != "s3_redirect"},
            others={name: value for name, value in made.items() if name not in {"body", "headers", "context"}},
        )
        return pattern if pattern.request(b"", fields)["headers"] == dict(made["headers"].items()) else None

    def request(self, content: bytes, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Another request of the kind, as botocore would make it."""
        key = quote(fields["Key"], safe="/~")
        tries = {**self.context.get("retries", {}), "attempt": 1, "invocation-id": str(uuid.uuid4())}
        return {
            **self.others,
            "url": self.url + key,
            "auth_path": self.path + key,
            "headers": {**self.headers, **_own_headers(fields)},
            "body": content,
            "context": {**self.context, "retries": tries},
        }


def _own_headers(fields: Mapping[str, Any]) -> dict[str, str]:
    named = {header: fields[name] for name, header in HEADERS.items() if name in fields}
    return named | {METADATA + name: value for name, value in fields.get("Metadata", {}).items()}


class _Made(threading.local):
    """The request that botocore is making in this thread. It knows no client, which would never be freed at once."""

    def __init__(self) -> None:
        self.request: Mapping[str, Any] = {}

    def note(self, params: Mapping[str, Any], **_: object) -> None:
        """As botocore's event tells it, before it is signed."""
        self.request = params


class RepeatedPuts:
    """The puts of one client, which has one bucket, one way to encrypt, and one payer. Safe to use from threads."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._made = _Made()
        self._patterns: dict[tuple[str, ...], _Pattern | None] = {}
        self._rests_until = 0.0
        # Where botocore itself keeps a rate, each put has to ask it.
        self._is_usable = (client.meta.config.retries or {}).get("mode") != "adaptive"
        client.meta.events.register("before-call.s3.PutObject", self._made.note)

    def put(self, content: bytes | mmap.mmap, fields: Mapping[str, Any]) -> None:
        """As the client's `put_object`, whose answer nobody needs.

        Raises:
            BotoCoreError, ClientError: As the client's.
        """
        kind = (*fields, *fields.get("Metadata", ()))
        pattern = self._patterns.get(kind)
        if pattern is not None and isinstance(content, bytes) and time.monotonic() >= self._rests_until:
            status = self._send(pattern.request(content, fields))
            if status == HTTPStatus.OK:
                return
            if status != HTTPStatus.PRECONDITION_FAILED:
                self._rests_until = time.monotonic() + REST
        try:
            self._client.put_object(Body=content, **fields)
            if self._is_usable:
                self._patterns[kind] = _Pattern.of(self._made.request, fields)
        finally:
            self._made.request = {}  # it holds the bytes

    def _send(self, request: dict[str, Any]) -> int:
        """The status of the answer; 0: none came, or one that is not what its status says."""
        endpoint = self._client._endpoint  # noqa: SLF001  what signs and sends for the client
        try:
            signed = endpoint.create_request(request, self._client.meta.service_model.operation_model("PutObject"))
            signed.headers = dict(signed.headers.items())  # botocore's own mapping is slow to read
            answer = endpoint.http_session.send(signed)
        except BotoCoreError:
            return 0
        status = int(answer.status_code)
        return 0 if status == HTTPStatus.OK and b"<Error" in answer.content else status
