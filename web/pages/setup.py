"""Puts the pages into the server's app."""

from __future__ import annotations

from fastapi import FastAPI

from web import assets
from web.addresses import Addresses
from web.door import Door
from web.headers import SafeHeaders
from web.one_time_link import OneTimeLink
from web.pages import batches, log_in, stop, workers
from web.pages.shared_text import SharedTexts
from web.pages.visitors import PagesState
from web.sessions import Sessions


def add_pages(app: FastAPI, door: Door, addresses: Addresses, link: OneTimeLink | None) -> None:
    """Adds the pages, and the headers of every answer. `link`: None: nobody comes in without a token."""
    app.state.pages = PagesState(
        door=door,
        sessions=Sessions(door.open),
        addresses=addresses,
        link=link,
        texts=SharedTexts(),
    )
    app.add_middleware(SafeHeaders)
    for each in (assets, log_in, batches, workers, stop):
        app.include_router(each.routes)
