"""The emergency stop: what it does, and the button."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from web.pages.frame import PageRoute, go, page
from web.pages.visitors import FormOfOperator, Operates, pages_of
from worker.runtime.on_the_wire import SKIPPED, on_the_wire, settled

routes = APIRouter(route_class=PageRoute, include_in_schema=False)

STOP = (
    "From that moment on no worker sends anything new for any batch: nothing more is paid.",
    "What is paid goes on: it is polled, copied and stored.",
    "Submits that are claimed and not sent are given back. Those on the wire are waited for: they may be paid.",
)
LIFT = (
    "Submits go on, except of batches that were paused one by one.",
    "What waits may be bought, each batch within its budget.",
)


@routes.get("/stop")
def show_stop(request: Request, visitor: Operates) -> Response:
    """What stands, and what the button does."""
    ledger = pages_of(request).door.ledger
    stopped = ledger.emergency_stop.current()
    words = [*(LIFT if stopped else STOP), *([SKIPPED] if ledger.schedules.all() and not stopped else [])]
    return page(request, visitor, "stop.html.j2", stopped=stopped, words=words)


@routes.post("/stop")
def stop_all(request: Request, form: FormOfOperator) -> Response:
    """Stops all submits. Answers when it is known which claimed submits were sent and which were not."""
    pages = pages_of(request)
    ledger = pages.door.ledger
    stopped = ledger.emergency_stop.begin(pages.door.now, form.by.name)
    pages.door.note(form.by.token, "emergency stop")
    told = on_the_wire(ledger, settled(ledger, stopped.claimed))
    pages.texts.forget()
    return page(request, form.by, "stopped.html.j2", told=told)


@routes.post("/stop/lift")
def lift_stop(request: Request, form: FormOfOperator) -> Response:
    """Submits go on."""
    pages = pages_of(request)
    pages.door.ledger.schedules.fall_due(pages.door.now)  # while the stop stands: these are skipped
    pages.door.ledger.emergency_stop.lift()
    pages.door.note(form.by.token, "emergency stop lifted")
    pages.door.wake_submits()
    pages.texts.forget()
    return go("/")
