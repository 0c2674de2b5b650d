"""What objects at a destination tell of a ledger that is lost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptedImage:
    """An object that a lost ledger had stored, read again."""

    slot: int
    revision: int
    surplus: bool
    path: str  # below DEST
    sha256: str
    bytes: int
    width: int
    height: int
    format: str
    stored_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptedRow:
    """A row as its objects tell of it."""

    key: str
    request_hash: str | None  # None: nothing tells
    revision: int
    path: str  # as in Row.path, as far as an object's own tells
    images: tuple[AdoptedImage, ...]
