"""Which routes make a request, at what price, best first; or what is legal instead."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import orjson

from providers.catalog import offers
from providers.catalog.legality import SHOWN, Complaint, Fit, Problem, Unmakeable, check_reference, fit, merge
from providers.catalog.offers import ANY, Contents, Model, Offer
from providers.references import ReferencesBy
from providers.token_prices import TokenPrices, assumed
from providers.types import Request, Route, clean

__all__ = ["DEFAULT_MODEL", "Catalog", "Problem", "Unmakeable"]

DEFAULT_MODEL = "gpt-image-2"

#: Shapes remembered; more than any honest manifest has, and a bound for the others.
SHAPES = 4_096

#: Stands for a reference where only their number matters.
_ANY_LINK = "https://example.com/reference.png"

Number = TypeVar("Number", int, float)

Answer = tuple[tuple[Route, ...], tuple[Problem, ...]]  # routes, or else problems


class Catalog:
    """What all providers can make. Values in, values out; what it remembers only makes it fast."""

    def __init__(self, contents: Contents) -> None:
        self._models = contents.models
        self._offers = contents.offers
        self._by_id = {offer.id: offer.model for offer in contents.offers}
        self._answers: dict[object, Answer] = {}

    @classmethod
    def load(cls) -> Catalog:
        """The packaged catalog.toml."""
        return cls(offers.load())

    def models(self) -> list[str]:
        """The names users write."""
        return list(self._models)

    def known(self, column: str) -> tuple[str, ...]:
        """Every value that some offer takes in a column: model, provider, ratio, resolution, size, quality, options."""
        values: Mapping[str, Callable[[Offer], Iterable[str]]] = {
            "provider": lambda offer: [offer.provider],
            "ratio": lambda offer: offer.ratios,
            "resolution": lambda offer: offer.resolutions,
            "size": lambda offer: (f"{width}x{height}" for width, height in offer.by_pixels),
            "quality": lambda offer: offer.qualities,
            "options": lambda offer: offer.options,
        }
        if column == "model":
            return tuple(self._models)
        return tuple(dict.fromkeys(value for offer in self._offers for value in values[column](offer)))

    def model(self, name: str) -> Model:
        """What a row may ask of a model, by the name that users write."""
        return self._models[name]

    def offers(self) -> tuple[Offer, ...]:
        """Every provider's models, with the prices and route modes of the settings."""
        return self._offers

    def routes_of(self, offer: Offer) -> list[Route]:
        """Every ratio and resolution of an offer's table, by each of the provider's own routes, without free sizes.

        With as few references as it takes, and at the dearest quality where the price depends on it.
        """
        links = (_ANY_LINK,) * offer.least_references
        request = Request(prompt="", model=offer.model, provider=offer.provider, references=links)
        shapes = [
            Fit(ratio=ratio, resolution=resolution, pixels=pixels)
            for ratio, row in offer.ratios.items()
            for resolution, pixels in row.items()
        ] or [Fit(ratio=None, resolution=None, pixels=None)]
        return [_route(offer, shape, request, mode) for mode in offer.modes(None) for shape in shapes]

    # -- settings ------------------------------------------------------------------------------------------------------

    def with_prices(self, prices: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Catalog:
        """With the user's prices: provider -> model (either name) -> resolution (or "any") -> USD an image.

        Raises ValueError with every name and number that cannot be.
        """
        wrong = [problem for provider, models in prices.items() for problem in self._wrong_prices(provider, models)]
        if wrong:
            raise ValueError("; ".join(wrong))
        return self._changed(_with_prices(offer, prices.get(offer.provider, {})) for offer in self._offers)

    def tokens_of(
        self, provider: str, provider_model: str, mode: str | None, price: int | None = None
    ) -> TokenPrices | None:
        """What a provider's route is billed by; None: by the image.

        `price`: what was set aside for an image, in micro-dollars; where that is a price of the user's own, it counts.
        """
        own = (offer for offer in self._offers if (offer.provider, offer.id) == (provider, provider_model))
        return next((offer.tokens.get(mode or "") for offer in own if price not in offer.your_prices.values()), None)

    def with_cadence(self, provider: str, first_poll_after: float | None, poll_every: float | None) -> Catalog:
        """With the user's own seconds to the first poll and between polls; None keeps the catalogue's."""
        return self._changed(
            replace(
                offer,
                first_poll_after=offer.first_poll_after if first_poll_after is None else first_poll_after,
                poll_every=offer.poll_every if poll_every is None else poll_every,
            )
            if offer.provider == provider
            else offer
            for offer in self._offers
        )

    def with_route_mode(self, provider: str, route_mode: str | None) -> Catalog:
        """With the account's own route mode, on which the price depends at maxapi.dev; None: the cheapest is taken."""
        return self._changed(
            replace(offer, route_mode=route_mode) if offer.provider == provider else offer for offer in self._offers
        )

    def _changed(self, changed: Iterable[Offer]) -> Catalog:
        return Catalog(Contents(models=self._models, offers=tuple(changed)))

    def _wrong_prices(self, provider: str, models: Mapping[str, Mapping[str, float]]) -> Iterable[str]:
        for model, by_resolution in models.items():
            own = [offer for offer in self._offers if offer.provider == provider and model in (offer.model, offer.id)]
            if not own:
                yield f"prices of {provider}: no model {model!r}; known: {' '.join(self._names_at(provider))}"
                continue
            known = {ANY, *(name for offer in own for name in offer.resolutions)}
            for resolution, usd in by_resolution.items():
                if resolution not in known:
                    yield f"prices of {model!r}: no resolution {resolution!r}; known: {' '.join(sorted(known))}"
                elif not (math.isfinite(usd) and usd >= 0):
                    yield f"prices of {model!r} at {resolution}: {usd} is no price in USD"

    # -- requests ------------------------------------------------------------------------------------------------------

    def complete(self, request: Request) -> Request:
        """The request with its defaults: gpt-image-2, 1:1, 1k. With references, the first of them decides the ratio."""
        name = request.model or DEFAULT_MODEL
        model = self._models.get(self._by_id.get(name, name))
        ratio, resolution = request.ratio, request.resolution.lower() if request.resolution else None
        if model and not request.size:
            ratio = ratio or (None if request.references else model.ratio)
            resolution = resolution or model.resolution
        if (name, ratio, resolution) == (request.model, request.ratio, request.resolution):
            return request
        return replace(request, model=name, ratio=ratio, resolution=resolution)

    def routes(
        self, request: Request, providers: Sequence[str] | None = None, *, among: Sequence[str] | None = None
    ) -> list[Route]:
        """Every legal route, best first; raises Unmakeable when there is none.

        Best: in the order of `providers` where given, else the cheapest, unpriced ones last. `among`: the providers
        there are accounts for, in no order.
        """
        bad = [problem for problem in map(check_reference, request.references) if problem]
        key = _shape(request, providers, among)
        answer = self._answers.get(key)
        if answer is None:
            answer = self._remember(key, self._find(self.complete(request), providers, among))
        routes, problems = answer
        if bad or problems:
            raise Unmakeable([*bad, *problems])
        return list(routes)

    def route_of(self, provider: str, provider_model: str, request: Request, mode: str | None = None) -> Route:
        """The same route again, at run time. Raises Unmakeable when the catalogue no longer has it.

        `mode`: the provider's own route that was planned, whatever the settings say by now.
        """
        asked = replace(request, options={**request.options, "route_mode": mode}) if mode else request
        found = [
            route for route in self.routes(replace(asked, provider=provider)) if route.provider_model == provider_model
        ]
        if not found:
            legal = f"{provider} makes this request with another model"
            raise Unmakeable([Problem(column="model", value=provider_model, legal=legal)])
        return found[0]

    def _remember(self, key: object, answer: Answer) -> Answer:
        if len(self._answers) >= SHAPES:
            self._answers.clear()
        self._answers[key] = answer
        return answer

    # -- finding -------------------------------------------------------------------------------------------------------

    def _find(self, request: Request, providers: Sequence[str] | None, among: Sequence[str] | None) -> Answer:
        own = self._of_model(request.model)
        allowed = [offer for offer in own if _allowed(offer, request.provider, providers, among)]
        problems = self._check_names(request, own, allowed, providers) or self._check_n(request)
        tried = [(offer, fit(offer, request)) for offer in _for_references(allowed, request)]
        fits = [(offer, found) for offer, found in tried if isinstance(found, Fit)]
        if fits and not problems:
            asked = request.options.get("route_mode")
            routes = [_route(offer, found, request, mode) for offer, found in fits for mode in offer.modes(asked)]
            return tuple(sorted(routes, key=_order(providers))), ()
        complaints = [(offer.provider, found) for offer, found in tried if not isinstance(found, Fit)]
        return (), tuple(problems + ([] if fits else self._explain(request, complaints)))

    def _of_model(self, name: str) -> list[Offer]:
        return [offer for offer in self._offers if name in (offer.model, offer.id)]

    def _check_names(
        self, request: Request, own: list[Offer], allowed: list[Offer], providers: Sequence[str] | None
    ) -> list[Problem]:
        names = list(dict.fromkeys(offer.provider for offer in self._offers))
        if request.provider is not None and request.provider not in names:
            return [_problem("provider", request.provider, f"one of {' '.join(names)}")]
        if not own:
            return [_problem("model", request.model, f"one of {' '.join(self._models)}")]
        if allowed:
            return []
        makers = " ".join(dict.fromkeys(offer.provider for offer in own))
        if request.provider is not None and request.provider in makers.split():
            return [_problem("provider", request.provider, "not among the providers of this run")]
        if request.provider is not None:
            return [_problem("model", request.model, f"{request.provider} has {self._names_at(request.provider)}")]
        return [self._not_of_this_run(request.model, makers, providers or ())]

    def _check_n(self, request: Request) -> list[Problem]:
        model = self._models.get(self._by_id.get(request.model, request.model))
        if model is None or model.least_n <= request.n <= model.most_n:
            return []
        return [_problem("n", str(request.n), f"{request.model} takes {model.least_n} to {model.most_n}")]

    def _explain(self, request: Request, complaints: Sequence[tuple[str, Sequence[Complaint]]]) -> list[Problem]:
        """What is legal, and who else makes the row when its own choice of provider is what stands in the way."""
        asked = {provider for provider, _ in complaints}
        others = [offer for offer in self._offers if offer.model == self._by_id.get(request.model, request.model)]
        everywhere = asked == {offer.provider for offer in others}
        problems = merge(complaints, request.model if everywhere else None)
        makers = [o.provider for o in others if o.provider not in asked and isinstance(fit(o, request), Fit)]
        if problems and makers:
            more = f"; {' and '.join(dict.fromkeys(makers))} can make this row"
            problems[0] = replace(problems[0], legal=problems[0].legal + more)
        return problems

    def _not_of_this_run(self, model: str, makers: str, providers: Sequence[str]) -> Problem:
        """The run's providers do not make a model, and make others; or it has no account where the model is made."""
        made = list(dict.fromkeys(offer.model for offer in self._offers if offer.provider in providers))
        if not made or set(providers) & set(makers.split()):
            return _problem("model", model, f"made by {makers} only")
        does, it_makes = ("do", "they make") if len(providers) > 1 else ("does", "it makes")
        legal = f"{' and '.join(providers)} {does} not make {model}; {it_makes} {' '.join(made)}: --model {made[0]}"
        return replace(_problem("model", model, legal), is_whole=True)

    def _names_at(self, provider: str) -> str:
        own = [offer for offer in self._offers if offer.provider == provider]
        return " ".join(dict.fromkeys([*(offer.model for offer in own), *(offer.id for offer in own)]))


def _shape(request: Request, providers: Sequence[str] | None, among: Sequence[str] | None) -> object:
    """All of a request that its routes depend on: everything but the text of prompt and references."""
    length = len(request.prompt)
    options = _options_text(request.options) if request.options else b""
    return (
        request.model,
        request.provider,
        request.ratio,
        request.resolution,
        request.size,
        request.n,
        len(request.references),
        request.quality,
        options,
        length if length > LONG_PROMPT else 0,
        tuple(providers) if providers is not None else None,
        tuple(among) if among is not None else None,
    )


def _options_text(options: Mapping[str, object]) -> bytes:
    try:
        return orjson.dumps(options, option=orjson.OPT_SORT_KEYS)
    except TypeError as problem:
        legal = f"an object of plain JSON values ({problem})"
        raise Unmakeable([_problem("options", " ".join(map(str, options)), legal)]) from problem


#: Prompts up to this length are legal everywhere, so their length is no part of the shape.
LONG_PROMPT = min((offer.prompt_limit for offer in offers.load().offers if offer.prompt_limit), default=0)


def _allowed(offer: Offer, pinned: str | None, providers: Sequence[str] | None, among: Sequence[str] | None) -> bool:
    return (
        (pinned is None or offer.provider == pinned)
        and (providers is None or offer.provider in providers)
        and (among is None or offer.provider in among)
    )


def _for_references(allowed: list[Offer], request: Request) -> list[Offer]:
    """A provider's text and image-to-image models are one to the user: only the one that is meant is tried."""
    with_references = bool(request.references)
    meant = [o for o in allowed if (o.most_references > 0 if with_references else o.least_references == 0)]
    providers = {offer.provider for offer in meant}
    return [offer for offer in allowed if offer in meant or offer.provider not in providers]


def _order(providers: Sequence[str] | None) -> Callable[[Route], tuple[int, bool, int]]:
    places = {name: place for place, name in reversed(list(enumerate(providers or ())))}
    return lambda route: (places.get(route.provider, 0), route.expected is None, route.expected or 0)


def _route(offer: Offer, found: Fit, request: Request, mode: str | None) -> Route:
    yours = _for(offer.your_prices, found.resolution)
    tokens = offer.tokens.get(mode or "") if yours is None else None
    asked = (found.pixels, request.quality, len(request.references))
    return Route(
        provider=offer.provider,
        model=offer.model,
        provider_model=offer.id,
        pixels=found.pixels,
        ratio=found.ratio,
        resolution=found.resolution,
        edits=bool(request.references),
        references_by=_references_by(offer, request),
        max_n=offer.max_n,
        price=tokens.bound(*asked) if tokens else _list_price(offer, found, mode) if yours is None else yours,
        price_is_yours=yours is not None,
        mode=mode,
        tokens=tokens,
        estimate=tokens.estimate(*asked) if tokens else None,
        assumed=assumed(found.pixels, request.quality) if tokens else "",
        link_life=offer.link_life,
        first_poll_after=offer.first_poll_after,
        poll_every=offer.poll_every,
        typical_seconds=_for(offer.typical_seconds, found.resolution) or 0.0,
        submit_timeout=_for(offer.submit_timeout, found.resolution) or 0.0,
    )


def _references_by(offer: Offer, request: Request) -> ReferencesBy:
    """A job that may move to the official channel must not carry data URIs: that one takes links only."""
    return ReferencesBy.LINK if request.options.get("official_fallback") else offer.references_by


def _list_price(offer: Offer, found: Fit, mode: str | None) -> int | None:
    if offer.priced_by == "route_mode":
        return offer.prices.get(mode or "")
    return _for(offer.prices, found.resolution)


def _for(values: Mapping[str, Number], resolution: str | None) -> Number | None:
    """The value of a resolution, else the one for any."""
    return values.get(resolution or ANY, values.get(ANY))


def _with_prices(offer: Offer, models: Mapping[str, Mapping[str, float]]) -> Offer:
    given = {**models.get(offer.model, {}), **models.get(offer.id, {})}
    if not given:
        return offer
    return replace(offer, your_prices={name: offers.micros(usd) for name, usd in given.items()})


def _problem(column: str, value: str, legal: str) -> Problem:
    return Problem(column=column, value=clean(value, SHOWN), legal=legal)
