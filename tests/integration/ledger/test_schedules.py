"""Schedules on both databases: steered while their times fall due, are taken, and are recorded."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import text, update

from jobs.ledger import open_ledger
from jobs.ledger.batches.values import NewBatch
from jobs.ledger.database.schema import schedules
from jobs.ledger.schedules.schedules import pause
from jobs.ledger.schedules.values import Attachment, Ended, NewSchedule, NotOursError
from jobs.policy.cron import next_time
from jobs.policy.firing import CatchUp
from jobs.states import FiringState
from tests.support.patience import AT_LAST, until
from tests.support.stocked_ledger import NOW, PRICE, account, claim, new_batch, rows

MINUTE = 60.0
FEBRUARY = datetime(2027, 2, 1, tzinfo=UTC).timestamp()  # `NOW` is in January
NIGHTLY = NewSchedule(name="nightly", cron="* * * * *", timezone="UTC", options={}, budget=1)
BATCH = NewBatch(name="nightly", dest="/out", path="", columns=(), source="cat.csv")


def record(ledger, firing, now, *, holder="me"):
    """Records the batch of a time, as whoever has read its manifest does."""
    attachment = Attachment(firing_id=firing.id, holder=holder, detail={"rows": 1}, seen={"bytes": 1})
    ledger.batches.record_manifest(BATCH, [], attachment=attachment, now=now)


def taken(ledger, now):
    """The next time, in the hands of a process that reads its manifest."""
    ledger.schedules.fall_due(now)
    return ledger.schedules.take("me", now)[1]


def states(ledger):
    return [each.state for each in ledger.schedules.history(ledger.schedules.find("nightly").id)]


def is_refused(ledger, firing, now):
    try:
        record(ledger, firing, now)
    except NotOursError:
        return ledger.batches.find("nightly") is None
    return False


def test_a_pause_takes_a_time_out_of_the_hands_of_who_reads_its_manifest(ledger):
    ledger.schedules.add(NIGHTLY, NOW)
    firing = taken(ledger, NOW + MINUTE)

    ledger.schedules.pause("nightly", NOW + MINUTE)

    assert is_refused(ledger, firing, NOW + MINUTE)
    assert states(ledger) == [FiringState.SKIPPED]
    assert ledger.schedules.fire_by_hand("nightly", NOW + MINUTE + 1) is None
    ledger.schedules.pause("nightly", NOW + MINUTE + 1)
    assert states(ledger) == [FiringState.DUE, FiringState.SKIPPED]


def test_an_edit_lets_the_time_that_is_being_read_begin_again(ledger):
    ledger.schedules.add(NIGHTLY, NOW)
    firing = taken(ledger, NOW + MINUTE)

    ledger.schedules.edit(NIGHTLY, NOW + MINUTE)

    assert is_refused(ledger, firing, NOW + MINUTE)
    again = taken(ledger, NOW + MINUTE)
    assert (again.id, again.tries) == (firing.id, 2)
    record(ledger, again, NOW + MINUTE)
    assert states(ledger) == [FiringState.WORKING]
    assert ledger.schedules.rows_before(ledger.schedules.find("nightly").id) == 1


def test_a_manifest_that_is_recorded_by_hand_is_not_what_the_schedule_has_seen(ledger):
    ledger.schedules.add(NIGHTLY, NOW)
    record(ledger, taken(ledger, NOW + MINUTE), NOW + MINUTE)
    assert ledger.schedules.find("nightly").seen == {"bytes": 1}

    ledger.batches.record_manifest(BATCH, [], now=NOW + MINUTE)

    assert ledger.schedules.find("nightly").seen is None


def test_who_pauses_and_who_records_take_their_locks_in_one_order(postgres_ledger_url):
    """Else the database would end one of them, and a whole manifest would be recorded again."""
    with contextlib.closing(open_ledger(postgres_ledger_url)) as ledger:
        ledger.schedules.add(NIGHTLY, NOW)
        firing = taken(ledger, NOW + MINUTE)
        outcome = []
        recording = threading.Thread(target=lambda: outcome.append(is_refused(ledger, firing, NOW + MINUTE)))

        with ledger._database.writing() as tx:
            tx.execute(update(schedules).values(next_at=None))  # a pause, half done
            recording.start()
            until(lambda: ledger._database.read(lambda look: look.execute(WAITING).scalar()))
            pause(tx, "nightly", NOW + MINUTE)
        recording.join(AT_LAST)

        assert outcome == [True]
        assert states(ledger) == [FiringState.SKIPPED]


WAITING = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")


YEAR = 365 * 86_400.0


def test_a_clock_that_was_a_year_ahead_does_not_silence_a_schedule_and_fires_no_time_twice(ledger):
    ledger.schedules.add(replace(NIGHTLY, cron="0 3 * * *"), NOW)
    night = next_time("0 3 * * *", "UTC", NOW)
    number = ledger.schedules.find("nightly").id

    record(ledger, taken(ledger, NOW + YEAR), NOW + YEAR)
    ahead = ledger.schedules.history(number)[0]
    ledger.schedules.end(ahead.id, Ended(state=FiringState.ENDED, exit_code=0), NOW + YEAR)
    told = ledger.schedules.fall_due(NOW + 10)

    assert [(one.at, one.state) for one in told] == [(night, None)]
    assert [each.at for each in ledger.schedules.history(number)] == [ahead.at]
    assert ledger.schedules.fall_due(NOW + 20) == []
    for again in range(2):
        at = night + again * 86_400
        assert [(one.at, one.state) for one in ledger.schedules.fall_due(at + 1)] == [(at, FiringState.DUE)]
        firing = ledger.schedules.take("me", at + 1)[1]
        assert firing.at == at
        ledger.schedules.fail(firing.id, "me", Ended(state=FiringState.FAILED, exit_code=2), at + 1)
        assert ledger.schedules.newest(at + 1)[number].at == at
    ledger.schedules.pause("nightly", NOW)
    ledger.schedules.resume("nightly", ahead.at - 1)
    assert ledger.schedules.fall_due(ahead.at + 1) == []  # it was fired a year ago


def test_a_time_that_a_clock_far_ahead_found_due_waits_no_year_and_holds_up_no_other(ledger):
    ledger.schedules.add(replace(NIGHTLY, cron="0 3 * * *"), NOW)
    night = next_time("0 3 * * *", "UTC", NOW)
    ledger.schedules.fall_due(NOW + YEAR)
    ledger.schedules.fall_due(NOW + 10)

    assert [(one.at, one.state) for one in ledger.schedules.fall_due(night)] == [(night, FiringState.DUE)]
    assert states(ledger) == [FiringState.DUE]
    assert ledger.schedules.take("me", night)[1].at == night


def test_a_manifest_whose_reader_died_while_the_clock_was_ahead_is_read_by_another(ledger):
    ledger.schedules.add(NIGHTLY, NOW)
    assert ledger.schedules.fire_by_hand("nightly", NOW) is None
    ledger.workers.touch("me", NOW + YEAR, NOW + YEAR)
    assert ledger.schedules.take("me", NOW + YEAR) is not None

    assert ledger.schedules.take("other", NOW + 10) is not None


def test_a_clock_that_is_some_seconds_behind_anothers_takes_nothing_back(ledger):
    ledger.schedules.add(NIGHTLY, NOW)
    firing = taken(ledger, NOW + MINUTE)

    assert ledger.schedules.fall_due(NOW) == []
    record(ledger, firing, NOW + 1)


def test_a_process_gets_a_time_that_it_still_reads_no_second_time_though_it_was_edited(ledger):
    ledger.schedules.add(NIGHTLY, NOW)
    firing = taken(ledger, NOW + MINUTE)
    ledger.schedules.edit(NIGHTLY, NOW + MINUTE)

    assert ledger.schedules.take("me", NOW + MINUTE, {firing.id}) is None
    assert ledger.schedules.take("me", NOW + MINUTE)[1].id == firing.id


def test_a_time_whose_batch_has_bought_nothing_was_charged_nothing_and_one_without_a_batch_says_nothing(ledger):
    ledger.schedules.add(NIGHTLY, NOW)
    record(ledger, taken(ledger, NOW + MINUTE), NOW + MINUTE)
    ledger.schedules.fall_due(NOW + 2 * MINUTE)

    times = ledger.schedules.history(ledger.schedules.find("nightly").id, with_charges=True)
    assert [(each.state, each.charged) for each in times] == [(FiringState.SKIPPED, None), (FiringState.WORKING, 0)]


def test_a_night_that_nobody_saw_was_missed_also_where_the_one_before_is_not_over(ledger):
    ledger.schedules.add(replace(NIGHTLY, cron="0 3 * * *"), NOW)
    night = next_time("0 3 * * *", "UTC", NOW)
    record(ledger, taken(ledger, night), night)

    (told,) = ledger.schedules.fall_due(night + 30 * 3600.0)  # its batch goes on, and the next night has passed unseen
    (seen,) = ledger.schedules.fall_due(night + 48 * 3600.0)

    assert (told.state, told.message) == (
        FiringState.MISSED,
        "nobody was there to see it, and it is not made up: the time before it is not over",
    )
    assert (seen.state, seen.message) == (FiringState.SKIPPED, "the time before it is not over")


def test_times_that_nobody_saw_are_counted_since_the_last_that_began(ledger):
    ledger.schedules.add(replace(NIGHTLY, cron="0 3 * * *", catch_up=CatchUp.NONE), NOW)
    night = next_time("0 3 * * *", "UTC", NOW)
    record(ledger, taken(ledger, night), night)
    ledger.schedules.end(1, Ended(state=FiringState.ENDED, exit_code=0), night)

    found = night + 3.5 * 86_400.0  # three nights later, and some hours
    ledger.schedules.fall_due(found)

    (missed,) = ledger.schedules.missed(found - 60.0).values()
    assert (missed.count, missed.first, missed.last) == (3, night + 86_400.0, night + 3 * 86_400.0)
    assert ledger.schedules.missed(found + 60.0) == {}


@pytest.mark.parametrize("options", [{}, {"partial": True}])
def test_a_month_is_said_to_stand_in_the_way_where_a_claim_buys_nothing_more_and_until_it_ends(ledger, options):
    month = replace(NIGHTLY, cron="0 3 * * *", budget=None, monthly_budget=2 * PRICE, options=options)
    ledger.schedules.add(month, NOW - 86_400.0)
    ledger.accounts.sync([account()])
    firing = taken(ledger, NOW)
    attachment = Attachment(firing_id=firing.id, holder="me", detail={"rows": 3}, seen=None)
    ledger.batches.record_manifest(new_batch("nightly"), rows(3), attachment=attachment, now=NOW)
    before = ledger.reports.progress("nightly", NOW).schedule
    assert (before.name, before.month_allows, before.month.spent) == ("nightly", True, 0)

    assert claim(ledger, NOW, times=2) == 2

    used = ledger.reports.progress("nightly", NOW).schedule
    assert (used.month_allows, used.month.budget, used.month.spent) == (False, 2 * PRICE, 2 * PRICE)
    assert used.month.again_at == FEBRUARY
    assert used.waiting_money == PRICE
    assert used.goes_on_at == (FEBRUARY if options else None)  # when a claim buys again
    assert ledger.reports.progress("nightly", FEBRUARY).schedule.month_allows
    assert claim(ledger, FEBRUARY) == 1
