"""A browser of few words for tests of pages: it keeps cookies, and sends the forms that it was given."""

from __future__ import annotations

import html
import re

from httpx import Response
from starlette.testclient import TestClient

FORM_TOKEN = re.compile(r'name="form_token" value="([^"]+)"')


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
