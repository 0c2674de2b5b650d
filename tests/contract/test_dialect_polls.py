from __future__ import annotations

import pytest

from providers.dialects.answers import about
from providers.registry import DIALECTS, PROVIDERS
from providers.types import Empty, Failed, Kind, Link, NotFound, Running, Succeeded, Unreadable
from tests.support.dialect_shapes import IMAGE, REFERENCE, SHAPES, TASK, answer, io_task, read_poll, route

A, B = "https://cdn.example/image-0.png", "https://cdn.example/image-1.png"


def am_task(status: str, **more):
    return {"code": 200, "data": {"id": "task_01K", "status": status, **more}}


# -- what every provider keeps -------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_task_runs_fails_and_is_done_as_the_providers_page_shows(provider):
    shapes = SHAPES[provider]

    running, failed, done = (
        read_poll(provider, answer(body)) for body in (shapes.running, shapes.failed, shapes.done(IMAGE))
    )

    assert isinstance(running, Running)
    assert running.known
    assert isinstance(failed, Failed)
    assert failed.message
    assert isinstance(done, Succeeded)
    assert done.links == (Link(url=IMAGE),)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("end", ["done", "without pictures", "failed"])
def test_an_answer_about_another_task_is_never_taken_for_the_end_of_ours(provider, end):
    shapes, dialect = SHAPES[provider], DIALECTS[provider]
    body = {"done": shapes.done(IMAGE), "without pictures": shapes.without([]), "failed": shapes.failed}[end]
    said = answer(body)
    outcome = dialect.read_poll(said)

    assert about(dialect, TASK, said, outcome) == outcome
    taken = about(dialect, "0000-another", said, outcome)
    assert isinstance(taken, Unreadable)
    assert (taken.code, TASK in taken.message) == ("another_task", True)


# -- asking --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "values", "path"),
    [
        ("maxapi.io", {}, "/api/v1/task/t%2F1%3Fx"),
        ("maxapi.dev", {}, "/v1/images/generations/t%2F1%3Fx"),
        ("maxapi.dev", {"references": (REFERENCE,)}, "/v1/images/edits/t%2F1%3Fx"),
        ("apimaster", {}, "/v1/tasks/t%2F1%3Fx?model=gpt-image-2"),
    ],
)
def test_a_task_is_asked_about_by_its_id_whatever_is_in_it(provider, values, path):
    _, chosen = route(provider, **values)

    call = DIALECTS[provider].poll("t/1?x", chosen, None)

    assert (call.method, call.path, call.body, call.form) == ("GET", path, b"", ())


def test_maxapi_dev_is_asked_where_it_said():
    _, chosen = route("maxapi.dev")

    assert DIALECTS["maxapi.dev"].poll("t1", chosen, "/v1/elsewhere/t1").path == "/v1/elsewhere/t1"


# -- running -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "body"),
    [
        *(("maxapi.io", io_task(state)) for state in ("PENDING", "PROCESSING", "SUBMITTED", "pending")),
        *(("apimaster", am_task(state)) for state in ("submitted", "processing", "pending", "in_progress", "Queued")),
        ("apimaster", {"code": 200, "data": [{"status": "processing", "progress": "45%"}]}),
        *(("maxapi.dev", {"status": state}) for state in ("queued", "processing", "in_progress", "RUNNING")),
        ("maxapi.dev", {"data": {"status": "pending"}}),
        ("maxapi.dev", {"status": "processing", "data": [{"url": A}]}),
    ],
)
def test_a_task_that_is_not_done_is_running(provider, body):
    outcome = read_poll(provider, answer(body))

    assert isinstance(outcome, Running)
    assert outcome.known


@pytest.mark.parametrize(
    ("provider", "body"),
    [("maxapi.io", io_task("REVIEWING")), ("apimaster", am_task("paused")), ("maxapi.dev", {"status": "expired"})],
)
def test_an_unknown_status_is_still_running_and_is_kept_for_people(provider, body):
    outcome = read_poll(provider, answer(body))

    assert isinstance(outcome, Running)
    assert not outcome.known
    assert outcome.status in outcome.raw


# -- succeeded -----------------------------------------------------------------------------------------------------


def test_maxapi_io_success_as_its_page_shows():
    body = io_task("SUCCESS", input={"prompt": "x"}, result={"type": "image", "urls": [A, B]})

    assert read_poll("maxapi.io", answer(body)) == Succeeded(links=(Link(url=A), Link(url=B)))


@pytest.mark.parametrize(
    ("at", "seconds"),
    [
        ("2026-05-07T23:14:00.123456Z", 1778195640.123456),
        ("2026-05-07T23:14:00", 1778195640.0),
        ("yesterday", None),
        (None, None),
    ],
)
def test_maxapi_io_says_when_it_was_generated(at, seconds):
    body = io_task("success", result={"urls": A}, updated_at=at)

    outcome = read_poll("maxapi.io", answer(body))

    assert outcome.links == (Link(url=A),)
    assert outcome.generated_at == seconds


@pytest.mark.parametrize("state", ["completed", "success", "SUCCEEDED"])
@pytest.mark.parametrize(
    "result",
    [
        {"result": {"images": [{"url": [A]}, {"url": [B]}]}},
        {"result": {"images": [{"url": [A, B]}]}},
        {"result": {"images": [{"url": A}, {"url": B}]}},
        {"result": {"images": [A, B]}},
        {"result": {"data": [{"url": A}, {"url": B}]}},
        {"result": [{"url": A}, {"url": B}]},
        {"images": [{"url": A}, {"url": B}, {"url": B}, {"url": None}, 7]},
    ],
)
def test_apimaster_nested_arrays_are_flattened_and_url_may_be_a_string(state, result):
    outcome = read_poll("apimaster", answer(am_task(state, **result)))

    assert outcome == Succeeded(links=(Link(url=A), Link(url=B)))


def test_apimaster_b64_json_and_expires_at_are_read():
    images = [
        {"url": [A], "expires_at": 1_760_086_400},
        {"b64_json": "aGk="},
        {"url": B, "expires_at": 1_760_086_400_000},
    ]

    outcome = read_poll("apimaster", answer(am_task("completed", completed=1_760_000_000, result={"images": images})))

    expires_at = 1_760_086_400.0
    assert outcome.generated_at == 1_760_000_000.0
    assert outcome.links == (Link(url=A, expires_at=expires_at), Link(b64="aGk="), Link(url=B, expires_at=expires_at))


@pytest.mark.parametrize(
    "body",
    [
        {"status": "succeeded", "data": [{"url": A}]},
        {"status": "completed", "result": {"data": [{"url": A}]}},
        {"status": "success", "output": [{"url": A}]},
        {"status": "SUCCEEDED", "output": [A]},
        {"status": "succeeded", "images": [{"url": [A]}]},
        {"data": {"status": "succeeded", "result": {"images": [{"url": A}]}}},
        {"data": {"status": "succeeded", "images": [{"url": A}]}},
        {"status": "succeeded", "result": {"url": A}},
        {"created": 1_760_000_000, "data": [{"url": A}]},
    ],
)
def test_maxapi_dev_results_are_found_wherever_they_may_be(body):
    outcome = read_poll("maxapi.dev", answer(body))

    assert isinstance(outcome, Succeeded)
    assert outcome.links == (Link(url=A),)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("link", [[], None, "", [None], "ftp://a.example/x", "https://", "http://a\x00b/", 7])
def test_success_without_any_url_is_told_apart_from_a_failure_so_that_it_can_be_asked_again(provider, link):
    outcome = read_poll(provider, answer(SHAPES[provider].done(link)))

    assert isinstance(outcome, Empty)
    assert outcome.raw


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("pictures", [[], None, [""], [None], {}, 7])
def test_done_with_its_images_not_there_yet_is_no_end_in_any_shape(provider, pictures):
    assert isinstance(read_poll(provider, answer(SHAPES[provider].without(pictures))), Empty)


@pytest.mark.parametrize(
    ("provider", "body"),
    [("maxapi.io", io_task("SUCCESS")), ("maxapi.dev", {"status": "completed"}), ("apimaster", am_task("completed"))],
)
def test_done_without_a_place_for_images_is_no_end_either(provider, body):
    assert isinstance(read_poll(provider, answer(body)), Empty)


# -- failed --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["FAILURE", "FAILED", "FAIL", "failure", "TIMEOUT"])
@pytest.mark.parametrize("reason", [{}, {"failure_reason": None}, {"failReason": None}, {"failure_reason": ""}])
def test_maxapi_io_a_null_or_absent_reason_is_the_only_retryable_one(state, reason):
    outcome = read_poll("maxapi.io", answer(io_task(state, result=None, **reason)))

    assert isinstance(outcome, Failed)
    assert outcome.kind is Kind.TRANSIENT
    assert outcome.code == ("provider_timeout" if state == "TIMEOUT" else "provider_failed")


@pytest.mark.parametrize("field", ["failure_reason", "failReason"])
@pytest.mark.parametrize("state", ["FAILURE", "TIMEOUT", "CANCELLED"])
@pytest.mark.parametrize(
    ("reason", "kind", "code"),
    [
        ("CONTENT_MODERATION", Kind.MODERATION, "moderation"),
        ("content_moderation ", Kind.MODERATION, "moderation"),
        ("INVALID_PARAMETERS", Kind.PERMANENT, "invalid_parameters"),
        ("INSUFFICIENT_POINTS", Kind.ACCOUNT, "no_balance"),
        ("MODEL_ON_HOLIDAY", Kind.PERMANENT, "provider_failed"),
        ({"code": 7}, Kind.PERMANENT, "provider_failed"),
    ],
)
def test_maxapi_io_failure_reasons_are_read_in_both_spellings(field, state, reason, kind, code):
    outcome = read_poll("maxapi.io", answer(io_task(state, **{field: reason})))

    assert isinstance(outcome, Failed)
    assert (outcome.kind, outcome.code) == (kind, code)


@pytest.mark.parametrize("state", ["cancelled", "canceled", "CANCELLED"])
def test_cancelled_ends_a_task_in_both_spellings_and_is_not_bought_again_by_itself(state):
    bodies = {"maxapi.io": io_task(state), "apimaster": am_task(state), "maxapi.dev": {"status": state}}

    for provider, body in bodies.items():
        outcome = read_poll(provider, answer(body))
        assert isinstance(outcome, Failed)
        assert (outcome.kind, outcome.code) == (Kind.PERMANENT, "provider_cancelled")


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        ({"code": "moderation_blocked", "message": "no"}, Kind.MODERATION, "moderation"),
        ({"message": "Rejected: content policy"}, Kind.MODERATION, "moderation"),
        ("违反内容政策", Kind.MODERATION, "moderation"),
        ({"message": "invalid size"}, Kind.PERMANENT, "invalid_parameters"),
        ({"message": "upstream hiccup", "code": 500}, Kind.TRANSIENT, "provider_failed"),
        ({"code": "insufficient_quota"}, Kind.ACCOUNT, "no_balance"),
        (None, Kind.TRANSIENT, "provider_failed"),
        ([1], Kind.TRANSIENT, "provider_failed"),
    ],
)
@pytest.mark.parametrize("state", ["failed", "error", "FAILURE"])
def test_a_failed_task_is_final_by_policy_or_parameter_wording_only(error, kind, code, state):
    for provider, body in (
        ("apimaster", am_task(state, error=error)),
        ("apimaster", {"code": 200, "data": [{"status": state, "error": error}]}),
        ("maxapi.dev", {"status": state, "error": error}),
        ("maxapi.dev", {"data": {"status": state, "error": error}}),
    ):
        outcome = read_poll(provider, answer(body))
        assert isinstance(outcome, Failed)
        assert (outcome.kind, outcome.code) == (kind, code)
        assert outcome.message


# -- no usable answer ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (302, Kind.TRANSIENT, "redirected"),
        (400, Kind.TRANSIENT, "unreadable_answer"),
        (401, Kind.ACCOUNT, "bad_key"),
        (403, Kind.ACCOUNT, "no_permission"),
        (429, Kind.THROTTLED, "rate_limited"),
        (500, Kind.TRANSIENT, "server_error"),
        (503, Kind.TRANSIENT, "server_error"),
    ],
)
def test_an_error_on_a_poll_says_nothing_about_the_task(provider, status, kind, code):
    for body in (b"", b"<html>", b'{"code":400,"msg":"bad","status":"failed"}', b'{"data":{"status":"FAILURE"}}'):
        outcome = read_poll(provider, answer(body, status, retry_after="9"))

        assert isinstance(outcome, Unreadable)
        assert (outcome.kind, outcome.code, outcome.retry_after) == (kind, code, 9.0)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("body", [b"", b"OK", b"<html>", b"null", b"[]", b"{}", b'{"code":', b"\xff", b'{"data":[[]]}'])
def test_garbage_on_a_poll_is_no_answer(provider, body):
    outcome = read_poll(provider, answer(body))

    assert isinstance(outcome, Unreadable)
    assert outcome.code == "unreadable_answer"


@pytest.mark.parametrize(
    ("provider", "body", "kind"),
    [
        ("maxapi.io", {"code": 401, "msg": "unauthorized"}, Kind.ACCOUNT),
        ("maxapi.io", {"code": 429, "msg": "slow"}, Kind.THROTTLED),
        ("maxapi.io", {"code": 500, "msg": "系统错误", "data": {"status": "FAILURE"}}, Kind.TRANSIENT),
        ("maxapi.io", {**io_task("SUCCESS", result={"urls": [A]}), "code": 200}, Kind.TRANSIENT),
        ("apimaster", {**am_task("completed", result={"images": [A]}), "code": 0}, Kind.TRANSIENT),
        ("apimaster", {**am_task("failed"), "code": 401}, Kind.ACCOUNT),
        ("apimaster", {**am_task("failed"), "code": "oops"}, Kind.TRANSIENT),
    ],
)
def test_http_200_with_a_failing_code_is_no_answer_about_the_task(provider, body, kind):
    outcome = read_poll(provider, answer(body))

    assert isinstance(outcome, Unreadable)
    assert outcome.kind is kind


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_404_says_only_that_the_task_is_not_known_now(provider):
    assert isinstance(read_poll(provider, answer({"error": {"message": "no such task"}}, 404)), NotFound)


def test_a_404_in_the_body_of_a_200_is_one_too():
    assert isinstance(read_poll("maxapi.io", answer({"code": 404, "msg": "任务不存在"})), NotFound)
    assert isinstance(read_poll("apimaster", answer({"code": 404, "message": TASK})), NotFound)


# -- how long it took ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("began", "ended", "took"),
    [
        ("2026-05-07T23:14:00.250000Z", "2026-05-07T23:14:12.750000Z", (12.5, 12.5)),
        ("2026-05-07T23:14:00.250000Z", None, None),
        ("2026-05-07T23:14:12.250000Z", "2026-05-07T23:14:00.250000Z", None),  # it ended before it began
        ("soon", "2026-05-07T23:14:00.250000Z", None),
    ],
)
def test_maxapi_io_tells_how_long_a_task_took(began, ended, took):
    body = io_task("SUCCESS", result={"urls": [A]}, created_at=began, updated_at=ended)

    assert read_poll("maxapi.io", answer(body)).took == took


def test_apimaster_tells_whole_seconds_so_a_second_more_or_less_may_be():
    body = am_task("completed", created=1_790_000_000, completed=1_790_000_012, result={"images": [{"url": [A]}]})

    assert read_poll("apimaster", answer(body)).took == (11.0, 13.0)
