"""When a batch has failed often enough, and alike, that a person should look before more is asked for. Pure."""

from __future__ import annotations

from collections.abc import Mapping

#: Rows that must have ended before a batch is judged by them.
ENOUGH_ROWS = 50


def common_failure(ended: int, errors: Mapping[str, int]) -> str | None:
    """The code with which over half of the ended rows failed, when those are enough to tell."""
    code = max(errors, key=errors.__getitem__, default=None)
    return code if ended >= ENOUGH_ROWS and code is not None and errors[code] * 2 > ended else None
