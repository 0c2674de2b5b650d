"""A new batch: a manifest is dropped, its plan and its price are shown, and who agrees lets it go.

The browser keeps the file and sends it again with the word to go: no server has to keep what may never be wanted, and
any process of a cluster can answer. What was agreed to is the most that the plan named, as in a terminal.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response

from web.api.new_batches import of_form, record_for, refusal
from web.callbacks.connection_limits import take_long_answer
from web.pages.frame import PageRoute, fragment, go, page, problems_of, rendered
from web.pages.visitors import FORM_TOKEN, Makes, PagesState, Visitor, demand_own_page, pages_of
from web.planners import ManifestReading
from web.uploads import Upload
from worker.registration.acceptance import NotAccepted, demand
from worker.registration.options import in_fields
from worker.registration.plan_document import plan_document
from worker.registration.preflight import Preflight

routes = APIRouter(route_class=PageRoute, include_in_schema=False)

#: Bad rows that are shown.
MOST_BAD = 20
#: Fields of the form that are ticked, and so are there or not.
TICKED = ("skip_bad", "buy_again", "partial")
#: What the form calls the fields of the API.
LABELS = {
    "batch": "Name",
    "to": "Destination",
    "budget_usd": "Budget",
    "prompt": "Prompt",
    "model": "Model",
    "provider": "Provider",
    "ratio": "Ratio",
    "resolution": "Resolution",
    "skip_bad": "Make the good rows where some are bad",
    "partial": "Work until the budget is used",
    "reuse": "Take images that were made already, for nothing",
    "buy_again": "Pay again for requests that were made already",
}
_FIELD = re.compile(r"`(\w+)`")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownPlan:
    """A plan, and what keeps it from going."""

    document: dict[str, Any]
    is_estimate: bool  # images are billed by usage: their price is what they are likely to cost
    problems: tuple[str, ...]  # none: it can go


@routes.get("/new")
def show_new(request: Request, visitor: Makes) -> Response:
    """The form."""
    settings = pages_of(request).door.settings
    to = visitor.token.writes_to or settings.storage.to
    return page(request, visitor, "new.html.j2", labels=LABELS, to=to, needs_to=not to)


@routes.post("/new/plan")
async def plan_new(request: Request, visitor: Makes) -> Response:
    """The plan, as a part of the page. Spends and records nothing."""
    pages = pages_of(request)
    async with _received(request, visitor) as upload:
        try:
            plan = await of_form(pages.door, visitor.token, upload, _said(upload), _plan, request.is_disconnected)
        except HTTPException as refused:
            return fragment(rendered("new_plan.html.j2", plan=None, problems=_in_labels(problems_of(refused))))
    return fragment(rendered("new_plan.html.j2", plan=plan, problems=plan.problems))


def _plan(preflight: Preflight, _agreed: int | None, _reading: ManifestReading) -> ShownPlan:
    problems: tuple[str, ...] = ()
    try:
        demand(preflight)
    except NotAccepted as refused:
        problems = _in_labels(refusal(refused)["problems"])
    document, is_estimate = plan_document(preflight), any(line.assumed for line in preflight.seen.routes)
    return ShownPlan(document=in_fields(document), is_estimate=is_estimate, problems=problems)


@routes.post("/new")
async def make_new(request: Request, visitor: Makes) -> Response:
    """Records the batch, by the API's own rules, where it may cost no more than the plan named."""
    pages = pages_of(request)
    async with _received(request, visitor) as upload:
        try:
            record = record_for(pages.door, visitor.token)
            batch = await of_form(pages.door, visitor.token, upload, _said(upload), record)
        except HTTPException as refused:
            raise HTTPException(refused.status_code, "\n".join(_in_labels(problems_of(refused)))) from refused
    pages.texts.forget()
    return go(f"/batches/{batch['batch']}")


def _in_labels(problems: Sequence[str]) -> tuple[str, ...]:
    """Problems in the words of the form."""
    return tuple(_FIELD.sub(lambda found: f"“{LABELS.get(found[1], found[1])}”", each) for each in problems)


@contextlib.asynccontextmanager
async def _received(request: Request, visitor: Visitor) -> AsyncIterator[Upload]:
    """The manifest, from a form of the visitor's own page."""
    take_long_answer(request)
    pages: PagesState = pages_of(request)
    async with pages.door.uploads.received(request, "manifest", visitor.token) as upload:
        demand_own_page(request, visitor.read.session, upload.field(FORM_TOKEN))
        yield upload


def _said(upload: Upload) -> dict[str, Any]:
    """What was filled in; the browser sends empty fields, too."""
    said = {name: values[-1].strip() for name, values in upload.fields.items() if name != FORM_TOKEN}
    return {name: name in TICKED or value for name, value in said.items() if value}
