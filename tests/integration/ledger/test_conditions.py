"""What the log was told is on record, so of many processes one tells of each change."""

from __future__ import annotations

import contextlib
import threading

from jobs.ledger import open_ledger
from jobs.ledger.accounts.condition_values import Condition, ConditionChange
from tests.support import stocked_ledger
from tests.support.patience import AT_LAST
from tests.support.stocked_ledger import NOW

PAUSED = Condition(name="account", subject="main", state="bad_key", detail={"provider": "maxapi.io", "until": None})
BEGUN, ENDED = ConditionChange(before=None, after=PAUSED), ConditionChange(before=PAUSED, after=None)


def test_of_two_processes_that_find_the_same_change_one_tells(ledger, ledger_url):
    with contextlib.closing(open_ledger(ledger_url)) as second:
        for change in (BEGUN, ENDED, BEGUN):
            together, told = threading.Barrier(2), []

            def find(by, change=change, together=together, told=told):
                together.wait(AT_LAST)
                told.extend(by.conditions.change([change], NOW))

            finders = [threading.Thread(target=find, args=(by,)) for by in (ledger, second)]
            for finder in finders:
                finder.start()
            for finder in finders:
                finder.join()
            assert told == [change]


def test_what_was_told_is_there_for_whoever_looks_next(ledger):
    ledger.conditions.change([BEGUN], NOW)
    (kept,) = ledger.conditions.told([])

    assert (kept.state, kept.since, kept.detail) == ("bad_key", NOW, {"provider": "maxapi.io", "until": None})


def test_a_change_of_what_another_has_changed_meanwhile_is_not_made(ledger):
    ledger.conditions.change([BEGUN], NOW)
    other = Condition(name="account", subject="main", state="no_balance")

    assert ledger.conditions.change([ConditionChange(before=other, after=None)], NOW) == []


def test_workers_take_turns_to_look_and_a_clock_that_was_set_back_stops_nobody(ledger):
    assert ledger.conditions.take_turn(NOW, 10)
    assert not ledger.conditions.take_turn(NOW + 9, 10)
    assert ledger.conditions.take_turn(NOW + 10, 10)
    assert ledger.conditions.take_turn(NOW - 5_000, 10)


def test_batches_that_have_ended_are_told_of_once_and_again_when_they_go_on(ledger):
    stocked_ledger.stock(ledger, stocked_ledger.rows(1))
    stocked_ledger.stock(ledger, stocked_ledger.rows(1), name="autumn")
    assert ledger.conditions.batches_to_tell_of() == ["spring", "autumn"]

    ledger.batches.cancel("spring")
    ended = Condition(name="batch", subject="spring", state="cancelled")
    ledger.conditions.change([ConditionChange(before=None, after=ended)], NOW)
    assert ledger.conditions.batches_to_tell_of() == ["autumn"]
    assert [one.state for one in ledger.conditions.told(["spring"])] == ["cancelled"]
    assert ledger.conditions.told([]) == []

    stocked_ledger.stock(ledger, stocked_ledger.rows(2))
    assert ledger.conditions.batches_to_tell_of() == ["spring", "autumn"]


def test_a_worker_that_ended_in_order_is_not_waited_for(ledger):
    ledger.workers.touch("here:1", NOW)
    ledger.workers.touch("here:2", NOW)
    ledger.workers.leave("here:1")

    assert [worker.name for worker in ledger.workers.seen(NOW, 60)] == ["here:2"]
