"""A stopped process, a clock that is set, and an answer that repeats the key: what leaves, and what is kept."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import threading
import time

import pytest
from pydantic import SecretStr

from jobs.policy import rate
from jobs.states import JobState
from providers.types import Call
from tests.support.patience import AT_LAST, soon
from tests.support.virtual_time import skip
from tests.support.worker_world import Provider, answer, row, stock, world
from worker.http.client import Http
from worker.http.transport import SentFlag
from worker.runtime.clock import SystemClock
from worker.stages import submit as stage
from worker.stages.submit import ClaimedSubmit, submit

KEY = SecretStr("maxapi-very-secret")
SUBMIT = Call(method="POST", path="/v1/images/generations", body=b'{"prompt":"a heron lamp"}')


def claim(services, tmp_path):
    stock(services, tmp_path, [row(0)])
    lease = stage.lease_for(services, "main")
    (intent,) = services.ledger.claims.submits("main", services.clock.now(), lease=lease).intents
    return ClaimedSubmit(intent=intent, boot_until=services.clock.boot() + lease)


async def serving(said: bytes):
    """A server that says `said` to anything, and what it has seen."""
    seen = bytearray()

    async def serve(reader, writer):
        seen.extend(await reader.read(65_536))
        if seen:
            writer.write(b"HTTP/1.1 400 Bad\r\nContent-Length: %d\r\n\r\n" % len(said) + said)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", seen


async def test_a_right_that_ended_while_the_connection_was_made_sends_nothing():
    server, url, seen = await serving(b"{}")
    http, sent_flag = Http(allow_private_hosts=True), SentFlag(may_leave=lambda: False)

    exchange = await http.send(
        SUBMIT, base_url=url, key=KEY, key_header="Authorization", timeout=AT_LAST, sent_flag=sent_flag
    )

    await http.close()
    server.close()
    assert (exchange.sent, exchange.response, sent_flag.too_late) == (False, None, True)
    assert bytes(seen) == b""


async def test_a_process_that_was_stopped_while_it_connected_gives_the_row_back(tmp_path):
    @dataclasses.dataclass
    class Stopped(SystemClock):
        for_seconds: float = 0.0

        def boot(self) -> float:
            return SystemClock.boot(self) + self.for_seconds

    class Connecting(Provider):
        async def send(self, call, *, sent_flag=None, **_):
            clock.for_seconds = 1000.0  # SIGSTOP, and SIGCONT after the lease
            sent_flag.too_late = not sent_flag.may_leave()
            return await Provider.send(self, call, sent_flag=None) if not sent_flag.too_late else NOTHING

    clock, http = Stopped(), Connecting()
    services = dataclasses.replace(world(tmp_path, http), clock=clock)

    fact = await submit(services, claim(services, tmp_path))

    assert fact.code == "not_sent"
    assert not http.submits
    assert services.ledger.reports.progress("b").jobs == {JobState.READY: 1}
    assert services.ledger.accounts.all()[0].paused_code is None  # nothing was wrong with the provider


NOTHING = dataclasses.replace(answer({}), sent=False, response=None)


@pytest.mark.parametrize("pieces", [1, 3], ids=["whole", "in pieces"])
async def test_an_answer_that_came_while_the_process_was_stopped_beyond_its_time_still_counts(pieces):
    stopped, answered, goes_on = threading.Event(), threading.Event(), threading.Event()

    def serve():
        connection, _ = listening.accept()
        with connection:
            connection.recv(65_536)
            assert stopped.wait(AT_LAST)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % pieces)
            for _ in range(pieces):
                connection.sendall(b"1")
                answered.set()
                assert goes_on.wait(AT_LAST)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, daemon=True).start()
        http, sent_flag = Http(allow_private_hosts=True), SentFlag()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        sending = asyncio.create_task(
            http.send(SUBMIT, base_url=url, key=KEY, key_header="Authorization", timeout=30.0, sent_flag=sent_flag)
        )
        await soon(lambda: sent_flag.sent)
        stopped.set()  # as SIGSTOP would: the loop stands still, and goes on when its time is long over
        assert answered.wait(AT_LAST)
        skip(40.0)
        goes_on.set()
        exchange = await sending
        await http.close()

    assert exchange.response is not None, exchange.problem


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (b'{"error": "no such key: maxapi-very-secret"}', b'{"error": "no such key: ***"}'),
        (
            b'{"url": "https://cdn.test/1?key=maxapi-very-secret"}',
            b'{"url": "https://cdn.test/1?key=maxapi-very-secret"}',
        ),
    ],
    ids=["words", "a link that needs it"],
)
async def test_an_answer_that_repeats_our_key_is_not_kept_as_it_is(said, kept):
    server, url, _ = await serving(said)
    http = Http(allow_private_hosts=True)

    exchange = await http.send(SUBMIT, base_url=url, key=KEY, key_header="Authorization", timeout=AT_LAST)

    await http.close()
    server.close()
    assert exchange.response.body == kept


# -- clocks --------------------------------------------------------------------------------------------------------


def test_a_clock_that_is_set_back_stands_still_and_one_that_is_set_forward_is_followed(monkeypatch):
    wall, boot = [1_800_000_000.0], [100.0]
    monkeypatch.setattr(time, "time", lambda: wall[0])
    monkeypatch.setattr(time, "clock_gettime", lambda _: boot[0])
    clock = SystemClock()
    before = clock.now()

    wall[0], boot[0] = wall[0] - 3600, boot[0] + 5
    assert clock.now() == before + 5
    wall[0] += 7200
    assert clock.now() == wall[0]
    wall[0] -= 3600
    clock.offset = 3600.0  # measured anew against the database's clock
    assert clock.now() == wall[0] + 3600


def test_a_rate_taken_before_the_clock_was_set_back_is_no_limit_an_hour_long():
    taken = rate.permits(tat=0.0, now=5000.0, per_second=2.0, horizon=0.25, most=5)
    after = rate.permits(tat=taken.tat(1), now=5000.0 - 3600, per_second=2.0, horizon=0.25, most=5)
    soon = rate.permits(tat=taken.tat(1), now=5000.0, per_second=2.0, horizon=0.25, most=5)

    assert after.times == (1400.0,)
    assert not soon.times


async def test_a_request_does_not_wait_for_a_moment_that_the_clock_moved_away(tmp_path):
    services = world(tmp_path, Provider())
    attempt = claim(services, tmp_path)
    attempt.intent = dataclasses.replace(attempt.intent, send_at=attempt.intent.send_at + 3600)

    async with asyncio.timeout(AT_LAST):
        await submit(services, attempt)

    assert services.ledger.reports.progress("b").jobs == {JobState.WORKING: 1}
