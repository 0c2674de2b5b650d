"""Workers and destinations: who works, and where images go."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter, Request, Response

from jobs.formatting import duration
from jobs.ledger.accounts.worker_values import DestinationTrouble
from jobs.policy.copy_headroom import Backlog, least_slack, pace
from jobs.policy.liveness import LISTED_FOR, SEEN_WITHIN
from jobs.results.sentences import trouble_line
from web.pages.frame import PageRoute, page, rendered
from web.pages.live import Version, answer_look
from web.pages.shared_text import SharedText
from web.pages.visitors import PagesState, SeesAll, pages_of

routes = APIRouter(route_class=PageRoute, include_in_schema=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationLine:
    """A destination with images to be copied, or with trouble."""

    dest: str
    backlog: Backlog | None
    a_second: float | None  # copies
    slack: str  # how long its tightest link has
    troubles: list[str]


@routes.get("/workers")
def show_workers(request: Request, visitor: SeesAll) -> Response:
    """The workers and the destinations."""
    return page(request, visitor, "workers.html.j2", part=_part(pages_of(request)).text)


@routes.get("/workers/live")
def look_at_workers(request: Request, _visitor: SeesAll, v: Version = "") -> Response:
    """The same alone, if it is another than the one of that version."""
    return answer_look(request, _part(pages_of(request)), v)


def _part(pages: PagesState) -> SharedText:
    return pages.texts.get("workers", lambda: _rendered(pages))


def _rendered(pages: PagesState) -> str:
    ledger, now = pages.door.ledger, pages.door.now
    workers = [
        (each, now - each.seen_at, now - each.seen_at <= SEEN_WITHIN) for each in ledger.workers.seen(now, LISTED_FOR)
    ]
    backlogs = ledger.destinations.backlogs(now)
    troubles: dict[str, list[DestinationTrouble]] = {}
    for each in ledger.destinations.troubles(now):
        troubles.setdefault(each.dest, []).append(each)
    lines = [_line(dest, backlogs.get(dest), troubles.get(dest, []), now) for dest in sorted({*backlogs, *troubles})]
    held = ledger.is_held() if ledger.is_sqlite else None
    return rendered(
        "workers_part.html.j2", workers=workers, lines=lines, held=held, served=ledger.is_served() if held else False
    )


def _line(dest: str, backlog: Backlog | None, troubles: list[DestinationTrouble], now: float) -> DestinationLine:
    a_second = pace(backlog, 0.0) if backlog else None
    spare = least_slack(backlog, a_second, now) if backlog and a_second else None
    slack = "" if spare is None else duration(spare) if spare > 0 else "none: it would die before its copy"
    return DestinationLine(
        dest=dest, backlog=backlog, a_second=a_second, slack=slack, troubles=[trouble_line(each) for each in troubles]
    )
