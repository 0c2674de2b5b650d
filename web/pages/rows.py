"""Rows of a batch, and the story of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, HTTPException, Query, Request, Response

from jobs.formatting import money
from jobs.ledger.batches.values import Batch
from jobs.ledger.reports.values import Result, RowFilter, StoredImage, Story
from jobs.results.contact_sheet import has_picture
from jobs.results.rows import error_of, message_of
from jobs.results.story import Moment, asked, moments, money_words, next_words, where
from jobs.states import JobState
from web.pages.frame import PageRoute, fragment, page, rendered
from web.pages.visitors import PagesState, Sees, pages_of

routes = APIRouter(route_class=PageRoute, include_in_schema=False)

#: Rows that come at once, and characters of a search.
MOST, LONGEST = 60, 1_000
Key = Annotated[str, Query(max_length=4_000)]
State = Annotated[str, Query(max_length=20)]
Search = Annotated[str, Query(max_length=LONGEST)]
After = Annotated[str, Query(max_length=LONGEST)]

_TONES = {
    "green": "good",
    "bold green": "good",
    "red": "bad",
    "bold red": "bad",
    "yellow": "warn",
    "bold yellow": "warn",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RowLine:
    """A row of the list."""

    result: Result
    prompt: str
    cost: str
    error: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RowList:
    """Some rows of a batch, and how to come by the next."""

    batch: Batch
    lines: list[RowLine]
    next: str  # query of the next part; "": there is none
    state: str
    search: str


@routes.get("/batches/{name}/rows")
def show_rows(
    request: Request, visitor: Sees, name: str, state: State = "", search: Search = "", after: After = ""
) -> Response:
    """Rows by state and by how their keys begin; with `after` the next of them alone."""
    pages = pages_of(request)
    batch = pages.door.batch_of(name, visitor.token)
    rows = _rows(pages, batch, state, search, after)
    if after or "hx-request" in request.headers:
        return fragment(rendered("rows_part.html.j2", rows=rows))
    return page(request, visitor, "rows.html.j2", rows=rows, batch=batch, states=list(JobState))


def _rows(pages: PagesState, batch: Batch, state: str, search: str, after: str) -> RowList:
    if "\0" in search + after:
        raise HTTPException(422, "A key has no such character.")
    if batch.archive is not None:
        raise HTTPException(
            409, f"{batch.name} is archived: its rows are in its results, which its page has as a file."
        )
    states = (JobState(state),) if state in set(JobState) else ()
    try:
        found = pages.door.ledger.reports.rows(batch, RowFilter(states=states, prefix=search), after, MOST)
    except ValueError as wrong:
        raise HTTPException(422, "This address has a part that cannot be read.") from wrong
    asked_next = {"state": state, "search": search, "after": found.next or ""}
    return RowList(
        batch=batch,
        lines=[_line(each) for each in found.rows],
        next=urlencode({name: value for name, value in asked_next.items() if value}) if found.next else "",
        state=state if states else "",
        search=search,
    )


def _line(result: Result) -> RowLine:
    return RowLine(
        result=result,
        prompt=prompt_of(result),
        cost=money(result.cost) if result.cost is not None else "",
        error=error_of(result) or "",
        message=message_of(result) or "",
    )


def prompt_of(result: Result) -> str:
    """What its picture is to show."""
    return result.request.prompt if result.request else str(result.texts.get("prompt", ""))


@routes.get("/batches/{name}/row")
def show_row(request: Request, visitor: Sees, name: str, key: Key) -> Response:
    """One row: what was asked, what happened and when, what it cost, what happens next."""
    pages = pages_of(request)
    batch = pages.door.batch_of(name, visitor.token)
    story = pages.door.ledger.reports.story(name, key) if "\0" not in key else None
    if story is None:
        raise HTTPException(404, f"Batch {name} has no row with the key {key}.")
    return page(
        request,
        visitor,
        "row.html.j2",
        batch=batch,
        row=_line(story.result),
        where=where(story.result, batch),
        asked=asked(story.result.request) if story.result.request else "",
        moments=_told(story, batch),
        money=money_words(story, batch),
        next=next_words(story, batch),
        pictures=_pictures(story),
    )


def _told(story: Story, batch: Batch) -> list[Moment]:
    told = sorted(moments(story, batch), key=lambda moment: moment[0])
    return [(at, text, _TONES.get(style, "")) for at, text, style in told]


def _pictures(story: Story) -> list[tuple[StoredImage, str]]:
    """The stored images, the newest revision first, and what names each in an address."""
    found = (*story.result.images, *sorted(story.older, key=lambda image: -image.revision))
    return [(image, query_of(story.result.key, image)) for image in found if has_picture(image)]


def query_of(key: str, image: StoredImage) -> str:
    """What names an image within its batch, in an address."""
    return urlencode({"key": key, "index": image.slot, "revision": image.revision})
