"""Logging in and out: with a token, or by the one-time link while there is none."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request, Response

from jobs.ledger.access.values import NewLogEntry
from web.addresses import is_at_this_machine
from web.one_time_link import PATH, OneTimeLink
from web.pages.frame import UNAUTHORIZED, PageRoute, bare_page, go
from web.pages.visitors import (
    FORM_TOKEN,
    FormOfAnybody,
    PagesState,
    demand_host,
    demand_own_page,
    pages_of,
    place_to_go,
    read_form,
)
from web.sessions import Session
from worker.runtime.who import who

routes = APIRouter(route_class=PageRoute, include_in_schema=False)

LOG_IN, LOG_OUT = "/login", "/logout"
Next = Annotated[str, Query(alias="next")]
Code = Annotated[str, Query()]


@routes.get(LOG_IN)
async def show_log_in(request: Request, to: Next = "/") -> Response:
    """Asks for a token."""
    return await _asked(request, place_to_go(to))


@routes.post(LOG_IN)
async def log_in(request: Request) -> Response:
    """Begins a session, if the token is right. A wrong one is answered late, as everywhere."""
    pages, form = await _form(request)
    to = place_to_go(form.get("next", "/"))
    try:
        token = await pages.door.tokens.named(form.get("token", "").strip())
    except HTTPException as wrong:
        if wrong.status_code != UNAUTHORIZED:
            raise
        return await _asked(request, to, told="This token is wrong, or revoked.")
    answer = go(to)
    pages.sessions.write(request, answer, pages.sessions.begin(token_id=token.id))
    entry = NewLogEntry(who=token.name, token_id=token.id, action="log in")
    await pages.door.tokens.ask(lambda: pages.door.ledger.access.note(entry, pages.door.now))
    return answer


@routes.post(LOG_OUT)
async def log_out(request: Request, form: FormOfAnybody) -> Response:
    """Ends the session."""
    answer, pages = go(LOG_IN), pages_of(request)
    await pages.door.tokens.ask(pages.sessions.end, request, answer, form.by.read.session)
    return answer


@routes.get(PATH)
async def show_open(request: Request, code: Code = "") -> Response:
    """The page of the one-time link: a button, which uses it up. Whom it has opened the pages for is led there."""
    demand_host(request)
    pages = pages_of(request)
    link = await _demand_link(pages, request)
    session = await pages.door.tokens.ask(_anonymous, pages, request)
    if link.is_used:
        if session.opened_by == link.id:
            return go("/")
        raise _used_up()
    answer = bare_page(request, "open.html.j2", code=code, form_token=pages.sessions.form_token(session), who=who())
    pages.sessions.write(request, answer, session)
    return answer


@routes.post(PATH)
async def open_pages(request: Request) -> Response:
    """Uses the link up, and begins an operator's session."""
    pages, form = await _form(request)
    link = await _demand_link(pages, request)
    if not link.use(form.get("code", "")):
        await pages.door.tokens.make_wait()
        raise _used_up()
    answer = go("/")
    pages.sessions.write(request, answer, pages.sessions.begin(opened_by=link.id))
    entry = NewLogEntry(who=who(), action="log in", detail={"by": "the one-time link"})
    await pages.door.tokens.ask(lambda: pages.door.ledger.access.note(entry, pages.door.now))
    return answer


def _used_up() -> HTTPException:
    return HTTPException(UNAUTHORIZED, "This link was used before, or is wrong. A new one comes with a new start.")


async def _demand_link(pages: PagesState, request: Request) -> OneTimeLink:
    opens = pages.link is not None and is_at_this_machine(request)
    if pages.link is None or not opens or await pages.door.tokens.ask(pages.has_tokens):
        raise HTTPException(404, "There is no one-time link here. Log in with a token.")
    return pages.link


async def _asked(request: Request, to: str, told: str = "") -> Response:
    demand_host(request)
    pages = pages_of(request)
    has_tokens = await pages.door.tokens.ask(pages.has_tokens)
    session = await pages.door.tokens.ask(_anonymous, pages, request)
    token, status = pages.sessions.form_token(session), UNAUTHORIZED if told else 200
    answer = bare_page(
        request, "log_in.html.j2", status=status, to=to, told=told, has_tokens=has_tokens, form_token=token
    )
    pages.sessions.write(request, answer, session)
    return answer


async def _form(request: Request) -> tuple[PagesState, dict[str, str]]:
    """A form of somebody who is not logged in yet: his page had a session all the same."""
    demand_host(request)
    pages, form = pages_of(request), await read_form(request)
    read = await pages.door.tokens.ask(pages.sessions.read, request)
    if read is None:
        raise HTTPException(403, "The browser keeps no cookies, or the page is old. Open it again.")
    demand_own_page(request, read.session, form.get(FORM_TOKEN, ""))
    return pages, form


def _anonymous(pages: PagesState, request: Request) -> Session:
    """The session of a browser that is not logged in; one that is stays as it is until another token is named."""
    read = pages.sessions.read(request)
    return read.session if read is not None else pages.sessions.begin()
