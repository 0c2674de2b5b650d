"""A batch as it goes, by the API: Server-Sent Events."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from web.api.problems import ApiRoute, problems
from web.callbacks.connection_limits import take_long_answer
from web.door import TheDoor, WhoSees

routes = APIRouter(
    prefix="/api/v1/batches/{batch}",
    tags=["batches"],
    responses=problems(),
    route_class=ApiRoute,
)

MEDIA_TYPE = "text/event-stream"
#: Nobody keeps a copy, and a proxy (nginx) gives each event on at once.
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff"}
OVER = 204
LastEventId = Annotated[str, Header(max_length=100, description="`id` of the last event that was heard.")]
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": {MEDIA_TYPE: {}}, "description": "Events, until the batch is over."},
    OVER: {"description": "The batch is over, and its last event was heard."},
}


@routes.get("/events", response_class=StreamingResponse, responses=RESPONSES)
async def listen(
    door: TheDoor, token: WhoSees, request: Request, batch: str, last_event_id: LastEventId = ""
) -> Response:
    """An event `progress` with the batch and its counts: now, and when they have changed, until the batch is over."""
    take_long_answer(request)
    found = await run_in_threadpool(door.batch_of, batch, token)
    if last_event_id and await door.events.has_ended(found, last_event_id):
        return Response(status_code=OVER)
    return StreamingResponse(door.events.listen(found, token, last_event_id), media_type=MEDIA_TYPE, headers=HEADERS)
