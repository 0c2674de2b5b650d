"""Google Cloud Storage and Azure Blob Storage as their pages tell of them, as far as Lightfast speaks with them.

In memory; conditions are kept, and every request is written down: what is asked is half of the contract.
"""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import http.server
import json
import re
import ssl
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from xml.sax.saxutils import escape

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from obstore.store import AzureStore, GCSStore

from worker.storage.object_store import RETRY, BucketStore, client_options

WHEN = 1_800_000_000.0


@dataclass(slots=True)
class Asked:
    method: str
    path: str  # as sent
    headers: dict[str, str]  # names in lower case

    @property
    def query(self) -> dict[str, str]:
        return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query, keep_blank_values=True))


@dataclass(slots=True)
class Cloud:
    kind: str  # "gs" or "az"
    url: str = ""
    objects: dict[str, tuple[bytes, dict[str, str]]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    lock: Any = field(default_factory=threading.Lock)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cloud: Cloud

    def handle_one_request(self) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            super().handle_one_request()

    def _take(self) -> tuple[str, bytes]:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.cloud.asked.append(Asked(self.command, self.path, headers))
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        return path.removeprefix("/bucket").removeprefix("/"), body

    def do_PUT(self) -> None:
        key, body = self._take()
        gs = self.cloud.kind == "gs"
        condition = self.headers.get("x-goog-if-generation-match" if gs else "if-none-match")
        kept = {n.lower(): v for n, v in self.headers.items() if n.lower().startswith(("x-goog-meta-", "x-ms-meta-"))}
        kept["Content-Type"] = self.headers.get("content-type" if gs else "x-ms-blob-content-type") or ""
        with self.cloud.lock:
            if key in self.cloud.objects and condition == ("0" if gs else "*"):
                code = (412, "PreconditionFailed") if gs else (409, "BlobAlreadyExists")
                self._refuse(*code)
                return
            self.cloud.objects[key] = (body, kept)
        self._answer(200 if gs else 201, b"", {"ETag": _etag(body), "x-goog-generation": "1"})

    def do_GET(self) -> None:
        key, _ = self._take()
        if not key:
            self._list()
            return
        found = self.cloud.objects.get(key)
        if found is None:
            self._refuse(404, "NoSuchKey" if self.cloud.kind == "gs" else "BlobNotFound")
            return
        at = email.utils.formatdate(WHEN, usegmt=True)
        self._answer(200, found[0], {**found[1], "ETag": _etag(found[0]), "Last-Modified": at})

    do_HEAD = do_GET  # noqa: N815  the library's

    def do_DELETE(self) -> None:
        key, _ = self._take()
        if self.cloud.objects.pop(key, None) is None:
            self._refuse(404, "NoSuchKey" if self.cloud.kind == "gs" else "BlobNotFound")
        else:
            self._answer(204 if self.cloud.kind == "gs" else 202, b"", {})

    def do_POST(self) -> None:
        """Azure deletes in batches: one small request in the body for each object."""
        _, body = self._take()
        parts = []
        for number, line in enumerate(re.findall(rb"DELETE /bucket/(\S+) HTTP", body)):
            key = urllib.parse.unquote(line.decode()).partition("?")[0]
            gone = self.cloud.objects.pop(key, None) is None
            told = "404 BlobNotFound\r\nx-ms-error-code: BlobNotFound" if gone else "202 Accepted"
            head = f"Content-Type: application/http\r\nContent-ID: {number}"
            parts.append(f"--batch_x\r\n{head}\r\n\r\nHTTP/1.1 {told}\r\nx-ms-version: 2023-11-03\r\n\r\n\r\n")
        content = "".join([*parts, "--batch_x--\r\n"]).encode()
        self._answer(202, content, {"Content-Type": "multipart/mixed; boundary=batch_x"})

    def _list(self) -> None:
        prefix = self.cloud.asked[-1].query.get("prefix", "")
        names = sorted(name for name in self.cloud.objects if name.startswith(prefix))
        make = _gs_page if self.cloud.kind == "gs" else _az_page
        self._answer(200, make([(name, self.cloud.objects[name][0]) for name in names]), {})

    def _refuse(self, status: int, code: str) -> None:
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>told</Message></Error>".encode()
        self._answer(status, body, {"Content-Type": "application/xml", "x-ms-error-code": code})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


def _gs_page(found: list[tuple[str, bytes]]) -> bytes:
    items = "".join(
        f"<Contents><Key>{escape(name)}</Key><Size>{len(body)}</Size><ETag>{_etag(body)}</ETag>"
        "<LastModified>2027-01-15T08:00:00.000Z</LastModified></Contents>"
        for name, body in found
    )
    return f"<?xml version='1.0'?><ListBucketResult><IsTruncated>false</IsTruncated>{items}</ListBucketResult>".encode()


def _az_page(found: list[tuple[str, bytes]]) -> bytes:
    items = "".join(
        f"<Blob><Name>{escape(name)}</Name><Properties><Last-Modified>Fri, 15 Jan 2027 08:00:00 GMT</Last-Modified>"
        f"<Content-Length>{len(body)}</Content-Length><Content-Type>image/png</Content-Type><Etag>{_etag(body)}</Etag>"
        "</Properties></Blob>"
        for name, body in found
    )
    page = f"<EnumerationResults><Blobs>{items}</Blobs><NextMarker/></EnumerationResults>"
    return f"<?xml version='1.0'?>{page}".encode()


@contextlib.contextmanager
def cloud(kind: str, *, tls: ssl.SSLContext | None = None) -> Iterator[Cloud]:
    """One bucket, or container, named "bucket". `tls`: speaks TLS as "localhost"."""
    made = Cloud(kind)
    handler = type("Handler", (_Handler,), {"cloud": made})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        made.url = f"{'https://localhost' if tls else 'http://127.0.0.1'}:{server.server_port}"
        try:
            yield made
        finally:
            server.shutdown()


def service_account(url: str) -> str:
    """The key file of a Google service account that nobody knows."""
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    named = {"client_email": "shop@project.iam.gserviceaccount.com", "private_key": pem, "private_key_id": "k1"}
    return json.dumps({"type": "service_account", "gcs_base_url": url, "disable_oauth": False, **named})


def store_in(made: Cloud, prefix: str = "spring/2026") -> BucketStore:
    """Lightfast's own store, with an address of this machine."""
    if made.kind == "gs":
        account = service_account(made.url)

        def open_with(timeout: Any) -> Any:
            options = client_options(timeout, allow_http=True)
            return GCSStore(
                "bucket", config={"service_account_key": account}, client_options=options, retry_config=RETRY
            )

    else:
        config = {"account_name": "shopaccount", "account_key": "c2VjcmV0", "endpoint": made.url}

        def open_with(timeout: Any) -> Any:
            options = client_options(timeout, allow_http=True)
            return AzureStore("bucket", config=config, client_options=options, retry_config=RETRY)

    return BucketStore(scheme=made.kind, bucket="bucket", prefix=prefix, open_with=open_with)
