"""Programs and browsers of few words that visit a server: a browser keeps cookies, and sends the forms it was given."""

from __future__ import annotations

import contextlib
import html
import re
from collections.abc import Callable, Iterator

from httpx import Response
from starlette.testclient import TestClient

from jobs.ledger import open_ledger
from jobs.settings.model import Settings
from web.app import WebLedger, make_app

FORM_TOKEN = re.compile(r'name="form_token" value="([^"]+)"')


@contextlib.contextmanager
def api_client(
    ledger_url: str, wake: Callable[[str], object] = lambda _lane: None, settings: Settings | None = None
) -> Iterator[TestClient]:
    """A program's way to a server of its own on this ledger."""
    opened = WebLedger(lambda: open_ledger(ledger_url))
    with contextlib.closing(opened), TestClient(make_app(opened, wake, settings)) as client:
        yield client


def browser(app, **options) -> TestClient:
    """At the machine itself, by its own name."""
    return TestClient(app, **{"base_url": "http://localhost", "client": ("127.0.0.1", 50_000), **options})


def form_token(answer: Response) -> str:
    found = FORM_TOKEN.search(answer.text)
    assert found, answer.text
    return html.unescape(found[1])


def log_in(at: TestClient, token: str, code: int = 303, to: str = "/", **headers: str) -> Response:
    """Fills in the log-in."""
    asked = at.get("/login", params={"next": to})
    fields = {"form_token": form_token(asked), "token": token, "next": to}
    answer = at.post("/login", data=fields, headers=headers, follow_redirects=False)
    assert answer.status_code == code, answer.text
    return answer


def send(at: TestClient, path: str, status: int = 303, *, page: str | None = None, **fields: str) -> Response:
    """Opens the page with the form, and sends it."""
    asked = at.get(page or path)
    assert asked.status_code == 200, asked.text
    answer = at.post(path, data={"form_token": form_token(asked), **fields}, follow_redirects=False)
    assert answer.status_code == status, answer.text
    return answer
