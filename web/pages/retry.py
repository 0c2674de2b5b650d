"""Rows that ended badly, tried again: how many, for how much, and whether that is meant."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from jobs.formatting import count, money, usd
from web.api.retry import Retry, retry_batch
from web.pages.frame import PageRoute, go, page
from web.pages.visitors import FormOfMaker, Makes, pages_of
from worker.registration.again import RetryPlan, RetryWish, plan_retry

routes = APIRouter(route_class=PageRoute, include_in_schema=False)
Key = Annotated[str, Query(max_length=4_000, pattern=r"^[^\x00]*$")]


@routes.get("/batches/{name}/retry")
def ask_retry(request: Request, visitor: Makes, name: str, key: Key = "") -> Response:
    """What it would cost; `key`: of one row."""
    pages = pages_of(request)
    batch = pages.door.batch_of(name, visitor.token)
    wish, mine = RetryWish(keys=[key] if key else None), visitor.token.id if visitor.is_producer else None
    plan = plan_retry(pages.door.ledger, pages.door.settings, batch, wish, mine)
    fields = {"key": key, "cost": plan.cost, "buy_again": "yes" if plan.is_bought_twice else ""}
    words = list(_words(plan))
    return page(request, visitor, "retry.html.j2", batch=batch, key=key, plan=plan, words=words, fields=fields)


def _words(plan: RetryPlan) -> list[str]:
    if not plan.rows:
        return ["No row can be tried again as it is: none failed or was lost, or the same request is refused again."]
    unpriced = f" and {count(plan.unpriced, 'image')} whose price is not known" if plan.unpriced else ""
    told = [f"{count(plan.rows, 'row')} tried again. That costs at most {money(plan.cost)}{unpriced}."]
    if plan.rows > plan.paid_rows:
        told.append(
            f"{count(plan.rows - plan.paid_rows, 'row')} of these take images that were made elsewhere, for nothing."
        )
    if plan.is_bought_twice:
        told.append("Other batches have made, or will buy, most of these requests: they would be paid twice.")
    return told


@routes.post("/batches/{name}/retry")
def retry(request: Request, form: FormOfMaker, name: str) -> Response:
    """Begins them, by the API's own rules, for no more than the page named."""
    pages = pages_of(request)
    cost, key = form.get("cost"), form.get("key")
    wish = Retry(
        at_most_usd=usd(int(cost)) if cost.isascii() and cost.isdigit() and len(cost) <= _DIGITS else 0.0,
        keys=[key] if key else None,
        buy_again=form.get("buy_again") == "yes",
        unpriced=form.by.operates,
    )
    retry_batch(pages.door, form.by.token, name, wish)
    pages.texts.forget()
    return go(f"/batches/{name}")


#: Of an amount in micro-dollars.
_DIGITS = 15
