"""Google Cloud Storage and Azure by obstore, with the credentials that each cloud's own tools find.

obstore's synchronous functions only: a process that ends soon after one of its `*_async` functions may crash.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
from obstore.store import AzureStore, GCSStore

from jobs.errors import StoreError
from worker.storage.answers import SAID_LIMIT, refused, unreachable
from worker.storage.base import (
    NO_METADATA,
    ObjectInfo,
    PutResult,
    Store,
    mapped,
    plain_metadata,
    told_metadata,
)
from worker.storage.causes import cause_in_text

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

Opened = GCSStore | AzureStore

#: One put of 25 MB over a slow line; a bucket that takes a connection and says nothing is given up after as long.
REQUEST_TIMEOUT = timedelta(seconds=60)
#: The probe's objects are tiny; a person waits.
PROBE_TIMEOUT = timedelta(seconds=6)
CONNECT_TIMEOUT = timedelta(seconds=3)
CHUNK = 1024 * 1024
RETRY: RetryConfig = {
    "max_retries": 2,
    "retry_timeout": timedelta(seconds=10),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=1), "base": 2},
}


class BucketStore(Store):
    """One bucket and prefix. `open_with(timeout)` gives an obstore store that waits so long for an answer."""

    def __init__(
        self,
        *,
        scheme: str,
        bucket: str,
        prefix: str,
        open_with: Callable[[timedelta], Opened],
        timeout: timedelta = REQUEST_TIMEOUT,
    ) -> None:
        self._scheme = scheme
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._open_with = open_with
        self._timeout = timeout

    def put_new(
        self,
        path: str,
        data: bytes | Path,
        *,
        content_type: str,
        metadata: Mapping[str, str] = NO_METADATA,
        sha256: str = "",  # noqa: ARG002  obstore signs by itself
    ) -> PutResult:
        """Writes an object unless one is there: both clouds keep that condition."""
        attributes = self._attributes(content_type, metadata)
        with self._told(path, "write"), mapped(data) as content:
            try:
                # One request, whatever its size: multipart uploads take no condition, so obstore makes none here.
                obstore.put(self._store(), self._key(path), content, attributes=attributes, mode="create")
            except AlreadyExistsError:
                return PutResult.EXISTS
        return PutResult.STORED

    def put(
        self, path: str, data: bytes | Path, *, content_type: str, metadata: Mapping[str, str] = NO_METADATA
    ) -> None:
        """Writes an object over whatever is there."""
        attributes = self._attributes(content_type, metadata)
        with self._told(path, "write"), mapped(data) as content:
            obstore.put(self._store(), self._key(path), content, attributes=attributes, use_multipart=False)

    def read(self, path: str) -> bytes | None:
        """An object's bytes; None when there is none."""
        with self._told(path, "read"), _missing_is_none():
            return obstore.get(self._store(), self._key(path)).bytes().to_bytes()
        return None

    def look(self, path: str) -> ObjectInfo | None:
        """What the store says of an object; None when there is none."""
        with self._told(path, "read"), _missing_is_none():
            found = obstore.get(self._store(), self._key(path), options={"head": True})
            told = {str(name): str(value) for name, value in found.attributes.items()}
            at, etag = found.meta["last_modified"].timestamp(), found.meta["e_tag"] or ""
            return ObjectInfo(size=found.meta["size"], etag=etag, modified=at, metadata=told_metadata(told))
        return None

    def sha256_of(self, path: str) -> str | None:
        """The hash of an object's bytes, read now; None when there is none."""
        digest = hashlib.sha256()
        with self._told(path, "read"), _missing_is_none():
            for part in obstore.get(self._store(), self._key(path)).stream(min_chunk_size=CHUNK):
                digest.update(part)
            return digest.hexdigest()
        return None

    def objects(self, below: str = "") -> Iterator[str]:
        """The paths of all objects below a prefix."""
        with self._told(below, "list"):
            for page in obstore.list(self._store(), prefix=self._key(below) or None):
                yield from (found["path"].removeprefix(self._prefix) for found in page)

    def delete(self, path: str) -> None:
        """Deletes an object, if there is one."""
        with self._told(path, "delete"), _missing_is_none():
            obstore.delete(self._store(), self._key(path))

    def presign(self, path: str, seconds: float) -> str:
        """A signed address; S3 signs for seven days at most."""
        with self._told(path, "sign"):
            return obstore.sign(self._store(), "GET", self._key(path), timedelta(seconds=seconds))

    def url_of(self, path: str) -> str:
        """The object's address."""
        return f"{self._scheme}://{self._bucket}/{self._key(path)}"

    def hurried(self) -> BucketStore:
        """As every store's."""
        bucket, prefix = self._bucket, self._prefix.rstrip("/")
        return BucketStore(
            scheme=self._scheme, bucket=bucket, prefix=prefix, open_with=self._open_with, timeout=PROBE_TIMEOUT
        )

    def _store(self) -> Opened:
        return self._open_with(self._timeout)

    def _key(self, path: str) -> str:
        return self._prefix + path

    def _attributes(self, content_type: str, metadata: Mapping[str, str]) -> dict[str, str]:
        plain = plain_metadata(metadata)
        if self._scheme == "az":  # its names are identifiers
            plain = {name.replace("-", "_"): value for name, value in plain.items()}
        return {"Content-Type": content_type, **plain}

    @contextlib.contextmanager
    def _told(self, path: str, verb: str) -> Iterator[None]:
        try:
            yield
        except (BaseError, FileNotFoundError) as error:
            raise problem(self.url_of(path), verb, str(error)) from error
        except ValueError as error:  # a path no store takes
            message = f"{self.url_of(path)!r}: {error}"[:SAID_LIMIT]
            raise StoreError(code="bad_path", message=message, retryable=False) from error


@contextlib.contextmanager
def _missing_is_none() -> Iterator[None]:
    """Lets a missing object pass, not a missing bucket."""
    try:
        yield
    except (FileNotFoundError, NotFoundError) as error:
        if _own_code(str(error)) in {"NoSuchBucket", "ContainerNotFound"}:
            raise


# -- what a store says, in our words -------------------------------------------------------------------------------


def problem(url: str, action: str, said: str) -> StoreError:
    """An obstore error's text as a `StoreError`: where, what the store answered to what, and what that means."""
    text = said.partition("\n\nDebug source")[0]
    status, own_code = _found(r"status code: (\d{3})", text), _own_code(text)
    if not (status or own_code):
        return unreachable(url, action, cause_in_text(said))
    return refused(url, action, status=status, own_code=own_code, said=_found(r"<Message>([^<]*)", text))


def _own_code(said: str) -> str:
    return _found(r"<Code>([A-Za-z0-9.]+)</Code>", said)


def _found(pattern: str, said: str) -> str:
    match = re.search(pattern, said)
    return match.group(1).strip() if match else ""


# -- opening -------------------------------------------------------------------------------------------------------


def open_bucket(scheme: str, bucket: str, prefix: str) -> Store:
    """Opens a bucket; credentials as each cloud's own tools find them."""
    open_with = _gcs(bucket) if scheme == "gs" else _azure(bucket)
    return BucketStore(scheme=scheme, bucket=bucket, prefix=prefix, open_with=open_with)


def client_options(timeout: timedelta, *, allow_http: bool = False) -> ClientConfig:
    """How both clouds are spoken to. Proxies are the environment's, and so are certificates (SSL_CERT_FILE)."""
    return {"timeout": timeout, "connect_timeout": CONNECT_TIMEOUT, "allow_http": allow_http}


def _gcs(bucket: str) -> Callable[[timedelta], Opened]:
    return _kept(lambda timeout: GCSStore(bucket, client_options=client_options(timeout), retry_config=RETRY))


def _azure(container: str) -> Callable[[timedelta], Opened]:
    return _kept(lambda timeout: AzureStore(container, client_options=client_options(timeout), retry_config=RETRY))


def _kept(make: Callable[[timedelta], Opened]) -> Callable[[timedelta], Opened]:
    """Makes a store once for each timeout; what the configuration lacks is told at once."""
    made: dict[timedelta, Opened] = {}

    def open_with(timeout: timedelta) -> Opened:
        if timeout not in made:
            made[timeout] = make(timeout)
        return made[timeout]

    try:
        open_with(REQUEST_TIMEOUT)
    except (BaseError, ValueError) as error:
        message = " ".join(str(error).partition("\n\nDebug source")[0].split())[:SAID_LIMIT]
        raise StoreError(code="bucket_no_credentials", message=message, retryable=False, denied=True) from error
    return open_with
