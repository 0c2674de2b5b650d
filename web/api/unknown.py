"""Attempts whose outcome nobody can know, by the API: listed with the money at stake, resolved on a person's word."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Query
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field, model_validator

from jobs.formatting import money
from jobs.ledger.access.values import Token
from jobs.ledger.batches.values import Batch, UnknownAttempt
from jobs.results.documents import money_of, unknown_document
from providers.types import MICROS
from web.api.batches import not_cancelled
from web.api.problems import TOO_MUCH, ApiRoute, problems, refused
from web.api.retry import Dollars, Key
from web.door import NOT_NOW, NOT_THERE, Door, TheDoor, WhoOperates, WhoSees, WhoSeesAll
from worker.recovery.provider_task import call_for, who_knows

routes = APIRouter(prefix="/api/v1", tags=["unknown"], responses=problems(), route_class=ApiRoute)

Document = dict[str, Any]
OfKey = Annotated[str, Query(description="Only of this row.", max_length=1_000, pattern=r"^[^\x00]*$")]


class Resolution(BaseModel):
    """What is decided about unknown attempts."""

    model_config = ConfigDict(extra="forbid")

    how: Literal["pay-again", "give-up", "found"]
    key: Key | None = Field(default=None, description="Only of this row; without it, all of the batch.")
    at_most_usd: Dollars | None = Field(
        default=None, description="Needed to pay again: nothing is done where that may cost more."
    )
    task_id: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")] | None = Field(
        default=None, description="Needed for `found`: the task's id, as the provider's console names it."
    )
    unasked: bool = Field(default=False, description="`found` although the provider could not be asked about the task.")
    unpriced: bool = Field(default=False, description="Agrees to pay again for images whose price is not known.")

    @model_validator(mode="after")
    def _says_what_it_needs(self) -> Resolution:
        if (self.how == "found") != (self.task_id is not None):
            raise ValueError("task_id belongs to found, and found needs it")
        if self.how == "pay-again" and self.at_most_usd is None:
            raise ValueError("pay-again needs at_most_usd")
        return self


@routes.get("/unknown")
def list_unknown(door: TheDoor, _token: WhoSeesAll) -> Document:
    """All attempts whose outcome nobody can know, the oldest first, as `lightfast unknown --json` tells them."""
    return unknown_document(door.ledger.unknowns.all())


@routes.get("/batches/{batch}/unknown")
def list_unknown_of_batch(door: TheDoor, token: WhoSees, batch: str, key: OfKey = "") -> Document:
    """Those of one batch, or of one row."""
    door.batch_of(batch, token)
    return unknown_document(door.ledger.unknowns.all(batch, key or None))


@routes.post("/batches/{batch}/unknown/resolve")
async def resolve_unknown(door: TheDoor, token: WhoOperates, batch: str, wish: Resolution) -> Document:
    """What a person decides about them: paid again, given up (both count as spent), or found at the provider."""
    found, attempts = await run_in_threadpool(_attempts, door, token, batch, wish)
    poll_path = None
    if wish.task_id is not None:
        attempt = await _found(door, attempts, wish.task_id, unasked=wish.unasked)
        attempts = [attempt]
        poll_path = call_for(door.settings, attempt, wish.task_id).path if attempt.edits else None
    settled = await run_in_threadpool(_settle, door, token, found, attempts, wish, poll_path)
    return {"resolved": settled, "how": wish.how, **unknown_document(attempts)}


def _attempts(door: Door, token: Token, batch: str, wish: Resolution) -> tuple[Batch, list[UnknownAttempt]]:
    found = door.batch_of(batch, token)
    attempts = door.ledger.unknowns.all(batch, wish.key)
    if wish.how == "found" and wish.key is not None:
        attempts += door.ledger.unknowns.given_up(batch, wish.key)
    if not attempts:
        raise HTTPException(NOT_THERE, "no such attempt is unknown")
    if wish.how == "found" and len({attempt.key for attempt in attempts}) > 1:
        raise HTTPException(NOT_NOW, "found adopts one task: say the key")
    if wish.how == "pay-again":
        not_cancelled(found)
        _demand_agreed(attempts, wish)
    return found, attempts


def _demand_agreed(attempts: list[UnknownAttempt], wish: Resolution) -> None:
    unpriced = sum(len(attempt.slots) for attempt in attempts if not attempt.price_known)
    cost, agreed = money_of(attempts), wish.at_most_usd or 0.0
    if cost > round(agreed * MICROS):
        told = f"{len(attempts)} attempts may cost {money(cost)}, and at_most_usd says {agreed:g}"
        raise refused(TOO_MUCH, "budget_exceeded", told)
    if unpriced and not wish.unpriced:
        raise refused(NOT_NOW, "price_unknown", f"the price of {unpriced} images is not known: say unpriced")


async def _found(door: Door, attempts: list[UnknownAttempt], task_id: str, *, unasked: bool) -> UnknownAttempt:
    """The attempt whose provider knows the task."""
    known, silent = await who_knows(door.settings, attempts, task_id)
    if known is not None:
        return known
    if not silent:
        raise HTTPException(NOT_NOW, "no provider knows such a task. Nothing was changed")
    attempt, problem = silent[0]
    if not unasked:
        raise HTTPException(
            NOT_NOW,
            f"{attempt.provider} could not be asked about it: {problem.message or problem.code}. Nothing was changed; "
            "unasked adopts it all the same",
        )
    return attempt


def _settle(
    door: Door,
    token: Token,
    batch: Batch,
    attempts: list[UnknownAttempt],
    wish: Resolution,
    poll_path: str | None,
) -> int:
    if wish.how == "pay-again":
        door.ledger.batches.agree(batch.name, batch.agreed + money_of(attempts), batch.budget)
    ids = [attempt.attempt_id for attempt in attempts]
    settled = door.ledger.unknowns.resolve(ids, wish.how, door.now, wish.task_id, poll_path)
    door.note(token, f"unknown {wish.how}", batch.name, {"attempts": settled, "key": wish.key})
    door.figures.changed(batch)
    door.wake_submits()
    return settled
