"""Whether a row may be made at another provider, and where. Pure: routes and money in, a route out."""

from __future__ import annotations

import enum


class Failover(enum.StrEnum):
    """What the user allows."""

    OFF = "off"
    EQUAL = "equal"  # the same model and the same pixels
    ANY_SIZE = "any-size"  # the same model
