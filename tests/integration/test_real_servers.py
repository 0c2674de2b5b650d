"""The servers that tests and the cluster start are real, and gone with whoever started them."""

from __future__ import annotations

import socket
import subprocess
import sys
import time

import psycopg
import pytest
import redis

from sandbox import servers
from tests.support.patience import AT_LAST

START_AND_WAIT = """
import sys
from sandbox import servers
with servers.valkey() as server:
    print(server.url, server.pid, flush=True)
    sys.stdin.read()
"""


def test_a_server_ends_when_its_asker_is_killed_with_9():
    asker = subprocess.Popen([sys.executable, "-c", START_AND_WAIT], stdin=-1, stdout=-1, text=True)
    with asker:
        url, _ = asker.stdout.readline().split()
        assert redis.Redis.from_url(url).ping()

        asker.kill()

    assert _refuses_within(AT_LAST, url)


INTERRUPT_EVERYWHERE = """
import signal, sys
from sandbox import servers

def at(moment):
    def trace(frame, event, _argument):
        nonlocal moment
        frame.f_trace_opcodes = True
        moment -= event == "opcode"
        if moment == 0:
            moment = -1
            signal.raise_signal(signal.SIGTERM)
        return trace
    return trace

for moment in range(1, 400):
    asked = servers.Signals(signal.SIGTERM)
    sys.settrace(at(moment))
    asked.wait(0.001)
    sys.settrace(None)
    signal.raise_signal(signal.SIGTERM)
    assert asked.wait(), moment
"""


def test_a_keeper_hears_that_it_shall_end_at_whatever_moment_of_its_wait_it_is_told():
    subprocess.run([sys.executable, "-c", INTERRUPT_EVERYWHERE], check=True, timeout=AT_LAST)


def test_a_killed_server_comes_back_at_the_same_address_without_its_memory():
    with servers.valkey() as server:
        with redis.Redis.from_url(server.url) as client:
            client.set("wakeup", "sent")

        server.kill()
        assert _refuses_within(AT_LAST, server.url)
        server.start()

        with redis.Redis.from_url(server.url) as client:
            assert client.get("wakeup") is None


def test_each_new_database_is_empty_and_its_own(postgres_server):
    first, second = postgres_server.new_database(), postgres_server.new_database()
    with psycopg.connect(first) as connection:
        connection.execute("CREATE TABLE mine (id int)")

    with psycopg.connect(second) as connection:
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()

    assert tables == (0,)


def test_a_postgres_that_died_keeps_what_was_committed():
    with servers.postgres() as server:
        with psycopg.connect(server.url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS id")

        server.kill()
        server.start()

        with psycopg.connect(server.url) as connection:
            assert connection.execute("SELECT id FROM kept").fetchall() == [(1,)]


def test_the_bucket_refuses_a_second_object_of_one_name(s3):
    s3.client.put_object(Bucket=s3.name, Key="a/b.png", Body=b"first", IfNoneMatch="*")

    with pytest.raises(s3.client.exceptions.ClientError, match="PreconditionFailed"):
        s3.client.put_object(Bucket=s3.name, Key="a/b.png", Body=b"second", IfNoneMatch="*")

    assert s3.read("a/b.png") == b"first"
    assert s3.keys() == ["a/b.png"]


def test_the_wall_stops_a_test_that_reaches_for_the_internet():
    with pytest.raises(AssertionError, match=r"tried to reach .*192\.0\.2\.1"), socket.socket() as outward:
        outward.connect(("192.0.2.1", 80))


def _refuses_within(seconds: float, url: str) -> bool:
    port = int(url.rpartition(":")[2].split("/")[0])
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()  # real time: asked again
        except ConnectionRefusedError:
            return True
        time.sleep(0.05)  # real time: nobody tells
    return False
