"""No reader raises, whatever the bytes: an exception in one answer would cost the others of its group their record."""

from __future__ import annotations

import json
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from providers.registry import BASE_URLS, DIALECTS, MANY_TASKS
from providers.types import (
    MESSAGE_LIMIT,
    RAW_LIMIT,
    Accepted,
    Delivered,
    PollOutcome,
    Response,
    SubmitOutcome,
    Succeeded,
)
from tests.support.dialect_shapes import SHAPES


def words_of(value: object, *, keys: bool) -> set[str]:
    """The field names of a sample, or its texts: states, ids, codes."""
    if isinstance(value, dict):
        own = set(value) if keys else set()
        return own.union(*(words_of(item, keys=keys) for item in value.values()))
    if isinstance(value, list):
        return set().union(*(words_of(item, keys=keys) for item in value))
    return {value} if isinstance(value, str) and not keys else set()


SAMPLES = [sample for shapes in SHAPES.values() for sample in shapes.all()]
#: Names that no sample has, and dialects look for all the same.
UNSEEN = ("message", "images", "urls", "b64_json", "output", "task_id", "failReason", "expires_at", "detail")
WORDS = st.sampled_from(sorted({*UNSEEN, *(word for sample in SAMPLES for word in words_of(sample, keys=True))}))
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, 200, 400, 401, 404, 429, 10**30, -(10**400), 1e308, float("inf"), float("nan")]),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(
        [
            *(
                *sorted({word for sample in SAMPLES for word in words_of(sample, keys=False)}),
                "cancelled",
                "200",
                "٣",
                "²",
                "\x00",
            ),
            *("\ud800", "a\udfffb", "https://a.example/0.png", "https://[", "http://a:99999/", "http://a:b/", "//x"),
            *("data:image/png;base64,", "data:image/png;base64,aGk=", "https://api.maxapi.dev/v1/x?y#z", "/\ud800"),
            *("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "sk-", "Bearer ", "x" * 300),
        ]
    ),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=3), inner, max_size=6),
    max_leaves=24,
)


def altered(sample: object) -> st.SearchStrategy[object]:
    """The sample, with anything in the place of some of its values."""
    if isinstance(sample, dict):
        whole = st.fixed_dictionaries({name: altered(value) for name, value in sample.items()})
    elif isinstance(sample, list):
        whole = st.tuples(*map(altered, sample)).map(list)
    else:
        whole = st.just(sample)
    return st.one_of(whole, whole, whole, JSON)


BODIES = st.one_of(
    st.binary(max_size=64),
    *(st.builds(lambda value: json.dumps(value).encode(), each) for each in (JSON, *map(altered, SAMPLES))),
)
STATUSES = st.sampled_from([200, 200, 200, 202, 204, 302, 400, 404, 408, 429, 500, 0, -1, 999])
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        name: st.text(max_size=12) | st.sampled_from(["nan", "1e999", "Wed, 21 Oct 2026 07:28:30 GMT", "Mon, 99 Foo 0"])
        for name in ("retry-after", "date")
    },
)
RESPONSES = st.builds(
    lambda status, headers, body: Response(status=status, headers=headers, body=body), STATUSES, HEADERS, BODIES
)


def check(provider: str, response: Response) -> None:
    dialect = DIALECTS[provider]
    for outcome, kinds in (
        (dialect.read_submit(response, base_url=BASE_URLS[provider]), get_args(SubmitOutcome)),
        (dialect.read_poll(response), get_args(PollOutcome)),
    ):
        assert isinstance(outcome, kinds)
        check_text(outcome)
        if isinstance(outcome, Accepted | Delivered | Succeeded):
            assert 200 <= response.status < 300
        if isinstance(outcome, Delivered | Succeeded):
            assert outcome.links


def check_many(response: Response) -> None:
    for many in MANY_TASKS.values():
        told = many.read_many(response, ["task_id", "t", "0"])
        for outcome in (*told.tasks.values(), told.trouble):
            check_text(outcome)


def check_text(outcome: object) -> None:
    """All that is kept can be stored, and is bounded."""
    message, raw = getattr(outcome, "message", ""), getattr(outcome, "raw", "")
    names = [getattr(outcome, name, None) for name in ("task_id", "poll_path", "status")]
    links = [link.url or link.b64 for link in getattr(outcome, "links", ())]
    for text in (message, raw, *filter(None, names), *links):
        assert "\x00" not in text
        text.encode("utf-8")
    assert len(message) <= MESSAGE_LIMIT
    assert len(raw) <= RAW_LIMIT


@pytest.mark.parametrize("provider", DIALECTS)
@settings(max_examples=250, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(response=RESPONSES)
def test_no_reader_raises_whatever_the_answer(provider, response):
    check(provider, response)
    check_many(response)


@pytest.mark.parametrize("provider", DIALECTS)
@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"data":' * 100_000,
        b"[" * 900 + b"]" * 900,
        b'{"code":0,"data":' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"code":200,"data":' + b'[{"status":"completed","result":' * 200 + b"1" + b"}]" * 200 + b"}",
        b'{"code":' + b"9" * 100_000 + b"}",
        b'{"code":-1e99999,"status":1e99999}',
        b'{"code":0,"data":{"taskId":"' + b"x" * 1_000_000 + b'"}}',
        b'{"status":"' + b"s" * 1_000_000 + b'"}',
        b'{"code":0,"data":{"status":"SUCCESS","result":{"urls":["https://a.example/' + b"u" * 100_000 + b'"]}}}',
        b'{"error":{"message":"' + b"\\u0000\\ud800" * 1_000 + b'"}}',
        b'{"code":200,"created":1,"data":[{"b64_json":"\\u0000\\ud800"}]}',
        b"\x00" * 100_000,
        "\ufeff{}".encode("utf-16"),
    ],
    ids=lambda body: repr(body[:24]),
)
@pytest.mark.parametrize("status", [200, 400, 500])
def test_no_reader_raises_on_the_worst_bodies(provider, body, status):
    check(provider, Response(status=status, headers={}, body=body))
    check_many(Response(status=status, headers={}, body=body))
