"""What the log tells of the state of things: each change once, why and what for, and nothing that passes by itself."""

from __future__ import annotations

import dataclasses
import math

import pytest

from jobs.ledger.accounts.values import DayLimit
from jobs.ledger.accounts.worker_values import DestinationTrouble, EmergencyStop, WorkerProcess
from jobs.log_events import NEWS
from jobs.results.conditions import LearntFigure, Standing, changed, events_of
from jobs.states import BatchState, JobState, TroubleKind
from tests.unit.cli.test_watch import account
from tests.unit.results.test_contact_sheet import progress

NOW = 1_800_000_000.0
GOING = progress(jobs={JobState.READY: 5, JobState.WORKING: 3}, images_total=8, images_ready=5, images_in_flight=3)
WAITING = dataclasses.replace(GOING, jobs={JobState.READY: 5, JobState.DONE: 3}, images_in_flight=0)
DONE = progress(jobs={JobState.DONE: 8}, images_total=8, images_stored=8)
BAD = progress(jobs={JobState.DONE: 5, JobState.FAILED: 2, JobState.HELD: 1}, images_total=8, images_stored=5)
REVOKED = {"paused_code": "bad_key", "paused_message": "invalid key", "paused_until": math.inf, "troubled_since": NOW}
THROTTLED = {"paused_code": "rate_limited", "paused_message": "429", "paused_until": NOW + 2, "troubled_since": NOW}


class Log:
    """A ledger's memory of what was told, and the lines that come of one look after the other."""

    def __init__(self):
        self.told, self.lines = [], []

    def look(self, **standing):
        self.lines = []
        at = Standing(**{"now": NOW, **standing})
        changes = changed(at, self.told)
        for one in changes:
            self.lines += events_of(one, at)
            before = {(one.name, one.subject) for one in changes}
        if changes:
            kept = [one for one in self.told if (one.name, one.subject) not in before]
            self.told = kept + [dataclasses.replace(one.after, since=at.now) for one in changes if one.after]
        for line in self.lines:
            assert set(line.fields) <= set(NEWS[line.name].fields), "a field that the table does not have"
            assert line.level in NEWS[line.name].levels
        return [line.name for line in self.lines]

    @property
    def only(self):
        (line,) = self.lines
        return line


def paused_by(reason):
    return dataclasses.replace(GOING, batch=dataclasses.replace(GOING.batch, state=BatchState.PAUSED, reason=reason))


def test_a_batch_is_told_of_when_it_begins_and_when_it_has_finished_with_counts_and_money():
    log = Log()

    assert log.look(batches=[GOING]) == ["batch_begun"]
    assert (log.only.fields["rows"], log.only.fields["images"], log.only.level) == (8, 8, "info")
    begun = log.only.fields["at_most_usd"]
    assert begun == pytest.approx((GOING.remaining_money + GOING.batch.reserved + GOING.batch.charged) / 1e6)
    assert log.look(batches=[GOING]) == []
    assert log.look(batches=[DONE]) == ["batch_finished"]
    assert log.only.level == "info"
    counts = {name: log.only.fields[name] for name in ("rows", "done", "failed", "images", "charged_usd")}
    assert counts == {"rows": 8, "done": 8, "failed": 0, "images": 8, "charged_usd": 1.23}
    assert log.look(batches=[]) == [], "a batch that nobody looks at stays as it was told"


def test_a_batch_that_was_quick_is_told_of_all_the_same():
    assert Log().look(batches=[DONE]) == ["batch_begun", "batch_finished"]


def test_a_finished_batch_whose_rows_need_a_person_is_a_warning_and_goes_on_after_a_retry():
    log = Log()
    log.look(batches=[GOING])

    assert log.look(batches=[BAD]) == ["batch_finished"]
    assert (log.only.level, log.only.fields["failed"], log.only.fields["held"]) == ("warning", 2, 1)
    assert log.look(batches=[GOING]) == ["batch_goes_on"]
    assert log.only.fields["was"] == "finished"


def test_a_refused_key_is_an_error_of_the_account_and_of_the_batch_that_waits_for_it():
    log = Log()
    log.look(batches=[GOING], accounts=[account()])

    assert log.look(batches=[GOING], accounts=[account(**REVOKED)]) == ["batch_needs_person", "account_paused"]
    batch, of_account = log.lines
    assert (of_account.level, of_account.fields["code"]) == ("error", "bad_key")
    assert (batch.level, batch.fields["reason"]) == ("error", "account_paused")
    assert "invalid key" in batch.fields["problem"]
    probed = {**REVOKED, "paused_until": NOW - 1}
    assert log.look(batches=[GOING], accounts=[account(**probed)]) == [], "a probe of it is no news"
    assert log.look(batches=[GOING], accounts=[account()]) == ["batch_goes_on", "account_works_again"]


@pytest.mark.parametrize("code", ["no_balance", "no_permission", "redirected"])
def test_whatever_only_a_person_can_end_is_told_at_once_as_an_error(code):
    log = Log()

    assert log.look(accounts=[account(**{**REVOKED, "paused_code": code})]) == ["account_paused"]
    assert (log.only.level, log.only.fields["code"]) == ("error", code)


def test_rests_of_seconds_are_not_told_and_a_provider_in_trouble_for_a_minute_is_a_warning():
    log = Log()

    assert log.look(batches=[WAITING], accounts=[account(**THROTTLED)]) == ["batch_begun"]
    later = [account(**{**THROTTLED, "paused_until": NOW + 90})]
    assert log.look(now=NOW + 61, batches=[WAITING], accounts=later) == ["batch_waits", "account_paused"]
    assert [line.level for line in log.lines] == ["warning", "warning"]


def test_an_account_that_is_no_longer_in_the_settings_is_not_said_to_work_again():
    log = Log()
    log.look(accounts=[account(**REVOKED)])

    assert log.look(accounts=[]) == []


def test_a_batch_that_others_of_its_providers_accounts_still_make_goes_on():
    both = [account(**REVOKED), dataclasses.replace(account(), name="second")]

    assert Log().look(batches=[GOING], accounts=both) == ["batch_begun", "account_paused"]


@pytest.mark.parametrize(
    ("reason", "event", "level"),
    [("on your word", "batch_paused", "info"), ("over half failed with moderation", "batch_needs_person", "error")],
)
def test_a_pause_is_told_with_its_reason_and_only_one_that_nobody_said_is_an_error(reason, event, level):
    log = Log()
    log.look(batches=[GOING])

    assert log.look(batches=[paused_by(reason)]) == [event]
    assert (log.only.level, log.only.fields["problem"]) == (level, reason)
    assert log.look(batches=[GOING]) == ["batch_goes_on"]


def test_a_budget_that_is_used_needs_a_person_and_a_day_that_is_used_goes_on_by_itself():
    batch = dataclasses.replace(WAITING.batch, budget=1_240_000)
    used = dataclasses.replace(WAITING, batch=batch, budget_allows=False, remaining_money=100_000)
    limit = DayLimit(account=None, budget=2_000_000, spent=1_990_000, again_at=NOW + 600)
    of_day = dataclasses.replace(WAITING, day_limits=(limit,))
    log = Log()
    log.look(batches=[GOING])

    assert log.look(batches=[used]) == ["batch_needs_person"]
    assert log.only.fields["reason"] == "budget_used"
    assert log.look(batches=[of_day], budgets=[limit]) == ["batch_waits", "daily_budget_reached"]
    assert log.lines[1].fields["budget_usd"] == 2.0
    assert log.look(batches=[DONE], budgets=[limit]) == ["batch_finished"], "the day is not over"
    tomorrow = dataclasses.replace(limit, spent=0, again_at=NOW + 87_000)
    assert log.look(now=NOW + 601, budgets=[tomorrow]) == ["daily_budget_allows_again"]


def figure(value, *, is_met=False):
    return [LearntFigure(account="main", limit="submits_per_second", value=value, is_met=is_met)]


def test_limits_are_told_when_a_figure_changes_much_and_not_at_each_step():
    log, said = Log(), []
    for minute in range(600):  # grows by a percent a minute, is cut, and finds the same end again and again
        value = min(20.0, 1.01**minute) if minute < 400 else 20.0 - minute % 4
        said += log.look(now=NOW + 60 * minute, figures=figure(value, is_met=minute >= 400))

    assert said.count("limit_raised") <= 8
    assert said[-1] == "limit_learnt"
    assert log.look(now=NOW + 40_000, figures=figure(6.0, is_met=True)) == ["limit_cut"]
    assert (log.only.level, log.only.fields["value"]) == ("warning", 6.0)


def test_destinations_are_told_of_by_kind_once_however_many_say_it():
    refuses = DestinationTrouble(
        dest="s3://b", kind=TroubleKind.REFUSES, since=NOW, code="bucket_denied", message="403"
    )
    other = dataclasses.replace(refuses, code="bucket_failing", message="500", said_by="another")
    behind = dataclasses.replace(refuses, kind=TroubleKind.BEHIND, code="copies_behind", message="slow")
    log = Log()

    assert log.look(troubles=[refuses]) == ["destination_refuses"]
    assert (log.only.level, log.only.fields["code"]) == ("error", "bucket_denied")
    assert log.look(troubles=[other]) == []
    assert log.look(troubles=[other, behind]) == ["copies_fall_behind"]
    assert sorted(log.look(now=NOW + 30)) == ["copies_keep_up_again", "destination_takes_again"]


def test_a_silent_worker_is_told_and_one_that_is_back_too():
    silent = WorkerProcess(name="here:1", seen_at=NOW - 70, looked_at=None)
    log = Log()

    assert log.look(workers=[silent]) == ["worker_silent"]
    assert log.look(workers=[silent]) == []
    assert log.look(workers=[dataclasses.replace(silent, seen_at=NOW)]) == ["worker_back"]
    log.look(workers=[silent])
    assert log.look(workers=[]) == [], "one that was killed does not come back: another has its place"


def test_the_emergency_stop_and_a_restored_database_are_told_with_their_ends():
    log = Log()

    assert log.look(stop=EmergencyStop(since=NOW, by="mia@here")) == ["emergency_stop_begun"]
    assert log.only.fields == {"by": "mia@here"}
    assert sorted(log.look(now=NOW + 5, moved=True)) == ["emergency_stop_lifted", "ledger_moved"]
    assert log.look(now=NOW + 9) == ["ledger_trusted"]
