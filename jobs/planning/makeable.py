"""What can be made: of each model and provider the shapes, prices and times, as catalogue and ledger know. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jobs.errors import BadInput
from jobs.planning.paces import Paces
from providers.catalog.models import Catalog
from providers.catalog.offers import Offer
from providers.types import Route


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One ratio at one resolution, as a provider makes it."""

    ratio: str | None  # None: the model takes none
    resolution: str | None
    pixels: tuple[int, int] | None  # None: not documented
    price: int | None  # micro-dollars an image; None: not known
    is_estimate: bool  # billed by tokens: what an image is likely to cost at the dearest quality
    is_yours: bool  # the price is from the settings
    seconds: float  # that a task usually takes
    is_learnt: bool  # as the tasks of this ledger took lately; else the catalogue's estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Makeable:
    """What one provider makes of one model, by one of its own routes."""

    model: str
    provider: str
    provider_model: str
    mode: str | None  # the provider's own route, where it has several
    least_n: int  # images that a row may ask for
    most_n: int
    images_a_task: int  # a row that asks for more becomes several tasks
    least_references: int
    most_references: int
    sizes: str | None  # which free sizes it takes, in words; None: none
    qualities: tuple[str, ...]
    hint: str
    shapes: tuple[Shape, ...]


def everything(catalog: Catalog, paces: Paces) -> list[Makeable]:
    """All that the catalogue has, in its order."""
    return [
        _makeable(catalog, paces, offer, mode, [route for route in routes if route.mode == mode])
        for name in catalog.models()
        for offer in catalog.offers()
        if offer.model == name
        for routes in [catalog.routes_of(offer)]
        for mode in dict.fromkeys(route.mode for route in routes)
    ]


def _makeable(catalog: Catalog, paces: Paces, offer: Offer, mode: str | None, routes: Sequence[Route]) -> Makeable:
    model = catalog.model(offer.model)
    return Makeable(
        model=offer.model,
        provider=offer.provider,
        provider_model=offer.id,
        mode=mode,
        least_n=model.least_n,
        most_n=model.most_n,
        images_a_task=offer.max_n,
        least_references=offer.least_references,
        most_references=offer.most_references,
        sizes=str(offer.sizes) if offer.sizes else None,
        qualities=offer.qualities,
        hint=offer.hint,
        shapes=tuple(_shape(route, paces) for route in routes),
    )


def _shape(route: Route, paces: Paces) -> Shape:
    return Shape(
        ratio=route.ratio,
        resolution=route.resolution,
        pixels=route.pixels,
        price=route.expected,
        is_estimate=route.tokens is not None,
        is_yours=route.price_is_yours,
        seconds=paces.task_seconds(route),
        is_learnt=paces.learnt_seconds(route) is not None,
    )


def chosen(found: Iterable[Makeable], model: str | None, providers: Sequence[str]) -> list[Makeable]:
    """Those of one model (by either name) and of these providers; no names: all.

    Raises:
        BadInput: There is no such model or provider, or the provider does not make the model.
    """
    found = list(found)
    names = list(dict.fromkeys(one.provider for one in found))
    if unknown := [name for name in providers if name not in names]:
        raise BadInput(f"--provider: there is no provider {unknown[0]!r}. There are {' '.join(names)}.")
    own = [one for one in found if model in (None, one.model, one.provider_model)]
    if not own:
        known = " ".join(dict.fromkeys(one.model for one in found))
        raise BadInput(f"--model: there is no model {model!r}. There are {known}.")
    kept = [one for one in own if not providers or one.provider in providers]
    if not kept:
        makers = " ".join(dict.fromkeys(one.provider for one in own))
        raise BadInput(f"{model} is made by {makers}, and not by {' '.join(providers)}.")
    return kept
