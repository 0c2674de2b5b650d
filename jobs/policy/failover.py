"""Whether a row may be made at another provider, and where. Pure: routes and money in, a route out."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from providers.types import Request, Route

#: Seconds for which a provider must have taken nothing before rows that wait for it go elsewhere.
PATIENCE = 300.0


class Failover(enum.StrEnum):
    """What the user allows."""

    OFF = "off"
    EQUAL = "equal"  # the same model and the same pixels
    ANY_SIZE = "any-size"  # the same model


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckRow:
    """A row that cannot be made where it was planned, and for which nothing was paid there or may have been."""

    request: Request
    provider: str
    pixels: tuple[int, int] | None
    price: int | None  # an image
    images: int  # still to be made
    allowed: Sequence[str]  # the user's --provider; empty: any
    closed: frozenset[str]  # providers where it failed, and those in trouble


def elsewhere(stuck: StuckRow, policy: Failover, routes: Iterable[Route], spare: int) -> Route | None:
    """The best of `routes` (best first) that the row may take; `spare`: micro-dollars it may cost more than planned.

    The money agreed to is never exceeded: a dearer route is taken only from what the batch has to spare.
    """
    if policy is Failover.OFF or stuck.request.provider is not None:
        return None
    model = stuck.request.model
    for route in routes:
        same = route.model == model and (policy is Failover.ANY_SIZE or _is_same_size(route, stuck))
        if same and _is_open(route.provider, stuck) and _is_affordable(_price(route, stuck), stuck, spare):
            return route
    return None


def more(route: Route, stuck: StuckRow) -> int:
    """Micro-dollars the row costs more there; less than nothing where it is cheaper."""
    return ((_price(route, stuck) or 0) - (stuck.price or 0)) * stuck.images


def _price(route: Route, stuck: StuckRow) -> int | None:
    return route.price_of(stuck.request.prompt)


def _is_same_size(route: Route, stuck: StuckRow) -> bool:
    """A size that nobody knows equals no other."""
    return route.pixels is not None and route.pixels == stuck.pixels


def _is_open(provider: str, stuck: StuckRow) -> bool:
    allowed = not stuck.allowed or provider in stuck.allowed
    return allowed and provider != stuck.provider and provider not in stuck.closed


def _is_affordable(price: int | None, stuck: StuckRow, spare: int) -> bool:
    if price is None or stuck.price is None:
        return price is None and stuck.price is None  # agreed to without a price, or not at all
    return (price - stuck.price) * stuck.images <= spare
