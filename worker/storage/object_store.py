"""Buckets by obstore: S3 with boto3's credentials, Google Cloud Storage, Azure.

obstore's synchronous functions only: a process that ends soon after one of its `*_async` functions may crash.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
from obstore.store import AzureStore, GCSStore, S3Store

from jobs.errors import StoreError
from worker.storage.base import NO_METADATA, PROBE, ObjectInfo, PutResult, Store, plain_metadata, told_metadata
from worker.storage.object_store_options import RETRY, client_options

Opened = S3Store | GCSStore | AzureStore

#: One put of 25 MB over a slow line; a bucket that takes a connection and says nothing is given up after as long.
REQUEST_TIMEOUT = timedelta(seconds=60)
#: The probe's objects are tiny; a person waits.
PROBE_TIMEOUT = timedelta(seconds=6)
CHUNK = 1024 * 1024
MESSAGE_LIMIT = 200

#: What a store's own code or status means: our code, and whether it is a matter of rights. Most specific first.
MEANINGS: Mapping[str, tuple[str, bool]] = {
    "NoSuchBucket": ("bucket_missing", False),
    "ContainerNotFound": ("bucket_missing", False),
    "ExpiredToken": ("bucket_denied", True),
    "InvalidToken": ("bucket_denied", True),
    "InvalidAccessKeyId": ("bucket_denied", True),
    "SlowDown": ("bucket_slow_down", False),
    "ServerBusy": ("bucket_slow_down", False),
    "ConditionalRequestConflict": ("bucket_busy", False),
    "RequestTimeout": ("bucket_unreachable", False),
    "AuthorizationHeaderMalformed": ("bucket_wrong_region", False),
    "401": ("bucket_denied", True),
    "403": ("bucket_denied", True),
    "404": ("bucket_missing", False),
    "408": ("bucket_unreachable", False),
    "409": ("bucket_busy", False),
    "429": ("bucket_slow_down", False),
    "503": ("bucket_slow_down", False),
    "5xx": ("bucket_failing", False),
    "4xx": ("bucket_refused", False),
}
#: The right a verb needs at S3.
ACTIONS = {
    "write": "s3:PutObject",
    "read": "s3:GetObject",
    "delete": "s3:DeleteObject",
    "sign": "s3:GetObject",
    "list": "s3:ListBucket",
}
#: What is said of a store that replaces objects though it is told not to.
IGNORES = (
    " ignores If-None-Match: Lightfast looks before it writes instead, and cannot tell two processes apart that write "
    "one path at the same moment"
)
#: The same call will not work later.
FINAL = frozenset({"bucket_refused", "bad_path"})


class BucketStore(Store):
    """One bucket and prefix. `open_with(timeout)` gives an obstore store that has valid credentials now.

    `honours`: whether the store keeps a conditional put's condition; None: it is to be found out. Some replace the
    object and call that success.
    """

    def __init__(
        self,
        *,
        scheme: str,
        bucket: str,
        prefix: str,
        open_with: Callable[[timedelta], Opened],
        honours: bool | None = True,
    ) -> None:
        self._scheme = scheme
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._open_with = open_with
        self._timeout = REQUEST_TIMEOUT
        self._honours = honours

    def put_new(
        self, path: str, data: bytes | Path, *, content_type: str, metadata: Mapping[str, str] = NO_METADATA
    ) -> PutResult:
        """Writes an object unless one is there (If-None-Match). Where that is ignored, a look before has to do."""
        if not self._honours and self.look(path) is not None:
            return PutResult.EXISTS
        attributes = self._attributes(content_type, metadata)
        done = self._create(path, data, attributes)
        if self._honours is None and done is PutResult.STORED:
            self._learn(path, data, attributes)
        return done

    def _learn(self, path: str, data: bytes | Path, attributes: dict[str, str]) -> None:
        """The same bytes once more, in their own place: to replace them does no harm, and tells."""
        with contextlib.suppress(StoreError):  # not told now; the next put asks again
            self._honours = self._create(path, data, attributes) is PutResult.EXISTS

    def _create(self, path: str, data: bytes | Path, attributes: dict[str, str]) -> PutResult:
        with self._told(path, "write"), _mapped(data) as content:
            try:
                # One request, whatever its size: multipart uploads take no condition, so obstore makes none here.
                obstore.put(self._store(), self._key(path), content, attributes=attributes, mode="create")
            except AlreadyExistsError as error:
                if "ConditionalRequestConflict" in str(error):  # another put runs; there may be nothing yet
                    raise
                return PutResult.EXISTS
        return PutResult.STORED

    def put(
        self, path: str, data: bytes | Path, *, content_type: str, metadata: Mapping[str, str] = NO_METADATA
    ) -> None:
        """Writes an object over whatever is there."""
        attributes = self._attributes(content_type, metadata)
        with self._told(path, "write"), _mapped(data) as content:
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

    def probe(self, size: int = PROBE) -> str | None:
        """As every store's, and quicker to give up."""
        hasty = BucketStore(
            scheme=self._scheme,
            bucket=self._bucket,
            prefix=self._prefix.rstrip("/"),
            open_with=self._open_with,
            honours=self._honours,
        )
        hasty._timeout = PROBE_TIMEOUT if size <= PROBE else self._timeout
        warning = super(BucketStore, hasty).probe(size)
        self._honours = hasty._honours
        return warning if warning or self._honours is not False else f"{self.url_of('')}{IGNORES}"

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
            action = ACTIONS[verb] if self._scheme == "s3" else verb
            raise problem(self.url_of(path), action, str(error)) from error
        except ValueError as error:  # a path no store takes
            message = f"{self.url_of(path)!r}: {error}"[:MESSAGE_LIMIT]
            raise StoreError(code="bad_path", message=message, retryable=False) from error


@contextlib.contextmanager
def _mapped(data: bytes | Path) -> Iterator[bytes | mmap.mmap]:
    """A file as the kernel's own pages: given a path, obstore reads all of it into memory, and then some."""
    if isinstance(data, bytes):
        yield data
        return
    with data.open("rb") as file:
        # Not closed here: what obstore holds of it ends with its last reference.
        yield mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


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
    said = said.partition("\n\nDebug source")[0]
    status = _found(r"status code: (\d{3})", said)
    own_code = _own_code(said)
    code, denied = _meaning(status, own_code, said)
    answer = " ".join(part for part in (status, own_code) if part) or _cause(said)
    told = ", ".join(part for part in (answer, action, _own_message(said)) if part)
    return StoreError(code=code, message=f"{url}: {told}", retryable=code not in FINAL, denied=denied)


def _meaning(status: str, own_code: str, said: str) -> tuple[str, bool]:
    for sign in (own_code, status, f"{status[:1]}xx"):
        if sign in MEANINGS:
            return MEANINGS[sign]
    return ("bucket_wrong_region", False) if "configured region" in said else ("bucket_unreachable", False)


def _own_code(said: str) -> str:
    return _found(r"<Code>([A-Za-z0-9.]+)</Code>", said)


def _own_message(said: str) -> str:
    return _found(r"<Message>([^<]*)", said)[:MESSAGE_LIMIT].partition("\n")[0]


def _cause(said: str) -> str:
    """Without addresses: a signed one is a secret."""
    return re.sub(r"https?://\S+", "…", said).rpartition(" - ")[2][:MESSAGE_LIMIT]


def _found(pattern: str, said: str) -> str:
    match = re.search(pattern, said)
    return match.group(1).strip() if match else ""


# -- opening -------------------------------------------------------------------------------------------------------


def open_bucket(scheme: str, bucket: str, prefix: str) -> Store:
    """Opens a bucket; credentials as each cloud's own tools find them."""
    if not bucket:
        raise StoreError(code="bad_destination", message=f"{scheme}://: no bucket is named", retryable=False)
    if scheme == "s3":
        from worker.storage.s3 import S3Access  # noqa: PLC0415  boto3 takes long to load; other clouds do without

        opened = S3Access(bucket)
        honours = True if opened.is_amazons else None
        return BucketStore(scheme=scheme, bucket=bucket, prefix=prefix, open_with=opened.open_with, honours=honours)
    open_with = _gcs(bucket) if scheme == "gs" else _azure(bucket)
    return BucketStore(scheme=scheme, bucket=bucket, prefix=prefix, open_with=open_with)


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
        message = " ".join(str(error).partition("\n\nDebug source")[0].split())[:MESSAGE_LIMIT]
        raise StoreError(code="bucket_no_credentials", message=message, retryable=False, denied=True) from error
    return open_with
