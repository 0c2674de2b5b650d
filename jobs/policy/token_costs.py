"""What an image is likely to cost where it is billed by tokens: as the last like it, else by arithmetic. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from providers.types import Request, Route

#: Images of a kind that must be settled for what they cost to be believed more than the arithmetic.
ENOUGH = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class CostKind:
    """Images that cost about alike."""

    provider_model: str
    mode: str
    pixels: tuple[int, int] | None
    quality: str  # as the request asks for it; empty: it does not
    references: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCost:
    """What they have cost. `mean`: micro-dollars."""

    mean: float
    images: int


def expected(route: Route, request: Request, learnt: Mapping[CostKind, TokenCost]) -> tuple[int | None, str]:
    """Micro-dollars an image is likely to cost, and what that rests on; empty where it is a price."""
    if route.tokens is None:
        return route.price, ""
    kind = CostKind(
        provider_model=route.provider_model,
        mode=route.mode or "",
        pixels=route.pixels,
        quality=request.quality or "",
        references=len(request.references),
    )
    known = learnt.get(kind)
    if known is None or known.images < ENOUGH:
        return route.expected, route.assumed
    return math.ceil(known.mean), f"what the last {known.images:,} images like it have cost"
