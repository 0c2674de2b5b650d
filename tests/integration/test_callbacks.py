"""Callbacks reach the attempts whose answers were lost; wrong ones change nothing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time

import orjson
import pytest
import uvicorn
from fastapi.testclient import TestClient
from sqlalchemy.exc import OperationalError

from jobs.ledger import open_ledger
from jobs.states import JobState
from providers.dialects.callbacks import TaskOrigin, is_ours, read_callback, read_origin
from providers.types import Request, Response
from tests.support import stocked_ledger
from tests.support.patience import AT_LAST
from tests.support.run_here import prepare, services_at
from tests.support.stocked_ledger import NOW
from web.app import WebLedger, make_app, server_of
from web.callbacks.buffer import CallbackBuffer
from worker.local.run import run_batch

ASKED = Request(prompt="a lamp", model="gpt-image-2", n=2)
ORIGIN = {"task_id": "t", "created_at": 100.0, "prompt": "a lamp", "model": "gpt-image-2/text-to-image", "n": 2}


def ours(**changes):
    origin = TaskOrigin(**{**ORIGIN, **changes})
    model = "gpt-image-2/text-to-image"
    return is_ours(origin, hinted="t", request=ASKED, provider_model=model, n=2, intended_at=100.0)


def test_a_task_is_bound_only_if_it_is_younger_than_the_intent_and_echoes_the_input():
    assert ours()
    assert ours(n=None)
    for wrong in ({"created_at": 80.0}, {"created_at": None}, {"prompt": "a chair"}, {"model": "x"}, {"n": 1},
                  {"task_id": "u"}):  # fmt: skip
        assert not ours(**wrong)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"data":[]}', b'{"data":{"taskId":{}}}', b"\xff\xfe", b"[" * 9999]
)
def test_a_callback_that_names_no_task_says_nothing(body):
    assert read_callback(body) is None
    assert read_origin(Response(status=200, headers={}, body=body)) is None


@pytest.fixture
def door(sqlite_ledger_url):
    ledger = open_ledger(sqlite_ledger_url)
    stocked_ledger.stock(ledger, stocked_ledger.rows(1))
    (intent,) = ledger.claims.submits("main", NOW, lease=90).intents
    woken = []
    with contextlib.closing(WebLedger(lambda: ledger)) as door:
        yield (
            make_app(door, woken.append),
            ledger,
            f"/hooks/maxapi.io/{ledger.hints.token(intent.attempt_id)}",
            woken,
        )


def test_a_genuine_callback_is_kept_and_rings(door):
    app, ledger, path, woken = door

    with TestClient(app) as client:
        assert client.post(path, json={"code": 0, "data": {"taskId": "t-1"}}).status_code == 204
        assert client.post(path, json={"code": 0, "data": {"taskId": "t-1"}}).status_code == 204

    assert (ledger.hints.waiting(), set(woken)) == (1, {"poll:main"})


def test_wrong_callbacks_are_answered_and_leave_nothing(door):
    app, ledger, path, woken = door
    task = {"data": {"taskId": "t-1"}}

    with TestClient(app) as client:
        for method in ("GET", "PUT", "DELETE", "PATCH"):
            assert client.request(method, path).status_code == 405
        assert client.post(path[:-2] + "xx", json=task).status_code == 404
        assert client.post("/hooks/maxapi.io/%00", json=task).status_code == 404
        assert client.post(path, content=b"x" * 10_000_000).status_code == 413
        assert client.post(path, content=iter([b"x" * 100_000] * 100)).status_code == 413
        for shape in (b"no json", b"[]", b"null", b"7", b'{"data":7}', b'{"data":{"taskId":null}}', b"[" * 50_000):
            assert client.post(path, content=shape).status_code == 400
        assert client.post(path, content=b'{"data":{"taskId":"' + b"x" * 5000 + b'"}}').status_code in (204, 400, 429)
    assert (ledger.hints.waiting(), woken) == (0, [])


def test_an_address_that_is_called_again_and_again_is_turned_away(door):
    app, ledger, path, _ = door

    with TestClient(app) as client:
        said = [client.post(path, json={"data": {"taskId": f"t-{number}"}}).status_code for number in range(50)]

    assert set(said[:3]) == {204}
    assert set(said[10:]) == {429}
    assert ledger.hints.waiting() == 3


def test_a_caller_does_not_wait_for_a_busy_ledger(door):
    app, ledger, path, _ = door
    told, written = threading.Event(), threading.Event()

    def busy(hints, now, hear_all=ledger.hints.hear_all):
        assert told.wait(AT_LAST)
        written.set()
        return hear_all(hints, now)

    ledger.hints.hear_all = busy
    with TestClient(app) as client:
        assert client.post(path, json={"data": {"taskId": "t-1"}}).status_code == 204
        assert not written.is_set()
        told.set()
        assert written.wait(AT_LAST)

    assert ledger.hints.waiting() == 1


def test_hints_that_wait_for_a_ledger_that_is_away_are_bounded_and_written_when_it_is_back(door, monkeypatch):
    _, ledger, _, woken = door
    monkeypatch.setattr("web.callbacks.buffer.MOST_WAITING", 2)
    monkeypatch.setattr("web.callbacks.buffer.REST", 0.01)
    away, came_back = threading.Event(), threading.Event()

    def hear_all(hints, now):
        if not away.is_set():
            raise OperationalError("UPDATE", {}, Exception("gone"))
        came_back.set()
        return ["poll:main"] * len(hints)

    ledger.hints.hear_all = hear_all
    buffer = CallbackBuffer(lambda: ledger, lambda: NOW, woken.append)
    assert [buffer.take(f"1.{number}", "t") for number in range(4)] == [True, True, False, False]
    away.set()
    assert came_back.wait(AT_LAST)
    buffer.close()

    assert "poll:main" in woken


# -- a whole run whose answers are lost ----------------------------------------------------------------------------


@contextlib.contextmanager
def web_door(ledger):
    """`lightfast serve` in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        server = uvicorn.Server(server_of(make_app(WebLedger(lambda: ledger)), host="127.0.0.1", port=port))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [free]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join()


async def test_rows_whose_answers_were_cut_off_are_found_again_by_their_callbacks(tmp_path, sandbox):
    sandbox.play(pictures={"tiny": True}, takes={"default": [0.2, 0.4]}, rules=[{"trouble": "drop", "times": 5}])
    services = services_at(tmp_path, sandbox.url)
    ledger = services.ledger
    prepare(services, tmp_path, 20)
    with web_door(ledger) as address:
        with_hooks = services.accounts["main"].model_copy(update={"webhook_base_url": address})
        services.settings.accounts["main"] = with_hooks
        ending = await asyncio.wait_for(run_batch(services, "b", max_stall=AT_LAST / 2), AT_LAST)
        for _ in range(2):  # those found after the run had ended
            deadline = time.monotonic() + AT_LAST
            while ledger.reports.progress("b").jobs != {JobState.DONE: 20} and time.monotonic() < deadline:
                ending = await asyncio.wait_for(run_batch(services, "b", max_stall=AT_LAST / 2), AT_LAST)
    try:
        assert ending.progress.jobs == {JobState.DONE: 20}
        assert len({orjson.dumps(task["prompt"]) for task in sandbox.tasks()}) == len(sandbox.tasks()) == 20
    finally:
        await services.close()
