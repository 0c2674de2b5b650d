"""Rows of a batch by the API: page by page, filtered and searched, and the story of one."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query

from jobs.errors import CODES
from jobs.ledger.batches.values import Batch
from jobs.ledger.reports.values import RowFilter
from jobs.results.rows import HELD_CODE, Address, choose_columns, own_values, plain_address, public_address, row_values
from jobs.results.story import document as story_document
from jobs.results.writers import as_json
from jobs.states import JobState
from web.api.problems import ApiRoute, problems
from web.door import NOT_NOW, NOT_THERE, UNREADABLE, Door, TheDoor, WhoSees

#: Rows of a page, and the most that may be asked for.
PAGE, MOST = 50, 200
#: Characters of a key to search for, and of what a page says of the next one.
LONGEST = 1_000

Document = dict[str, Any]
State = Annotated[JobState | None, Query(description="Only rows in this state.")]
ErrorCode = Annotated[str, Query(description="Only rows that ended with this code.", max_length=LONGEST)]
Search = Annotated[
    str, Query(description="Only rows whose key begins so; they come by their keys.", max_length=LONGEST)
]
After = Annotated[str, Query(description="`next` of the page before, with the same filter.", max_length=LONGEST)]
Limit = Annotated[int, Query(ge=1, le=MOST, description="Rows of a page, at most.")]

routes = APIRouter(prefix="/api/v1/batches/{batch}", tags=["rows"], responses=problems(), route_class=ApiRoute)


@routes.get("/rows")
def list_rows(  # noqa: PLR0913, PLR0917  one parameter a filter
    door: TheDoor,
    token: WhoSees,
    batch: str,
    state: State = None,
    error: ErrorCode = "",
    search: Search = "",
    after: After = "",
    limit: Limit = PAGE,
) -> Document:
    """Rows in the manifest's order, as `lightfast results --format jsonl` writes them.

    A page looks at a bounded number of rows: where few fit a filter it may hold fewer than asked for, or none, and yet
    name a `next` one.
    """
    found = door.batch_of(batch, token)
    if error and error not in CODES:
        raise HTTPException(UNREADABLE, f"error: there is no code {error}")
    if "\0" in search + after:
        raise HTTPException(UNREADABLE, "search, after: a key has no such character")
    if found.archive is not None:
        raise HTTPException(NOT_NOW, f"{batch} is archived: its rows are told by its results, and each by its key")
    wish = RowFilter(states=(state,) if state else (), error=error, is_held_code=error == HELD_CODE, prefix=search)
    try:
        page = door.ledger.reports.rows(found, wish, after, limit)
    except ValueError as wrong:
        raise HTTPException(UNREADABLE, "after: the `next` of a page before") from wrong
    columns, address = choose_columns(None, found.columns), address_in(door, found)
    rows = [as_json(columns, own_values(row) | row_values(row, address)) for row in page.rows]
    return {"rows": rows, "next": page.next}


@routes.get("/rows/{key:path}")
def get_row(door: TheDoor, token: WhoSees, batch: str, key: str) -> Document:
    """One row and all that happened to it, as `lightfast why BATCH KEY --json` tells it."""
    found = door.batch_of(batch, token)
    story = door.ledger.reports.story(batch, key) if "\0" not in key else None
    if story is None:
        raise HTTPException(NOT_THERE, f"{batch} has no row {key} that stands for a job")
    return {"batch": batch, **story_document(story, found)}


def address_in(door: Door, batch: Batch) -> Address:
    """Addresses of the batch's images: below the public URL, or as the destination names them."""
    storage = door.settings.storage
    if storage.public_url:
        return public_address(storage.public_url, batch.dest, storage.to)
    return plain_address(batch.dest)
