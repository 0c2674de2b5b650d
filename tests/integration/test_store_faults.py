"""What a bucket may answer instead of taking an object, and what `StoreError` makes of it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from jobs.errors import StoreError
from tests.support.patience import AT_LAST
from tests.support.s3_server import s3_server
from worker.storage.base import PutResult
from worker.storage.destinations import Destinations
from worker.storage.opening import open_store


@pytest.fixture
def server(monkeypatch):
    with s3_server() as served:
        for name, value in served.environment.items():
            monkeypatch.setenv(name, value)
        yield served


def store_at(server, *answers):
    """One that is known to keep conditions, and then answers so to puts."""
    store = open_store("s3://b/p")
    store.put_new("first", b"x", content_type="image/png")
    server.asked.clear()
    server.manners.answers = list(answers)
    return store


def put(store):
    return store.put_new("k", b"x", content_type="image/png")


@pytest.mark.parametrize(
    ("answer", "code", "passes", "denied"),
    [
        ((403, "AccessDenied"), "bucket_denied", True, True),
        ((403, "SignatureDoesNotMatch"), "bucket_denied", True, True),
        ((401, "Unauthorized"), "bucket_denied", True, True),
        ((400, "ExpiredToken"), "bucket_denied", True, True),
        ((400, "AuthorizationHeaderMalformed"), "bucket_wrong_region", True, False),
        ((400, "InvalidRequest"), "bucket_refused", False, False),
        ((404, "NoSuchBucket"), "bucket_missing", True, False),
        ((409, "ConditionalRequestConflict"), "bucket_busy", True, False),
        ((429, "TooManyRequests"), "bucket_slow_down", True, False),
        ((503, "SlowDown"), "bucket_slow_down", True, False),
        ((500, "InternalError"), "bucket_failing", True, False),
        ((507, "StorageFull"), "bucket_failing", True, False),
    ],
)
def test_an_answer_has_a_code_and_says_what_the_store_said(server, monkeypatch, answer, code, passes, denied):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    store = store_at(server, *[answer] * 9)
    with pytest.raises(StoreError) as caught:
        put(store)

    error = caught.value
    assert (error.code, error.retryable, error.denied) == (code, passes, denied)
    assert error.message == f"s3://b/p/k: {answer[0]} {answer[1]}, s3:PutObject, told you"
    assert {each.headers.get("if-none-match") for each in server.puts("/k")} == {"*"}


def test_what_was_there_already_exists_even_when_a_repeated_put_of_our_own_made_it(server):
    store = store_at(server, (500, "InternalError"), (412, "PreconditionFailed"))

    assert put(store) is PutResult.EXISTS
    assert len(server.puts("/k")) == 2


def test_a_passing_fault_is_borne(server):
    assert put(store_at(server, (503, "SlowDown"))) is PutResult.STORED


def test_a_bucket_that_has_gone_away_is_given_up_soon(monkeypatch):
    with s3_server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        store = store_at(server)

    with pytest.raises(StoreError) as caught:
        put(store)

    assert (caught.value.code, caught.value.retryable) == ("bucket_unreachable", True)


def test_a_bucket_that_is_slow_to_open_holds_up_no_other():
    asked, opens = threading.Event(), threading.Event()

    def open_slowly(dest):
        if dest == "s3://away":
            asked.set()
            opens.wait(AT_LAST)
        return dest

    destinations = Destinations(opener=open_slowly)
    with ThreadPoolExecutor(2) as threads:
        away = threads.submit(destinations.store, "s3://away")
        asked.wait(AT_LAST)
        try:
            assert threads.submit(destinations.store, "s3://well").result(AT_LAST) == "s3://well"
        finally:
            opens.set()
        assert away.result(AT_LAST) == "s3://away"
