"""Routes of work that already runs: what a provider task's model says of links and cadence, without its request."""

from __future__ import annotations

from dataclasses import dataclass, field

from providers.catalog import offers
from providers.catalog.models import Catalog, Unmakeable
from providers.types import Request, Route

#: Any legal reference: a model that makes images from images has no route without one.
_SOME_REFERENCE = "https://example.com/reference.png"
#: Seconds a submit may take where the catalogue is silent.
_USUAL_TIMEOUT = 300.0


@dataclass(slots=True)
class TaskRoutes:
    """The catalogue's answers to what stages ask again and again."""

    catalog: Catalog
    _known: dict[tuple[str, str], Route] = field(default_factory=dict)

    def of_task(self, provider: str, provider_model: str) -> Route:
        """A route of that model. Its pixels and price are no one's in particular: do not read them."""
        key = (provider, provider_model)
        if key not in self._known:
            self._known[key] = self._find(provider, provider_model)
        return self._known[key]

    def _find(self, provider: str, provider_model: str) -> Route:
        for references in ((), (_SOME_REFERENCE,)):
            some = Request(prompt="-", model=provider_model, references=references)
            try:
                return self.catalog.route_of(provider, provider_model, some)
            except Unmakeable:
                continue
        # The catalogue has lost a model that was paid for: its task is polled and its link is taken to be short-lived.
        return Route(
            provider=provider,
            model=provider_model,
            provider_model=provider_model,
            pixels=None,
            max_n=1,
            price=None,
            link_life=86_400.0,
        )

    @staticmethod
    def longest_submit(provider: str) -> float:
        """Seconds the slowest submit at a provider may take."""
        mine = [offer for offer in offers.load().offers if offer.provider == provider]
        return max((seconds for offer in mine for seconds in offer.submit_timeout.values()), default=_USUAL_TIMEOUT)
