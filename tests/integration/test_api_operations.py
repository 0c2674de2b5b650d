"""Steering by the API: rows retried for no more than agreed, unknown outcomes, schedules, the emergency stop."""

from __future__ import annotations

import contextlib

import pytest

from jobs.facts import SubmitAccepted, SubmitUnclear, TaskFailed
from jobs.ledger.access.values import Acceptance
from jobs.ledger.schedules.values import NewSchedule
from jobs.policy.access import Role
from jobs.settings.model import AccountSettings, Settings
from jobs.states import JobState
from providers.types import Kind, NotFound, Running, Unreadable
from tests.support import stocked_ledger
from tests.support.access import make
from tests.support.visits import api_client
from worker.recovery import provider_task
from worker.runtime import on_the_wire

NOW = stocked_ledger.NOW


@pytest.fixture
def web(ledger_url, woken):
    account = AccountSettings(provider="maxapi.io", api_key="key-of-a-test", prices={"gpt-image-2": {"1k": 0.02}})
    settings = Settings(accounts={"main": account})
    with api_client(ledger_url, woken.append, settings) as client:
        yield client


def call(web, method, asker, path, code=200, body=None):
    answer = web.request(method, f"/api/v1/{path}", headers=asker.header, json=body)
    assert answer.status_code == code, answer.text
    return answer.json()


def get(web, asker, path, code=200):
    return call(web, "GET", asker, path, code)


def post(web, asker, path, code=200, **body):
    return call(web, "POST", asker, path, code, body)


def record(ledger, name="spring", token=None, rows=2):
    ledger.accounts.sync([stocked_ledger.account()])
    by = None if token is None else Acceptance(token_id=token.id, amount=None)
    return ledger.batches.record_manifest(
        stocked_ledger.new_batch(name), stocked_ledger.rows(rows), acceptance=by, now=NOW
    )


def fail(ledger, rows=2, code="provider_failed", kind=Kind.PERMANENT):
    for intent in ledger.claims.submits("main", NOW, lease=90, at_most=rows).intents:
        each = intent.attempt_id
        ledger.facts.record(
            [SubmitAccepted(attempt_id=each, at=NOW, task_id=f"t{each}", poll_path=None, next_poll_at=NOW)]
        )
        ledger.facts.record([TaskFailed(attempt_id=each, at=NOW, kind=kind, code=code, message="no")])


def lose_answers(ledger, rows=2):
    for intent in ledger.claims.submits("main", NOW, lease=90, at_most=rows).intents:
        ledger.facts.record(
            [SubmitUnclear(attempt_id=intent.attempt_id, at=NOW, code="connection_lost", message="cut off")]
        )


def told(ledger):
    return [(entry.who, entry.action, entry.subject) for entry in ledger.access.log(9)]


def states(ledger, name="spring"):
    return dict(ledger.reports.progress(name).jobs)


# -- retry ---------------------------------------------------------------------------------------------------------


def test_rows_are_retried_for_no_more_than_was_agreed(web, ledger, operator, woken):
    record(ledger)
    fail(ledger)

    refused = post(web, operator, "batches/spring/retry", code=402, at_most_usd=0.03)
    assert "$0.04" in refused["detail"]["message"]
    assert states(ledger) == {JobState.FAILED: 2}
    begun = post(web, operator, "batches/spring/retry", at_most_usd=0.04)

    assert (begun["retried_rows"], begun["estimate_usd"], begun["rows"]) == (2, 0.04, {"ready": 2})
    assert "submit:main" in woken
    assert told(ledger) == [("ops", "batch retry", "spring")]
    assert post(web, operator, "batches/spring/retry", at_most_usd=0)["retried_rows"] == 0


def test_only_the_rows_that_are_named_are_retried(web, ledger, operator):
    record(ledger)
    fail(ledger, code="moderation", kind=Kind.MODERATION)

    assert post(web, operator, "batches/spring/retry", at_most_usd=9)["retried_rows"] == 0
    assert (
        post(web, operator, "batches/spring/retry", at_most_usd=9, error="moderation", keys=["k1"])["retried_rows"] == 1
    )
    assert states(ledger) == {JobState.FAILED: 1, JobState.READY: 1}


@pytest.mark.parametrize(
    "body",
    [{}, {"at_most_usd": -1}, {"at_most_usd": "x"}, {"at_most_usd": 1, "only": "held"}, {"at_most_usd": 1, "keys": []},
     {"at_most_usd": 1, "keys": ["\0"]}, {"at_most_usd": 1, "error": "none_such"}, {"at_most_usd": 1, "budget": 3}],
)  # fmt: skip
def test_a_wish_that_makes_no_sense_is_refused(web, ledger, operator, body):
    record(ledger)

    post(web, operator, "batches/spring/retry", code=422, **body)


def test_what_other_batches_have_made_is_bought_again_only_where_that_is_said(web, ledger, operator):
    record(ledger, rows=12)
    fail(ledger, rows=12)
    record(ledger, "again", rows=12)

    refused = post(web, operator, "batches/spring/retry", code=409, at_most_usd=9)
    assert refused["detail"]["code"] == "made_already"
    assert post(web, operator, "batches/spring/retry", at_most_usd=9, buy_again=True)["retried_rows"] == 12


def test_a_producers_retry_holds_again_within_its_day(web, ledger):
    mine = make(ledger, "mine", Role.PRODUCER, budget=50_000)
    record(ledger, token=mine.token, rows=4)
    fail(ledger, rows=4)

    assert post(web, mine, "batches/spring/retry", code=402, at_most_usd=1)["detail"]["code"] == "budget_exceeded"
    assert states(ledger) == {JobState.FAILED: 4}
    post(web, mine, "batches/spring/retry", at_most_usd=1, keys=["k0", "k1"])
    assert states(ledger) == {JobState.FAILED: 2, JobState.READY: 2}
    assert post(web, mine, "batches/spring/retry", code=402, at_most_usd=1)["detail"]["code"] == "budget_exceeded"
    assert post(web, mine, "batches/spring/retry", at_most_usd=1, keys=["k0"])["retried_rows"] == 0  # and holds nothing


def test_nothing_is_retried_of_a_batch_that_is_cancelled_or_not_there(web, ledger, operator, viewer):
    record(ledger)
    ledger.batches.cancel("spring")

    post(web, operator, "batches/spring/retry", code=409, at_most_usd=1)
    post(web, operator, "batches/summer/retry", code=404, at_most_usd=1)
    post(web, viewer, "batches/spring/retry", code=403, at_most_usd=1)


# -- unknown -------------------------------------------------------------------------------------------------------


def test_unknown_outcomes_are_listed_with_the_money_at_stake(web, ledger, viewer):
    mine = make(ledger, "mine", Role.PRODUCER)
    record(ledger, token=mine.token)
    lose_answers(ledger)

    listed = get(web, viewer, "unknown")

    assert listed["at_most_usd"] == 0.04
    assert [each["key"] for each in listed["unknown"]] == ["k0", "k1"]
    assert get(web, mine, "batches/spring/unknown") == listed
    get(web, mine, "unknown", code=403)
    post(web, mine, "batches/spring/unknown/resolve", code=403, how="give-up")


def test_unknown_outcomes_are_paid_again_for_no_more_than_was_agreed(web, ledger, operator):
    record(ledger)
    lose_answers(ledger)

    post(web, operator, "batches/spring/unknown/resolve", code=422, how="pay-again")
    post(web, operator, "batches/spring/unknown/resolve", code=402, how="pay-again", at_most_usd=0.03)
    assert post(web, operator, "batches/spring/unknown/resolve", how="pay-again", at_most_usd=0.04)["resolved"] == 2

    assert states(ledger) == {JobState.READY: 2}
    assert told(ledger) == [("ops", "unknown pay-again", "spring")]


def test_one_unknown_outcome_is_given_up(web, ledger, operator):
    record(ledger)
    lose_answers(ledger)

    assert post(web, operator, "batches/spring/unknown/resolve", how="give-up", key="k1")["resolved"] == 1
    assert [each["key"] for each in get(web, operator, "unknown")["unknown"]] == ["k0"]
    post(web, operator, "batches/spring/unknown/resolve", code=404, how="give-up", key="k1")


def test_a_task_that_was_found_is_adopted_where_its_provider_knows_it(web, ledger, operator, monkeypatch):
    record(ledger)
    lose_answers(ledger)
    said = {
        "lost": NotFound(message="no such task"),
        "silent": Unreadable(code="unreachable", message="no answer"),
        "there": Running(status="running"),
    }

    async def ask(_settings, _attempt, task_id):
        return said[task_id]

    monkeypatch.setattr(provider_task, "ask", ask)
    find = {"how": "found", "key": "k0"}

    post(web, operator, "batches/spring/unknown/resolve", code=409, how="found", task_id="there")  # which of the rows?
    assert "knows" in post(web, operator, "batches/spring/unknown/resolve", code=409, task_id="lost", **find)["detail"]
    assert (
        "asked" in post(web, operator, "batches/spring/unknown/resolve", code=409, task_id="silent", **find)["detail"]
    )
    assert post(web, operator, "batches/spring/unknown/resolve", task_id="there", **find)["resolved"] == 1
    post(web, operator, "batches/spring/unknown/resolve", code=422, how="found")


# -- what is everybody's -------------------------------------------------------------------------------------------


def test_accounts_are_told_as_the_command_tells_them_and_one_that_rests_is_woken(web, ledger, viewer, operator, woken):
    record(ledger)

    listed = get(web, viewer, "accounts")

    assert [(each["name"], each["waiting_rows"]) for each in listed["accounts"]] == [("main", 2)]
    post(web, operator, "accounts/main/probe")
    assert woken == ["submit:main"]
    post(web, operator, "accounts/other/probe", code=404)
    post(web, viewer, "accounts/main/probe", code=403)


def test_schedules_are_listed_and_steered(web, ledger, viewer, operator):
    options = {"manifest": "rows.csv", "to": "s3://bucket/x"}
    new = NewSchedule(name="nightly", cron="0 3 * * *", timezone="UTC", options=options, budget=5_000_000)
    ledger.schedules.add(new, NOW)

    assert [each["name"] for each in get(web, viewer, "schedules")["schedules"]] == ["nightly"]
    assert len(get(web, viewer, "schedules/nightly")["times"]) == 5
    assert post(web, operator, "schedules/nightly/pause")["paused"] is True
    assert post(web, operator, "schedules/nightly/resume")["paused"] is False
    get(web, viewer, "schedules/weekly", code=404)
    post(web, viewer, "schedules/nightly/pause", code=403)
    assert [action for _, action, _ in told(ledger)] == ["schedule resume", "schedule pause"]


def test_a_schedule_is_fired_by_hand_where_somebody_will_do_its_work(web, ledger, operator):
    options = {"manifest": "rows.csv", "to": "s3://bucket/x"}
    new = NewSchedule(name="nightly", cron="0 3 * * *", timezone="UTC", options=options, budget=5_000_000)
    ledger.schedules.add(new, NOW)
    with ledger.hold(NOW, serves=True) if ledger.is_sqlite else contextlib.nullcontext():
        assert post(web, operator, "schedules/nightly/run-now")["history"][0]["by_hand"] is True
        post(web, operator, "schedules/nightly/run-now", code=409)
    if ledger.is_sqlite:
        assert "schedule serve" in post(web, operator, "schedules/nightly/run-now", code=409)["detail"]


def test_everything_is_stopped_and_goes_on(web, ledger, viewer, operator, monkeypatch):
    monkeypatch.setattr(on_the_wire, "GIVEN_BACK_WITHIN", 0.0)
    record(ledger)
    ledger.claims.submits("main", NOW, lease=90, at_most=1)

    stopped = post(web, operator, "stop")

    assert (stopped["stopped"]["by"], stopped["on_the_wire"], stopped["was_stopped"]) == ("ops", 1, False)
    assert ledger.claims.submits("main", NOW, lease=90, at_most=9).intents == ()
    assert get(web, viewer, "stop")["stopped"]["by"] == "ops"
    assert get(web, viewer, "batches/spring")["stopped"]["by"] == "ops"
    post(web, viewer, "stop", code=403)
    assert call(web, "DELETE", operator, "stop")["was_stopped"]["by"] == "ops"
    assert len(ledger.claims.submits("main", NOW, lease=90, at_most=9).intents) == 1
    assert [action for _, action, _ in told(ledger)] == ["emergency stop lifted", "emergency stop"]


def test_workers_and_destinations_are_told(web, ledger, viewer):
    record(ledger)
    ledger.workers.touch("worker-1", NOW)

    assert get(web, viewer, "workers")["workers"] is not None
    assert get(web, viewer, "destinations")["submits_wait"] == []


@pytest.mark.parametrize(
    "path", ["unknown", "accounts", "schedules", "schedules/nightly", "stop", "workers", "destinations"]
)
def test_what_is_everybodys_is_no_producers(web, ledger, path):
    get(web, make(ledger, "mine", Role.PRODUCER), path, code=403)
    assert web.get(f"/api/v1/{path}").status_code == 401


@pytest.mark.parametrize(
    "path", ["stop", "schedules/nightly/pause", "schedules/nightly/run-now", "accounts/main/probe"]
)
def test_what_is_everybodys_is_changed_by_operators_alone(web, ledger, viewer, path):
    for asker in (viewer, make(ledger, "mine", Role.PRODUCER)):
        post(web, asker, path, code=403)
    assert ledger.emergency_stop.current() is None
