"""What all pages share: templates, the frame around each, and what is shown where something goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import jinja2
from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute

from jobs import formatting
from jobs.errors import BadInput, LightfastError
from jobs.ledger import is_away
from jobs.results.sentences import stop_line
from providers.types import MICROS
from web import assets
from web.pages.visitors import NeedsLogIn, Visitor, asked_for, log_in_path, pages_of, place_to_go

NO_STORE = "no-store"
SEE_OTHER, UNAUTHORIZED = 303, 401
TITLES = {
    400: "Not possible",
    401: "Log in",
    402: "Too expensive",
    403: "Not allowed",
    404: "Not found",
    409: "Not possible now",
    413: "Too large",
    421: "Another host",
    422: "Not understood",
    429: "Too many tries",
    503: "The ledger does not answer",
}


def _shown(value: Any) -> Any:
    """What comes from manifests and providers is shown, not obeyed: also marks that turn text around."""
    return formatting.plain(value) if type(value) is str else value


def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    made.globals["asset"] = assets.address
    made.filters |= {
        "money": formatting.money,
        "count": formatting.count,
        "size": formatting.size,
        "when": formatting.day_and_minute,
        "moment": formatting.day_and_time,
        "utc": formatting.utc,
        "lasting": formatting.duration,
        "shorten": formatting.shorten,
        "usd": lambda dollars: formatting.money(round(dollars * MICROS)),
        "number": lambda value: f"{value:,}",
    }
    return made


_TEMPLATES = _environment()


def rendered(template: str, **values: Any) -> str:
    """A template, filled in."""
    return _TEMPLATES.get_template(template).render(**values)


def page(request: Request, visitor: Visitor, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A whole page for somebody who is logged in; a session in use lives on. Reads the ledger."""
    pages = pages_of(request)
    stop = pages.door.ledger.emergency_stop.current()
    frame = {"visitor": visitor, "stop": stop and stop_line(stop), "path": request.url.path, "has_new": True}
    answer = _framed(request, template, status, **frame, **values)
    pages.sessions.renew(request, answer, visitor.read)
    return answer


def bare_page(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A page for somebody who is not logged in."""
    return _framed(request, template, status, visitor=None, stop=None, path="", **values)


def fragment(text: str, **headers: str) -> HTMLResponse:
    """A part of a page that was rendered before."""
    return HTMLResponse(text, headers={"Cache-Control": NO_STORE, **headers})


def go(path: str) -> RedirectResponse:
    """Leads to another page after a form."""
    return RedirectResponse(path, SEE_OTHER, headers={"Cache-Control": NO_STORE})


def _framed(request: Request, template: str, status: int, **values: Any) -> HTMLResponse:
    """A page that says where nothing is bought: this whole ledger, or its batch, is the stand-in's."""
    is_sandbox = pages_of(request).door.settings.is_sandbox or getattr(values.get("batch"), "sandbox", False)
    return HTMLResponse(rendered(template, is_sandbox=is_sandbox, **values), status, {"Cache-Control": NO_STORE})


class PageRoute(APIRoute):
    """A route whose troubles are told as a page."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler."""
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                return await handle(request)
            except NeedsLogIn:
                return _log_in(request)
            except Exception as trouble:
                if (answer := _answer_to(request, trouble)) is None:
                    raise
                return answer

        return handler


def _answer_to(request: Request, trouble: Exception) -> Response | None:
    """What is shown where a page cannot be, or something was not done; None: it is our own mistake."""
    if isinstance(trouble, HTTPException):
        return _trouble(request, trouble.status_code, "\n".join(problems_of(trouble)), trouble.headers)
    if isinstance(trouble, RequestValidationError):
        return _trouble(request, 422, "This address has a part that cannot be read.")
    if isinstance(trouble, LightfastError):
        return _trouble(request, 409 if isinstance(trouble, BadInput) else 503, str(trouble))
    return _trouble(request, 503, "Look again in a moment.") if is_away(trouble) else None


def problems_of(refused: HTTPException) -> list[str]:
    """What the API says where it does not do something, in lines."""
    if not isinstance(refused.detail, dict):
        return [str(refused.detail)]
    problems: list[str] = refused.detail.get("problems") or [str(refused.detail.get("message"))]
    return problems


def _log_in(request: Request) -> Response:
    """Where to log in. A browser that followed a link of another site sends its cookie only from a page of ours on."""
    if "hx-request" in request.headers:
        return Response(status_code=UNAUTHORIZED, headers={"HX-Redirect": log_in_path(request)})
    if request.method == "GET" and request.headers.get("sec-fetch-site") == "cross-site":
        return bare_page(request, "once_more.html.j2", again=place_to_go(asked_for(request)))
    return go(log_in_path(request))


def _trouble(request: Request, status: int, told: str, headers: Any = None) -> Response:
    title = TITLES.get(status, "Something went wrong")
    answer = bare_page(request, "trouble.html.j2", status=status, title=title, told=told)
    answer.headers.update(headers or {})
    return answer
