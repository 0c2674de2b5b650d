"""The API answers as its description says, whatever is asked of it, and by whomever."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import Counter

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import status_code_conformance

from jobs.ledger import open_ledger
from jobs.ledger.access.values import Acceptance
from jobs.policy.access import Role
from tests.support import stocked_ledger
from tests.support.access import make
from tests.support.ledger_files import new_ledger
from web import tokens
from web.app import WebLedger, WebServer, make_app, server_of
from web.docs.routes import describe

#: Endless while a batch goes on; tests of its own ask for it.
ENDLESS = "/api/v1/batches/{batch}/events"
EXAMPLES = 5
OWN = "own"  # the producer's batch


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    return new_ledger(tmp_path_factory.mktemp("ledger") / "lightfast.db")


@pytest.fixture(scope="module")
def askers(url):
    """Somebody with a token of each role, and batches to ask about, one of them the producer's."""
    with contextlib.closing(open_ledger(url)) as ledger:
        found = {role: make(ledger, role.value, role) for role in Role}
        stocked_ledger.stock(ledger, stocked_ledger.rows(3))
        stocked_ledger.make(ledger)
        by = Acceptance(token_id=found[Role.PRODUCER].token.id, amount=None)
        new, rows = stocked_ledger.new_batch(OWN), stocked_ledger.rows(2, prompt="a chair")
        ledger.batches.record_manifest(new, rows, acceptance=by, now=stocked_ledger.NOW)
        yield {role: each.header for role, each in found.items()}


@pytest.fixture(scope="module")
def app(url):
    with contextlib.closing(WebLedger(lambda: open_ledger(url))) as opened:
        yield make_app(opened)


@pytest.fixture(scope="module")
def address(app):
    """Of a real server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        server = WebServer(server_of(app, host="127.0.0.1", port=port), app.state.door)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join()


def operations(app):
    schema = schemathesis.openapi.from_dict(describe(app))
    return [each.ok() for each in schema.get_all_operations() if each.ok().path != ENDLESS]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("role", [None, *Role])
def test_nothing_that_may_be_asked_is_answered_by_a_failure_or_in_an_undocumented_way(
    app, address, askers, role, monkeypatch
):
    monkeypatch.setattr(tokens, "WRONG_AFTER", 0.0)
    header = askers.get(role, {})
    asked, seen = 0, Counter()
    for operation in operations(app):

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
            derandomize=True,
            database=None,
        )
        @given(case=operation.as_strategy())
        def ask(case):
            nonlocal asked
            asked += 1
            if "batch" in case.path_parameters and asked % 2:
                case.path_parameters["batch"] = OWN if role is Role.PRODUCER else "spring"
            answer = case.call(base_url=address, headers=header)
            seen[answer.status_code] += 1
            case.validate_response(answer, checks=[not_a_server_error, status_code_conformance])

        ask()
    assert asked > 100
    assert (200 in seen) is (role is not None), seen


def test_the_page_of_the_api_asks_no_other_host(address):
    with httpx.Client(base_url=address) as web:
        page = web.get("/docs")
        for name in ("swagger-ui.css", "swagger-ui-bundle.js", "start.js"):
            assert f"/docs/{name}" in page.text
            assert web.get(f"/docs/{name}").status_code == 200
        assert web.get("/docs/other.js").status_code == 404

    assert page.headers["content-security-policy"].startswith("default-src 'self';")
    assert "//" not in page.text


def test_every_route_says_what_it_does_and_what_it_may_answer(app):
    told = [operation for path in describe(app)["paths"].values() for operation in path.values()]

    assert len(told) > 25
    assert [each["operationId"] for each in told if not each.get("description")] == []
    assert [each["operationId"] for each in told if not {"401", "404", "422", "503"} <= set(each["responses"])] == []
