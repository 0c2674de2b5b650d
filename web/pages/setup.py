"""Puts the pages into the server's app."""

from __future__ import annotations

from fastapi import FastAPI

from web import assets
from web.addresses import Addresses
from web.door import Door
from web.headers import SafeHeaders
from web.one_time_link import OneTimeLink
from web.pages import (
    accounts,
    batch,
    batches,
    log_in,
    new_batch,
    pictures,
    retry,
    rows,
    schedules,
    stop,
    unknown,
    workers,
)
from web.pages.history import Histories
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
        histories=Histories(door.open),
    )
    app.add_middleware(SafeHeaders)
    parts = (
        assets,
        log_in,
        batches,
        new_batch,
        rows,
        pictures,
        retry,
        unknown,
        accounts,
        schedules,
        workers,
        stop,
        batch,
    )
    for each in parts:
        app.include_router(each.routes)
