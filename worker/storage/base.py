"""Where images end up: a bucket or a folder. Synchronous; called in threads.

`put_new` never replaces an object. "Exists" is no success by itself: a store may repeat a put that had worked, and some
ignore the condition. The caller reads what is there and compares it with the hash on record.
"""

from __future__ import annotations

import contextlib
import enum
import mmap
import os
import string
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote

from jobs.errors import StoreError

#: Where Lightfast keeps what is its own below a destination.
OWN = ".lightfast"
#: Bytes of a probe's object.
PROBE = 16
NO_METADATA: Mapping[str, str] = {}
#: Characters of one metadata value: S3 takes 2 kB of them in all, and only one (the key) can be long.
METADATA_LIMIT = 1_200
PLAIN = "".join(sorted(set(string.punctuation) - {"%"}))


class PutResult(enum.Enum):
    """How a conditional put ended."""

    STORED = "stored"
    EXISTS = "exists"  # something is there; nothing was written


class CopyResult(enum.Enum):
    """How a copy that the store makes by itself ended."""

    COPIED = "copied"  # the object there has the bytes on record, and says of itself what it was told to say
    EXISTS = "exists"  # something else is there; nothing was written
    UNABLE = "unable"  # nothing of it is there: the bytes have to be read and put, or are not those on record


@dataclass(frozen=True, slots=True, kw_only=True)
class CopySource:
    """An object that is to be copied, and what is on record of its bytes."""

    store: Store
    path: str
    sha256: str  # hexadecimal
    size: int  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """What a store says of an object without giving its bytes."""

    size: int  # bytes
    etag: str = ""  # "": it has none
    modified: float = 0.0  # Unix seconds
    metadata: Mapping[str, str] = field(default_factory=dict)  # as it was put; folders keep none


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """What a probe found: it was written and read, or there would be an error."""

    left: str = ""  # the address of the probe's object, where it could not be deleted
    warnings: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """What may be said of it, and no more."""
        return "written, read, not deleted" if self.left else "written, read, deleted"


class Store(ABC):
    """A destination. Paths are below it, with slashes, and arrive as they are given. Raises `StoreError` alone."""

    #: Where the object of a probe stays that could not be deleted: the next ones of this process write over it.
    _probe_left: str = ""

    @abstractmethod
    def put_new(
        self,
        path: str,
        data: bytes | Path,
        *,
        content_type: str,
        metadata: Mapping[str, str] = NO_METADATA,
        sha256: str = "",
    ) -> PutResult:
        """Writes an object, whole or not at all, unless one is there. `sha256`: of the bytes, in hex, if known."""

    @abstractmethod
    def put(
        self, path: str, data: bytes | Path, *, content_type: str, metadata: Mapping[str, str] = NO_METADATA
    ) -> None:
        """Writes an object, whole or not at all, over whatever is there."""

    def copies_from(self, other: Store) -> bool:  # noqa: ARG002  most cannot
        """Whether `copy_new` is worth a try for objects of the other store."""
        return False

    def copy_new(
        self,
        path: str,  # noqa: ARG002  as above
        source: CopySource,  # noqa: ARG002  as above
        *,
        content_type: str,  # noqa: ARG002  as above
        metadata: Mapping[str, str] = NO_METADATA,  # noqa: ARG002  as above
    ) -> CopyResult:
        """Has the store itself copy an object, unless something is at `path`, and makes sure what the copy holds."""
        return CopyResult.UNABLE

    @abstractmethod
    def read(self, path: str) -> bytes | None:
        """An object's bytes; None when there is none."""

    @abstractmethod
    def look(self, path: str) -> ObjectInfo | None:
        """What is there, without its bytes; None when there is nothing."""

    @abstractmethod
    def sha256_of(self, path: str) -> str | None:
        """The hash of an object's bytes as they are there now; None when there is none."""

    @abstractmethod
    def objects(self, below: str = "") -> Iterator[str]:
        """The paths of all objects below a folder, in no order; they may change meanwhile."""

    @abstractmethod
    def delete(self, path: str) -> None:
        """Deletes an object, if there is one."""

    def remove_left_parts(self) -> None:  # noqa: B027  most show none
        """Removes what killed processes left of objects that they were writing, where a store shows such things."""

    @abstractmethod
    def presign(self, path: str, seconds: float) -> str:
        """An address a person can open for `seconds`; of a folder, the file's address."""

    @abstractmethod
    def url_of(self, path: str) -> str:
        """The object's address: "s3://bucket/prefix/path", "file:///folder/path"."""

    def hurried(self) -> Store:
        """The same, and quicker to give up: somebody waits for it."""
        return self

    def probe(self, size: int = PROBE) -> Probed:
        """Writes, reads, deletes an object. That the last is refused is told: a run can bear it."""
        store = self.hurried() if size <= PROBE else self
        path, data = self._probe_left or f"{OWN}/probe-{uuid.uuid4().hex[:8]}", os.urandom(size)
        put = store.put if self._probe_left else store.put_new
        put(path, data, content_type="application/octet-stream")
        if store.read(path) != data:
            message = f"{self.url_of(path)} was written, and reads differently"
            raise StoreError(code="bucket_unfaithful", message=message, retryable=False)
        try:
            store.delete(path)
        except StoreError as error:
            self._probe_left = path
            warning = f"the probe's object stays there, for it could not be deleted: {error.message}"
            return Probed(left=self.url_of(path), warnings=(warning,))
        self._probe_left = ""
        return Probed()


@contextlib.contextmanager
def mapped(data: bytes | Path) -> Iterator[bytes | mmap.mmap]:
    """A file as the kernel's own pages, so that no library reads all of it into memory."""
    if isinstance(data, bytes):
        yield data
        return
    with data.open("rb") as file:
        # Not closed here: what a library holds of it ends with its last reference.
        yield mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def plain_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata as headers can carry it: printable ASCII, other characters percent-encoded, bounded."""
    return {name: quote(value, safe=PLAIN)[:METADATA_LIMIT] for name, value in metadata.items()}


def as_metadata(*, batch: str, key: str, index: int) -> dict[str, str]:
    """What an image says of itself, as a store tells it back."""
    named = {"lightfast-batch": batch, "lightfast-key": key, "lightfast-index": str(index)}
    return told_metadata(plain_metadata(named))


def told_metadata(headers: Mapping[str, str]) -> dict[str, str]:
    """The inverse, of what is ours: names as they were put, whatever the store made of them."""
    mine = {name.lower().replace("_", "-"): value for name, value in headers.items()}
    return {name: unquote(value) for name, value in mine.items() if name.startswith("lightfast-")}
