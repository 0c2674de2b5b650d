"""Schedules on both databases: steered while their times fall due, are taken, and are recorded."""

from __future__ import annotations

import contextlib
import threading

from sqlalchemy import text, update

from jobs.ledger import open_ledger
from jobs.ledger.batches.values import NewBatch
from jobs.ledger.database.schema import schedules
from jobs.ledger.schedules.schedules import pause
from jobs.ledger.schedules.values import Attachment, NewSchedule, NotOursError
from jobs.states import FiringState
from tests.support.patience import AT_LAST, until
from tests.support.stocked_ledger import NOW

MINUTE = 60.0
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
