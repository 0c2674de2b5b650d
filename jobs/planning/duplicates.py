"""Finds what is there twice among millions: 64-bit hashes in 256 arrays, eight bytes a value."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from itertools import pairwise

from jobs.ledger.batches.values import Row
from jobs.manifest.ruined import why_no_key
from jobs.planning.planner import Planned
from jobs.planning.problems import RowProblem
from jobs.states import JobState

BUCKETS = 256
#: What makes keys and paths differ.
_HELPS = {
    "key": "each row needs its own; --map 'key={COLUMN}-{COLUMN}' makes it of two columns, --map key= numbers the rows",
    "path": "each row needs its own; with {key} in --path it has",
}
_MASK = (1 << 64) - 1


def hash64(text: str) -> int:
    """This process's own hash of a text, unsigned."""
    return hash(text) & _MASK


class RepeatedHashes:
    """Texts are added once; `found` says which hashes came again. Two texts may share a hash: look before you judge."""

    def __init__(self) -> None:
        self._buckets = [array("Q") for _ in range(BUCKETS)]
        self._in_order = False

    def add(self, text: str) -> None:
        """Remembers a text's hash."""
        self._in_order = False
        value = hash64(text)
        self._buckets[value & 255].append(value)

    def found(self) -> frozenset[int]:
        """Hashes that were added more than once. Sorts one bucket at a time, so memory stays small."""
        return frozenset(one for bucket in self._buckets for one, next_ in pairwise(sorted(bucket)) if one == next_)

    def holds(self, text: str) -> bool:
        """Whether it was added, as far as its hash tells. Quick when nothing is added between two questions."""
        if not self._in_order:
            self._buckets = [array("Q", sorted(bucket)) for bucket in self._buckets]
            self._in_order = True
        value = hash64(text)
        bucket = self._buckets[value & 255]
        at = bisect_left(bucket, value)
        return at < len(bucket) and bucket[at] == value


class DuplicateRows:
    """Turns a row into a bad one when an earlier row has its key or its path. Knows what to look for by hash."""

    def __init__(self, keys: frozenset[int] = frozenset(), paths: frozenset[int] = frozenset()) -> None:
        self._hashes = {"key": keys, "path": paths}
        self._first: dict[tuple[str, str], tuple[int, int]] = {}  # position and line of who has it first

    @property
    def any(self) -> bool:
        """Whether there is anything to look for."""
        return any(self._hashes.values())

    def afresh(self) -> DuplicateRows:
        """The same, for another pass."""
        return DuplicateRows(self._hashes["key"], self._hashes["path"])

    def judge(self, planned: Planned, unit: str) -> Planned:
        """The row itself, or its bad version. `unit`: what its number counts."""
        row = planned.row
        if not self.any or row.state is not JobState.READY:
            return planned
        for column, value in (("key", row.key), ("path", row.path or "")):
            if hash64(value) in self._hashes[column]:
                position, line = self._first.setdefault((column, value), (row.position, row.line))
                if position != row.position:
                    return _invalid_twin(planned, column=column, value=value, first=f"{unit} {line}", unit=unit)
        return planned


def _invalid_twin(planned: Planned, *, column: str, value: str, first: str, unit: str) -> Planned:
    """A good row that repeats an earlier row's key or path."""
    row = planned.row
    helps = (why_no_key(value) if column == "key" else None) or _HELPS[column]
    legal = f"{first} has the same {column}; {helps}"
    problem = RowProblem(line=row.line, key=row.key, column=column, value=value, legal=legal, unit=unit, is_repeat=True)
    bare = Row(
        position=row.position,
        line=row.line,
        key=row.key,
        carried=row.carried,
        state=JobState.INVALID,
        error_code="bad_row",
        message=problem.what,
    )
    return Planned(bare, problems=(problem,))
