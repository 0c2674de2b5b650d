"""Trouble on order, as a raw client meets it."""

from __future__ import annotations

import http.client
import io
import json
import queue
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from PIL import Image, ImageChops

from sandbox.troubles.scenario import read_scenario
from sandbox.troubles.words import WORDS, in_prompt, read_trouble
from tests.support import ROOT
from tests.support.patience import AT_LAST, until
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
    post_io,
)

DOCS = ROOT / "docs" / "reference" / "sandbox.md"
SCENARIOS = ROOT / "examples" / "scenarios"


def accepted(box):
    return box.stats()["total"]["accepted"]


# -- submits -------------------------------------------------------------------------------------------------------


def test_the_first_so_many_times_and_then_it_is_well(box):
    assert [post_io(box, "a [429 x2]").status for _ in range(3)] == [429, 429, 200]
    assert [post_io(box, "a [429 x1] [503 x1]").status for _ in range(3)] == [429, 503, 200]


def test_retry_after_is_absent_seconds_or_a_date(box):
    headers = [post_io(box, f"a [429{words}]").headers["Retry-After"] for words in ("", " after 2", " date 2")]

    assert headers[:2] == [None, "2"]
    assert headers[2].endswith("GMT")


@pytest.mark.parametrize(("words", "tasks"), [("503", 0), ("503 accepted", 1), ("402", 0), ("408 accepted", 1)])
def test_an_error_status_before_or_after_acceptance(box, words, tasks):
    status = int(words[:3])

    assert post_io(box, f"a [{words}]").status == status
    assert call(box, f"{DEV}/generations", dev_body(f"a [{words}]")).status == status
    assert call(box, f"{AM}/images/generations", am_body(f"a [{words}]")).status == status
    assert accepted(box) == 3 * tasks


@pytest.mark.parametrize(
    ("words", "error", "tasks"),
    [
        ("reset", ConnectionResetError, 0),
        ("cut", http.client.IncompleteRead, 1),
        ("drop", http.client.RemoteDisconnected, 1),
        ("headers", http.client.LineTooLong, 1),
    ],
)
def test_a_connection_that_breaks(box, words, error, tasks):
    with pytest.raises(error):
        post_io(box, f"a [{words}]")

    assert accepted(box) == tasks
    assert [submit["trouble"] for submit in box.submits()] == [words]


def test_a_rule_without_model_and_prompt_resets_before_the_body_is_read(box):
    box.arrange({**QUICK, "rules": [{"trouble": "reset", "times": 1}]})

    with pytest.raises(ConnectionError):
        post_io(box, "a" * 5_000_000)
    said = post_io(box, "b")

    assert said.status == 200
    assert [submit["prompt"] for submit in box.submits()] == [None, "b"]


def test_an_answer_that_hangs_or_trickles(box):
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        call(box, f"{IO}/submit", io_body("a [hang]"), timeout=0.3)  # real time: no answer would come later
    assert post_io(box, "b [hang 0.3]").json["code"] == 0
    assert post_io(box, "c [slow 0.3]").json["code"] == 0

    assert time.monotonic() - began >= 0.9
    assert accepted(box) == 3


@pytest.mark.parametrize("words", ["html", "truncated", "empty"])
def test_bodies_that_are_no_json(box, words):
    said = post_io(box, f"a [{words}]")

    with pytest.raises(ValueError, match=r"Expecting|Unterminated|double quotes"):
        _ = said.json
    assert (said.status, accepted(box)) == (200, 1)


def test_bodies_with_text_that_hurts(box):
    found = {words: post_io(box, f"a [{words}]") for words in ("nul", "surrogate", "huge")}

    assert "\x00" in found["nul"].json["msg"]
    assert "\ud800" in found["surrogate"].json["msg"]
    assert len(found["huge"].body) > 10_000_000
    assert all(said.json["data"]["taskId"] for said in found.values())


def test_answers_without_meaning(box):
    assert post_io(box, "a [code 9]").json["code"] == 9
    assert post_io(box, "a [no-id]").json == {"code": 0, "msg": "ok", "data": {}}
    assert post_io(box, "a [redirect]").headers["Location"].startswith("http://169.254.169.254/")
    assert accepted(box) == 2


def test_refusals_in_the_providers_words(box):
    moderated = post_io(box, "a [refuse moderation]")
    hurtful = post_io(box, "a [refuse nul]")

    assert moderated.json["msg"] == "content rejected by moderation"
    assert moderated.json["data"]["flagged"] is True
    assert "\x00" in hurtful.json["msg"]
    assert post_io(box, "a [refuse balance]").status == 402
    assert accepted(box) == 0


def test_a_word_that_means_nothing_at_the_provider_is_refused_with_the_reason(box):
    said = post_io(box, "a [b64]")

    assert (said.status, accepted(box)) == (400, 0)
    assert said.json["msg"] == "the sandbox cannot play [b64] for maxapi.io"
    box.arrange({**QUICK, "rules": [{"trouble": "b64"}]})
    assert post_io(box, "a").status == 200  # a rule for all providers concerns those that can


def test_apimaster_may_answer_with_the_image_at_once(box):
    by_word = call(box, f"{AM}/images/generations", am_body("a [sync]")).json
    with_bytes = call(box, f"{AM}/images/generations", am_body("a [sync b64]")).json
    box.arrange({**QUICK, "apimaster_sync": True})
    by_scenario = call(box, f"{AM}/images/generations", am_body("b")).json
    queued = call(box, f"{AM}/images/generations/async", am_body("c")).json

    assert image_of(download(box, by_word["data"][0]["url"]))[0] == (1024, 1024)
    assert with_bytes["data"][0]["b64_json"].startswith("iVBOR")
    assert "url" in by_scenario["data"][0]
    assert "task_id" in queued["data"][0]


# -- tasks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "status", "reason"),
    [
        ("fail", "FAILURE", None),
        ("fail moderation", "FAILURE", "CONTENT_MODERATION"),
        ("fail invalid", "FAILURE", "INVALID_PARAMETERS"),
        ("fail points", "FAILURE", "INSUFFICIENT_POINTS"),
        ("fail STRANGE", "FAILURE", "STRANGE"),
        ("fail nul", "FAILURE", "bro\x00ken"),
        ("fail surrogate", "FAILURE", "bro\ud800ken"),
        ("timeout", "TIMEOUT", None),
        ("cancelled", "CANCELLED", None),
    ],
)
def test_a_task_that_fails_costs_nothing(box, words, status, reason):
    data = io_data(box, io_task(box, f"a [{words}]"))

    assert (data["status"], data["failure_reason"], data["result"]) == (status, reason, None)
    assert box.stats()["total"]["money_micros"] == 0


def test_the_other_two_say_failure_in_their_words(box):
    dev = call(box, call(box, f"{DEV}/generations", dev_body("a [fail moderation]")).json["poll_url"]).json
    task = call(box, f"{AM}/images/generations", am_body("a [fail]")).json["data"][0]["task_id"]
    apimaster = call(box, f"{AM}/tasks/{task}").json["data"]

    assert (dev["status"], dev["error"]["code"]) == ("failed", "moderation_blocked")
    assert (apimaster["status"], apimaster["error"]["code"]) == ("failed", "upstream_error")


def test_a_stuck_task_never_ends_and_a_lost_one_is_forgotten(box):
    assert io_data(box, io_task(box, "a [stuck]"))["status"] == "PENDING"
    assert call(box, f"{IO}/{io_task(box, 'a [lost]')}").status == 404
    assert box.stats()["total"]["in_flight"] == 1


def test_short_empty_misshapen_and_inline_deliveries(box):
    short = io_data(box, io_task(box, "a [short 1]", n=4))["result"]["urls"]
    nothing = io_data(box, io_task(box, "a [none]"))
    other = io_data(box, io_task(box, "a [wrong-pixels 640x400] [as jpeg]"))["result"]["urls"][0]
    inline = call(box, call(box, f"{DEV}/generations", dev_body("a [b64]")).json["poll_url"]).json

    assert len(short) == 3
    assert (nothing["status"], nothing["result"]["urls"]) == ("SUCCESS", [])
    assert image_of(download(box, other)) == ((640, 400), "JPEG")
    assert inline["data"][0]["b64_json"].startswith("iVBOR")
    assert box.stats()["providers"]["maxapi.io"]["charged_images"] == 4


def test_blank_pictures_and_pictures_nearly_like_those_of_another_prompt(box):
    def made(prompt):
        url = io_data(box, io_task(box, prompt))["result"]["urls"][0]
        return Image.open(io.BytesIO(download(box, url).body)).convert("RGB").resize((8, 8), Image.Resampling.BOX)

    lamp, like, other = made("A lamp"), made("Another [like A lamp]"), made("Another")

    assert made("a [blank #fefefe]").getcolors() == [(64, (254, 254, 254))]
    assert made("a [blank]").getcolors() == [(64, (0, 0, 0))]
    assert lamp.tobytes() != like.tobytes()
    assert largest_difference(lamp, like) < 16 < largest_difference(lamp, other)


def largest_difference(one, other):
    return max(high for _, high in ImageChops.difference(one, other).getextrema())


def test_a_dead_link_is_403_and_a_poll_gives_a_fresh_one(box):
    box.arrange({**QUICK, "link_seconds": {"default": 600}})
    lives = io_data(box, io_task(box, "a"))["result"]["urls"][0]
    assert download(box, lives).status == 200

    task = io_task(box, "b [link 0.4]")
    url = io_data(box, task)["result"]["urls"][0]
    until(lambda: download(box, url).status == 403)
    fresh = until(lambda: io_data(box, task)["result"]["urls"][0])
    assert fresh != url
    until(lambda: download(box, io_data(box, task)["result"]["urls"][0]).status == 200)


# -- polls and downloads -------------------------------------------------------------------------------------------


def test_trouble_of_polls_passes_and_the_task_is_well(box):
    task = io_task(box, "a [poll 503 x1] [poll 429 after 1 x1] [poll 404 x1] [poll html x1] [poll status X x1]")
    said = [call(box, f"{IO}/{task}") for _ in range(6)]

    assert [answer.status for answer in said] == [503, 429, 404, 200, 200, 200]
    assert said[1].headers["Retry-After"] == "1"
    assert said[3].body.startswith(b"<!doctype html>")
    assert (said[4].json["data"]["status"], said[5].json["data"]["status"]) == ("X", "SUCCESS")


@pytest.mark.parametrize("words", ["cut", "drop", "reset"])
def test_polls_and_downloads_break_off(box, words):
    task = io_task(box, f"a [poll {words} x1] [cdn {words} x1]")
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        io_data(box, task)
    url = io_data(box, task)["result"]["urls"][0]
    with pytest.raises((ConnectionError, http.client.HTTPException)):
        download(box, url)

    assert image_of(download(box, url))[1] == "PNG"


def test_troubles_of_the_cdn_pass_and_the_bytes_are_whole(box):
    kinds = ("404", "503", "html", "truncated", "corrupt", "redirect", "drip 0.2")
    words = " ".join(f"[cdn {kind} x1]" for kind in kinds)
    url = io_data(box, io_task(box, f"a {words}"))["result"]["urls"][0]
    said = [download(box, url) for _ in range(8)]
    whole = said[7].body

    assert [answer.status for answer in said] == [404, 503, 200, 200, 200, 302, 200, 200]
    assert said[3].body == whole[: len(whole) // 2]
    assert len(said[4].body) == len(whole)
    assert said[4].body != whole
    assert said[6].body == whole
    assert box.stats()["total"]["downloads_whole"] == 2


# -- rules ---------------------------------------------------------------------------------------------------------


def test_a_rule_strikes_whom_it_names_as_often_as_it_says(box):
    rule = {"trouble": "503", "provider": "maxapi.io", "prompt": "heron", "after": 1, "times": 2}
    box.arrange({**QUICK, "rules": [rule]})

    assert [post_io(box, "heron").status for _ in range(4)] == [200, 503, 503, 200]
    assert post_io(box, "oak").status == 200
    assert call(box, f"{AM}/images/generations", am_body("heron")).status == 200


def test_chance_is_the_same_in_every_run_of_a_seed(box):
    runs = []
    for seed in (1, 1, 2):
        box.arrange({**QUICK, "seed": seed, "rules": [{"trouble": "503", "chance": 0.3}]})
        runs.append([post_io(box, f"row {number}").status for number in range(60)])

    assert runs[0] == runs[1] != runs[2]
    assert 8 <= runs[0].count(503) <= 30


# -- webhooks ------------------------------------------------------------------------------------------------------


@pytest.fixture
def hooks():
    """An address, and what came in there."""
    came: queue.Queue = queue.Queue()

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self):
            came.put((time.monotonic(), json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook", came
    server.shutdown()
    thread.join()
    server.server_close()


def post_hooked(box, prompt, address):
    return call(box, f"{IO}/submit", {**io_body(prompt), "callBackUrl": address}).json["data"]["taskId"]


def test_a_webhook_carries_what_a_poll_tells(box, hooks):
    address, came = hooks
    task = post_hooked(box, "a [takes 0.1]", address)
    _, body = came.get(timeout=AT_LAST)

    assert body == {"code": 0, "data": io_data(box, task)}
    assert box.stats()["providers"]["maxapi.io"]["webhooks"] == 1


def test_webhooks_come_twice_late_early_forged_or_never(box, hooks):
    address, came = hooks
    box.arrange({**QUICK, "takes": {"default": [0.2, 0.2]}})

    post_hooked(box, "a [webhook early]", address)
    answered = time.monotonic()
    early_at, early = came.get_nowait()
    post_hooked(box, "b [webhook twice]", address)
    twice = [came.get(timeout=AT_LAST)[1]["data"] for _ in range(2)]
    post_hooked(box, "c [webhook never]", address)
    post_hooked(box, "d [webhook forged] [webhook late 0.2]", address)
    forged = [came.get(timeout=AT_LAST)[1]["data"]["status"] for _ in range(2)]

    assert early_at < answered
    assert early["data"]["status"] == "SUCCESS"
    assert twice[0] == twice[1]
    assert forged == ["FAILURE", "SUCCESS"]


def test_webhooks_go_to_this_machine_only(box):
    post_hooked(box, "a", "https://example.com/hook")
    box.arrange(QUICK)

    assert box.stats()["providers"]["maxapi.io"]["webhooks"] == 0


# -- the grammar ---------------------------------------------------------------------------------------------------


def test_brackets_that_are_no_words_mean_nothing():
    assert in_prompt("a [heron] [] [poll] [poll heron] [cdn stuck] [x3] [999] a[0]") == ()
    assert read_trouble("poll 503 after 2 x3").times == 3
    assert in_prompt("[stuck]") == in_prompt("cup [stuck] on [a] table")


def test_every_word_is_documented_and_every_example_scenario_is_read():
    text = DOCS.read_text(encoding="utf-8")
    told = {verb: text.split(f"### {verb}\n")[1].split("\n#")[0] for verb in WORDS}

    for verb, words in WORDS.items():
        assert [word for word in words if f"`{word}" not in told[verb]] == []
    assert [path.name for path in sorted(SCENARIOS.iterdir()) if read_scenario(path).rules == ()] == [
        "slow-and-limited.toml"
    ]
