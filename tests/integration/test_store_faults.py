"""What a bucket may answer instead of taking an object, and what `StoreError` makes of it."""

from __future__ import annotations

import contextlib
import http.server
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from obstore.store import S3Store

from jobs.errors import StoreError
from tests.support.patience import AT_LAST
from worker.storage import object_store
from worker.storage.base import PutResult
from worker.storage.destinations import Destinations
from worker.storage.object_store import BucketStore
from worker.storage.object_store_options import RETRY, client_options


class Refusing(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_PUT(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.server.seen.append(self.headers.get("if-none-match"))
        status, code = self.server.answers.pop(0) if len(self.server.answers) > 1 else self.server.answers[0]
        body = f"<Error><Code>{code}</Code><Message>told you</Message><Key>k</Key></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"e"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def bucket(*answers):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    server.answers, server.seen = list(answers), []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield store_at(server.server_port), server.seen
    finally:
        server.shutdown()
        server.server_close()


def store_at(port):
    config = {"endpoint": f"http://127.0.0.1:{port}", "region": "r", "access_key_id": "AK", "secret_access_key": "SK"}

    def open_with(timeout):
        options = client_options(timeout, allow_http=True)
        return S3Store("b", config=config, client_options=options, retry_config=RETRY)

    return BucketStore(scheme="s3", bucket="b", prefix="p", open_with=open_with)


def put(store):
    return store.put_new("k", b"x", content_type="image/png")


@pytest.mark.parametrize(
    ("status", "said", "code", "retryable", "denied"),
    [
        (403, "AccessDenied", "bucket_denied", True, True),
        (403, "SignatureDoesNotMatch", "bucket_denied", True, True),
        (401, "Unauthorized", "bucket_denied", True, True),
        (400, "ExpiredToken", "bucket_denied", True, True),
        (400, "AuthorizationHeaderMalformed", "bucket_wrong_region", True, False),
        (400, "InvalidRequest", "bucket_refused", False, False),
        (404, "NoSuchBucket", "bucket_missing", True, False),
        (409, "ConditionalRequestConflict", "bucket_busy", True, False),
        (429, "TooManyRequests", "bucket_slow_down", True, False),
        (503, "SlowDown", "bucket_slow_down", True, False),
        (500, "InternalError", "bucket_failing", True, False),
        (507, "StorageFull", "bucket_failing", True, False),
    ],
)
def test_an_answer_has_a_code_and_says_what_the_store_said(status, said, code, retryable, denied):
    with bucket((status, said)) as (store, seen), pytest.raises(StoreError) as caught:
        put(store)

    error = caught.value
    assert (error.code, error.retryable, error.denied) == (code, retryable, denied)
    assert error.message == f"s3://b/p/k: {status} {said}, s3:PutObject, told you"
    assert set(seen) == {"*"}


def test_what_was_there_already_exists_even_when_a_repeated_put_of_our_own_made_it():
    with bucket((500, "InternalError"), (412, "PreconditionFailed")) as (store, seen):
        assert put(store) is PutResult.EXISTS
        assert len(seen) == 2


def test_a_passing_fault_is_borne():
    with bucket((503, "SlowDown"), (200, "")) as (store, _):
        assert put(store) is PutResult.STORED


def test_a_bucket_that_is_not_there_is_given_up_soon():
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]

    with pytest.raises(StoreError) as caught:  # it would try for three minutes by itself
        put(store_at(port))

    assert (caught.value.code, caught.value.retryable) == ("bucket_unreachable", True)


def test_a_probe_of_a_bucket_that_says_nothing_is_given_up_soon(monkeypatch):
    monkeypatch.setattr(object_store, "PROBE_TIMEOUT", timedelta(seconds=0.3))
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(StoreError) as caught:
        store_at(silent.getsockname()[1]).probe()

    assert caught.value.code == "bucket_unreachable"


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
