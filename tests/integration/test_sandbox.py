"""The stand-in's APIs: what they take, what they refuse, what they charge and deliver."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import subprocess
import sys
import time
from pathlib import Path

import openai
import pytest
from PIL import Image

from sandbox.images import pixels
from sandbox.launch import running
from tests.support.patience import AT_LAST
from tests.support.sandbox_client import (
    AM,
    DEV,
    IO,
    QUICK,
    am_body,
    call,
    dev_body,
    download,
    image_of,
    io_body,
    io_data,
    io_task,
    png,
    post_edit,
    post_io,
)

EDIT = {"model": "openai/gpt-image-2-beta", "prompt": "recolour", "n": "1", "async": "true", "size": "1024x1024"}


# -- the documented way through ------------------------------------------------------------------------------------


def test_maxapi_io_tells_of_a_task_that_runs_and_delivers_each_image_of_one_that_has_ended(box):
    box.arrange({"takes": {"default": [86_400, 86_400]}})

    said = post_io(box, "a heron", ratio="16:9", n=2)
    task = said.json["data"]["taskId"]
    before = io_data(box, task)["status"]
    box.finish("a heron")
    data = io_data(box, task)

    assert said.json == {"code": 0, "msg": "ok", "data": {"taskId": task}}
    assert [before, data["status"]] == ["PENDING", "SUCCESS"]
    assert data["input"] == {"model": "gpt-image-2/text-to-image", "prompt": "a heron", "ratio": "16:9", "n": 2}
    assert data["failure_reason"] is None
    assert data["created_at"].endswith("Z")
    images = [download(box, url) for url in data["result"]["urls"]]
    assert [image_of(image) for image in images] == [((1536, 864), "PNG")] * 2
    hashes = [hashlib.sha256(image.body).hexdigest() for image in images]
    assert box.tasks(id=task)[0]["sha256"] == hashes
    assert len(set(hashes)) == 2
    assert box.stats()["providers"]["maxapi.io"]["money_micros"] == 40_000


def test_maxapi_dev_queues_with_async_and_is_asked_where_poll_url_says(box):
    said = call(box, f"{DEV}/generations", dev_body(size="1536x1024", n=2, output_format="jpeg"))
    polled = call(box, said.json["poll_url"]).json

    assert said.json["poll_url"] == f"{box.url}{DEV}/generations/{said.json['task_id']}"
    assert polled["status"] == "succeeded"
    assert [image_of(download(box, item["url"])) for item in polled["data"]] == [((1536, 1024), "JPEG")] * 2
    assert box.stats()["providers"]["maxapi.dev"]["money_micros"] == 24_000


def test_maxapi_dev_edits_take_real_images_and_are_asked_about_below_edits(box):
    task = post_edit(box, EDIT, [("image[]", png()), ("image[]", png())]).json["id"]
    refused = post_edit(box, EDIT, [("image", b"not an image")])

    assert call(box, f"{DEV}/edits/{task}").json["status"] == "succeeded"
    assert call(box, f"{DEV}/generations/{task}").status == 404
    assert (refused.status, refused.json["error"]["param"]) == (400, "image")
    assert post_edit(box, EDIT, []).status == 400
    assert call(box, f"{DEV}/edits", dev_body()).status == 400


def test_apimaster_answers_with_arrays_and_tells_of_many_tasks_by_id(box):
    said = [call(box, f"{AM}/images/generations", am_body(f"row {number}")).json for number in range(2)]
    first, second = (answer["data"][0]["task_id"] for answer in said)
    one = call(box, f"{AM}/tasks/{first}?model=gpt-image-2").json
    many = call(box, f"{AM}/tasks/batch", {"task_ids": [first, "task_nobody", second]}).json

    assert said[0] == {"code": 200, "data": [{"status": "submitted", "task_id": first}]}
    assert (one["code"], one["data"]["status"]) == (200, "completed")
    assert image_of(download(box, one["data"]["result"]["images"][0]["url"][0])) == ((1024, 1024), "PNG")
    assert [task["task_id"] for task in many["data"]] == [second, first]
    assert {model["id"] for model in call(box, f"{AM}/models").json["data"]} >= {"gpt-image-2"}


def test_the_official_openai_sdk_makes_an_image(box):
    client = openai.OpenAI(base_url=f"{box.url}/maxapi.dev/v1", api_key="sandbox-key", max_retries=0)
    ask = {"model": "openai/gpt-image-2-beta", "prompt": "a clean product photo of a glass cube", "size": "1024x1024"}

    with client:
        made = client.images.generate(**ask, quality="high", n=1)
        inline = client.images.generate(**ask, response_format="b64_json")
        edited = client.images.edit(**ask, image=[("cube.png", png(), "image/png")])
        with pytest.raises(openai.BadRequestError, match="multiples of 16"):
            client.images.generate(**{**ask, "size": "1000x1000"})

    assert image_of(download(box, made.data[0].url)) == ((1024, 1024), "PNG")
    with Image.open(io.BytesIO(base64.b64decode(inline.data[0].b64_json))) as image:
        assert image.size == (1024, 1024)
    assert edited.data[0].url
    assert box.stats()["providers"]["maxapi.dev"]["charged_images"] == 3


# -- pixels --------------------------------------------------------------------------------------------------------


def test_every_ratio_and_resolution_of_maxapi_io_has_its_documented_pixels(box):
    box.arrange({**QUICK, "pictures": {"tiny": True}})
    asked = [
        (ratio, tier, size) for ratio, sizes in pixels.IO.items() for tier, size in zip("124", sizes, strict=False)
    ]

    for ratio, tier, size in asked:
        data = io_data(box, io_task(box, "a", ratio=ratio, resolution=f"{tier}k"))
        assert image_of(download(box, data["result"]["urls"][0])) == (size, "PNG")

    assert len(asked) == 32


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({"size": "16:9", "resolution": "4k"}, (3840, 2160)),
        ({"size": "1:1", "resolution": "4k"}, (2880, 2880)),
        ({"size": "3:1"}, (1776, 592)),
        ({"size": "3840x2160"}, (3840, 2160)),
        ({"image_urls": ["http://h/cdn/references/oak-tall.jpg"]}, (768, 1024)),
        ({"image_urls": ["data:image/png;base64," + base64.b64encode(png()).decode()]}, (1024, 1024)),
    ],
)
def test_apimaster_delivers_the_pixels_of_a_ratio_a_size_or_its_reference(box, fields, size):
    task = call(box, f"{AM}/images/generations", am_body(**fields)).json["data"][0]["task_id"]

    image = call(box, f"{AM}/tasks/{task}").json["data"]["result"]["images"][0]
    assert image_of(download(box, image["url"][0]))[0] == size


@pytest.mark.parametrize(
    ("prompt", "size"), [("a wide valley", (1280, 720)), ("a tall tower", (720, 1280)), ("a cup", (1024, 1024))]
)
def test_grok_lite_reads_the_orientation_from_the_prompt_and_makes_jpeg(box, prompt, size):
    data = io_data(box, io_task(box, prompt, model="grok-imagine/text-to-image-lite"))

    assert data["result"]["urls"][0].partition("?")[0].endswith("image-0.jpg")
    assert image_of(download(box, data["result"]["urls"][0])) == (size, "JPEG")


def test_padded_images_are_whole_differ_by_task_and_have_the_size_asked_for(box):
    box.arrange({**QUICK, "pictures": {"image_bytes": 200_000}})

    images = [download(box, io_data(box, io_task(box, "same"))["result"]["urls"][0]) for _ in range(2)]

    assert [image_of(image) for image in images] == [((1024, 1024), "PNG")] * 2
    assert all(200_000 <= len(image.body) < 201_000 for image in images)
    assert images[0].body != images[1].body


def test_references_are_real_images_drawn_from_their_name(box):
    assert image_of(download(box, "/cdn/references/heron-lamp.jpg")) == ((1024, 768), "JPEG")
    assert image_of(download(box, "/cdn/references/curtain-tall.png")) == ((768, 1024), "PNG")
    assert download(box, "/cdn/references/notes.txt").status == 404


# -- strictness ----------------------------------------------------------------------------------------------------

IO_BAD = {
    "unknown model": io_body(model="gpt-image-3"),
    "no model": {"input": {"prompt": "a"}},
    "no input": {"model": "gpt-image-2/text-to-image"},
    "no prompt": io_body(prompt=""),
    "prompt is a number": io_body(prompt=7),
    "unknown ratio": io_body(ratio="7:5"),
    "a ratio of another provider": io_body(ratio="3:1"),
    "unknown resolution": io_body(resolution="1K"),
    "4k with 1:1": io_body(ratio="1:1", resolution="4k"),
    "4k without ratio": io_body(resolution="4k"),
    "n is 0": io_body(n=0),
    "n is 11": io_body(n=11),
    "n is text": io_body(n="2"),
    "n is a fraction": io_body(n=2.5),
    "n is true": io_body(n=True),
    "unknown field": io_body(quality="high"),
    "unknown outer field": {**io_body(), "webhook": "http://localhost/"},
    "references without edit": io_body(imageUrls=["https://example.com/a.jpg"]),
    "edit without references": io_body(model="gpt-image-2/image-to-image"),
    "a reference that is no address": io_body(model="gpt-image-2/image-to-image", imageUrls=["a.jpg"]),
    "lite with ratio": io_body(model="grok-imagine/text-to-image-lite", ratio="1:1"),
    "lite with n 5": io_body(model="grok-imagine/text-to-image-lite", n=5),
    "grok with 1k": io_body(model="grok-imagine/text-to-image-pro", resolution="1k"),
    "a callback that is no address": {**io_body(), "callBackUrl": "nowhere"},
    "no JSON": b"{",
    "a list": [],
}
DEV_BAD = {
    "n is 11": dev_body(n=11),
    "n is text": dev_body(n="1"),
    "async is text": dev_body(**{"async": "true"}),
    "a ratio for size": dev_body(size="16:9"),
    "not a multiple of 16": dev_body(size="1000x1000"),
    "too long an edge": dev_body(size="4000x2000"),
    "too slim": dev_body(size="3840x1024"),
    "too small": dev_body(size="512x512"),
    "unknown quality": dev_body(quality="ultra"),
    "unknown route": dev_body(route_mode="cheap"),
    "resolution is another provider's": dev_body(resolution="2k"),
    "compression of a PNG": dev_body(output_compression=50),
    "empty prompt": dev_body(" "),
    "very long prompt": dev_body("a" * 32_001),
}
AM_BAD = {
    "n is 2": am_body(n=2),
    "n is text": am_body(n="1"),
    "unknown size": am_body(size="7:5"),
    "bad pixels": am_body(size="1000x1000"),
    "upper case": am_body(resolution="4K"),
    "17 references": am_body(image_urls=["https://example.com/a.jpg"] * 17),
    "a data URI that is no image": am_body(image_urls=["data:image/png;base64,aGVsbG8="]),
    "a fallback that is text": am_body(official_fallback="false"),
    "quality is the official model's": am_body(quality="high"),
    "no prompt": am_body(""),
}


@pytest.mark.parametrize("body", IO_BAD.values(), ids=IO_BAD)
def test_maxapi_io_refuses(box, body):
    said = call(box, f"{IO}/submit", body, headers={"Content-Type": "application/json"})

    assert (said.status, said.json["code"]) == (400, 400)
    assert said.json["msg"]
    assert "data" not in said.json
    assert box.stats()["total"]["accepted"] == 0


@pytest.mark.parametrize("body", DEV_BAD.values(), ids=DEV_BAD)
def test_maxapi_dev_refuses(box, body):
    said = call(box, f"{DEV}/generations", body)

    assert said.status == 400
    assert said.json["error"]["type"] == "invalid_request_error"
    assert said.json["error"]["param"]
    assert box.stats()["total"]["accepted"] == 0


@pytest.mark.parametrize("body", AM_BAD.values(), ids=AM_BAD)
def test_apimaster_refuses(box, body):
    said = call(box, f"{AM}/images/generations", body)

    assert (said.status, said.json["error"]["code"]) == (400, "invalid_request")
    assert box.stats()["total"]["accepted"] == 0


def test_a_model_nobody_has_is_not_found_where_the_provider_says_so(box):
    dev = call(box, f"{DEV}/generations", {**dev_body(), "model": "dall-e-3"})
    apimaster = call(box, f"{AM}/images/generations", {**am_body(), "model": "dall-e-3"})

    assert (dev.status, dev.json["error"]["code"]) == (404, "model_not_found")
    assert (apimaster.status, apimaster.json["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("key", [None, "", "revoked-key"])
def test_a_missing_or_revoked_key_is_refused_in_each_providers_words(box, key):
    box.revoke("revoked-key")

    io_said = call(box, f"{IO}/submit", io_body(), key=key)
    dev = call(box, f"{DEV}/generations", dev_body(), key=key)
    apimaster = call(box, f"{AM}/images/generations", am_body(), key=key)

    assert (io_said.status, io_said.json) == (401, {"code": 401, "msg": "unauthorized"})
    assert (dev.status, dev.json["error"]["code"]) == (401, "invalid_api_key")
    assert (apimaster.status, apimaster.json["error"]["code"]) == (401, "invalid_api_key")


def test_a_task_is_known_to_its_own_key_alone(box):
    task = io_task(box, "mine")

    assert call(box, f"{IO}/{task}").status == 200
    assert call(box, f"{IO}/{task}", key="another-key").status == 404
    assert call(box, f"{IO}/nobody").json["code"] == 404


def test_errors_of_maxapi_io_may_come_with_http_200(box):
    box.arrange({**QUICK, "io_errors": "200"})

    said = post_io(box, "a", n=11)

    assert (said.status, said.json["code"]) == (200, 400)


def test_links_must_come_back_as_they_were_given_and_without_a_key(box):
    url = io_data(box, io_task(box, "a"))["result"]["urls"][0]

    assert "%2B" in url
    assert download(box, url).status == 200
    assert download(box, url.replace("%2B", "+").replace("%2F", "/")).status == 403
    assert call(box, url).status == 400
    assert box.stats()["keys_seen_at_cdn"] == 1


# -- limits, money, control ----------------------------------------------------------------------------------------


def test_a_token_bucket_and_a_cap_in_flight_answer_429(box):
    box.arrange({**QUICK, "limits": {"maxapi.io": {"submits_per_second": 0.01, "burst": 2, "retry_after": 3}}})
    rate = [post_io(box, "a") for _ in range(3)]
    box.arrange({"takes": {"default": [60, 60]}, "limits": {"apimaster": {"in_flight": 1, "retry_after": "date 5"}}})
    cap = [call(box, f"{AM}/images/generations", am_body()) for _ in range(2)]

    assert [said.status for said in rate] == [200, 200, 429]
    assert (rate[2].headers["Retry-After"], rate[2].json["code"]) == ("3", 429)
    assert [said.status for said in cap] == [200, 429]
    assert cap[1].headers["Retry-After"].endswith("GMT")
    assert box.stats()["total"]["refused_429"] == 2


def test_without_balance_each_provider_says_so_and_a_top_up_helps(box):
    box.arrange({**QUICK, "balances": {"default": 0.05}})
    paid = [post_io(box, "first", resolution="2k"), post_io(box, "second", resolution="2k")]
    reason = io_data(box, paid[1].json["data"]["taskId"])["failure_reason"]
    refused = call(box, f"{AM}/images/generations", am_body(resolution="4k"))
    box.top_up("apimaster", 1.0)

    assert reason == "INSUFFICIENT_POINTS"
    assert (refused.status, refused.json["error"]["code"]) == (402, "insufficient_balance")
    assert call(box, f"{AM}/images/generations", am_body(resolution="4k")).status == 200
    assert box.stats()["providers"]["maxapi.io"]["money_micros"] == 40_000


def test_a_cancelled_task_is_not_charged_and_one_that_ended_is_not_cancelled(box):
    box.arrange({"takes": {"default": [60, 60]}})
    running_task = io_task(box, "a")
    cancelled = call(box, f"{IO}/{running_task}/cancel", {})
    again = call(box, f"{IO}/{running_task}/cancel", {})

    assert cancelled.json == {"code": 0, "msg": "ok"}
    assert again.json["code"] == 400
    assert io_data(box, running_task)["status"] == "CANCELLED"
    assert box.stats()["total"]["money_micros"] == 0


def test_the_control_api_tells_submits_tasks_and_prompts_that_came_twice(box):
    for prompt in ("heron", "heron", "oak"):
        post_io(box, prompt)
    post_io(box, "bad", n=11)

    assert [submit["status"] for submit in box.submits()] == [200, 200, 200, 400]
    assert [task["prompt"] for task in box.tasks(prompt="oak")] == ["oak"]
    assert box.stats()["repeated"] == {"heron": 2}
    assert call(box, "/_control/scenario", {"takes": {"default": "soon"}}).status == 400
    assert call(box, "/_control/scenario", {"rules": [{"trouble": "explode"}]}).status == 400


def test_paths_nobody_documents_are_counted(box):
    assert call(box, "/maxapi.io/v1/images/generations", {}).status == 404
    assert box.stats()["strange_requests"] == 1


# -- the process ---------------------------------------------------------------------------------------------------


def test_tasks_survive_a_kill_where_there_is_a_state_file(tmp_path):
    state = str(tmp_path / "state.jsonl")
    with running(QUICK, "--state", state) as box:
        task = io_task(box, "kept")
        before = download(box, io_data(box, task)["result"]["urls"][0]).body
        box.process.kill()
    with running(QUICK, "--state", state) as box:
        after = download(box, io_data(box, task)["result"]["urls"][0]).body
        money = box.stats()["total"]["money_micros"]

    assert before == after
    assert money == 20_000


def test_it_ends_with_whoever_started_it():
    script = "import sandbox.launch as l, time; print(l.start().process.pid, flush=True); time.sleep(60)"
    starter = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    with starter.stdout as said:
        pid = int(said.readline())

    starter.kill()
    starter.wait()

    deadline = time.monotonic() + AT_LAST
    while _is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)  # real time: nobody tells when a stranger's child ends
    assert not _is_alive(pid)


def test_a_scenario_that_cannot_be_read_stops_the_start(tmp_path):
    path = tmp_path / "scenario.toml"
    path.write_text('seeds = 1\n[takes]\ndefault = "long"\n[[rules]]\ntrouble = "explode"\n')

    ended = subprocess.run(
        [sys.executable, "-m", "sandbox", "--port", "0", "--scenario", str(path)],
        capture_output=True,
        text=True,
        timeout=AT_LAST,
        check=False,
    )

    assert ended.returncode == 2
    first, *others = ended.stderr.splitlines()
    assert first.startswith(f"error: {path}: takes.default: expected seconds as [from, to], as {{median")
    assert others == [
        f"error: {path}: rules[1].trouble: 'explode' is no trouble; docs/reference/sandbox.md lists them",
        f"error: {path}: seeds: there is no such setting",
    ]


def _is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
