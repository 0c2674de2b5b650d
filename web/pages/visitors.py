"""Who is at a page, and whether a form that was sent is one of ours.

A session is asked about anew at each request: a token that was revoked opens nothing from then on, nor does the
one-time link once a token is on record.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated
from urllib.parse import parse_qsl, urlencode, urlsplit

from fastapi import Depends, HTTPException, Request

from jobs.ledger.access.values import NO_TOKEN, Token
from jobs.policy.access import Role
from web.addresses import Addresses, is_at_this_machine, same_origin
from web.door import Door
from web.one_time_link import OneTimeLink
from web.pages.history import Histories
from web.pages.shared_text import SharedTexts
from web.sessions import ReadSession, Session, Sessions
from worker.runtime.who import who

#: Bytes and fields of a form; the largest of ours has a manifest's options.
LARGEST_FORM, MOST_FIELDS = 64 * 1024, 100
FORBIDDEN, MISDIRECTED, TOO_LARGE, UNREADABLE = 403, 421, 413, 422
#: The name of the field, and of the header, by which a form shows that it came from a page of its session.
FORM_TOKEN, FORM_HEADER = "form_token", "x-form-token"
#: What a page's path begins with: a log-in leads to no other.
PLACES = frozenset({"", "batches", "unknown", "accounts", "schedules", "workers", "stop", "new"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PagesState:
    """Kept as `app.state.pages`."""

    door: Door
    sessions: Sessions
    addresses: Addresses
    link: OneTimeLink | None  # None: it is not for this listener
    texts: SharedTexts
    histories: Histories

    def visitor(self, request: Request) -> Visitor | None:
        """Who it is. Blocks: to be called by `TokenCheck.ask`."""
        read = self.sessions.read(request)
        if read is None:
            return None
        said, form_token = read.session, self.sessions.form_token(read.session)
        if said.token_id is not None:
            token = self.door.tokens.of_id(said.token_id)
            if token is None:
                return None
            return Visitor(token=token, read=read, form_token=form_token)
        if self.link is None or said.opened_by != self.link.id or not is_at_this_machine(request) or self.has_tokens():
            return None
        return Visitor(token=_of_nobody(), read=read, form_token=form_token)

    def close(self) -> None:
        """Reads nothing any more, since the ledger is closed next."""
        self.histories.close()

    def has_tokens(self) -> bool:
        """Whether a token is on record. Blocks."""
        return self.door.ledger.access.is_any()


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Somebody who may see pages."""

    token: Token  # by the one-time link, `_of_nobody`
    read: ReadSession = field(repr=False)
    form_token: str = field(repr=False)

    @property
    def name(self) -> str:
        """By which he is known: the token's, or USER@HOST."""
        return self.token.name

    @property
    def role(self) -> Role:
        """What he may."""
        return self.token.role

    @property
    def is_producer(self) -> bool:
        """Whether it sees its own batches alone."""
        return self.role is Role.PRODUCER

    @property
    def acts(self) -> bool:
        """Whether it may change batches that it sees."""
        return self.role is not Role.VIEWER

    @property
    def operates(self) -> bool:
        """Whether it may do everything."""
        return self.role is Role.OPERATOR


def _of_nobody() -> Token:
    """Stands for the token of whoever sits at this machine while there is none."""
    return Token(
        id=NO_TOKEN,
        name=who(),
        role=Role.OPERATOR,
        prefix="",
        digest="",
        daily_budget=None,
        writes_to=None,
        reads=(),
        created_at=0.0,
        used_at=None,
        revoked_at=None,
    )


class NeedsLogIn(Exception):
    """Nobody is logged in, or not any more."""


def pages_of(request: Request) -> PagesState:
    """What pages share."""
    pages: PagesState = request.app.state.pages
    return pages


def demand_host(request: Request) -> None:
    """Raises `HTTPException` if a browser was led here by a name that is not ours."""
    if not pages_of(request).addresses.takes(request):
        raise HTTPException(
            MISDIRECTED, "These pages do not answer to this host name. lightfast serve --host-name NAME adds one."
        )


async def _visitor(request: Request) -> Visitor:
    demand_host(request)
    pages = pages_of(request)
    found = await pages.door.tokens.ask(pages.visitor, request)
    if found is None:
        raise NeedsLogIn
    return found


def _seer(*roles: Role) -> Callable[[Request], Awaitable[Visitor]]:
    async def seer(request: Request) -> Visitor:
        found = await _visitor(request)
        if found.role not in roles:
            raise HTTPException(FORBIDDEN, f"This is not for a {found.role.value}.")
        return found

    return seer


@dataclass(frozen=True, slots=True)
class Posted:
    """A form that somebody sent from a page of his own session."""

    by: Visitor
    fields: Mapping[str, str]

    def get(self, name: str) -> str:
        """A field; "" where it is not there."""
        return self.fields.get(name, "")


def _poster(*roles: Role) -> Callable[[Request], Awaitable[Posted]]:
    seer = _seer(*roles)

    async def poster(request: Request) -> Posted:
        by = await seer(request)
        fields = await read_form(request)
        demand_own_page(request, by.read.session, fields.get(FORM_TOKEN, ""))
        return Posted(by, fields)

    return poster


def demand_own_page(request: Request, session: Session, form_token: str) -> None:
    """Raises `HTTPException` if what was sent does not come from a page of the session."""
    if not (same_origin(request) and pages_of(request).sessions.is_form_token(session, form_token)):
        raise HTTPException(
            FORBIDDEN, "This form did not come from a page of yours. Open the page again, and repeat it."
        )


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a small form, each once.

    Raises:
        HTTPException: It is none, or too large.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise HTTPException(UNREADABLE, "This is not a form.")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_FORM:
            raise HTTPException(TOO_LARGE, "This form is too large.")
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict"))
    except ValueError as error:
        raise HTTPException(UNREADABLE, "This form cannot be read.") from error


def place_to_go(path: str) -> str:
    """Where a log-in leads: a page of ours by its path, whatever was asked for; else the first one."""
    if not path.isprintable() or "\\" in path or not path.startswith("/") or path.startswith("//"):
        return "/"
    try:
        parts = urlsplit(path)
    except ValueError:
        return "/"
    if parts.scheme or parts.netloc or parts.path.split("/")[1] not in PLACES:
        return "/"
    return path


def asked_for(request: Request) -> str:
    """The path of a request, with its query."""
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def log_in_path(request: Request) -> str:
    """Where somebody logs in who wanted to see this page."""
    wanted = asked_for(request) if request.method == "GET" else "/"
    return "/login" if place_to_go(wanted) == "/" else f"/login?{urlencode({'next': wanted})}"


#: What a route takes: whoever may see it, or has sent a form and may do what it says.
Sees = Annotated[Visitor, Depends(_seer(*Role))]
SeesAll = Annotated[Visitor, Depends(_seer(Role.VIEWER, Role.OPERATOR))]
Makes = Annotated[Visitor, Depends(_seer(Role.PRODUCER, Role.OPERATOR))]
Operates = Annotated[Visitor, Depends(_seer(Role.OPERATOR))]
FormOfMaker = Annotated[Posted, Depends(_poster(Role.PRODUCER, Role.OPERATOR))]
FormOfOperator = Annotated[Posted, Depends(_poster(Role.OPERATOR))]
FormOfAnybody = Annotated[Posted, Depends(_poster(*Role))]
