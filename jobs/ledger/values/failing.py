"""Images that failed to be copied since the last one that was stored, and what they have in common."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Failing:
    """Why nothing more is bought somewhere: images that failed one after the other, with none stored between them.

    What they share: an account, with its provider; of it perhaps one provider model, and one destination; or only a
    destination.
    """

    account: str | None
    provider: str | None
    provider_model: str | None  # None: whatever it made
    dest: str | None  # None: wherever they go
    images: int
    money: int  # micro-dollars that these cost, where prices are known
    since: float
    code: str  # of the last of them, as its message
    message: str
    batch: str | None = None  # with an image of it that waits to be copied; the newest of these. Going on with it helps
    next_try_at: float | None = None  # when the next single submit may try it; None: as soon as a row is there
