"""What a second look at stored images found, and what helps. Pure: no store, no clock, no ledger."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


class ObjectCondition(enum.StrEnum):
    """What is at an image's path now."""

    SOUND = "sound"
    MISSING = "missing"  # nothing
    CHANGED = "changed"  # something else
    UNREADABLE = "unreadable"  # nobody can say: the store does not give it


class Remedy(enum.StrEnum):
    """What helps."""

    COPY = "copy"  # from its link, or a fresh one: costs nothing
    REDO = "redo"  # a new image: costs money
    LATER = "later"  # look again


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitedImage:
    """A paid image that is not stored yet, as the ledger has it."""

    image_id: int
    key: str
    slot: int
    price: int | None  # micro-dollars; None: not known
    tries: int
    error_code: str | None  # what the last try ended with
    message: str | None
    link_dies_at: float | None
    is_being_copied: bool  # just now


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCopy:
    """An image that the ledger calls stored."""

    image_id: int
    key: str
    slot: int
    revision: int
    surplus: bool
    path: str  # below DEST
    sha256: str
    size: int
    link_dies_at: float | None  # Unix seconds
    is_planned: bool  # False: adopted, and no manifest has told since what its row asks for
    has_task: bool  # its provider can be asked for a fresh link, or it was taken from another row

    @property
    def name(self) -> str:
        """Which image of the row: "0", "1.r2", "0 (surplus)"."""
        return f"{self.slot}{f'.r{self.revision}' if self.revision > 1 else ''}{' (surplus)' if self.surplus else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One image that is not as it was left."""

    kept: StoredCopy
    condition: ObjectCondition
    reason: str


def judge_entry(kept: StoredCopy, size: int | None, told: Mapping[str, str], expected: Mapping[str, str]) -> str | None:
    """Why what a store says of an object does not fit; None: it does. `told` is empty where nothing is kept."""
    if size is not None and size != kept.size:
        return f"{size:,} bytes instead of {kept.size:,}"
    wrong = [name for name, value in expected.items() if told and told.get(name) != value]
    return f"it says to be another image ({', '.join(wrong)})" if wrong else None


def judge_hash(kept: StoredCopy, sha256: str) -> str | None:
    """Why an object's bytes are not the image's; None: they are."""
    return None if sha256 == kept.sha256 else f"its sha256 is {sha256[:12]}… instead of {kept.sha256[:12]}…"


def remedy(finding: Finding, now: float) -> Remedy:
    """What helps. What was changed is left alone once its link is dead: it may be a person's work."""
    kept = finding.kept
    if finding.condition is ObjectCondition.UNREADABLE:
        return Remedy.LATER
    lives = kept.link_dies_at is not None and kept.link_dies_at > now
    if kept.has_task and (lives or finding.condition is ObjectCondition.MISSING):
        return Remedy.COPY
    return Remedy.REDO


@dataclass(slots=True)
class Report:
    """What was found, counted."""

    counts: Counter[ObjectCondition] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    def add(self, found: Iterable[Finding | None]) -> None:
        """Takes in what was found of each image; None: it is sound."""
        for each in found:
            self.counts[each.condition if each else ObjectCondition.SOUND] += 1
            if each:
                self.findings.append(each)

    @property
    def checked(self) -> int:
        """Images looked at."""
        return self.counts.total()

    def to_mend(self, now: float, how: Remedy) -> list[Finding]:
        """The findings that this helps."""
        return [each for each in self.findings if remedy(each, now) is how]
