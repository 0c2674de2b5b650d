"""Paid work keeps its account: a start without it stops, another key begins to count anew."""

from __future__ import annotations

import contextlib
import dataclasses
import threading

import pytest

from jobs.errors import BadInput
from jobs.facts import SubmitAccepted, SubmitUnclear, TaskFailed, TaskStillRunning, TaskSucceeded
from jobs.ledger import open_ledger
from jobs.policy.adaptive_limits import FIRST_IN_FLIGHT, FIRST_SUBMITS_PER_SECOND
from jobs.states import JobState
from providers.types import Kind
from tests.support import stocked_ledger
from tests.support.stocked_ledger import NOW

OTHER = stocked_ledger.account(name="spare")
DAY = 86_400.0


@pytest.fixture
def running(ledger):
    """Two provider tasks of account main."""
    stocked_ledger.stock(ledger, stocked_ledger.rows(3), limits=stocked_ledger.account(key_mark="first"))
    intents = ledger.claims.submits("main", NOW, lease=90, at_most=2).intents
    for intent in intents:
        ledger.facts.record([_accepted(intent)])
    return intents


def _accepted(intent, at=NOW):
    task = f"task-{intent.attempt_id}"
    return SubmitAccepted(attempt_id=intent.attempt_id, at=at, task_id=task, poll_path=None, next_poll_at=at)


def _missed(intent, at):
    return TaskStillRunning(attempt_id=intent.attempt_id, at=at, next_poll_at=at, code="task_not_found", not_found=True)


def _done(intent, at):
    return TaskSucceeded(attempt_id=intent.attempt_id, at=at, images=(stocked_ledger.made(),))


def test_a_start_without_an_account_that_paid_work_needs_stops_and_names_it(ledger, running):
    with pytest.raises(BadInput, match=r"account main \(maxapi.io\) is no longer configured.*2 open.*\$0\.04") as stop:
        ledger.accounts.sync([OTHER])

    assert "MAXAPI_IO_API_KEY" in str(stop.value)
    assert [account.name for account in ledger.accounts.all()] == ["main"]  # nothing was changed


def test_a_name_that_is_at_another_provider_now_stops_the_start(ledger, running):
    with pytest.raises(BadInput, match="is at apimaster now"):
        ledger.accounts.sync([stocked_ledger.account(provider="apimaster")])


def test_once_its_work_has_ended_an_account_may_go(ledger, running):
    ledger.facts.record([_done(intent, NOW + 9) for intent in running])

    ledger.accounts.sync([OTHER])

    assert [account.name for account in ledger.accounts.all()] == ["spare"]


def test_a_name_that_goes_to_another_provider_learns_its_limits_anew(ledger):
    undeclared = stocked_ledger.account(submits_per_second=None, max_in_flight=None)
    stocked_ledger.stock(ledger, stocked_ledger.rows(40), limits=undeclared)
    for now in (NOW + turn / 5 for turn in range(100)):
        for intent in ledger.claims.submits("main", now, lease=90, at_most=10).intents:
            ledger.facts.record([_accepted(intent, now)])
            ledger.facts.record([_done(intent, now)])
    (grown,) = ledger.accounts.all()
    ledger.accounts.sync([undeclared])
    assert ledger.accounts.all() == [grown]

    ledger.accounts.sync([dataclasses.replace(undeclared, provider="apimaster")])

    (fresh,) = ledger.accounts.all()
    assert grown.submits_per_second > fresh.submits_per_second == FIRST_SUBMITS_PER_SECOND
    assert (fresh.max_in_flight, ledger.accounts.usage(NOW)["main"].rate_top) == (FIRST_IN_FLIGHT, None)


def test_a_name_that_goes_to_another_provider_leaves_what_it_did_there(ledger, running):
    ledger.facts.record([_done(intent, NOW + 9) for intent in running])
    elsewhere = stocked_ledger.account(provider="apimaster")

    ledger.accounts.sync([elsewhere])

    due, _ = ledger.claims.copies(NOW + 10, holder="me", lease=1, at_most=9)
    assert {(one.provider, one.account) for one in due} == {("maxapi.io", "main (maxapi.io)")}
    assert {(entry.account, entry.provider) for entry in ledger.reports.money()} == {("main (maxapi.io)", "maxapi.io")}
    ledger.accounts.sync([stocked_ledger.account()])
    assert {(entry.account, entry.provider) for entry in ledger.reports.money()} == {("main", "maxapi.io")}
    assert {one.account for one in ledger.claims.copies(NOW + 20, holder="me", lease=1, at_most=9)[0]} == {"main"}


def test_what_is_found_at_the_provider_a_name_has_left_stops_the_start_until_it_is_back(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(1))
    (intent,) = ledger.claims.submits("main", NOW, lease=90).intents
    ledger.facts.record([SubmitUnclear(attempt_id=intent.attempt_id, at=NOW, code="x", message="y")])
    ledger.accounts.sync([stocked_ledger.account(provider="apimaster")])
    ledger.unknowns.resolve([intent.attempt_id], "found", NOW, task_id="seen")

    with pytest.raises(
        BadInput, match=r"account main \(maxapi.io\) is at apimaster now.*\[accounts.main\] with provider"
    ):
        ledger.accounts.sync([stocked_ledger.account(provider="apimaster")])

    ledger.accounts.sync([stocked_ledger.account()])
    assert [due.task_id for due in ledger.claims.polls("main", NOW, lease=1)[0]] == ["seen"]


def test_work_found_where_a_name_was_before_goes_on_under_a_new_name_with_its_key_while_the_name_has_work_too(ledger):
    before = stocked_ledger.account(key_mark="first")
    now = stocked_ledger.account(provider="apimaster", key_mark="second")
    elsewhere = [dataclasses.replace(row, provider="apimaster") for row in stocked_ledger.rows(1, first=5)]
    stocked_ledger.stock(ledger, [*stocked_ledger.rows(1), *elsewhere], limits=before)
    (unclear,) = ledger.claims.submits("main", NOW, lease=90).intents
    ledger.facts.record([SubmitUnclear(attempt_id=unclear.attempt_id, at=NOW, code="x", message="y")])
    ledger.accounts.sync([now])
    (intent,) = ledger.claims.submits("main", NOW, lease=90).intents
    ledger.facts.record([_accepted(intent), _accepted(unclear, NOW + 5)])
    for either in (before, now):
        with pytest.raises(BadInput, match=r"Or give|is at maxapi\.io now"):
            ledger.accounts.sync([either])

    ledger.accounts.sync([now, dataclasses.replace(before, name="second")])

    due = {name: ledger.claims.polls(name, NOW + 5, lease=1)[0] for name in ("main", "second")}
    assert [one.attempt_id for one in due["main"]] == [intent.attempt_id]
    assert [one.attempt_id for one in due["second"]] == [unclear.attempt_id]
    assert ledger.accounts.stranded([now, dataclasses.replace(before, name="second")]) == []


def test_a_process_that_knows_an_account_at_another_provider_is_given_nothing_of_it(ledger, ledger_url):
    stocked_ledger.stock(ledger, [dataclasses.replace(row, provider="apimaster") for row in stocked_ledger.rows(3)])
    with contextlib.closing(open_ledger(ledger_url)) as other:
        other.accounts.sync([stocked_ledger.account(provider="apimaster")])
        (intent,) = other.claims.submits("main", NOW, lease=90, at_most=1).intents
        other.facts.record([_accepted(intent)])

    assert stocked_ledger.claim(ledger, NOW) == 0
    assert ledger.claims.polls("main", NOW, lease=1) == ([], None)


def test_an_outcome_nobody_knows_needs_no_account(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(1))
    (intent,) = ledger.claims.submits("main", NOW, lease=90).intents
    ledger.facts.record([SubmitUnclear(attempt_id=intent.attempt_id, at=NOW, code="x", message="y")])

    assert ledger.accounts.stranded([OTHER]) == []


def test_with_another_key_not_found_is_counted_from_the_beginning(ledger, running):
    ledger.facts.record([_missed(running[0], NOW)])
    ledger.accounts.sync([stocked_ledger.account(key_mark="first")])
    (same, _), _ = ledger.claims.polls("main", NOW + 10, lease=1)

    ledger.accounts.sync([stocked_ledger.account(key_mark="second")])
    polled, _ = ledger.claims.polls("main", NOW + 30, lease=1)

    assert same.not_found_since == NOW
    assert [due.not_found_since for due in polled] == [None, None]


@pytest.mark.parametrize(("code", "kept"), [("server_error", True), ("status_not_known", False), (None, False)])
def test_an_answer_that_says_nothing_of_the_task_leaves_not_found_as_it_is(ledger, running, code, kept):
    ledger.facts.record([_missed(running[0], NOW)])
    later = {"attempt_id": running[0].attempt_id, "at": NOW + 60, "next_poll_at": NOW + 60}

    ledger.facts.record([TaskStillRunning(**later, code=code, message="…")])

    since = {due.attempt_id: due.not_found_since for due in ledger.claims.polls("main", NOW + 61, lease=1)[0]}
    assert since[running[0].attempt_id] == (NOW if kept else None)


def test_a_poll_knows_when_the_provider_last_told_of_another_task(ledger, running):
    assert [due.answered_at for due in ledger.claims.polls("main", NOW, lease=1)[0]] == [None, None]

    ledger.facts.record([_done(running[0], NOW + 50)])

    ((due,), _) = ledger.claims.polls("main", NOW + 60, lease=1)
    assert due.answered_at == NOW + 50


def test_a_forgotten_task_is_no_sign_that_others_are_answered(ledger, running):
    gone = {"kind": Kind.PERMANENT, "code": "task_forgotten", "message": "404", "forgotten": True}
    ledger.facts.record([TaskFailed(attempt_id=running[0].attempt_id, at=NOW + 5, **gone)])

    ((due,), _) = ledger.claims.polls("main", NOW + 60, lease=1)

    assert due.answered_at is None


def test_a_result_of_an_older_task_does_not_end_its_accounts_pause(ledger, running):
    (last,) = ledger.claims.submits("main", NOW, lease=90).intents
    refusal = {"kind": Kind.ACCOUNT, "code": "no_balance", "message": "402"}
    ledger.facts.record([stock_refusal(last, **refusal)])

    ledger.facts.record([_done(intent, NOW + 2) for intent in running])

    assert ledger.accounts.all()[0].paused_code == "no_balance"
    assert stocked_ledger.claim(ledger, NOW + 3) == 0


def stock_refusal(intent, **values):
    from jobs.facts import SubmitRefused  # noqa: PLC0415  beside its one use

    return SubmitRefused(attempt_id=intent.attempt_id, at=NOW + 1, **values)


def test_a_deadline_buys_nothing(ledger, running):
    """Thirty days of "processing": asked about, ever again, and neither failed nor bought anew."""
    for day in range(1, 31):
        now = NOW + day * DAY
        due, _ = ledger.claims.polls("main", now, lease=30)
        assert len(due) == 2
        ledger.facts.record([TaskStillRunning(attempt_id=d.attempt_id, at=now, next_poll_at=now + 600) for d in due])
        ledger.facts.sweep(now)

    assert ledger.reports.progress("spring").jobs == {JobState.WORKING: 2, JobState.READY: 1}
    assert len(ledger.claims.submits("main", NOW + 31 * DAY, lease=90).intents) == 1  # the row that was never sent


@pytest.mark.parametrize(
    "before",
    [[], [stocked_ledger.account(name="account-0")], [stocked_ledger.account(name="account-0", provider="apimaster")]],
    ids=["on a new ledger", "with new accounts", "with an account at another provider"],
)
def test_workers_that_start_together_all_find_their_accounts(postgres_ledger_url, before):
    first = open_ledger(postgres_ledger_url)
    first.accounts.sync(before)
    together, failed = threading.Barrier(8), []
    declared = [stocked_ledger.account(name=f"account-{number}") for number in range(20)]

    def start() -> None:
        ledger = open_ledger(postgres_ledger_url)
        ledger.batches.all()  # connected
        together.wait()
        try:
            ledger.accounts.sync(declared)
        except Exception as error:  # noqa: BLE001  told below
            failed.append(error)
        ledger.close()

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []
    assert len(first.accounts.all()) == 20
    first.close()
