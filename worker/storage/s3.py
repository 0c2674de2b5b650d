"""S3, and what speaks like it: botocore carries the bytes, so that every setting of the AWS configuration is obeyed."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import mmap
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from jobs.errors import StoreError
from worker.runtime.telemetry import emit
from worker.storage.base import (
    NO_METADATA,
    PROBE,
    CopyResult,
    CopySource,
    ObjectInfo,
    Probed,
    PutResult,
    Store,
    mapped,
    plain_metadata,
    told_metadata,
)
from worker.storage.s3_access import Patience, S3Access

CHUNK = 1024 * 1024
#: Seconds for which S3 signs at most.
LONGEST_SIGNED = 7 * 86_400
#: The right a verb needs.
ACTIONS = {
    "write": "s3:PutObject",
    "read": "s3:GetObject",
    "delete": "s3:DeleteObject",
    "sign": "s3:GetObject",
    "list": "s3:ListBucket",
}
#: What is said of a store that replaces objects though it is told not to, or does not take the condition at all.
NO_CONDITIONS = (
    " ignores If-None-Match or refuses it. Lightfast looks before it writes instead, and cannot tell two processes "
    "apart that write one path at the same moment"
)
ENCRYPTION_HELP = (
    ". If the bucket's policy asks for encryption: AWS_SERVER_SIDE_ENCRYPTION=aws:kms (or AES256), and "
    "AWS_SSE_KMS_KEY_ID for a key of your own"
)
#: Headers of a copy that not every store knows: those that follow are sent where one of these is refused. Tags are
#: replaced by none, as an object that is put has none; to take over those of the source needs more rights.
COPY_HEADERS: tuple[Mapping[str, str], ...] = (
    {"IfNoneMatch": "*", "ChecksumAlgorithm": "SHA256", "TaggingDirective": "REPLACE"},
    {"IfNoneMatch": "*"},
    {},
)
#: Answers below 500 that speak of this moment alone.
PASSING = frozenset({HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS})
#: Tries of a download that is cut off in its middle.
DOWNLOADS = 3
#: Tries of one put with other headers each: more kinds of header than can be dropped or added do not exist here.
MANNERS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class PutHeaders:
    """Which headers that not every store knows go with a put."""

    #: Whether the store keeps the condition not to replace; None: it is to be found out.
    condition: bool | None
    checksum: str  # "CRC32", "SHA256", or "": none
    md5: bool = False

    def fields(self, content: bytes | mmap.mmap, *, create: bool) -> dict[str, str]:
        """As botocore names them."""
        given = {"IfNoneMatch": "*"} if create and self.condition is not False else {}
        if self.checksum == "CRC32":
            given["ChecksumCRC32"] = _b64(zlib.crc32(content).to_bytes(4, "big"))
        if self.checksum == "SHA256":
            given["ChecksumSHA256"] = _b64(hashlib.sha256(content).digest())
        if self.md5:
            given["ContentMD5"] = _b64(hashlib.md5(content, usedforsecurity=False).digest())
        return given

    def after(self, error: ClientError, *, create: bool) -> PutHeaders | None:
        """What to send instead where a store refused a header, or demands one; None where it refused something else."""
        status = _status(error)
        said = " ".join(str(value) for value in error.response.get("Error", {}).values()).lower()
        if (
            status == HTTPStatus.BAD_REQUEST
            and "required" in said
            and ("content-md5" in said or "x-amz-checksum" in said)
        ):
            return self._with_checksum()
        if not _is_unknown_header(status, said):
            return None
        if create and self.condition is not False and "checksum" not in said:
            return replace(self, condition=False)
        if self.checksum and "if-none-match" not in said:
            asked_blindly = self.condition is False and "checksum" not in said
            return replace(self, checksum="", condition=None if asked_blindly else self.condition)
        return None

    def _with_checksum(self) -> PutHeaders | None:
        """Buckets with Object Lock demand one; those of older servers know only MD5."""
        if not self.checksum:
            return replace(self, checksum="CRC32")
        return None if self.md5 else replace(self, md5=True)


def _is_unknown_header(status: int, said: str) -> bool:
    """501 and 405, or a 400 that speaks of a header: the store does not know what was asked, and never will."""
    if status in {HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED}:
        return True
    unknown = "implement" in said or "support" in said
    named = "header" in said or "if-none-match" in said or "checksum" in said or "notimplemented" in said
    return status == HTTPStatus.BAD_REQUEST and unknown and named


def _refuses_header(error: ClientError) -> bool:
    return _is_unknown_header(_status(error), str(error.response.get("Error", {})).lower())


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _told_sha256(answer: Mapping[str, Any]) -> str:
    """The SHA-256 of all of an object's bytes, as the store tells it; "": it does not. In parts it has another."""
    told = answer.get("ChecksumSHA256", "")
    return "" if "-" in told else base64.b64decode(told).hex()


def _is_copy(there: Mapping[str, Any] | None, fields: Mapping[str, Any]) -> bool:
    """Whether what is there was copied for this row before, from this object: its answer was lost, or its process."""
    if there is None or there.get("ETag") != fields["CopySourceIfMatch"]:
        return False
    return told_metadata(there.get("Metadata", {})) == told_metadata(fields["Metadata"])


def _b64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


@dataclass(slots=True)
class LearntAnswers:
    """What the server's answers have taught; shared by the stores of one destination."""

    headers: PutHeaders
    copy_headers: int = 0  # which of `COPY_HEADERS` the store takes
    no_copies_from: set[str] = field(default_factory=set)  # buckets


class S3Store(Store):
    """One bucket and prefix."""

    def __init__(self, bucket: str, prefix: str, access: S3Access, learnt: LearntAnswers, patience: Patience) -> None:
        self.bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._access = access
        self._settings = access.settings
        self._learnt = learnt
        self._patience = patience

    def put_new(
        self,
        path: str,
        data: bytes | Path,
        *,
        content_type: str,
        metadata: Mapping[str, str] = NO_METADATA,
        sha256: str = "",
    ) -> PutResult:
        """Writes an object unless one is there (If-None-Match). Where that is not kept, a look before has to do."""
        fields = self._fields(path, content_type, metadata)
        with self._told(path, "write"), mapped(data) as content:
            done = self._put(path, content, fields, create=True, sha256=sha256)
            if self._learnt.headers.condition is None and done is PutResult.STORED:
                self._learn(content, fields)
        return done

    def put(
        self, path: str, data: bytes | Path, *, content_type: str, metadata: Mapping[str, str] = NO_METADATA
    ) -> None:
        """Writes an object over whatever is there."""
        fields = self._fields(path, content_type, metadata)
        with self._told(path, "write"), mapped(data) as content:
            self._put(path, content, fields, create=False)

    def copies_from(self, other: Store) -> bool:
        """Objects of S3's buckets, which are all reached with one configuration, until the store has refused it."""
        return isinstance(other, S3Store) and other.bucket not in self._learnt.no_copies_from

    def copy_new(
        self, path: str, source: CopySource, *, content_type: str, metadata: Mapping[str, str] = NO_METADATA
    ) -> CopyResult:
        """Copies an object within the store, unless one is there, and compares the SHA-256 of what is there then.

        The store tells it; where it does not, the copy is read. A copy with other bytes than those on record, or with
        another row's metadata, is deleted again.
        """
        store = source.store
        named = store.as_original(source) if isinstance(store, S3Store) and self.copies_from(store) else None
        if named is None:
            return CopyResult.UNABLE
        fields = {**self._fields(path, content_type, metadata), **named, "MetadataDirective": "REPLACE"}
        with self._told(path, "write"):
            said = self._copy(path, fields)
            if said is None:
                return CopyResult.UNABLE
            with _missing_is_none():
                there = self._entry(path)
                if not said and not _is_copy(there, fields):
                    return CopyResult.EXISTS
                if self._is_right(source, said, there, path=path, fields=fields):
                    return CopyResult.COPIED
                self._take_back(path, (there or said).get("ETag", ""))
        return CopyResult.UNABLE

    def as_original(self, source: CopySource) -> dict[str, Any] | None:
        """How a copy names an object of this store; None: it is not as it was stored, or cannot be looked at.

        Whoever reads it then, tells what is wrong.
        """
        try:
            place = {"Bucket": self.bucket, "Key": self._key(source.path)}
            found = self._entry(source.path)
        except (BotoCoreError, ClientError, StoreError):
            return None
        if found is None or found["ContentLength"] != source.size:
            return None
        is_other = _told_sha256(found) not in {"", source.sha256}
        return None if is_other else {"CopySource": place, "CopySourceIfMatch": found["ETag"]}

    def read(self, path: str) -> bytes | None:
        """An object's bytes; None when there is none."""
        with self._told(path, "read"), _missing_is_none():
            found: bytes = self._client().get_object(**self._place(path))["Body"].read()
            return found
        return None

    def look(self, path: str) -> ObjectInfo | None:
        """What the store says of an object; None when there is none."""
        with self._told(path, "read"), _missing_is_none():
            found = self._head(path)
            return ObjectInfo(
                size=found["ContentLength"],
                etag=found.get("ETag", ""),
                modified=found["LastModified"].timestamp() if "LastModified" in found else 0.0,
                metadata=told_metadata(found.get("Metadata", {})),
            )
        return None

    def _head(self, path: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = self._client().head_object(**self._place(path))
        except ClientError as error:
            if _status(error) != HTTPStatus.NOT_FOUND:
                self._client().get_object(**self._place(path), Range="bytes=0-0")  # the answer to a HEAD has no reason
            raise
        return found

    def _entry(self, path: str) -> dict[str, Any] | None:
        """What the store says of an object, with its checksums; None: who asks may not read here."""
        try:
            found: dict[str, Any] = self._client().head_object(**self._place(path), ChecksumMode="ENABLED")
        except ClientError as error:
            if _status(error) != HTTPStatus.FORBIDDEN:
                raise
            return None
        return found

    def sha256_of(self, path: str) -> str | None:
        """The hash of an object's bytes, read now; None when there is none."""
        digest = hashlib.sha256()
        with self._told(path, "read"), _missing_is_none():
            for part in self._client().get_object(**self._place(path))["Body"].iter_chunks(CHUNK):
                digest.update(part)
            return digest.hexdigest()
        return None

    def objects(self, below: str = "") -> Iterator[str]:
        """The paths of all objects below a prefix."""
        prefix = f"{self._prefix}{below}/" if below else self._prefix
        with self._told(below, "list"):
            pages = self._client().get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.bucket, Prefix=prefix, **self._settings.payer):
                keys = (found["Key"] for found in page.get("Contents", []))
                yield from (key.removeprefix(self._prefix) for key in keys if not key.endswith("/"))

    def delete(self, path: str) -> None:
        """Deletes an object, if there is one."""
        with self._told(path, "delete"), _missing_is_none():
            self._client().delete_object(**self._place(path))

    def presign(self, path: str, seconds: float) -> str:
        """A signed address, for seven days at most."""
        signed_for = min(round(seconds), LONGEST_SIGNED)
        with self._told(path, "sign"):
            signer = self._access.client(Patience.SIGN)
            place = {"Bucket": self.bucket, "Key": self._key(path)}
            address: str = signer.generate_presigned_url("get_object", Params=place, ExpiresIn=signed_for)
            return address

    def url_of(self, path: str) -> str:
        """The object's address."""
        return f"s3://{self.bucket}/{self._prefix}{path}"

    def hurried(self) -> S3Store:
        """As every store's; what it learns of the server, this one knows too."""
        return S3Store(self.bucket, self._prefix.rstrip("/"), self._access, self._learnt, Patience.PERSON)

    def probe(self, size: int = PROBE) -> Probed:
        """As every store's, and tells of a server without conditional writes."""
        probed = super().probe(size)
        if self._learnt.headers.condition is not False:
            return probed
        return replace(probed, warnings=(*probed.warnings, f"{self.url_of('')}{NO_CONDITIONS}"))

    # -- how -------------------------------------------------------------------------------------------------------

    def _put(
        self, path: str, content: bytes | mmap.mmap, fields: Mapping[str, Any], *, create: bool, sha256: str = ""
    ) -> PutResult:
        """One request, whatever its size: multipart uploads take no condition.

        It is repeated with other headers where the store does not know those that were sent, or demands some. What was
        learnt holds for all later puts.
        """
        before = self._learnt.headers
        for tries_left in reversed(range(MANNERS)):
            headers = self._learnt.headers
            if create and not headers.condition and self.look(path) is not None:
                return PutResult.EXISTS
            try:
                self._send(content, fields, headers, create=create, sha256=sha256)
            except ClientError as error:
                if create and _status(error) == HTTPStatus.PRECONDITION_FAILED:
                    return PutResult.EXISTS
                other = headers.after(error, create=create) if tries_left else None
                if other is None:
                    self._learnt.headers = before
                    raise
                self._learnt.headers = other
            else:
                return PutResult.STORED
        raise AssertionError("the last try raises, or ends well")

    def _learn(self, content: bytes | mmap.mmap, fields: Mapping[str, Any]) -> None:
        """The same bytes once more, in their own place: to replace them does no harm, and tells."""
        headers = replace(self._learnt.headers, condition=True)
        with contextlib.suppress(BotoCoreError):  # not told now; the next put asks again
            try:
                self._send(content, fields, headers, create=True)
            except ClientError as error:
                if _status(error) == HTTPStatus.PRECONDITION_FAILED:
                    self._learnt.headers = headers
                return
            self._learnt.headers = replace(headers, condition=False)

    def _send(
        self,
        content: bytes | mmap.mmap,
        fields: Mapping[str, Any],
        headers: PutHeaders,
        *,
        create: bool,
        sha256: str = "",
    ) -> None:
        if isinstance(content, mmap.mmap):
            content.seek(0)  # where an earlier put has left it
        put = {**fields, **headers.fields(content, create=create)}
        self._access.puts(self._patience).put(content, put, sha256=sha256)

    def _copy(self, path: str, fields: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """What the store says of its copy; nothing where something is there; None: it does not copy this object."""
        refused = self._learnt.no_copies_from
        for step in range(self._learnt.copy_headers, len(COPY_HEADERS)):
            headers = COPY_HEADERS[step]
            try:
                # Not every store that keeps the condition for puts keeps it for copies.
                if not (self._access.is_amazons and headers) and self._exists(path):
                    return {}
                answer = self._client().copy_object(**fields, **headers)
            except ClientError as error:
                status, said = _status(error), error.response.get("Error", {})
                if status == HTTPStatus.PRECONDITION_FAILED and self._exists(path):
                    return {}
                if _refuses_header(error):
                    continue
                if status in PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                    raise
                if said.get("Code") == "AccessDenied":
                    refused.add(fields["CopySource"]["Bucket"])
                return None
            self._learnt.copy_headers = step
            copied: Mapping[str, Any] = answer.get("CopyObjectResult") or {"ETag": ""}
            return copied
        refused.add(fields["CopySource"]["Bucket"])
        return None

    def _exists(self, path: str) -> bool:
        with _missing_is_none():
            self._head(path)
            return True
        return False

    def _is_right(
        self,
        source: CopySource,
        said: Mapping[str, Any],
        there: Mapping[str, Any] | None,
        *,
        path: str,
        fields: Mapping[str, Any],
    ) -> bool:
        """Whether a copy has the bytes on record, by the store's word or read now, and describes the new row."""
        if there is None:  # who may write here and not read has to believe the store
            return _told_sha256(said) == source.sha256
        described = told_metadata(there.get("Metadata", {}))
        if described and described != told_metadata(fields["Metadata"]):
            self._learnt.no_copies_from.add(fields["CopySource"]["Bucket"])  # it keeps what the source says of itself
            return False
        told = _told_sha256(there) or _told_sha256(said) or self.sha256_of(path)
        return there["ContentLength"] == source.size and told == source.sha256

    def _take_back(self, path: str, etag: str) -> None:
        """Deletes a copy of ours, and nothing that stands in its place by now."""
        conditions: tuple[Mapping[str, str], ...] = ({"IfMatch": etag}, {}) if etag else ({},)
        for condition in conditions:
            try:
                self._client().delete_object(**self._place(path), **condition)
            except (BotoCoreError, ClientError) as error:
                is_unknown = isinstance(error, ClientError) and _refuses_header(error)
                if condition and is_unknown:
                    continue
                problem = self._access.problem(error, self.url_of(path), ACTIONS["delete"]).message
                emit("wrong_copy_left", level="warning", path=self.url_of(path), problem=problem)
            return

    def _client(self) -> Any:
        return self._access.client(self._patience)

    def _place(self, path: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self._key(path), **self._settings.payer}

    def _key(self, path: str) -> str:
        key = self._prefix + path
        if any(part in {"", ".", ".."} for part in key.split("/")) or any(c < " " for c in key):
            rule = "no part of a path is empty, '.' or '..', or has control characters"
            message = f"{self.url_of(path)!r}: {rule}"
            raise StoreError(code="bad_path", message=message, retryable=False)
        return key

    def _fields(self, path: str, content_type: str, metadata: Mapping[str, str]) -> dict[str, Any]:
        described = {"ContentType": content_type, "Metadata": plain_metadata(metadata)}
        return {**self._place(path), **described, **self._settings.encryption}

    @contextlib.contextmanager
    def _told(self, path: str, verb: str) -> Iterator[None]:
        try:
            yield
        except (BotoCoreError, ClientError) as error:
            is_encrypted = verb != "write" or self._settings.encryption
            help_ = "" if is_encrypted or not _is_denied_by_policy(error) else ENCRYPTION_HELP
            raise self._access.problem(error, self.url_of(path), ACTIONS[verb], help_) from error


def _is_denied_by_policy(error: Exception) -> bool:
    return isinstance(error, ClientError) and "explicit deny" in str(error)


@contextlib.contextmanager
def _missing_is_none() -> Iterator[None]:
    """Lets a missing object pass, not a missing bucket."""
    try:
        yield
    except ClientError as error:
        missing = _status(error) == HTTPStatus.NOT_FOUND
        if not missing or error.response.get("Error", {}).get("Code") == "NoSuchBucket":
            raise


def open_s3(bucket: str, prefix: str) -> S3Store:
    """Opens a bucket, with what the AWS configuration says."""
    access = S3Access(bucket)
    condition = True if access.is_amazons else None  # Amazon's keeps it
    headers = PutHeaders(condition=condition, checksum=access.settings.checksum)
    return S3Store(bucket, prefix, access, LearntAnswers(headers), Patience.WORK)


class Downloaded(NamedTuple):
    """What was asked for. `etag`: the object's, by which it is told whether it is another later."""

    etag: str | None
    is_new: bool  # False: it is still the one that was known, and nothing was fetched


def download(bucket: str, key: str, file: IO[bytes], *, unless: str | None = None) -> Downloaded | None:
    """Fetches an object into a file, from its beginning; None when there is none. `unless`: the etag of what is known.

    Raises:
        StoreError: The store refused, or gave no answer.
    """
    access = S3Access(bucket)
    known = {"IfNoneMatch": unless} if unless else {}
    for tries_left in reversed(range(DOWNLOADS)):
        file.seek(0)
        file.truncate()
        try:
            with _missing_is_none():
                client = access.client(Patience.WORK)
                found = client.get_object(Bucket=bucket, Key=key, **known, **access.settings.payer)
                for part in found["Body"].iter_chunks(CHUNK):
                    file.write(part)
                return Downloaded(etag=found.get("ETag"), is_new=True)
        except (BotoCoreError, ClientError) as error:
            if isinstance(error, ClientError) and _status(error) == HTTPStatus.NOT_MODIFIED:
                return Downloaded(etag=unless, is_new=False)
            if not tries_left or not isinstance(
                error, HTTPClientError
            ):  # botocore repeats only the request's beginning
                raise access.problem(error, f"s3://{bucket}/{key}", ACTIONS["read"]) from error
        else:
            break
    return None
