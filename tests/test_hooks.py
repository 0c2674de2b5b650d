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
from run_here import prepare, services_at

from jobs.ledger import open_ledger
from jobs.states import Job
from providers.callbacks import Origin, is_ours, read_callback, read_origin
from providers.dialect import Request, Response
from tests.ledger import stock
from tests.ledger.stock import NOW
from web.app import Door, make_app
from worker.local import run_batch

ASKED = Request(prompt="a lamp", model="gpt-image-2", n=2)
ORIGIN = {"task_id": "t", "created_at": 100.0, "prompt": "a lamp", "model": "gpt-image-2/text-to-image", "n": 2}


def ours(**changes):
    origin = Origin(**{**ORIGIN, **changes})
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
    stock.stock(ledger, stock.rows(1))
    (intent,) = ledger.claim_submits("main", NOW, lease=90).intents
    rung = []
    with contextlib.closing(Door(lambda: ledger)) as door, TestClient(make_app(door, rung.append)) as client:
        yield client, ledger, f"/hooks/maxapi.io/{ledger.callback_token(intent.attempt_id)}", rung


def test_a_genuine_callback_is_kept_and_rings(door):
    client, ledger, path, rung = door

    assert client.post(path, json={"code": 0, "data": {"taskId": "t-1"}}).status_code == 204
    assert client.post(path, json={"code": 0, "data": {"taskId": "t-1"}}).status_code == 204

    assert (ledger.hints_waiting(), rung) == (1, ["poll:main"])


def test_wrong_callbacks_are_answered_and_leave_nothing(door):
    client, ledger, path, rung = door
    task = {"data": {"taskId": "t-1"}}

    assert client.get(path).status_code == 405
    assert client.post(path[:-2] + "xx", json=task).status_code == 404
    assert client.post("/hooks/maxapi.io/%00", json=task).status_code == 404
    assert client.post(path, content=b"x" * 10_000_000).status_code == 413
    assert client.post(path, content=b"no json").status_code == 400
    assert client.post(path, content=b'{"data":{"taskId":"' + b"x" * 5000 + b'"}}').status_code in (204, 400)
    assert (ledger.hints_waiting(), rung) == (0, [])


# -- a whole run whose answers are lost ----------------------------------------------------------------------------


@contextlib.contextmanager
def web_door(ledger):
    """`lightfast serve` in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        settings = uvicorn.Config(make_app(Door(lambda: ledger)), log_level="error", lifespan="off")
        server = uvicorn.Server(settings)
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
        ending = await asyncio.wait_for(run_batch(services, "b", max_stall=30.0), 60)
        for _ in range(2):  # those found after the run had ended
            deadline = time.monotonic() + 20
            while ledger.progress("b").jobs != {Job.DONE: 20} and time.monotonic() < deadline:
                ending = await asyncio.wait_for(run_batch(services, "b", max_stall=30.0), 60)
    try:
        assert ending.progress.jobs == {Job.DONE: 20}
        assert len({orjson.dumps(task["prompt"]) for task in sandbox.tasks()}) == len(sandbox.tasks()) == 20
    finally:
        await services.close()
