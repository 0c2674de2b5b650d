"""Batches of OpenAI's API beside what the SDK shows: how they end without a worker, and who may be at them."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import threading
import time

import pytest
from starlette.testclient import TestClient

from jobs.facts import SubmitUnclear
from jobs.ledger import open_ledger
from jobs.policy.access import Role
from jobs.settings.model import Settings
from jobs.states import BatchState
from tests.support import stocked_ledger
from tests.support.access import make
from tests.support.patience import AT_LAST, until
from web.app import WebLedger, make_app
from web.openai import runner
from web.openai.batches import AGAIN, BATCH, BUDGET, OUTPUT, PROVIDER, TO

GENERATIONS = "/v1/images/generations"
OVER = {"completed", "failed", "expired", "cancelled"}


@pytest.fixture
def serve(ledger_url, tmp_path):
    """Starts a `serve` without workers; there may be several."""
    account = {"provider": "maxapi.io", "api_key": "k"}
    settings = Settings(database_url=ledger_url, accounts={"main": account}, storage={"files": str(tmp_path / "files")})
    with contextlib.ExitStack() as started:

        def start(**more):
            opened = started.enter_context(contextlib.closing(WebLedger(lambda: open_ledger(ledger_url))))
            return started.enter_context(TestClient(make_app(opened, settings=settings, **more)))

        yield start


@pytest.fixture
def shop(ledger, tmp_path):
    return make(ledger, "shop", Role.PRODUCER, to=str(tmp_path / "shop"), budget=100_000_000)


def upload(web, asker, count=2):
    lines = [
        {"custom_id": f"r{n}", "method": "POST", "url": GENERATIONS, "body": {"model": "gpt-image-2", "prompt": f"{n}"}}
        for n in range(count)
    ]
    content = "\n".join(map(json.dumps, lines)).encode()
    answer = web.post(
        "/v1/files", headers=asker.header, data={"purpose": "batch"}, files={"file": ("a.jsonl", content)}
    )
    return answer.json()["id"]


def ask(web, asker, file, code=200, **metadata):
    body = {"input_file_id": file, "endpoint": GENERATIONS, "completion_window": "24h", "metadata": metadata}
    answer = web.post("/v1/batches", headers=asker.header, json=body)
    assert answer.status_code == code, answer.text
    return answer.json()


def of(web, asker, batch):
    return web.get(f"/v1/batches/{batch['id']}", headers=asker.header).json()


def when(web, asker, batch, *states):
    until(lambda: of(web, asker, batch)["status"] in {*states, *OVER})
    told = of(web, asker, batch)
    assert told["status"] in states, told
    return told


def lines(web, asker, file):
    return [json.loads(line) for line in web.get(f"/v1/files/{file}/content", headers=asker.header).text.splitlines()]


def test_a_batch_whose_window_is_over_expires_and_nothing_more_is_sent_for_it(serve, shop, ledger, monkeypatch):
    web = serve()
    batch = ask(web, shop, upload(web, shop))
    when(web, shop, batch, "in_progress")
    monkeypatch.setattr(runner.BatchRunner, "_now", lambda *_: time.time() + 25 * 3600)

    told = when(web, shop, batch, *OVER)

    assert (told["status"], told["output_file_id"]) == ("expired", None)
    assert told["request_counts"] == {"total": 2, "completed": 0, "failed": 2}
    assert [line["error"]["code"] for line in lines(web, shop, told["error_file_id"])] == ["batch_expired"] * 2
    assert ledger.batches.find(batch["id"]).state is BatchState.CANCELLED


def test_held_rows_are_errors_and_do_not_keep_a_batch_from_its_end(serve, shop, ledger):
    web = serve()
    batch = ask(web, shop, upload(web, shop))
    when(web, shop, batch, "in_progress")
    ledger.accounts.sync([stocked_ledger.account()])
    now = time.time()
    for intent in ledger.claims.submits("main", now, lease=90, at_most=2).intents:
        ledger.facts.record([SubmitUnclear(attempt_id=intent.attempt_id, at=now, code="server_error", message="no")])

    told = when(web, shop, batch, *OVER)

    assert (told["status"], told["request_counts"]["failed"]) == ("completed", 2)
    assert {line["error"]["code"] for line in lines(web, shop, told["error_file_id"])} == {"outcome_unknown"}


def test_several_servers_record_a_batch_once(serve, shop, ledger):
    servers = [serve() for _ in range(3)]
    batches = [ask(servers[0], shop, upload(servers[0], shop, 50)) for _ in range(4)]
    for batch in batches:
        when(servers[1], shop, batch, "in_progress")

    assert sorted(each.name for each in ledger.batches.all()) == sorted(batch["id"] for batch in batches)
    assert all(ledger.reports.progress(batch["id"]).images_total == 50 for batch in batches)


def test_a_token_s_large_files_keep_nobody_else_s_waiting(serve, shop, ledger, tmp_path, monkeypatch):
    read, is_free = runner.BatchRunner._read, threading.Event()

    def slow_for_the_shop(self, opened, asked):
        if asked.token_id == shop.token.id:
            assert is_free.wait(AT_LAST)
        read(self, opened, asked)

    monkeypatch.setattr(runner.BatchRunner, "_read", slow_for_the_shop)
    monkeypatch.setattr(runner, "LOOKED_AT", 2)
    web, other = serve(), make(ledger, "other", Role.PRODUCER, to=str(tmp_path / "other"))
    large = [ask(web, shop, upload(web, shop, 1)) for _ in range(runner.LOOKED_AT + 1)]

    small = ask(web, other, upload(web, other, 1))

    when(web, other, small, "in_progress")
    assert {of(web, shop, each)["status"] for each in large} == {"validating"}
    is_free.set()
    for each in large:
        when(web, shop, each, "in_progress")


def test_a_batch_whose_file_or_token_is_gone_fails(serve, shop, ledger, monkeypatch):
    monkeypatch.setattr(runner.BatchRunner, "_look", lambda _self: None)  # nobody reads it yet
    web = serve()
    gone, kept = upload(web, shop), upload(web, shop)
    first, second = ask(web, shop, gone), ask(web, shop, kept)
    web.delete(f"/v1/files/{gone}", headers=shop.header)
    monkeypatch.undo()

    assert when(web, shop, first, *OVER)["errors"]["data"][0]["code"] == "file_missing"
    when(web, shop, second, "in_progress")
    third = ask(web, shop, gone, code=400, run="2")
    assert third["error"]["param"] == "input_file_id"


def test_a_name_that_is_taken_and_a_destination_that_is_not_its_own_fail(serve, shop, ledger):
    web = serve()
    ledger.batches.record_manifest(stocked_ledger.new_batch("spring"), stocked_ledger.rows(1), now=time.time())

    taken = when(web, shop, ask(web, shop, upload(web, shop), lightfast_batch="spring"), *OVER)
    elsewhere = when(web, shop, ask(web, shop, upload(web, shop), lightfast_to="s3://other/x"), *OVER)

    assert taken["errors"]["data"][0]["code"] == "batch_name_taken"
    assert elsewhere["errors"]["data"][0]["code"] == "not_allowed"


def test_what_waits_for_a_person_for_too_long_expires(serve, shop, ledger, monkeypatch):
    monkeypatch.setattr(runner, "JUDGE_EVERY", 0.0)
    web = serve(max_stall=0.0)
    batch = ask(web, shop, upload(web, shop))
    when(web, shop, batch, "in_progress", *OVER)
    ledger.batches.pause(batch["id"], "on your word")

    told = when(web, shop, batch, *OVER)

    assert told["status"] == "expired"


def test_a_producer_sees_and_steers_none_of_anothers(serve, shop, ledger, tmp_path):
    web, other = serve(), make(ledger, "other", Role.PRODUCER, to=str(tmp_path / "other"))
    file = upload(web, shop)
    batch = ask(web, shop, file)

    for path in (f"/v1/files/{file}", f"/v1/files/{file}/content", f"/v1/batches/{batch['id']}"):
        assert web.get(path, headers=other.header).status_code == 404, path
    assert web.post(f"/v1/batches/{batch['id']}/cancel", headers=other.header).status_code == 404
    assert web.get("/v1/files", headers=other.header).json()["data"] == []
    assert web.get("/v1/batches", headers=other.header).json()["data"] == []
    assert ask(web, other, file, code=400)["error"]["param"] == "input_file_id"


@pytest.mark.parametrize(
    "metadata",
    [
        {"lightfast_unheard_of": "1"},
        {"lightfast_budget": "much"},
        {"lightfast_batch": "../x"},
        {"lightfast_output": "gif"},
        {"x" * 65: "1"},
        {"x": "1" * 513},
        {str(n): "1" for n in range(17)},
    ],
    ids=str,
)
def test_metadata_that_cannot_be_honoured_is_refused(serve, shop, metadata):
    web = serve()

    assert ask(web, shop, upload(web, shop), code=400, **metadata)["error"]["param"].startswith("metadata")


def test_a_cancel_that_was_cut_in_half_stops_the_money_all_the_same(serve, shop, ledger):
    web = serve()
    batch = ask(web, shop, upload(web, shop))
    when(web, shop, batch, "in_progress")
    ledger.openai_batches.cancel(ledger.openai_batches.find(batch["id"]).id, time.time())  # and then it was killed

    assert when(web, shop, batch, "cancelled")["request_counts"]["failed"] == 2
    assert ledger.batches.find(batch["id"]).state is BatchState.CANCELLED


def test_what_a_dead_process_was_reading_is_read_by_the_next_one_at_once(serve, shop, ledger, monkeypatch):
    monkeypatch.setattr(runner.BatchRunner, "_look", lambda _self: None)  # nobody reads it yet
    batch = ask(web := serve(), shop, upload(web, shop))
    dead = subprocess.Popen(["true"])
    dead.wait()
    held = f"{socket.gethostname()}:{dead.pid}:x"
    assert ledger.openai_batches.take(ledger.openai_batches.find(batch["id"]).id, held, time.time(), time.time() + 3600)
    monkeypatch.undo()

    when(serve(), shop, batch, "in_progress")


@pytest.mark.parametrize("seconds", ["0", "x", "9" * 400, "0" * 400 + "3600", "-3600", "٣٦٠٠", "3600.0"])
def test_a_file_is_kept_for_no_time_that_cannot_be_told(serve, shop, seconds):
    web = serve()
    sent = {"purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": seconds}
    answer = web.post("/v1/files", headers=shop.header, data=sent, files={"file": ("a.jsonl", b"{}")})

    assert answer.status_code == 400
    assert web.get("/v1/files", headers=shop.header).json()["data"] == []


def test_an_empty_file_is_refused_when_it_comes(serve, shop):
    web = serve()
    answer = web.post("/v1/files", headers=shop.header, data={"purpose": "batch"}, files={"file": ("a.jsonl", b"")})

    assert (answer.status_code, answer.json()["error"]["message"]) == (400, "the file is empty")
    assert web.get("/v1/files", headers=shop.header).json()["data"] == []


def test_a_results_file_that_lost_a_part_is_not_sent_as_an_empty_one(serve, shop, ledger, tmp_path):
    web = serve()
    batch = ask(web, shop, upload(web, shop))
    when(web, shop, batch, "in_progress")
    web.post(f"/v1/batches/{batch['id']}/cancel", headers=shop.header)
    file = when(web, shop, batch, "cancelled")["error_file_id"]
    (tmp_path / "files" / file / "000000.jsonl").unlink()

    assert web.get(f"/v1/files/{file}/content", headers=shop.header).status_code == 404


def test_another_file_with_the_same_idempotency_key_is_refused(serve, shop):
    web, key = serve(), {**shop.header, "Idempotency-Key": "one"}

    def send(content):
        return web.post("/v1/files", headers=key, data={"purpose": "batch"}, files={"file": ("a.jsonl", content)})

    first = send(b"{}").json()

    assert send(b"{}").json() == first
    assert send(b"[]").status_code == 409


@pytest.mark.parametrize("purpose", ["\0", "fine-tune"])
def test_files_of_no_purpose_of_ours_are_none(serve, shop, purpose):
    web = serve()
    upload(web, shop)

    assert web.get("/v1/files", headers=shop.header, params={"purpose": purpose}).json()["data"] == []


@pytest.mark.parametrize("name", [TO, BUDGET, PROVIDER, BATCH, AGAIN, OUTPUT, "own"])
@pytest.mark.parametrize("text", ["\0", "a\0b", "\ud800", "s3://x/\ud800"], ids=ascii)
def test_metadata_that_is_no_text_is_refused(serve, shop, ledger, name, text):
    body = {"input_file_id": "file-x", "endpoint": GENERATIONS, "completion_window": "24h"}
    answers = [
        serve().post(
            "/v1/batches",
            headers={**shop.header, "Content-Type": "application/json"},
            content=json.dumps({**body, "metadata": metadata}),
        )
        for metadata in ({name: text}, {f"x{text}": "1"})
    ]

    assert [answer.status_code for answer in answers] == [400, 400]
    assert [answer.json()["error"]["param"][:9] for answer in answers] == ["metadata."] * 2


@pytest.mark.parametrize("field", ["input_file_id", "endpoint", "completion_window"])
def test_what_is_no_text_names_nothing(serve, shop, field):
    body = {"input_file_id": "file-x", "endpoint": GENERATIONS, "completion_window": "24h", field: "\ud800"}
    headers = {**shop.header, "Content-Type": "application/json"}

    assert serve().post("/v1/batches", headers=headers, content=json.dumps(body)).status_code == 400


@pytest.mark.parametrize("to", ["http://[", "s3://[/x", "file:///a%00b", "~nobody-of-this-name/x"])
def test_a_destination_that_cannot_be_read_fails_at_once(serve, shop, to):
    web = serve()
    batch = ask(web, shop, upload(web, shop), lightfast_to=to)

    errors = when(web, shop, batch, "failed")["errors"]["data"]

    assert [error["code"] for error in errors] == ["bad_request"]
    assert "`to`" in errors[0]["message"]
