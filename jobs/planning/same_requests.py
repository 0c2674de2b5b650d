"""Rows of one manifest that ask for exactly the same picture under different keys, found among millions."""

from __future__ import annotations

from array import array
from collections import defaultdict
from dataclasses import dataclass, field

from jobs.ledger.batches.values import Row
from jobs.planning.duplicates import BUCKETS, hash64

#: Lines that are named.
_LINES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SameRequests:
    """Rows to be paid that ask for what an earlier row of the manifest asks for."""

    rows: int = 0
    money: int = 0  # micro-dollars of these rows
    most: int = 0  # rows of the request that is asked for most often
    lines: tuple[int, ...] = ()  # the first of these rows
    prompt: str = ""  # theirs


@dataclass(slots=True)
class _RequestBucket:
    requests: array[int] = field(default_factory=lambda: array("Q"))
    money: array[int] = field(default_factory=lambda: array("Q"))
    lines: array[int] = field(default_factory=lambda: array("L"))


@dataclass(slots=True)
class RequestCounter:
    """Remembers each row to be paid in 24 bytes."""

    _buckets: list[_RequestBucket] = field(default_factory=lambda: [_RequestBucket() for _ in range(BUCKETS)])

    def add(self, row: Row, images: int) -> None:
        """A row, and how many of its images are to be paid."""
        request = hash64(row.request_hash or "")
        bucket = self._buckets[request % BUCKETS]
        bucket.requests.append(request)
        bucket.money.append(images * (row.price or 0))
        bucket.lines.append(row.line)

    def found(self) -> SameRequests:
        """What came more than once; looks at one bucket at a time, so memory stays small. Without the prompt."""
        rows = money = 0
        most: list[int] = []
        for bucket in self._buckets:
            for places in _places(bucket.requests):
                rows += len(places) - 1
                money += sum(bucket.money[at] for at in places[1:])
                lines = [bucket.lines[at] for at in places]
                most = max(most, lines, key=lambda each: (len(each), -each[0] if each else 0))
        return SameRequests(rows=rows, money=money, most=len(most), lines=tuple(most[:_LINES]))


def _places(requests: array[int]) -> list[list[int]]:
    """The places of each request that came more than once."""
    if len(set(requests)) == len(requests):
        return []
    asking: dict[int, list[int]] = defaultdict(list)
    for at, request in enumerate(requests):
        asking[request].append(at)
    return [places for places in asking.values() if len(places) > 1]
