"""What is found when pictures are looked at. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

BLANK, NEAR_DUPLICATE = "blank", "near_duplicate"
#: All flags that an image can get by being looked at.
FOUND_FLAGS = frozenset({BLANK, NEAR_DUPLICATE})


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureFinding:
    """Of one picture. A blank one is near to none."""

    duplicate_of: str | None = None  # the name of the first picture that it is near to
    is_blank: bool = False
    is_unseen: bool = False  # it could not be decoded
    signature: bytes | None = None  # of one that others may be near to

    @property
    def was_looked_at(self) -> bool:
        """Whether anything is known of it: its flags, or that it has none."""
        return self.signature is not None or self.duplicate_of is not None or self.is_blank

    @property
    def flags(self) -> Iterator[str]:
        """What its record says of it."""
        if self.is_blank:
            yield BLANK
        if self.duplicate_of is not None:
            yield NEAR_DUPLICATE


NOT_LOOKED_AT = PictureFinding()
