"""Which row's images may stand in for those of another: the same request, and each image once in a batch. Pure."""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Callable, Container, Iterable, Sequence
from typing import NamedTuple

from providers.references import file_name
from providers.types import Request, request_hash

#: The code of a row whose image could not be copied from where it was.
REUSE_GONE = "reuse_gone"
#: The code of a copy that waits for an image that is being made elsewhere.
REUSE_WAITS = "reuse_waits"
#: When a copy of a stored image has to be made, in Unix seconds: it has no link that dies. The year 2100.
NEVER_DIES = 4_102_444_800.0
#: In place of a request that lies in an archive, and is what its hash stands for.
AS_HASHED = b""
#: Requests whose sources are kept.
_KEPT = 16_384


class Reuse(enum.StrEnum):
    """What becomes of an image that is there already."""

    COPY = "copy"  # it is copied to the row's own place
    LINK = "link"  # the row names the object where it is


def is_reusable(request: Request) -> bool:
    """Whether the same request is sure to mean the same image: what lies behind a link may have changed since."""
    return all(map(file_name, request.references))


def is_as_hashed(request: bytes, asked_for: str | None) -> bool:
    """Whether a row's images were asked for with what the manifest's hash stands for: `redo` may have changed that."""
    return request == AS_HASHED or request_hash(request) == asked_for


def gets_back(request: Request | None, asked_for: str | None, earlier: Container[str]) -> bool:
    """Whether a changed row gets the images back that it had with this request. `earlier`: requests by their hashes."""
    return request is not None and asked_for is not None and is_reusable(request) and asked_for in earlier


class Allotment:
    """Gives each row an earlier row to take its images from, and no image to two rows of a batch."""

    def __init__(self, find: Callable[[Sequence[str]], Iterable[ReuseSource]]) -> None:
        self._find = find
        self._sources: OrderedDict[str, list[ReuseSource]] = OrderedDict()  # the best last
        self._given: set[int] = set()
        self._made_anew: dict[str, set[int]] = {}  # rows on record, by the hash of the request that they once had

    def ask(self, hashes: Iterable[str]) -> None:
        """Looks for sources of these requests, with one question for all that are not known yet."""
        wanted = set(hashes)
        for known in [each for each in wanted if each in self._sources]:
            self._sources.move_to_end(known)
        unknown = sorted(each for each in wanted if each not in self._sources)
        if not unknown:
            return
        self._sources.update({each: [] for each in unknown})
        for source in self._find(unknown):
            self._sources[source.request_hash].append(source)
        for each in unknown:
            self._sources[each].sort(key=lambda source: (source.is_stored, source.job_id))
        while len(self._sources) > max(_KEPT, len(wanted)):
            self._sources.popitem(last=False)

    def take(self, asked_for: str, request: bytes) -> ReuseSource | None:
        """The best source of this request that no other row has; None: its images are to be made."""
        left = self._sources.get(asked_for, [])
        while left:
            source = left.pop()
            if source.request not in (request, AS_HASHED):
                self._made_anew.setdefault(asked_for, set()).add(source.job_id)
            elif source.origin not in self._given:
                self._given.add(source.origin)
                return source
        return None

    def has_given(self, origin: int) -> bool:
        """Whether a row has got the images that began with this one."""
        return origin in self._given

    def give(self, origin: int) -> None:
        """Keeps every other row from these images."""
        self._given.add(origin)

    def made_anew(self, asked_for: str) -> int:
        """Rows that were found for this request and have images of another one by now, as `redo` makes them."""
        return len(self._made_anew.get(asked_for, ()))


class ReuseSource(NamedTuple):
    """A row whose images another row with its request may take."""

    request_hash: str
    job_id: int
    request: bytes
    origin: int  # the first image, however often it was copied since
    is_stored: bool  # else it is being made, or may have been
