"""Attempts whose outcome nobody can know, with the money at stake, and a person's word on each."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import ValidationError

from jobs.formatting import money, usd
from jobs.ledger.batches.values import UnknownAttempt
from jobs.results.documents import money_of
from web.api.unknown import Resolution, resolve_unknown
from web.pages.frame import PageRoute, go, page
from web.pages.visitors import FormOfOperator, Operates, PagesState, SeesAll, pages_of

routes = APIRouter(route_class=PageRoute, include_in_schema=False)

#: Attempts of a page.
MOST = 200
Of = Annotated[str, Query(max_length=200)]
Key = Annotated[str, Query(max_length=4_000)]


@routes.get("/unknown")
def show_unknown(request: Request, visitor: SeesAll, batch: Of = "") -> Response:
    """All of them, the oldest first; `batch`: of one batch."""
    found = pages_of(request).door.ledger.unknowns.all(batch or None) if "\0" not in batch else []
    return page(
        request,
        visitor,
        "unknown.html.j2",
        attempts=[(each, price_of(each)) for each in found[:MOST]],
        total=len(found),
        at_most=money(money_of(found)),
        unpriced=sum(not each.price_known for each in found),
        batch=batch,
    )


@routes.get("/batches/{name}/unknown")
def ask_about(request: Request, visitor: Operates, name: str, key: Key) -> Response:
    """One row's, and what may be decided."""
    pages = pages_of(request)
    pages.door.batch_of(name, visitor.token)
    found = _of_row(pages, name, key)
    why = next((each.message or each.code for each in found if each.message or each.code), "no readable answer came")
    return page(request, visitor, "resolve.html.j2", batch=name, key=key, attempts=found, why=why, price=_price(found))


@routes.post("/batches/{name}/unknown")
async def resolve(request: Request, form: FormOfOperator, name: str) -> Response:
    """Does what was decided, by the API's own rules. What it may cost is what the page named."""
    pages, key = pages_of(request), form.get("key")
    said: dict[str, Any] = {"how": form.get("how"), "key": key}
    if form.get("how") == "pay-again":
        found = await run_in_threadpool(_of_row, pages, name, key)
        if _price(found) != form.get("price"):
            raise HTTPException(409, f"This may cost {_price(found)} now. Nothing was decided; look again.")
        said |= {"at_most_usd": usd(money_of(found)), "unpriced": True}
    if form.get("how") == "found":
        said |= {"task_id": form.get("task_id").strip(), "unasked": form.get("unasked") == "yes"}
    try:
        wish = Resolution(**said)
    except ValidationError as wrong:
        raise HTTPException(422, "This is not a provider task's id, or a part of the form is missing.") from wrong
    await resolve_unknown(pages.door, form.by.token, name, wish)
    pages.texts.forget()
    return go("/unknown")


def _of_row(pages: PagesState, batch: str, key: str) -> list[UnknownAttempt]:
    found = pages.door.ledger.unknowns.all(batch, key) if "\0" not in key else []
    if not found:
        raise HTTPException(404, f"Nothing of row {key} of batch {batch} is unknown any more.")
    return found


def price_of(attempt: UnknownAttempt) -> str:
    """What it may have cost."""
    return money(attempt.money) if attempt.price_known else "price not known"


def _price(attempts: list[UnknownAttempt]) -> str:
    known = money(money_of(attempts))
    return known if all(each.price_known for each in attempts) else f"{known} and what is not known"
