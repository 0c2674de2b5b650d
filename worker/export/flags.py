"""Records in the ledger what was found of images, as flags of theirs. The export never depends on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.export.findings import FOUND_FLAGS, PictureFinding
from jobs.export.samples import ImageSample
from jobs.ledger import away_words, is_away
from jobs.ledger.batches.values import ImageFlags

if TYPE_CHECKING:
    from jobs.ledger import Ledger

#: Images whose flags are recorded with one transaction.
PAGE = 500


class FlagRecorder:
    """Records only what differs from what was on record when the export began, some hundred images at a time."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._changed: list[ImageFlags] = []
        self.trouble: str | None = None  # why the ledger took no writes, in words that follow "the ledger"

    def note(self, sample: ImageSample, found: PictureFinding) -> None:
        """What was found of an image. One that was not looked at keeps the flags it has."""
        flags = frozenset(found.flags)
        if not found.was_looked_at or flags == frozenset(sample.found_before):
            return
        if sample.image_id is None or sample.sha256 is None:
            return
        self._changed.append(ImageFlags(image_id=sample.image_id, sha256=sample.sha256, flags=flags))
        if len(self._changed) >= PAGE:
            self.record()

    def record(self) -> None:
        """Records what is not recorded yet. A ledger that took no writes once is not asked again."""
        found, self._changed = self._changed, []
        if not found or self.trouble is not None:
            return
        try:
            self._ledger.images.set_flags(found, FOUND_FLAGS)
        except Exception as trouble:
            if not is_away(trouble):
                raise
            self.trouble = away_words(trouble)
