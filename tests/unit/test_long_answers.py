"""Long answers are made as fast as they are read, and not at all when nobody reads them."""

from __future__ import annotations

import threading

import pytest
from fastapi import HTTPException

from tests.support.patience import soon
from web import streams
from web.streams import LongAnswers, ReaderGoneError

ME, OTHER = 1, 2


@pytest.fixture
async def answers():
    made = LongAnswers()
    yield made
    made.close()


async def test_an_answer_comes_whole_and_in_order(answers):
    def write(file):
        for number in range(50_000):
            file.write(b"%d\n" % number)

    parts = [part async for part in await answers.stream(ME, write)]

    assert b"".join(parts) == b"".join(b"%d\n" % number for number in range(50_000))
    assert len(parts) > 1


async def test_who_writes_waits_for_who_reads(answers):
    written = []

    def write(file):
        for number in range(1_000):
            file.write(bytes(streams.PART))
            written.append(number)

    stream = await answers.stream(ME, write)
    await anext(stream)
    await soon(lambda: len(written) >= streams.WAITING)
    assert len(written) <= streams.WAITING + 2
    await stream.aclose()


async def test_who_writes_for_nobody_ends(answers):
    ended = threading.Event()

    def write(file):
        try:
            while True:
                file.write(bytes(streams.PART))
        except ReaderGoneError:
            ended.set()
            raise

    stream = await answers.stream(ME, write)
    await anext(stream)
    await stream.aclose()

    await soon(ended.is_set)
    assert await answers.stream(ME, lambda file: file.write(b"next"))


async def test_what_goes_wrong_at_once_is_told_before_anything_is_sent(answers):
    def write(_file):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await answers.stream(ME, write)


async def test_what_goes_wrong_later_cuts_the_answer_off(answers):
    def write(file):
        file.write(bytes(streams.PART))
        raise ValueError("no")

    stream = await answers.stream(ME, write)
    assert await anext(stream)
    with pytest.raises(ValueError, match="no"):
        await anext(stream)


def write_much(file):
    for _ in range(100):
        file.write(bytes(streams.PART))


async def test_one_token_s_readers_leave_room_for_others(answers):
    mine = [await answers.stream(ME, write_much) for _ in range(streams.OF_ONE)]
    with pytest.raises(HTTPException):
        await answers.stream(ME, write_much)

    assert [part async for part in await answers.stream(OTHER, lambda file: file.write(b"next"))] == [b"next"]
    for each in mine:
        await anext(each)
        await each.aclose()
    assert [part async for part in await answers.stream(ME, lambda file: file.write(b"next"))] == [b"next"]


async def test_only_so_many_are_made_at_once(answers):
    endless = [await answers.stream(number, write_much) for number in range(streams.MOST)]

    with pytest.raises(HTTPException):
        await answers.stream(ME, lambda _file: None)
    for each in endless:
        await anext(each)
        await each.aclose()
    assert [part async for part in await answers.stream(ME, lambda file: file.write(b"next"))] == [b"next"]
