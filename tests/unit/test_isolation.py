"""The tests of this package are held to starting no process and using no network."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys

import pytest

from tests.support import isolation


def bind():
    with contextlib.closing(socket.socket()) as server:
        server.bind(("127.0.0.1", 0))


@pytest.mark.parametrize(
    "forbidden",
    [
        lambda: subprocess.run([sys.executable, "-c", "pass"], check=False),
        lambda: socket.create_connection(("127.0.0.1", 9)),
        bind,
    ],
    ids=["a process", "a connection", "a server"],
)
def test_a_test_that_leaves_its_process_fails(forbidden):
    with pytest.raises(AssertionError, match="may start no process"):
        forbidden()

    assert isolation._tried
    isolation._tried.clear()


async def test_an_event_loop_of_its_own_is_no_network():
    await asyncio.to_thread(int)
