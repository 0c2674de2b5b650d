"""Ids and addresses in answers that would lead a poll, and our key, somewhere else."""

from __future__ import annotations

import orjson
import pytest

from providers.registry import DIALECTS
from providers.types import Accepted, Ambiguous, Response

pytestmark = pytest.mark.virtual_time

BASE = "https://api.test/base"
SHAPES = {
    "maxapi.io": lambda task: {"code": 0, "data": {"taskId": task}},
    "maxapi.dev": lambda task: {"task_id": task, "status": "queued"},
    "apimaster": lambda task: {"code": 200, "data": [{"task_id": task, "status": "submitted"}]},
}


def read(provider, body):
    response = Response(status=200, headers={}, body=orjson.dumps(body))
    return DIALECTS[provider].read_submit(response, base_url=BASE, call=None)


@pytest.mark.parametrize("provider", SHAPES)
@pytest.mark.parametrize("task", [".", "..", " .. ", "...."])
def test_dots_are_no_task_id_since_a_path_takes_them_for_steps(provider, task):
    outcome = read(provider, SHAPES[provider](task))

    assert isinstance(outcome, Ambiguous)
    assert outcome.code == "no_task_id"


@pytest.mark.parametrize(
    "address", ["/v1/../../admin", f"{BASE}/v1/%2e%2e/admin", "//evil.test/x", "https://evil.test/base/v1/t1"]
)
def test_an_address_to_poll_at_that_leads_elsewhere_is_not_followed(address):
    outcome = read("maxapi.dev", {"task_id": "t1", "status": "queued", "poll_url": address})

    assert isinstance(outcome, Accepted)
    assert outcome.poll_path is None


def test_an_address_to_poll_at_below_the_providers_own_is_followed():
    outcome = read("maxapi.dev", {"task_id": "t1", "status": "queued", "poll_url": f"{BASE}/v1/t..1"})

    assert outcome.poll_path == "/v1/t..1"
