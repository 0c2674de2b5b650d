"""What an export remembers at its destination: whose it is, how far it came, and that it is whole."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from jobs.errors import BadInput, LightfastError, StoreError
from worker.storage.base import OWN, PutResult, Store
from worker.storage.opening import addresses_above

MARK = f"{OWN}/export.json"
RECORDS = f"{OWN}/export"
FORMAT = 2
JSON = "application/json"
#: Folders above a destination that are looked into for another export.
_LEVELS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFindings:
    """What was found when pictures were looked at, from the sample `since` to the end of a part."""

    since: int
    signatures: str  # base64; one after the other, of those that are in no list here, and not missing
    blank: list[int]  # positions
    unseen: list[int]  # the same, of those that could not be decoded
    duplicates: dict[str, str]  # position -> name of the first picture that it is near to


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedPart:
    """A part that is at the destination, and what was found since the one before."""

    number: int
    split: str
    file: str
    samples: int
    bytes: int  # of their pictures
    sha256: str  # of the file
    file_bytes: int  # of the file
    seen: int  # samples that all has been decided of: those before this position
    missing: dict[str, str] = field(default_factory=dict)  # position -> why; of those not in an earlier part's list
    findings: Mapping[str, Any] = field(default_factory=dict)  # `PartFindings` in plain values; they may be large


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What stands at a destination before anything else does."""

    fingerprint: str
    options: str  # the options' own fingerprint
    shape: str
    batches: tuple[str, ...]
    state: str = "begun"  # or "done"
    ending: Mapping[str, Any] = field(default_factory=dict)  # what came of it, when it is done
    sizes: Mapping[str, int | None] = field(default_factory=dict)  # then: its files, and their bytes; None: any

    def to_json(self) -> bytes:
        """As it is written."""
        return orjson.dumps({"format": FORMAT, **asdict(self)}, option=orjson.OPT_INDENT_2)

    @classmethod
    def from_json(cls, text: bytes) -> Mark:
        """The inverse.

        Raises:
            ValueError: It is none, or one of a newer format.
        """
        values = orjson.loads(text)
        if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
            raise ValueError("it is of another format")
        try:
            return cls(**{**values, "batches": tuple(values["batches"])})
        except (TypeError, KeyError) as wrong:
            raise ValueError(f"it is not as it was written: {wrong}") from None


def begin(store: Store, dest: str, mark: Mark, opener: Callable[[str], Store]) -> Mark:
    """Puts the mark where nothing is yet, and returns the one that stands there then. `opener`: of places above it.

    Raises:
        BadInput: Something else is there, or another export, or it lies within one.
    """
    try:
        found = store.read(MARK)
    except StoreError as refused:
        if refused.code != "bad_path":
            raise
        raise BadInput(f"--to {dest}: a file is there ({refused.message}). Name a folder or prefix.") from None
    if found is None:
        _demand_outside_others(dest, opener)
        if other := next(store.objects(), None):
            raise BadInput(
                f"--to {dest}: there is something already ({other}). An export is never written over or into anything "
                "else: name a folder or prefix that is empty."
            )
        if store.put_new(MARK, mark.to_json(), content_type=JSON) is PutResult.STORED:
            return mark
        found = store.read(MARK) or b""
    try:
        there = Mark.from_json(found)
    except ValueError as wrong:
        raise BadInput(f"--to {dest}: its {MARK} cannot be read ({wrong}): name another, empty one.") from None
    if there.fingerprint != mark.fingerprint:
        is_asked_alike = (there.batches, there.options) == (mark.batches, mark.options)
        why = (
            "before rows or images changed: made, redone or repaired since" if is_asked_alike else "with other options"
        )
        raise BadInput(
            f"--to {dest}: another export is there, {there.state}: {', '.join(there.batches)} as {there.shape}, {why}. "
            "Nothing was written: name an empty folder or prefix."
        )
    return there


def _demand_outside_others(dest: str, opener: Callable[[str], Store]) -> None:
    """An export within another one would be loaded as a part of it."""
    for address in itertools.islice(addresses_above(dest), _LEVELS):
        with contextlib.suppress(StoreError):  # not ours to look into
            if opener(address).read(MARK) is not None:
                raise BadInput(
                    f"--to {dest}: it lies within another export, {address}, whose readers would take it for a part of "
                    "that. Name a place outside."
                )


def finish(store: Store, mark: Mark, ending: Mapping[str, Any], sizes: Mapping[str, int | None]) -> None:
    """Says that all is there."""
    done = replace(mark, state="done", ending=ending, sizes=sizes)
    store.put(MARK, done.to_json(), content_type=JSON)


def clear(store: Store, parts: Sequence[FinishedPart]) -> None:
    """Takes away what was needed to go on."""
    forget(store, parts)
    store.remove_left_parts()


def forget(store: Store, parts: Sequence[FinishedPart]) -> None:
    """Takes parts off the record, the newest first: what a killed process leaves of it is found again."""
    for part in reversed(parts):
        if part.file == lines_name(part.number):
            store.delete(part.file)
        store.delete(_name(part.number))


def record(store: Store, dest: str, part: FinishedPart) -> None:
    """Remembers a part whose file is there."""
    place(store, dest, _name(part.number), orjson.dumps(asdict(part)), JSON)


def recorded(store: Store) -> list[FinishedPart]:
    """All parts that are there, in the order in which they were finished."""
    found: list[FinishedPart] = []
    while (text := store.read(_name(len(found)))) is not None:
        found.append(FinishedPart(**orjson.loads(text)))
    return found


def place(store: Store, dest: str, path: str, data: bytes, content_type: str) -> None:
    """Puts a small object, never over another one; the same bytes may be there already.

    Raises:
        LightfastError: Other bytes are there.
    """
    if store.put_new(path, data, content_type=content_type) is PutResult.EXISTS and store.read(path) != data:
        raise something_else(dest, path)


class Placed(NamedTuple):
    """A file that was put."""

    sha256: str
    file_bytes: int


def place_file(store: Store, dest: str, path: str, file: Path, content_type: str) -> Placed:
    """Puts a file likewise.

    Raises:
        LightfastError: Other bytes are there.
    """
    with file.open("rb") as opened:
        sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    put = store.put_new(path, file, content_type=content_type)
    if put is PutResult.EXISTS and store.sha256_of(path) != sha256:
        raise something_else(dest, path)
    return Placed(sha256, file.stat().st_size)


def something_else(dest: str, path: str) -> LightfastError:
    """What is said where other bytes lie at a path."""
    return LightfastError(
        f"{dest}: something else is at {path}, and it is not written over. Take it away and the same command goes on, "
        "or export to another place."
    )


def lines_name(number: int) -> str:
    """Where the lines of a part are kept that become a larger file at the end."""
    return f"{RECORDS}/{number:06}.jsonl"


def _name(number: int) -> str:
    return f"{RECORDS}/{number:06}.json"
