"""Manifests are read few at once, each token's in its turn; who leaves and a server that ends stop the reading."""

from __future__ import annotations

import asyncio
import threading

import pytest
from fastapi import HTTPException

from jobs.errors import BadInput, LightfastError
from tests.support.patience import AT_LAST, soon
from web import planners
from web.planners import Planners

ME, OTHER = 1, 2


@pytest.fixture
async def reads(monkeypatch):
    monkeypatch.setattr(planners, "LOOK_EVERY", 0.01)
    made = Planners()
    yield made
    made.close()


class Large:
    """A manifest that is read until it is let go, or told to end."""

    def __init__(self):
        self.is_begun, self.is_free = threading.Event(), threading.Event()

    def __call__(self, reading):
        self.is_begun.set()
        while not self.is_free.wait(0.01):  # real time: between two rows
            reading.rows_read(500)
        return "read"


async def test_a_token_s_large_manifests_keep_nobody_else_s_waiting(reads):
    large = [Large() for _ in range(4)]
    mine = [asyncio.create_task(reads.run(ME, each)) for each in large]
    await soon(large[0].is_begun.is_set)

    assert await reads.run(OTHER, lambda _: "other") == "other"
    assert [each.is_begun.is_set() for each in large] == [True, False, False, False]
    for each in large:
        each.is_free.set()
    assert await asyncio.gather(*mine) == ["read"] * 4


async def test_only_so_many_of_a_token_wait(reads, monkeypatch):
    monkeypatch.setattr(planners, "OF_ONE", 1)
    large = Large()
    mine = [asyncio.create_task(reads.run(ME, large)) for _ in range(2)]
    await soon(large.is_begun.is_set)

    with pytest.raises(HTTPException) as told:
        await reads.run(ME, large)

    assert told.value.status_code == 503
    large.is_free.set()
    await asyncio.gather(*mine)


async def test_nothing_is_read_on_for_who_has_left(reads):
    async def is_left():
        return True

    with pytest.raises(LightfastError):
        await reads.run(ME, Large(), is_left)
    assert await reads.run(ME, lambda _: "next") == "next"


async def test_a_server_that_ends_waits_for_no_manifest(monkeypatch):
    reads, large = Planners(), Large()
    mine = asyncio.create_task(reads.run(ME, large))
    await soon(large.is_begun.is_set)

    await asyncio.wait_for(asyncio.to_thread(reads.close), AT_LAST)

    with pytest.raises(LightfastError):
        await mine


async def test_a_request_that_is_broken_off_gives_its_manifest_up(reads):
    large = Large()
    mine = asyncio.create_task(reads.run(ME, large))
    await soon(large.is_begun.is_set)

    mine.cancel()

    assert await reads.run(ME, lambda _: "next") == "next"
    await asyncio.wait_for(asyncio.to_thread(reads.close), AT_LAST)


async def test_a_manifest_that_takes_too_long_is_refused(reads, monkeypatch):
    monkeypatch.setattr(planners, "LONGEST", 0.0)

    with pytest.raises(BadInput, match="lightfast submit"):
        await reads.run(ME, Large())
