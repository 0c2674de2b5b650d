"""OpenAI's own SDK, with no more than another address and a token: `serve --work`, and a cluster's `serve`."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import openai
import pytest
from PIL import Image

from sandbox.cluster import BUCKET, cluster
from tests.support.patience import AT_LAST, until

PROGRAM = str(Path(sys.executable).with_name("lightfast"))
IMAGES, GENERATIONS = 200, "/v1/images/generations"
OVER = {"completed", "failed", "expired", "cancelled"}


@dataclass(frozen=True)
class Served:
    """A `serve` that runs, and who asks it."""

    url: str
    client: openai.OpenAI
    process: subprocess.Popen[str]


def free_port() -> int:
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@contextlib.contextmanager
def serving(folder: Path, port: int, *words: str, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    with (folder / "serve.log").open("a") as log:
        process = subprocess.Popen(
            [PROGRAM, "serve", "--port", str(port), *words],
            cwd=folder,
            stderr=log,
            text=True,
            start_new_session=True,
            env={**os.environ, **(env or {})},
        )
    try:
        until(lambda: is_ready(port) or process.poll() is not None)
        assert process.poll() is None, (folder / "serve.log").read_text()
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def is_ready(port: int) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=AT_LAST) as it:
        return it.status == 200
    return False


def token(folder: Path, *words: str, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [PROGRAM, "token", "create", "shop", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **(env or {})},
    )
    return done.stdout.strip()


def sdk(port: int, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=key, timeout=AT_LAST)


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Iterator[Served]:
    """One process on SQLite, with the stand-in."""
    folder, port = tmp_path_factory.mktemp("here"), free_port()
    key = token(folder, "--role", "producer", "--daily-budget", "100", "--to", "out", "--sandbox")
    with serving(folder, port, "--work", "--sandbox") as process:
        yield Served(f"http://127.0.0.1:{port}", sdk(port, key), process)


def requests_file(count: int, **more: object) -> bytes:
    lines = [
        {
            "custom_id": f"r{number}",
            "method": "POST",
            "url": GENERATIONS,
            "body": {"model": "gpt-image-2", "prompt": f"a lamp, number {number}", "size": "1024x1024", **more},
        }
        for number in range(count)
    ]
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def ask(client: openai.OpenAI, content: bytes, **more: str) -> openai.types.Batch:
    file = client.files.create(file=("requests.jsonl", content), purpose="batch")
    return client.batches.create(
        input_file_id=file.id, endpoint=GENERATIONS, completion_window="24h", metadata=more or {"for": "a test"}
    )


def ended(client: openai.OpenAI, batch: openai.types.Batch) -> openai.types.Batch:
    until(lambda: client.batches.retrieve(batch.id).status in OVER)
    return client.batches.retrieve(batch.id)


def lines_of(client: openai.OpenAI, file_id: str | None) -> list[dict]:
    assert file_id is not None
    return [json.loads(line) for line in client.files.content(file_id).text.splitlines()]


def demand_all_made(client: openai.OpenAI, batch: openai.types.Batch, count: int) -> None:
    done = ended(client, batch)

    assert (done.status, done.errors, done.error_file_id) == ("completed", None, None)
    assert done.request_counts.model_dump() == {"total": count, "completed": count, "failed": 0}
    lines = lines_of(client, done.output_file_id)
    assert [line["custom_id"] for line in lines] == [f"r{number}" for number in range(count)]
    assert all(line["response"]["status_code"] == 200 and line["error"] is None for line in lines)
    for line in lines[:5]:
        (image,) = line["response"]["body"]["data"]
        assert Image.open(io.BytesIO(base64.b64decode(image["b64_json"]))).size == (1024, 1024)
        assert image["url"]
    assert done.created_at <= done.in_progress_at <= done.finalizing_at <= done.completed_at


def test_two_hundred_images_by_the_sdk_from_one_process(here):
    batch = ask(here.client, requests_file(IMAGES))

    assert batch.status == "validating"
    demand_all_made(here.client, batch, IMAGES)
    files = here.client.files.list(purpose="batch_output")
    assert [each.id for each in files] == [here.client.batches.retrieve(batch.id).output_file_id]
    assert batch.id in [each.id for each in here.client.batches.list(limit=1)]  # page after page


def test_a_file_with_bad_lines_fails_with_their_numbers_and_nothing_is_made(here):
    good = requests_file(3)
    bad = [
        {"custom_id": "r1", "method": "POST", "url": GENERATIONS, "body": {"model": "gpt-image-2", "prompt": "again"}},
        {"custom_id": "x", "method": "POST", "url": GENERATIONS, "body": {"model": "nobody-has-it", "prompt": "a"}},
        {"custom_id": "y", "method": "POST", "url": "/v1/responses", "body": {"model": "gpt-image-2", "input": "a"}},
        {"method": "POST", "url": GENERATIONS, "body": {"model": "gpt-image-2", "prompt": "a"}},
    ]
    content = good + b"".join(json.dumps(line).encode() + b"\n" for line in bad) + b"no json\n"

    done = ended(here.client, ask(here.client, content))

    assert (done.status, done.output_file_id, done.error_file_id) == ("failed", None, None)
    assert done.failed_at is not None
    told = {error.line: error for error in done.errors.data}
    assert {4, 5, 6, 7, 8} <= set(told)
    assert told[8].code == "invalid_json_line"
    assert told[4].code == "duplicate_custom_id"
    assert "nobody-has-it" in told[5].message


def test_what_the_daily_budget_does_not_leave_fails_and_costs_nothing(here):
    done = ended(here.client, ask(here.client, requests_file(2), lightfast_budget="0.0001"))

    assert (done.status, done.errors.data[0].code) == ("failed", "budget_exceeded")


def test_a_post_that_the_sdk_repeats_makes_one_batch_and_again_makes_another(here):
    file = here.client.files.create(file=("requests.jsonl", requests_file(1)), purpose="batch")
    asked = {"input_file_id": file.id, "endpoint": GENERATIONS, "completion_window": "24h"}

    first, second = (here.client.batches.create(**asked, metadata={"run": "1"}) for _ in range(2))
    again = here.client.batches.create(**asked, metadata={"run": "1", "lightfast_again": "2"})

    assert first.id == second.id != again.id
    ended(here.client, first)
    assert here.client.batches.create(**asked, metadata={"run": "1"}).id == first.id  # ended or not


def test_a_cancelled_batch_has_what_was_paid_in_its_output_and_the_rest_in_its_errors(here):
    batch = ask(here.client, requests_file(600), run="to be cancelled")
    until(lambda: here.client.batches.retrieve(batch.id).request_counts.completed > 5)

    assert here.client.batches.cancel(batch.id).status in ("cancelling", "cancelled")
    done = ended(here.client, batch)

    assert done.status == "cancelled"
    output, errors = lines_of(here.client, done.output_file_id), lines_of(here.client, done.error_file_id)
    assert len(output) + len(errors) == done.request_counts.total == 600
    assert len(output) == done.request_counts.completed
    assert {line["error"]["code"] for line in errors} == {"batch_cancelled"}
    assert all(line["response"]["body"]["data"][0]["b64_json"] for line in output)


def test_files_are_listed_read_and_deleted(here):
    content = requests_file(2)
    file = here.client.files.create(file=("mine.jsonl", content), purpose="batch")

    assert (file.bytes, file.filename, file.purpose) == (len(content), "mine.jsonl", "batch")
    assert here.client.files.retrieve(file.id).id == file.id
    assert here.client.files.content(file.id).read() == content
    assert file.id in [each.id for each in here.client.files.list(limit=1)]
    assert here.client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        here.client.files.retrieve(file.id)


def test_what_can_be_made_is_listed(here):
    names = [each.id for each in here.client.models.list()]

    assert "gpt-image-2" in names
    assert names == sorted(set(names))
    assert here.client.models.retrieve("gpt-image-2").id == "gpt-image-2"
    with pytest.raises(openai.NotFoundError):
        here.client.models.retrieve("gpt-4o")


def test_a_wrong_key_and_images_at_once_are_refused_in_openai_s_words(here):
    with pytest.raises(openai.AuthenticationError):
        sdk(int(here.url.rpartition(":")[2]), "sk-no").batches.list()
    with pytest.raises(openai.NotFoundError, match="images are made by batches here"):
        here.client.images.generate(model="gpt-image-2", prompt="a lamp")


def test_a_killed_server_goes_on_with_the_batch(tmp_path):
    port = free_port()
    key = token(tmp_path, "--role", "producer", "--daily-budget", "100", "--to", "out", "--sandbox")
    client = sdk(port, key)
    with serving(tmp_path, port, "--work", "--sandbox") as process:
        batch = ask(client, requests_file(150))
        until(lambda: client.batches.retrieve(batch.id).request_counts.completed > 5)
        process.send_signal(signal.SIGKILL)
        process.wait()
    with serving(tmp_path, port, "--work", "--sandbox"):
        until(lambda: client.batches.retrieve(batch.id).status in OVER)
        done = client.batches.retrieve(batch.id)

        # What was on its way when it was killed may be paid, and is never sent again by itself.
        held = done.request_counts.failed
        assert done.status == "completed"
        assert done.request_counts.total == done.request_counts.completed + held == 150
        assert len(lines_of(client, done.output_file_id)) == 150 - held
        told = lines_of(client, done.error_file_id) if held else []
        assert {line["error"]["code"] for line in told} <= {"outcome_unknown", "process_died"}


def test_two_hundred_images_by_the_sdk_from_a_cluster(tmp_path_factory):
    with cluster(folder=tmp_path_factory.mktemp("cluster")) as running:
        folder = tmp_path_factory.mktemp("door")
        words = ("--role", "producer", "--daily-budget", "100", "--to", f"s3://{BUCKET}/shop")
        key = token(folder, *words, env=running.environment)
        client = sdk(int(running.environment["PORT"]), key)

        demand_all_made(client, ask(client, requests_file(IMAGES)), IMAGES)
