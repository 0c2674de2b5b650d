"""Decides of each picture, in order, whether it is near to an earlier one; the records of parts remember it."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace

from jobs.export.findings import NOT_LOOKED_AT, PictureFinding
from jobs.export.near_duplicates import SIGNATURE, NearDuplicates
from jobs.export.samples import ImageSample
from worker.export.appearance import Appearance
from worker.export.state import FinishedPart, PartFindings


class Inspection:
    """What parts on record say of pictures is replayed, so that no object is read again to decide the same."""

    def __init__(self, finished: list[FinishedPart], *, looks: bool) -> None:
        """`finished`: the signatures in it are taken out as they are replayed. `looks`: False, and nothing is found."""
        self._looks = looks
        self._earlier = NearDuplicates()
        self._recorded = _recorded(finished)

    def replay(self, sample: ImageSample) -> PictureFinding | None:
        """What is on record of the next sample; None: nothing. Asked for each, in order, before any is judged."""
        found = next(self._recorded, None) if self._looks else None
        return self._noted(sample, found) if found else None

    def judge(self, sample: ImageSample, look: Appearance | None) -> PictureFinding:
        """What is found of a picture that was read. `look`: None, it was not decoded.

        Asked in the order of samples, and once more for one that is on record and had to be read again: the same is
        found then, since a later picture that is near to it is no picture that others are compared with.
        """
        if not self._looks:
            return NOT_LOOKED_AT
        if look is None:
            return PictureFinding(is_unseen=True)
        if look.is_blank:
            return PictureFinding(is_blank=True)
        first = self._earlier.find(sample.row, look.signature)
        return self._noted(sample, PictureFinding(duplicate_of=first, signature=None if first else look.signature))

    def _noted(self, sample: ImageSample, found: PictureFinding) -> PictureFinding:
        if found.signature is not None:
            self._earlier.add(sample.name, sample.row, found.signature)
        return found


class FindingsNotes:
    """What was found since the part before, for the record of the next."""

    def __init__(self, since: int) -> None:
        """`since`: the first sample of which nothing is on record."""
        self._since = since
        self._clear()

    def _clear(self) -> None:
        self._signatures = bytearray()
        self._blank: list[int] = []
        self._unseen: list[int] = []
        self._duplicates: dict[str, str] = {}

    def add(self, position: int, found: PictureFinding) -> None:
        """Of one picture, unless it is on record."""
        if position < self._since:
            return
        if found.signature is not None:
            self._signatures += found.signature
        elif found.duplicate_of is not None:
            self._duplicates[str(position)] = found.duplicate_of
        elif found.is_blank:
            self._blank.append(position)
        elif found.is_unseen:
            self._unseen.append(position)

    def take(self, seen: int) -> PartFindings:
        """All of them. `seen`: the first sample that is in none."""
        found = PartFindings(
            since=self._since,
            signatures=base64.b64encode(self._signatures).decode(),
            blank=self._blank,
            unseen=self._unseen,
            duplicates=self._duplicates,
        )
        self._since = seen
        self._clear()
        return found


def _recorded(finished: list[FinishedPart]) -> Iterator[PictureFinding]:
    """What is on record of each sample from the first, in order."""
    for number, part in enumerate(finished):
        found = PartFindings(**part.findings)
        signatures, at = base64.b64decode(found.signatures), 0
        finished[number] = replace(part, findings={})
        blank, unseen = set(found.blank), set(found.unseen)
        for position in range(found.since, part.seen):
            if str(position) in part.missing:
                yield NOT_LOOKED_AT
            elif position in blank:
                yield PictureFinding(is_blank=True)
            elif position in unseen:
                yield PictureFinding(is_unseen=True)
            elif first := found.duplicates.get(str(position)):
                yield PictureFinding(duplicate_of=first)
            else:
                yield PictureFinding(signature=signatures[at : at + SIGNATURE])
                at += SIGNATURE
