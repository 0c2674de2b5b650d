from __future__ import annotations

import orjson
import pytest

from providers.dialects.reading import own_path
from providers.registry import PROVIDERS
from providers.types import Accepted, Ambiguous, Delivered, Kind, Link, ReferenceFile, Refused
from tests.support.dialect_shapes import REFERENCE, SHAPES, TASK, answer, read_submit, route, sent, submit

PNG = "iVBORw0KGgoAAAANSUhEUg=="

# -- what is sent --------------------------------------------------------------------------------------------------


def test_maxapi_io_is_asked_as_its_page_shows():
    call = submit("maxapi.io", ratio="16:9", extras={"callback_url": "https://example.com/webhook"})

    assert (call.method, call.path, call.form) == ("POST", "/api/v1/task/submit", ())
    assert orjson.loads(call.body) == {
        "model": "gpt-image-2/text-to-image",
        "callBackUrl": "https://example.com/webhook",
        "input": {"prompt": "a crow", "ratio": "16:9", "resolution": "1k", "n": 1},
    }


def test_maxapi_io_takes_references_by_link_and_no_ratio_when_the_first_decides():
    assert sent("maxapi.io", references=(REFERENCE,)) == {
        "model": "gpt-image-2/image-to-image",
        "input": {"prompt": "a crow", "imageUrls": [REFERENCE], "resolution": "1k", "n": 1},
    }


def test_maxapi_io_is_asked_for_a_size_by_its_ratio_and_resolution():
    made = sent("maxapi.io", size=(2688, 1344))["input"]

    assert made == {"prompt": "a crow", "ratio": "2:1", "resolution": "2k", "n": 1}


@pytest.mark.parametrize(("tier", "extra"), [("lite", {}), ("standard", {"ratio": "1:1"}), ("pro", {"ratio": "1:1"})])
def test_grok_is_asked_as_its_page_shows_and_lite_without_ratio_and_resolution(tier, extra):
    made = sent("maxapi.io", 2, model=f"grok-imagine-{tier}")

    assert made == {"model": f"grok-imagine/text-to-image-{tier}", "input": {"prompt": "a crow", "n": 2, **extra}}


def test_maxapi_dev_is_always_told_async_and_route_mode():
    call = submit("maxapi.dev", 2, ratio="9:16", resolution="2k", quality="high")

    assert (call.method, call.path, call.form) == ("POST", "/v1/images/generations", ())
    assert orjson.loads(call.body) == {
        "model": "openai/gpt-image-2-beta",
        "prompt": "a crow",
        "size": "1152x2048",
        "quality": "high",
        "n": 2,
        "async": True,
        "route_mode": "mix",
    }


def test_the_rows_route_mode_goes_before_the_accounts():
    account = {"route_mode": "official-cheap"}

    assert sent("maxapi.dev", extras=account)["route_mode"] == "official-cheap"
    assert sent("maxapi.dev", extras=account, options={"route_mode": "mix"})["route_mode"] == "mix"


@pytest.mark.parametrize(("count", "name"), [(1, "image"), (2, "image[]")])
def test_maxapi_dev_edits_are_openais_form_with_async_and_route_mode(count, name):
    call = submit("maxapi.dev", references=(REFERENCE,) * count, ratio="1:1", options={"output_format": "webp"})

    assert (call.path, call.body) == ("/v1/images/edits", b"")
    assert dict(call.form[:-count]) == {
        "output_format": "webp",
        "model": "openai/gpt-image-2-beta",
        "prompt": "a crow",
        "size": "1024x1024",
        "n": "1",
        "async": "true",
        "route_mode": "mix",
    }
    assert call.form[-count:] == ((name, ReferenceFile(url=REFERENCE)),) * count


def test_apimaster_is_asked_by_ratio_and_by_size():
    call = submit("apimaster", ratio="16:9", resolution="2k", options={"official_fallback": True})

    assert (call.method, call.path) == ("POST", "/v1/images/generations")
    assert orjson.loads(call.body) == {
        "model": "gpt-image-2",
        "prompt": "a crow",
        "n": 1,
        "size": "16:9",
        "resolution": "2k",
        "official_fallback": True,
    }
    by_size = sent("apimaster", size=(3840, 2160))
    assert (by_size["size"], by_size["resolution"]) == ("3840x2160", "4k")
    with_reference = sent("apimaster", references=(REFERENCE,))
    assert with_reference["image_urls"] == [REFERENCE]
    assert "size" not in with_reference


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_number_of_images_is_a_json_integer_where_a_task_can_make_several(provider):
    n = min(3, route(provider)[1].max_n)

    assert n in numbers(sent(provider, n)) or n == 1


def numbers(value):
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [value] if type(value) is int else [number for item in inner for number in numbers(item)]


# -- accepted ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("status", [200, 201, 202])
def test_a_task_is_accepted_as_the_providers_page_shows(provider, status):
    outcome = read_submit(provider, answer(SHAPES[provider].accepted, status))

    assert isinstance(outcome, Accepted)
    assert outcome.task_id == TASK


@pytest.mark.parametrize(
    ("provider", "body", "task_id"),
    [
        ("maxapi.io", {"code": 0, "msg": "ok", "data": {"taskId": TASK}}, TASK),
        ("apimaster", {"code": 200, "data": [{"status": "submitted", "task_id": "task_01K"}]}, "task_01K"),
        ("apimaster", {"code": 200, "data": {"status": "submitted", "task_id": "task_01K"}}, "task_01K"),
        ("apimaster", {"code": "200", "data": [{"id": 17}]}, "17"),
        ("apimaster", {"task_id": "task_01K", "status": "queued"}, "task_01K"),
        ("maxapi.dev", {"task_id": "t1", "status": "queued"}, "t1"),
        ("maxapi.dev", {"id": "t1"}, "t1"),
        ("maxapi.dev", {"data": {"task_id": "t1", "id": "other"}}, "t1"),
        ("maxapi.dev", {"data": [{"id": "t1"}]}, "t1"),
        # A link beside a task that is not done may be anything.
        ("maxapi.dev", {"id": "t1", "status": "processing", "images": [{"url": "https://a.example/p.png"}]}, "t1"),
        ("apimaster", {"code": 200, "data": [{"task_id": "t1", "url": "https://a.example/v1/tasks/t1"}]}, "t1"),
    ],
)
def test_a_named_task_is_accepted(provider, body, task_id):
    outcome = read_submit(provider, answer(body, 200))

    assert outcome == Accepted(task_id=task_id)


@pytest.mark.parametrize(
    "body",
    [
        b'\xef\xbb\xbf{"code":0,"data":{"taskId":"t1"}}',
        rb'{"code":0,"data":{"taskId":"t1"},"msg":"\ud800"}',
        b'{"code":0,"data":{"taskId":"t1"},"msg":"\\u0000"}',
        b'{"code":0,"data":{"taskId":"t1"},"cost":NaN,"big":' + b"9" * 5_000 + b"}",
        b'{"code":0,"data":{"taskId":"t1"},"msg":"\xff\xfe"}',
        b'{"code":0,"data":{"taskId":"t1"},"msg":"' + b"x" * 10_000_000 + b'"}',
    ],
    ids=["bom", "lone surrogate", "NUL", "NaN and 5,000 digits", "invalid UTF-8", "10 MB"],
)
def test_odd_bytes_elsewhere_in_an_answer_do_not_lose_an_acceptance(body):
    assert read_submit("maxapi.io", answer(body)) == Accepted(task_id="t1")


@pytest.mark.parametrize("provider", ["maxapi.dev", "apimaster"])
@pytest.mark.parametrize(
    ("item", "link"),
    [
        ({"url": "https://cdn.example/0.png"}, Link(url="https://cdn.example/0.png")),
        ({"b64_json": PNG}, Link(b64=PNG)),
        ({"url": f"data:image/png;base64,{PNG}"}, Link(b64=PNG)),
        ({"url": ["https://cdn.example/0.png"]}, Link(url="https://cdn.example/0.png")),
    ],
)
def test_a_synchronous_answer_is_delivered_at_once(provider, item, link):
    outcome = read_submit(provider, answer({"created": 1_760_000_000, "data": [item]}))

    assert outcome == Delivered(links=(link,))


def test_a_task_that_is_done_when_it_is_named_is_delivered():
    body = {"id": "t1", "status": "succeeded", "result": {"data": [{"url": "https://cdn.example/0.png"}]}}

    outcome = read_submit("maxapi.dev", answer(body))

    assert outcome == Delivered(links=(Link(url="https://cdn.example/0.png"),), task_id="t1")


# -- poll_url ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("https://api.maxapi.dev/v1/images/generations/t1?x=1", "/v1/images/generations/t1?x=1"),
        ("https://API.maxapi.dev:443/v1/tasks/t1", "/v1/tasks/t1"),
        ("/v1/images/edits/t1", "/v1/images/edits/t1"),
        ("https://evil.example/v1/images/generations/t1", None),
        ("http://api.maxapi.dev/v1/images/generations/t1", None),
        ("https://api.maxapi.dev:8443/v1/tasks/t1", None),
        ("https://api.maxapi.dev@evil.example/t1", None),
        ("https://user@api.maxapi.dev/t1", None),
        ("https://api.maxapi.dev.evil.example/t1", None),
        ("//evil.example/t1", None),
        ("/\\evil.example/t1", None),
        ("https://api.maxapi.dev", None),
        ("https://[", None),
        ("https://api.maxapi.dev/\r\nx: y", None),
        (7, None),
    ],
)
def test_a_poll_url_is_followed_on_the_providers_own_host_only(url, path):
    outcome = read_submit("maxapi.dev", answer({"task_id": "t1", "poll_url": url}))

    assert outcome == Accepted(task_id="t1", poll_path=path)


def test_a_poll_url_below_a_base_with_a_path_loses_that_path():
    base = "http://127.0.0.1:8000/maxapi.dev"

    assert own_path("http://127.0.0.1:8000/maxapi.dev/v1/x/t1", base) == "/v1/x/t1"
    assert own_path("/maxapi.dev/v1/x/t1", base) == "/v1/x/t1"
    assert own_path("http://127.0.0.1:8000/maxapi.devil/x", base) is None


def test_an_edit_is_asked_about_below_edits():
    call = submit("maxapi.dev", references=(REFERENCE,))

    outcome = read_submit("maxapi.dev", answer({"task_id": "t/1"}, 202), call)

    assert outcome == Accepted(task_id="t/1", poll_path="/v1/images/edits/t%2F1")


# -- refused -------------------------------------------------------------------------------------------------------

FLAGGED = {
    "code": 400,
    "msg": "content rejected by moderation",
    "data": {"flagged": True, "categories": {"violence": True, "sexual": False}},
}


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        ({"code": 400, "msg": "参数错误"}, Kind.PERMANENT, "invalid_parameters"),
        (FLAGGED, Kind.MODERATION, "moderation"),
        ({**FLAGGED, "msg": "内容不合规"}, Kind.MODERATION, "moderation"),
        ({"code": 400, "msg": "content rejected by moderation"}, Kind.MODERATION, "moderation"),
        ({"code": 400, "msg": "x", "data": {"categories": {"violence": True}}}, Kind.MODERATION, "moderation"),
        ({"code": 401, "msg": "unauthorized"}, Kind.ACCOUNT, "bad_key"),
        ({"code": "402", "msg": "余额不足"}, Kind.ACCOUNT, "no_balance"),
        ({"code": 403, "msg": ""}, Kind.ACCOUNT, "no_permission"),
        ({"code": 429, "msg": "slow down"}, Kind.THROTTLED, "rate_limited"),
    ],
)
def test_maxapi_io_http_200_with_a_refusing_code_is_a_refusal(body, kind, code, status):
    outcome = read_submit("maxapi.io", answer(body, status))

    assert isinstance(outcome, Refused)
    assert (outcome.kind, outcome.code) == (kind, code)
    assert outcome.message == (body["msg"] or f"HTTP {status}")
    assert str(body["code"]) in outcome.raw


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (301, Kind.ACCOUNT, "redirected"),
        (307, Kind.ACCOUNT, "redirected"),
        (400, Kind.PERMANENT, "invalid_parameters"),
        (401, Kind.ACCOUNT, "bad_key"),
        (402, Kind.ACCOUNT, "no_balance"),
        (403, Kind.ACCOUNT, "no_permission"),
        (404, Kind.PERMANENT, "model_not_found"),
        (413, Kind.PERMANENT, "invalid_parameters"),
        (422, Kind.PERMANENT, "invalid_parameters"),
        (429, Kind.THROTTLED, "rate_limited"),
    ],
)
def test_3xx_and_other_4xx_are_refusals_whatever_their_body(provider, status, kind, code):
    for body in (b"", b"<html>nope</html>", b'{"error":null}', b"[1]"):
        outcome = read_submit(provider, answer(body, status))

        assert isinstance(outcome, Refused)
        assert (outcome.kind, outcome.code) == (kind, code)
        assert outcome.message


@pytest.mark.parametrize("provider", ["maxapi.dev", "apimaster"])
@pytest.mark.parametrize(
    ("status", "error", "kind", "code"),
    [
        (400, {"code": "moderation_blocked", "message": "no"}, Kind.MODERATION, "moderation"),
        (400, {"type": "content_policy_violation", "message": "no"}, Kind.MODERATION, "moderation"),
        (400, {"message": "Your request was rejected by the safety system."}, Kind.MODERATION, "moderation"),
        (400, "提示词违规", Kind.MODERATION, "moderation"),
        (429, {"code": "insufficient_quota", "message": "current quota"}, Kind.ACCOUNT, "no_balance"),
        (400, {"message": "Insufficient account balance"}, Kind.ACCOUNT, "no_balance"),
        (400, {"code": 17, "message": "Invalid size"}, Kind.PERMANENT, "invalid_parameters"),
        (403, {"message": "violates the usage policy"}, Kind.ACCOUNT, "no_permission"),
    ],
)
def test_openai_errors_say_more_than_their_status(provider, status, error, kind, code):
    outcome = read_submit(provider, answer({"error": error}, status))

    assert (outcome.kind, outcome.code) == (kind, code)


def test_apimaster_build_request_failed_is_a_500_that_was_certainly_not_accepted():
    body = {"error": {"message": "build_request_failed: invalid size 17x17", "type": "api_error"}}

    outcome = read_submit("apimaster", answer(body, 500))

    assert isinstance(outcome, Refused)
    assert (outcome.kind, outcome.code) == (Kind.PERMANENT, "invalid_parameters")


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "12"}, 12.0),
        ({"retry_after": "0.5"}, 0.5),
        ({"retry_after": "-3"}, 0.0),
        ({"retry_after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30.0),
        ({"retry_after": "Wed, 21 Oct 2026 07:28:30 GMT"}, None),
        ({"retry_after": "soon"}, None),
        ({"retry_after": "inf"}, None),
        ({"retry_after": "1000000000000"}, 86_400.0),
        ({"retry_after": "Wed, 21 Oct 9026 07:28:30 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 86_400.0),
        ({}, None),
    ],
)
def test_retry_after_is_read_in_seconds_and_as_a_date(provider, headers, seconds):
    assert read_submit(provider, answer(b"slow down", 429, **headers)).retry_after == seconds


# -- ambiguous -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    ("status", "code"),
    [
        (408, "provider_timeout"),
        (500, "server_error"),
        (502, "server_error"),
        (503, "server_error"),
        (504, "provider_timeout"),
    ],
)
def test_a_408_or_5xx_may_have_been_accepted(provider, status, code):
    for body in (b"", b"<html>", b'{"code":0,"data":{"taskId":"t1"}}', b'{"code":400,"error":{"message":"policy"}}'):
        outcome = read_submit(provider, answer(body, status))

        assert isinstance(outcome, Ambiguous)
        assert outcome.code == code


@pytest.mark.parametrize(
    ("provider", "body", "code"),
    [
        ("maxapi.io", {"code": 0, "msg": "ok", "data": {}}, "no_task_id"),
        ("maxapi.io", {"code": 0, "msg": "ok"}, "no_task_id"),
        ("maxapi.io", {"code": 0, "data": {"taskId": ""}}, "no_task_id"),
        ("maxapi.io", {"code": 0, "data": {"taskId": {"a": 1}}}, "no_task_id"),
        ("maxapi.io", {"code": 0, "data": {"taskId": "x" * 201}}, "no_task_id"),
        ("maxapi.io", {"code": 0, "data": {"taskId": "a\nb"}}, "no_task_id"),
        ("maxapi.io", {"data": {"taskId": TASK}}, "unreadable_answer"),
        ("maxapi.io", {"code": 1, "msg": "busy"}, "unexpected_code"),
        ("maxapi.io", {"code": False, "data": {"taskId": TASK}}, "unexpected_code"),
        ("maxapi.io", {"code": 400, "data": {"taskId": TASK}}, "unexpected_code"),
        ("apimaster", {"code": 200, "data": []}, "no_task_id"),
        ("apimaster", {"code": 200, "data": [{"status": "submitted"}]}, "no_task_id"),
        ("apimaster", {"code": 200, "data": [{"url": ""}]}, "no_task_id"),
        ("apimaster", {"code": 500, "message": "upstream"}, "unexpected_code"),
        ("maxapi.dev", {"created": 1, "data": []}, "no_task_id"),
        ("maxapi.dev", {"data": [{"url": "ftp://a.example/x"}]}, "no_task_id"),
        ("maxapi.dev", {"error": {"message": "odd"}}, "no_task_id"),
    ],
)
def test_a_2xx_that_names_neither_task_nor_image_is_unknown_never_success(provider, body, code):
    outcome = read_submit(provider, answer(body))

    assert isinstance(outcome, Ambiguous)
    assert outcome.code == code
    assert outcome.raw


def test_the_success_code_of_one_provider_is_none_at_the_other():
    at_io = read_submit("maxapi.io", answer({"code": 200, "data": {"taskId": TASK}}))
    at_apimaster = read_submit("apimaster", answer({"code": 0, "data": [{"task_id": TASK}]}))

    assert [at_io.code, at_apimaster.code] == ["unexpected_code"] * 2
    assert TASK in at_io.raw
    assert TASK in at_apimaster.raw


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("body", [b"", b"OK", b"<html>", b"null", b"[]", b"7", b'{"code":', b"\x00\xff" * 50])
def test_an_unreadable_2xx_is_unknown(provider, body):
    outcome = read_submit(provider, answer(body))

    assert isinstance(outcome, Ambiguous)
    assert outcome.code == "unreadable_answer"


# -- what is kept --------------------------------------------------------------------------------------------------


def test_keys_and_image_bytes_are_not_kept():
    body = {
        "error": {"message": "Incorrect API key sk-proj-abcdef123456 given"},
        "echo": "Authorization: Bearer topsecret.value",
        "url": "https://api.example/x?key=hidden&y=1",
        "X-Api-Key": "alone-in-its-header",
        "sent": "Accept: */*\r\nx-api-key: among-other-lines\r\nx-goog-api-key: of-a-vendor",
        "b64_json": "iVBORw0K" + "A" * 50_000,
    }

    outcome = read_submit("maxapi.dev", answer(body, 400))

    for secret in ("abcdef123456", "topsecret", "hidden", "alone-in", "among-other", "of-a-vendor"):
        assert secret not in outcome.raw + outcome.message
    assert "iVBORw0K" in outcome.raw
    assert len(outcome.raw) < 500


def test_what_is_kept_is_bounded_and_can_be_stored():
    outcome = read_submit("maxapi.io", answer(rb'{"code":400,"msg":"a\u0000b\ud800c' + b"d " * 100_000 + b'"}'))

    assert len(outcome.message) <= 500
    assert len(outcome.raw) <= 4_000
    assert "\x00" not in outcome.message
    outcome.message.encode()
