"""Screens say who has to act, what helps, and what is waited for; and show nothing that a terminal obeys."""

from __future__ import annotations

import contextlib
import dataclasses
import sqlite3
import time

import pytest

from cli.flow.execute import RunOutcome, summary
from cli.output.progress import Elapsed, plain_line
from cli.output.retries import helps, nothing_to_retry
from cli.output.wording import narrowed
from jobs import formatting
from jobs.errors import BadInput
from jobs.results.completion import Reason, RunState, rows_for_you, waits_for_you
from jobs.results.progress import state_of_batch
from jobs.results.sentences import under_way
from jobs.states import BatchState, JobState
from tests.support.shop_ledger import call, document, open_shop
from tests.unit.cli.test_watch import BROKE, READY, account
from tests.unit.results.test_contact_sheet import progress
from worker.local.run import RunEnding

ODD = "\x1b]0;owned\x07\x1b[2J"


@pytest.fixture
def shop(tmp_path):
    open_shop(tmp_path, tmp_path / "out")
    return tmp_path


def changed(folder, statement, *values):
    with contextlib.closing(sqlite3.connect(folder / "lightfast.db")) as connection, connection:
        connection.execute(statement, values)


# -- who has to act ------------------------------------------------------------------------------------------------


def test_rows_that_wait_for_an_account_without_balance_need_a_person(shop):
    head, line, *rest = call("status").stdout.splitlines()

    # One was refused by moderation, one is held, and one waits for the account.
    assert line[head.index("NEED YOU") :].split()[0] == "3"
    assert "shop: 1 row waits: account main (maxapi.io): no balance (402). Nothing failed by it" in "\n".join(rest)
    assert document("status", "shop")["rows_need_you"] == 3


def standing(shown=READY, accounts=(), **batch):
    shown = dataclasses.replace(shown, batch=dataclasses.replace(shown.batch, **batch))
    return RunState(progress=shown, accounts=accounts, now=1000.0)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (standing(accounts=[account(**BROKE)]), Reason.ACCOUNT_PAUSED),
        (standing(accounts=[account(**BROKE), account()]), None),  # another account takes them
        (standing(accounts=[account(**(BROKE | {"paused_until": 900.0}))]), Reason.ACCOUNT_PAUSED),  # to be tried again
        (standing(accounts=[account(paused_until=1060.0, paused_code="rate_limited")]), None),  # it rests
        (standing(state=BatchState.PAUSED), Reason.BATCH_PAUSED),
        (standing(state=BatchState.CANCELLED), None),
        (standing(progress(jobs={JobState.DONE: 8}), state=BatchState.PAUSED), None),
    ],
)
def test_waiting_rows_need_a_person_only_where_nothing_goes_on_by_itself(state, reason):
    assert waits_for_you(state) is reason
    assert rows_for_you(state) == (5 if reason else 0)


def test_a_batch_that_was_paused_and_has_nothing_left_is_finished(shop):
    done = progress(jobs={JobState.DONE: 8, JobState.FAILED: 1})
    done = dataclasses.replace(done, batch=dataclasses.replace(done.batch, state=BatchState.PAUSED, reason="on a word"))
    assert state_of_batch(done) == "finished"

    changed(shop, "UPDATE jobs SET state = 'cancelled' WHERE state = 'ready'")
    call("pause", "shop")
    page = call("status", "shop").stdout
    assert "shop, finished:" in page
    assert "on your word" not in page
    assert "resume" not in page
    assert document("resume", "--all")["paused"] == []


# -- what helps ----------------------------------------------------------------------------------------------------


def test_a_retry_that_finds_held_rows_alone_says_what_is_decided_first(shop):
    with pytest.raises(BadInput, match=r"First decide about each:  lightfast unknown shop$"):
        call("retry", "shop", "--only", "held")
    assert nothing_to_retry("shop", "", {}, 2) == (
        "2 rows are held, and are not retried before you decide:  lightfast unknown shop"
    )
    assert "lightfast unknown shop" in nothing_to_retry("shop", "outcome_unknown", {"moderation": 1}, 2)


@pytest.mark.parametrize(
    ("errors", "told"),
    [
        ({"invalid_parameters": 3}, []),
        ({"invalid_parameters": 3, "provider_failed": 2}, ["lightfast retry shop --error provider_failed"]),
        ({"provider_failed": 2}, ["lightfast retry shop"]),
    ],
)
def test_rows_that_a_provider_calls_not_legal_are_not_offered_for_another_try(errors, told):
    lines = list(helps("shop", errors))

    assert [line.partition(":  ")[2] for line in lines if "another try" in line] == told
    refused = [line for line in lines if line.startswith("3 rows were refused as not legal")]
    assert [line.partition(":  ")[2] for line in refused] == ["lightfast results shop --only invalid_parameters"] * (
        "invalid_parameters" in errors
    )


def test_what_an_account_was_told_is_shown_whole():
    why = f"{'a long story ' * 30}. Top up at https://provider.example/billing"
    broke = account(**(BROKE | {"paused_message": why}))

    assert any(line.endswith("https://provider.example/billing") for line in _troubles(broke))


def _troubles(broke):
    from jobs.results.troubles import troubles  # noqa: PLC0415  as the screen does

    return list(troubles(READY, [broke]))


# -- what is waited for --------------------------------------------------------------------------------------------


def headline(seconds, age):
    shown = progress(jobs={JobState.DONE: 2})
    shown = dataclasses.replace(shown, batch=dataclasses.replace(shown.batch, created_at=1_800_000_000.0 - age))
    ending = RunEnding(reason=Reason.DONE, standing=RunState(progress=shown, accounts=(), now=1_800_000_000.0))
    return next(iter(summary(RunOutcome(ending=ending, message="", code=0, seconds=seconds))))[0]


def test_a_run_that_goes_on_with_a_batch_says_what_its_time_is_the_time_of():
    assert headline(90.0, age=95.0) == "catalog: finished in 90 s, every row is done"
    assert headline(1.0, age=7200.0) == (
        "catalog: finished (this run took 1 s, the batch began 2027-01-15 06:00Z), every row is done"
    )


def test_three_kinds_of_waiting_have_three_names(shop):
    busy = progress(jobs={JobState.READY: 4, JobState.WORKING: 3}, images_in_flight=2, images_generated=1)
    assert under_way(busy) == "2 being made, 1 being copied"

    ending = RunEnding(reason=Reason.INTERRUPTED, standing=RunState(progress=busy, accounts=(), now=0.0))
    lines = [line for line, _ in summary(RunOutcome(ending=ending, message="", code=130, seconds=3.0))]
    assert "  under way       3 rows   2 being made, 1 being copied" in lines
    assert "  waiting         4 rows" in lines
    assert "1 waiting for their turn" in call("status", "shop").stdout
    assert "Waits for its turn to be sent." in call("results", "shop", "--only", "ready").stdout


def test_a_run_that_waits_for_copies_says_what_one_of_them_was_told():
    stuck = progress(
        jobs={JobState.WORKING: 1},
        images_generated=1,
        copy_errors={"not_found": 1},
        copy_words={"not_found": "HTTP 404"},
    )

    assert "of these not copied yet 1 not_found (HTTP 404)" in plain_line(stuck, (), Elapsed(0.0, 1.0))


def test_people_read_their_own_clock_beside_utc(monkeypatch):
    try:
        monkeypatch.setenv("TZ", "Europe/Berlin")
        time.tzset()
        assert formatting.here(1_800_000_000.0) == " (Fri 09:00 here)"
        monkeypatch.setenv("TZ", "UTC")
        time.tzset()
        assert formatting.here(1_800_000_000.0) == ""
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_table_of_batches_fits_the_terminal():
    rows = [("BATCH", "STATE", "STARTED"), ("shop", "finished", "2027-01-15 08:00Z")]

    assert narrowed(rows, 20, less=[2]) == ["BATCH  STATE", "shop   finished"]
    assert narrowed(rows, None, less=[2])[1] == "shop   finished  2027-01-15 08:00Z"


# -- what comes from outside ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [("status",), ("status", "shop"), ("why", "shop", "sofa"), ("unknown",), ("accounts",), ("why", "shop", "vase")],
)
def test_what_a_provider_or_a_manifest_says_cannot_steer_the_terminal(shop, words):
    changed(shop, "UPDATE attempts SET message = message || ?, raw = ?", ODD, ODD)
    changed(shop, "UPDATE jobs SET message = message || ?", ODD)
    changed(shop, "UPDATE accounts SET paused_message = paused_message || ?", ODD)
    changed(shop, "UPDATE batches SET source = source || ?", ODD)

    page = call(*words).stdout

    assert "\x1b" not in page
    assert "\x07" not in page
