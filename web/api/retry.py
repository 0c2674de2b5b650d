"""Rows that ended badly, tried again by the API: for no more than the body says."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, ConfigDict, Field

from jobs.errors import CODES
from jobs.formatting import money, usd
from jobs.ledger.access.values import Acceptance, OverDailyBudget, RevokedError, Token
from jobs.ledger.batches.values import Batch
from jobs.ledger.claims.reuse import FewerToReuse
from jobs.policy.access import Role
from jobs.policy.reuse import Reuse
from providers.types import MICROS
from web.api.batches import not_cancelled
from web.api.batches import told as document_of
from web.api.problems import TOO_MUCH, ApiRoute, problems, refused
from web.door import NOT_NOW, UNREADABLE, Door, TheDoor, WhoMakes
from worker.registration.again import RetryPlan, RetryWish, plan_retry
from worker.registration.stored_images import demand_folder

routes = APIRouter(
    prefix="/api/v1/batches/{batch}",
    tags=["batches"],
    responses=problems(),
    route_class=ApiRoute,
)

Document = dict[str, Any]
#: Keys of one request.
MOST_KEYS = 10_000
Dollars = Annotated[float, Field(ge=0, le=1_000_000_000, allow_inf_nan=False)]
Key = Annotated[str, Field(max_length=1_000, pattern=r"^[^\x00]*$")]


class Retry(BaseModel):
    """Which rows are tried again, and for how much."""

    model_config = ConfigDict(extra="forbid")

    at_most_usd: Dollars = Field(description="Nothing is begun where the rows may cost more.")
    only: Literal["failed", "lost", "partial", ""] = Field(default="", description="Only rows in this state.")
    error: str = Field(
        default="", description="Only rows that ended with this code; those of moderation only by this name."
    )
    keys: list[Key] | None = Field(default=None, min_length=1, max_length=MOST_KEYS, description="Only these rows.")
    reuse: Reuse | None = Field(
        default=None, description="Images that other batches made meanwhile are taken for nothing, in this way."
    )
    buy_again: bool = Field(default=False, description="Agrees to pay for requests that were made already.")
    unpriced: bool = Field(default=False, description="Agrees to images whose price is not known (operators only).")


@routes.post("/retry")
def retry_batch(door: TheDoor, token: WhoMakes, batch: str, wish: Retry) -> Document:
    """Failed, lost and partial rows again, by the rules of `lightfast retry`; not what is held (see `unknown`).

    A producer's token holds what they cost at most once more within its day.
    """
    found = not_cancelled(door.batch_of(batch, token))
    if wish.error and wish.error not in CODES:
        raise HTTPException(UNREADABLE, f"error: there is no code {wish.error}")
    if found.archive is not None:
        raise HTTPException(NOT_NOW, f"{batch} is archived: lightfast retry {batch} brings it back first")
    demand_folder(door.ledger, found)
    asked = RetryWish(only=wish.only, error=wish.error, keys=wish.keys, reuse=wish.reuse)
    of_token = token.id if token.role is Role.PRODUCER else None
    plan = plan_retry(door.ledger, door.settings, found, asked, of_token)
    _demand_agreed(plan, wish, token)
    rows = _begin(door, found, token, wish, plan) if plan.rows else 0
    estimate = {"retried_rows": rows, "estimate_usd": usd(plan.cost), "unpriced_images": plan.unpriced}
    if rows:
        door.note(token, "batch retry", batch, {"rows": rows, "estimate_usd": usd(plan.cost)})
        door.wake_submits()
        door.figures.changed(found)
    return {**document_of(door, door.batch_of(batch, token)), **estimate}


def _demand_agreed(plan: RetryPlan, wish: Retry, token: Token) -> None:
    if plan.cost > round(wish.at_most_usd * MICROS):
        told = f"{plan.paid_rows} rows may cost {money(plan.cost)}, and at_most_usd says {wish.at_most_usd:g}"
        raise refused(TOO_MUCH, "budget_exceeded", told)
    if plan.unpriced and not (wish.unpriced and token.role is Role.OPERATOR):
        told = f"the price of {plan.unpriced} images is not known; an operator may say unpriced"
        raise refused(NOT_NOW, "price_unknown", told)
    if plan.is_bought_twice and not wish.buy_again:
        told = "other batches have made, or will make, so many of the requests: say buy_again, or reuse"
        raise refused(NOT_NOW, "made_already", told)


def _begin(door: Door, batch: Batch, token: Token, wish: Retry, plan: RetryPlan) -> int:
    holds = token.role is Role.PRODUCER
    ledger = door.ledger
    try:
        rows = ledger.batches.retry(
            batch.name,
            door.now,
            only=wish.only or None,
            error=wish.error or None,
            keys=wish.keys,
            reuse=plan.take,
            acceptance=Acceptance(token_id=token.id, amount=plan.cost) if holds else None,
        )
    except OverDailyBudget as over:
        told = f"{money(over.asked)} asked, and the token's day leaves {money(over.left)}"
        raise refused(TOO_MUCH, "budget_exceeded", told) from over
    except FewerToReuse as fewer:
        raise HTTPException(NOT_NOW, "images that were to be reused are gone; nothing was begun, ask again") from fewer
    except RevokedError as revoked:
        raise HTTPException(401, "this token is wrong, or revoked") from revoked
    ledger.batches.agree(batch.name, max(batch.agreed, batch.charged + batch.reserved + plan.cost), batch.budget)
    return rows
