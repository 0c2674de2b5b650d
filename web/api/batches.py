"""Batches by the API: listed page by page, one with its counts, steered.

A producer's token sees its own batches alone; the others are not there for it.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query

from jobs.errors import BadInput
from jobs.formatting import usd, utc
from jobs.ledger.access.values import Token
from jobs.ledger.batches.values import Batch
from jobs.planning.made_meanwhile import waiting_twice
from jobs.policy.access import Role
from jobs.results.conditions import ON_YOUR_WORD
from jobs.results.progress import state_of_batch
from jobs.states import BatchState, JobState
from web.api.problems import ApiRoute, problems
from web.door import NOT_NOW, UNREADABLE, Door, TheDoor, WhoMakes, WhoSees
from web.figures import counted_document
from worker.registration.stored_images import demand_folder

#: Batches of a page, and the most that may be asked for.
PAGE, MOST = 50, 200
#: Batches are numbered in 32 bits.
_NUMBER, _MOST_BATCHES = re.compile(r"[0-9]{1,10}"), (1 << 31) - 1

Document = dict[str, Any]
After = Annotated[str, Query(description="`next` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=MOST, description="Batches of a page.")]

routes = APIRouter(prefix="/api/v1/batches", tags=["batches"], responses=problems(), route_class=ApiRoute)


@routes.get("")
def list_batches(door: TheDoor, token: WhoSees, after: After = "", limit: Limit = PAGE) -> Document:
    """The newest batches first, without their counts."""
    mine = token.id if token.role is Role.PRODUCER else None
    found = door.ledger.batches.page(limit + 1, before=_number(after), of_token=mine)
    more = str(found[limit - 1].id) if len(found) > limit else None
    return {"batches": [_in_the_list(door, each) for each in found[:limit]], "next": more}


@routes.get("/{batch}")
def get_batch(door: TheDoor, token: WhoSees, batch: str) -> Document:
    """One batch with its counts, as `lightfast status BATCH --json` tells it."""
    return told(door, door.batch_of(batch, token))


@routes.post("/{batch}/pause")
def pause_batch(door: TheDoor, token: WhoMakes, batch: str) -> Document:
    """No new submits until it is resumed. What is paid is polled, copied and stored."""
    found = not_cancelled(door.batch_of(batch, token))
    door.ledger.batches.pause(batch, ON_YOUR_WORD)
    return _done(door, found, token, "batch pause")


@routes.post("/{batch}/resume")
def resume_batch(door: TheDoor, token: WhoMakes, batch: str) -> Document:
    """Submits go on, within the budget that it has; not where that would buy what is bought elsewhere."""
    found = not_cancelled(door.batch_of(batch, token))
    _demand_bought_once(door, found)
    door.ledger.batches.resume(batch, door.now)
    return _done(door, found, token, "batch resume")


@routes.post("/{batch}/cancel")
def cancel_batch(door: TheDoor, token: WhoMakes, batch: str) -> Document:
    """No new submits for good. What is paid is polled, copied and stored."""
    found = door.batch_of(batch, token)
    if found.state is not BatchState.CANCELLED:
        door.ledger.batches.cancel(batch)
    return _done(door, found, token, "batch cancel")


def not_cancelled(batch: Batch) -> Batch:
    """The batch.

    Raises:
        HTTPException: It is cancelled.
    """
    if batch.state is BatchState.CANCELLED:
        raise HTTPException(NOT_NOW, f"{batch.name} is cancelled: nothing more is made of it")
    return batch


def _demand_bought_once(door: Door, batch: Batch) -> None:
    """By the rule of `lightfast resume`; who wants it all the same says so there, with --buy-again."""
    try:
        demand_folder(door.ledger, batch)
    except BadInput as missing:
        raise HTTPException(NOT_NOW, str(missing)) from missing
    to_pay = door.ledger.reports.progress(batch.name).jobs.get(JobState.READY, 0)
    if waiting_twice(door.ledger, batch).needs_buy_again(to_pay, reuse=batch.reuse is not None):
        raise HTTPException(
            NOT_NOW, f"rows of {batch.name} were made, or wait, in another batch: they would be paid twice"
        )


def _done(door: Door, batch: Batch, token: Token, action: str) -> Document:
    door.note(token, action, batch.name)
    door.wake_submits()
    door.figures.changed(batch)
    return told(door, door.batch_of(batch.name, token))


def told(door: Door, batch: Batch) -> Document:
    """A batch with its counts, and when it was counted; without them while it is counted for the first time."""
    figures = door.figures.of(batch)
    if figures is None:
        return {**_summary(batch), "counted_at": None}
    return counted_document(figures)


def _in_the_list(door: Door, batch: Batch) -> Document:
    """As it was counted last, without waiting: where it never was, that is begun, and the next look tells its end."""
    figures = door.figures.of(batch, 0.0)
    state = batch.state.value if figures is None else state_of_batch(figures.progress)
    return {**_summary(batch), "state": state}


def _summary(batch: Batch) -> Document:
    return {
        "batch": batch.name,
        "state": batch.state.value,
        "state_reason": batch.reason,
        "dest": batch.dest,
        "source": batch.source,
        "created_at": utc(batch.created_at),
        "usd": {"budget": usd(batch.budget), "charged": usd(batch.charged), "set_aside": usd(batch.reserved)},
    }


def _number(after: str) -> int | None:
    if after and not (_NUMBER.fullmatch(after) and int(after) <= _MOST_BATCHES):
        raise HTTPException(UNREADABLE, "after: the `next` of a page before")
    return int(after) if after else None
