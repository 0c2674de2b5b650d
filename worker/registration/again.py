"""Rows that are to be made again: which they are, what they cost at most, and what other batches have of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs.errors import GIVEN_UP_ROWS
from jobs.ledger.claims.reuse import ReuseOptions
from jobs.planning.made_meanwhile import made_meanwhile
from jobs.policy.reuse import Reuse
from jobs.states import ENDED_BADLY, MADE_IMAGES
from providers.catalog.models import Unmakeable
from worker.services import catalog_of

if TYPE_CHECKING:
    from jobs.ledger import Ledger
    from jobs.ledger.batches.values import Batch
    from jobs.ledger.reports.values import Result
    from jobs.settings.model import Settings
    from providers.catalog.models import Catalog

#: States of the rows that `retry` takes.
RETRIED = tuple(state.value for state in ENDED_BADLY)
#: The route of a provider that rows were recorded for when there was no other; they are still asked for there.
BEFORE = {"maxapi.dev": "mix"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryWish:
    """Which rows are to be tried again, and how their images may come."""

    only: str = ""  # a state of `RETRIED`
    error: str = ""  # the code they ended with
    keys: Sequence[str] | None = None
    reuse: Reuse | None = None  # None: as the batch was recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPlan:
    """What a retry would do. Nothing is spent and nothing recorded yet."""

    rows: int
    paid_rows: int
    cost: int  # micro-dollars at most, of the images whose price is known
    unpriced: int  # images whose price is not
    is_bought_twice: bool  # other batches have made, or will buy, so many of them that a plain yes is not enough
    take: ReuseOptions | None  # how images are taken for nothing


def plan_retry(
    ledger: Ledger, settings: Settings, batch: Batch, wish: RetryWish, of_token: int | None = None
) -> RetryPlan:
    """What a retry of a batch would do now. `of_token`: it knows of that token's batches alone; None: of all."""
    keys = None if wish.keys is None else frozenset(wish.keys)
    rows = [
        row for row in ledger.reports.ended_badly(batch) if is_retried(row, only=wish.only, error=wish.error, keys=keys)
    ]
    how = wish.reuse or batch.reuse
    asked = ((row.key, row.request) for row in rows if row.request is not None)
    made = made_meanwhile(ledger, batch, asked, of_token=of_token)
    paid = [row for row in rows if not (how and row.key in made.takeable)]
    cost, unpriced = cost_of(settings, paid, anew=False)
    return RetryPlan(
        rows=len(rows),
        paid_rows=len(paid),
        cost=cost,
        unpriced=unpriced,
        is_bought_twice=made.needs_buy_again(len(paid), reuse=how is not None),
        take=ReuseOptions(how=how, at_least=len(made.takeable), of_token=of_token) if how else None,
    )


def is_retried(result: Result, *, only: str, error: str, keys: Collection[str] | None) -> bool:
    """Whether a retry takes the row."""
    states = (only,) if only else RETRIED
    matches = result.error_code == error if error else result.error_code != "moderation"
    matches = matches and result.error_code != "wrong_pixels"  # its slots are full: a redo makes others beside them
    if not (only or error or keys):
        matches = matches and result.error_code not in GIVEN_UP_ROWS  # those stay so until somebody names them
    return result.state in states and matches and (keys is None or result.key in keys)


def cost_of(settings: Settings, rows: Iterable[Result], *, anew: bool) -> tuple[int, int]:
    """What the rows cost at most, in micro-dollars, and their images whose price is not known.

    `anew`: images that are there are made again, too.
    """
    catalog = catalog_of(settings)
    priced, unpriced = 0, 0
    for row in rows:
        images = _images(row, anew=anew)
        price = price_of(catalog, row)
        priced, unpriced = (priced, unpriced + images) if price is None else (priced + price * images, unpriced)
    return priced, unpriced


def _images(row: Result, *, anew: bool) -> int:
    asked = row.request.n if row.request else 0
    kept = 0 if anew else sum(image.state in MADE_IMAGES for image in row.images)
    return max(0, asked - kept)


def price_of(catalog: Catalog, row: Result) -> int | None:
    """What an image of the row costs at most, in micro-dollars; None: not known."""
    if row.request is None or row.provider is None or row.provider_model is None:
        return None
    try:
        before = None if "route_mode" in row.request.options else BEFORE.get(row.provider)
        route = catalog.route_of(row.provider, row.provider_model, row.request, row.mode or before)
        return route.price_of(row.request.prompt)
    except Unmakeable:
        return None
