"""One answer for all who ask; an old one while the next is being found, for who takes it."""

from __future__ import annotations

import threading

import pytest

from tests.support.patience import AT_LAST, soon
from web import shared
from web.shared import SharedAnswer


@pytest.fixture
def gate():
    opened = threading.Event()
    opened.set()
    yield opened
    opened.set()


async def test_an_old_answer_is_given_while_the_next_is_being_found(gate, monkeypatch):
    monkeypatch.setattr(shared, "CPU_PART", AT_LAST)
    found = []

    def find():
        found.append(len(found))
        assert gate.wait(AT_LAST)
        return found[-1]

    answer = SharedAnswer(find)
    assert await answer.answer(AT_LAST) == 0
    gate.clear()

    assert await answer.answer(AT_LAST, old=AT_LAST) == 0
    await soon(lambda: len(found) > 1)
    with pytest.raises(TimeoutError):
        await answer.answer(0.0)
    gate.set()

    assert await answer.answer(AT_LAST) == 1
    answer.close()
