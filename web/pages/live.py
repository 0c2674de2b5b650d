"""Parts of pages that are alive: asked for again and again while somebody looks, and answered only when they differ."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request, Response

from web.pages.frame import NO_STORE, fragment
from web.pages.shared_text import SharedText
from web.pages.visitors import pages_of

#: Which version of a part a page has.
Version = Annotated[str, Query(max_length=64)]
UNCHANGED = 204
EVERY = "X-Look-Every"


def answer_look(request: Request, part: SharedText, version: str) -> Response:
    """The part, or that it is as it was; and when to look again."""
    every = f"{pages_of(request).texts.interval():.2f}"
    if part.version == version:
        return Response(status_code=UNCHANGED, headers={"Cache-Control": NO_STORE, EVERY: every})
    return fragment(part.text, **{EVERY: every})
