"""The API's batches, as a program sees them: pages, counts, steering, and whose they are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jobs.ledger.access.values import Acceptance
from jobs.policy.access import Role
from jobs.policy.reuse import Reuse
from jobs.states import BatchState
from tests.support import stocked_ledger
from tests.support.access import make
from tests.support.patience import AT_LAST
from tests.support.visits import api_client
from web import figures

NOW = stocked_ledger.NOW


@pytest.fixture(autouse=True)
def counts_are_waited_for(monkeypatch):
    """However slow this machine is."""
    monkeypatch.setattr(figures, "CHEAP", AT_LAST)
    monkeypatch.setattr(figures, "CHEAP_PATIENCE", AT_LAST)


@pytest.fixture
def web(ledger_url, woken):
    with api_client(ledger_url, woken.append) as client:
        yield client


def record(ledger, name, token=None, rows=2):
    ledger.accounts.sync([stocked_ledger.account()])
    by = None if token is None else Acceptance(token_id=token.id, amount=None)
    return ledger.batches.record_manifest(
        stocked_ledger.new_batch(name), stocked_ledger.rows(rows), acceptance=by, now=NOW
    )


def get(web, asker, path, code=200, **query):
    answer = web.get(f"/api/v1/{path}", headers=asker.header, params=query)
    assert answer.status_code == code, answer.text
    return answer.json()


def post(web, asker, path, code=200):
    answer = web.post(f"/api/v1/{path}", headers=asker.header)
    assert answer.status_code == code, answer.text
    return answer.json()


def test_batches_come_page_by_page_the_newest_first(web, ledger, operator):
    for number in range(5):
        record(ledger, f"b{number}")

    first = get(web, operator, "batches", limit=2)
    second = get(web, operator, "batches", limit=2, after=first["next"])
    record(ledger, "b5")  # what comes meanwhile shifts no page
    last = get(web, operator, "batches", limit=2, after=second["next"])

    assert [each["batch"] for page in (first, second, last) for each in page["batches"]] == [
        "b4",
        "b3",
        "b2",
        "b1",
        "b0",
    ]
    assert last["next"] is None
    assert get(web, operator, "batches", after="2147483647")["batches"]


@pytest.mark.parametrize(
    "query", [{"after": "x"}, {"after": "-1"}, {"after": "2147483648"}, {"after": "٣"}, {"limit": 0}, {"limit": 10_000}]
)
def test_what_no_page_said_is_refused(web, operator, query):
    get(web, operator, "batches", code=422, **query)


def test_one_batch_is_told_as_status_tells_it(web, ledger, operator):
    record(ledger, "spring")

    told = get(web, operator, "batches/spring")

    assert told["rows"] == {"ready": 2}
    assert told["images"]["total"] == 2
    assert told["usd"]["rest_at_most"] == 0.04
    get(web, operator, "batches/summer", code=404)


def test_pause_resume_and_cancel_do_what_they_say_wake_the_workers_and_stand_in_the_log(web, ledger, operator, woken):
    record(ledger, "spring")

    assert post(web, operator, "batches/spring/pause")["state"] == "paused"
    assert post(web, operator, "batches/spring/resume")["state"] == "active"
    assert woken.count("submit:main") == 2
    assert post(web, operator, "batches/spring/cancel")["rows"] == {"cancelled": 2}
    assert post(web, operator, "batches/spring/cancel")["state"] == "cancelled"
    post(web, operator, "batches/spring/resume", code=409)
    post(web, operator, "batches/spring/pause", code=409)

    told = [(entry.who, entry.action, entry.subject) for entry in ledger.access.log(9)]
    did = ["batch cancel", "batch cancel", "batch resume", "batch pause"]
    assert told == [("ops", action, "spring") for action in did]


def test_resume_buys_nothing_that_another_batch_will_buy(web, ledger, operator):
    for name in ("spring", "again"):
        record(ledger, name, rows=12)
    post(web, operator, "batches/again/pause")

    refused = post(web, operator, "batches/again/resume", code=409)

    assert "paid twice" in refused["detail"]
    assert ledger.batches.find("again").state is BatchState.PAUSED


def test_a_viewer_sees_and_changes_nothing(web, ledger):
    viewer = make(ledger, "screen", Role.VIEWER)
    record(ledger, "spring")

    assert get(web, viewer, "batches/spring")["state"] == "active"
    for action in ("pause", "resume", "cancel"):
        post(web, viewer, f"batches/spring/{action}", code=403)
    assert ledger.batches.find("spring").state is BatchState.ACTIVE


def test_a_producer_sees_and_steers_its_own_batches_alone(web, ledger, operator):
    mine, theirs = make(ledger, "mine", Role.PRODUCER), make(ledger, "theirs", Role.PRODUCER)
    record(ledger, "my-batch", mine.token)
    record(ledger, "their-batch", theirs.token)
    record(ledger, "by-hand")

    assert [each["batch"] for each in get(web, mine, "batches")["batches"]] == ["my-batch"]
    assert post(web, mine, "batches/my-batch/pause")["state"] == "paused"
    for other in ("their-batch", "by-hand", "not-there"):
        refused = get(web, mine, f"batches/{other}", code=404)
        assert refused == {"detail": f"there is no batch {other}"}  # the same, whether it is there or not
        post(web, mine, f"batches/{other}/cancel", code=404)
    assert len(get(web, operator, "batches")["batches"]) == 3


@pytest.mark.parametrize("name", ["%00", "%2e%2e", "spring%0d%0aX: 1", "%F0%9F%98%80", "a" * 5_000, "' OR 1=1 --"])
def test_a_name_that_no_batch_can_have_is_not_there(web, operator, name):
    get(web, operator, f"batches/{name}", code=404)
    post(web, operator, f"batches/{name}/pause", code=404)


@pytest.mark.parametrize("path", ["batches", "batches/spring"])
def test_nobody_without_a_token_is_told_anything(web, ledger, path):
    record(ledger, "spring")

    assert web.get(f"/api/v1/{path}").status_code == 401


@pytest.mark.parametrize("is_own", [False, True])
def test_a_producers_batch_that_goes_on_takes_images_of_its_own_producer_alone(web, ledger, is_own):
    shop, other = make(ledger, "shop", Role.PRODUCER), make(ledger, "other", Role.PRODUCER)
    ledger.accounts.sync([stocked_ledger.account()])
    ledger.batches.record_manifest(
        replace(stocked_ledger.new_batch("mine"), reuse=Reuse.COPY),
        stocked_ledger.rows(1),
        acceptance=Acceptance(token_id=shop.token.id, amount=None),
        now=NOW,
    )
    post(web, shop, "batches/mine/pause")
    record(ledger, "first", shop.token if is_own else other.token, rows=1)
    stocked_ledger.make(ledger)

    told = post(web, shop, "batches/mine/resume")

    assert told["rows"] == ({"working": 1} if is_own else {"ready": 1})
