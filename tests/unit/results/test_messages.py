"""What people and programs are sent of a change: what happened, what it costs, and the command that helps."""

from __future__ import annotations

import dataclasses
import json
import math
import re

import pytest

from jobs.ledger.accounts.values import DayLimit, PeriodLimit
from jobs.ledger.accounts.worker_values import EmergencyStop
from jobs.ledger.reports.values import BatchSchedule, DyingLinks
from jobs.ledger.schedules.values import Bought, Firing, MissedTimes
from jobs.results.conditions import Standing, changed, events_of
from jobs.results.messages import Hearer, message_for_test, messages_of, outgoing
from jobs.results.nights import Night, night_of
from jobs.states import FIRING_OPEN, BatchState, FiringState, JobState
from tests.support import ROOT
from tests.unit.cli.test_watch import account
from tests.unit.results.test_conditions import BAD, DONE, GOING, NOW, REVOKED, THROTTLED, WAITING, paused_by

PEOPLE = Hearer(channel="slack 1", hears_all=True)
PROGRAM = Hearer(channel="webhook", hears_all=True, is_program=True)


def said(before=None, **standing):
    """The messages of what is new, after a look at `before`."""
    told = []
    if before is not None:
        told = [one.after for one in changed(Standing(now=NOW, **before), ()) if one.after]
    at = Standing(**{"now": NOW, **standing})
    return [message for change in changed(at, told) for message in messages_of(change, at)]


def test_a_batch_that_begins_and_goes_on_is_told_to_nobody():
    assert said(batches=[GOING]) == []


def test_a_finished_batch_is_told_with_its_figures_and_the_command_for_its_results():
    (message,) = said({"batches": [GOING]}, batches=[DONE])

    assert message.type == "batch.finished"
    assert message.title == "catalog: finished"
    assert "8 of 8 rows are done" in message.text
    assert "$1.23 charged" in message.text
    assert "lightfast results catalog" in message.text
    assert (message.data["rows"], message.data["images"], message.data["charged_usd"]) == (8, 8, 1.23)


def test_rows_that_need_a_person_come_with_the_commands_for_them():
    (message,) = said({"batches": [GOING]}, batches=[BAD])

    assert message.title == "catalog: finished, 3 rows need you"
    assert "2 failed, 1 held" in message.text
    assert "lightfast unknown catalog" in message.text
    assert "lightfast retry catalog" in message.text


def test_a_batch_that_went_on_after_a_retry_is_told_of_again_when_it_ends():
    assert [one.type for one in said({"batches": [GOING]}, batches=[DONE])] == ["batch.finished"]
    assert said({"batches": [DONE]}, batches=[DONE]) == []


def test_a_refused_key_is_told_of_the_account_and_of_each_batch_that_waits_for_it():
    batch, of_account = said({"batches": [GOING]}, batches=[GOING], accounts=[account(**REVOKED)])

    assert (batch.type, batch.data["reason"]) == ("batch.needs_person", "account_paused")
    assert (of_account.type, of_account.data["code"]) == ("account.paused", "bad_key")
    assert "invalid key" in of_account.text
    assert "lightfast accounts --probe main" in of_account.text


def test_an_account_that_goes_on_by_itself_is_told_to_nobody():
    later = {**THROTTLED, "paused_until": NOW + 90}

    assert said(now=NOW + 61, batches=[WAITING], accounts=[account(**later)]) == []


def test_a_batch_that_paused_itself_is_told_and_one_that_a_person_paused_is_not():
    (message,) = said(batches=[paused_by("over half failed with moderation")])

    assert "over half failed with moderation" in message.text
    assert "lightfast resume catalog" in message.text
    assert said(batches=[paused_by("on your word")]) == []


def test_a_batchs_budget_is_told_with_the_one_that_would_do():
    batch = dataclasses.replace(WAITING.batch, budget=1_240_000)
    used = dataclasses.replace(WAITING, batch=batch, budget_allows=False, remaining_money=100_000)

    (message,) = said({"batches": [GOING]}, batches=[used])

    assert (message.type, message.data["scope"]) == ("budget.reached", "batch")
    assert (message.data["budget_usd"], message.data["spent_usd"]) == (1.24, 1.23)
    assert "lightfast resume catalog --budget 1.33" in message.text


def of_a_schedule(progress, *, goes_on_at=None, left=0, waiting=0):
    month = PeriodLimit(budget=2_000_000, spent=2_000_000 - left, again_at=NOW + 86_400)
    schedule = BatchSchedule(
        name="night", month=month, month_allows=False, waiting_money=waiting, goes_on_at=goes_on_at
    )
    return dataclasses.replace(progress, schedule=schedule)


def used_up(progress, budget=1_240_000):
    """Its own budget leaves a cent, and all that is left needs ten."""
    batch = dataclasses.replace(progress.batch, budget=budget)
    return dataclasses.replace(progress, batch=batch, budget_allows=False, remaining_money=100_000)


def test_a_month_that_is_used_is_told_with_the_budgets_that_would_do_and_not_as_the_batchs_own():
    raised = dataclasses.replace(WAITING, remaining_money=100_000)  # by a person: it has none of its own

    (message,) = said({"batches": [GOING]}, batches=[of_a_schedule(raised)])

    assert (message.type, message.data["scope"], message.data["schedule"]) == ("budget.reached", "month", "night")
    assert message.title == "catalog: the monthly budget of schedule night is used"
    why, help_ = message.text.splitlines()
    assert why.startswith("$2.00 of the monthly budget of $2.00 of schedule night is spent or reserved; ")
    assert why.endswith("the next month begins at 2027-01-16 08:00Z. 5 rows wait, at most $0.10.")
    assert help_ == "lightfast schedule edit night --monthly-budget 2.10"


def test_the_month_that_is_proposed_is_enough_for_all_batches_of_the_schedule_and_never_below_its_own():
    one = dataclasses.replace(WAITING, remaining_money=100_000)

    def proposed(**month):
        (message,) = said({"batches": [GOING]}, batches=[of_a_schedule(one, **month)])
        return message.text.splitlines()[1]

    assert proposed(waiting=8_730_000) == "lightfast schedule edit night --monthly-budget 10.73"
    assert proposed(left=1_950_000) == "lightfast schedule edit night --monthly-budget 2.00"


@pytest.mark.parametrize(("left", "scope"), [(0, "month"), (10_000, "month"), (20_000, "batch")])
def test_of_two_used_budgets_the_one_that_leaves_less_is_told_and_the_month_where_they_leave_the_same(left, scope):
    (message,) = said(batches=[of_a_schedule(used_up(WAITING), left=left)])

    assert message.data["scope"] == scope
    commands = message.text.splitlines()[1:]
    assert commands[-1] == "lightfast resume catalog --budget 1.33"
    assert len(commands) == (2 if scope == "month" else 1)


def test_rows_that_a_time_of_their_schedule_goes_on_with_need_nobody():
    assert said(batches=[of_a_schedule(used_up(WAITING), goes_on_at=NOW + 3600)]) == []


def test_a_partial_time_is_told_and_later_ones_that_bought_nothing_are_not():
    def told_of(at, made):
        plan = {"images": 6, "left_out": 4, "made": made}
        firing = dataclasses.replace(a_firing(FiringState.STOPPED), at=at, exit_code=4, detail=plan)
        return {"firings": [("night", firing)]}

    (message,) = said(**told_of(NOW, 2))

    assert message.type == "schedule.partial"
    assert "needs you" not in message.title + message.text
    assert said(told_of(NOW, 2), **told_of(NOW + 86_400, 0)) == []
    assert [one.type for one in said(told_of(NOW, 2), **told_of(NOW + 86_400, 1))] == ["schedule.partial"]


def test_a_daily_budget_is_told_once_with_the_moment_it_ends():
    limit = DayLimit(account="main", budget=2_000_000, spent=1_990_000, again_at=NOW + 600)
    of_day = dataclasses.replace(WAITING, day_limits=(limit,))

    (message,) = said(batches=[of_day], budgets=[limit])

    assert (message.type, message.data["scope"], message.data["account"]) == ("budget.reached", "day", "main")
    assert "$1.99 of $2.00 is spent today by account main" in message.text
    again = {"batches": [of_day], "budgets": [limit]}
    assert said(again, **again) == []


def test_pause_all_is_not_told_again_by_every_batch():
    stop = EmergencyStop(since=NOW, by="mia@desk")
    stopped = dataclasses.replace(WAITING, stop=stop)

    assert said(batches=[stopped], stop=stop) == []


def test_links_that_are_about_to_die_are_told_once_with_the_first_of_them():
    dying = {"dying": [DyingLinks(batch="b", dest="s3://x", images=318, money=12_720_000, first_dies_at=NOW + 7200)]}

    (message,) = said(**dying)

    assert message.type == "links.dying"
    assert "318 paid images ($12.72) wait to be copied to s3://x" in message.text
    assert "in 2 h" in message.text
    assert said(dying, dying=[dataclasses.replace(dying["dying"][0], images=200)]) == []


def test_what_the_stand_ins_batches_tell_is_marked():
    (message,) = said(batches=[DONE], sandbox=True)

    assert message.title.startswith("SANDBOX ")
    assert message.data["sandbox"] is True


def test_a_program_gets_json_and_a_person_sentences():
    at = Standing(now=NOW, batches=[DONE])
    (change,) = changed(at, ())
    (message,) = outgoing(change, at, [PEOPLE, PROGRAM])

    body = json.loads(message.payloads["webhook"])
    assert (body["type"], body["timestamp"]) == ("batch.finished", "2027-01-15T08:00:00Z")
    assert body["data"]["batch"] == "catalog"
    assert set(json.loads(message.payloads["slack 1"])) == {"title", "text"}


def test_a_named_channel_hears_of_the_batches_that_name_it_and_of_nothing_else():
    mine = dataclasses.replace(DONE, batch=dataclasses.replace(DONE.batch, notify=("anna",)))
    at = Standing(now=NOW, batches=[mine], accounts=[account(**REVOKED)])
    hearers = [Hearer(channel="anna", hears_all=False), Hearer(channel="ben", hears_all=False), PEOPLE]

    told = {
        message.type: set(message.payloads) for change in changed(at, ()) for message in outgoing(change, at, hearers)
    }

    assert told == {"batch.finished": {"anna", "slack 1"}, "account.paused": {"slack 1"}}


def test_an_address_of_a_run_hears_of_its_batch_alone():
    other = dataclasses.replace(DONE, batch=dataclasses.replace(DONE.batch, name="other"))
    at = Standing(now=NOW, batches=[DONE, other])
    mine = Hearer(channel="--notify json 1 of catalog", hears_all=False, batch="catalog")

    told = [message for change in changed(at, ()) for message in outgoing(change, at, [mine])]

    assert [set(message.payloads) for message in told] == [{mine.channel}]


@pytest.mark.parametrize("state", [BatchState.CANCELLED])
def test_a_cancelled_batch_is_told_when_nothing_of_it_is_on_its_way(state):
    batch = dataclasses.replace(DONE.batch, state=state)
    ended = dataclasses.replace(DONE, batch=batch, jobs={JobState.DONE: 5, JobState.CANCELLED: 3})

    (message,) = said({"batches": [GOING]}, batches=[ended])

    assert (message.type, message.data["cancelled"]) == ("batch.cancelled", 3)
    assert math.isfinite(message.at)


def documented():
    """The fields of each type, as the page lists them; those of one type with several scopes stand together."""
    page, found, last = (ROOT / "docs" / "reference" / "messages.md").read_text(), {}, ""
    for type_, fields in re.findall(r"^\| (?:`([a-z._]+)`)? ?\|.*\| ([` a-z_]*) ?\|$", page, re.MULTILINE):
        last = type_ or last
        found.setdefault(last, set()).update(re.findall(r"`(\w+)`", fields))
    return found


def test_the_page_lists_every_type_with_its_fields():
    limit = DayLimit(account=None, budget=2_000_000, spent=1_990_000, again_at=NOW + 600)
    links = DyingLinks(batch="b", dest="s3://x", images=1, money=1, first_dies_at=NOW + 1)
    used = dataclasses.replace(WAITING, batch=dataclasses.replace(WAITING.batch, budget=1_240_000), budget_allows=False)
    batches = [
        BAD,
        named(used, "used"),
        named(of_a_schedule(WAITING), "month"),
        named(paused_by("failing"), "failing"),
        named(dataclasses.replace(WAITING, day_limits=(limit,)), "day"),
        named(
            dataclasses.replace(DONE, batch=dataclasses.replace(DONE.batch, state=BatchState.CANCELLED)), "cancelled"
        ),
    ]
    firings = [(name, a_firing(state)) for name, state in (("f", FiringState.FAILED), ("s", FiringState.STOPPED))]
    messages = said(batches=batches, budgets=[limit], accounts=[account(**REVOKED)], dying=[links], firings=firings)
    partial = dataclasses.replace(a_firing(FiringState.STOPPED), exit_code=4, detail={"left_out": 1})
    messages += said(missed={"m": MissedTimes(count=2, first=NOW - 86_400, last=NOW)})
    messages += said(batches=[DONE], nights={"catalog": Night(schedule="n", at=NOW, images=1, charged=1)})
    messages += said(firings=[("t", a_shrunken_firing()), ("p", partial)])
    messages.append(message_for_test(NOW, sandbox=False))

    told = {}
    for message in messages:
        told.setdefault(message.type, set()).update(message.data)
    listed = documented()
    assert set(told) == set(listed)
    assert {type_: fields - {"sandbox"} - listed[type_] for type_, fields in told.items()} == {
        type_: set() for type_ in told
    }


def test_a_time_of_a_batch_that_all_share_is_told_with_what_it_made_and_cost():
    night = Night(schedule="night", at=NOW, images=3, charged=330_000)

    (message,) = said({"batches": [GOING]}, batches=[DONE], nights={"catalog": night})

    assert message.text.startswith("3 images made for $0.33 at the time 2027-01-15T08:00:00Z of schedule night. In all")
    told = [message.data[name] for name in ("schedule", "time_images", "time_charged_usd", "charged_usd")]
    assert told == ["night", 3, 0.33, 1.23]


def test_a_time_tells_what_others_made_after_they_had_been_told_and_each_image_once():
    stopped = [told_by_then(a_night(2, 4, sent=2, images=2), 2), told_by_then(a_night(1, 4, sent=4, images=4), 1)]
    night = night_of("night", [a_night(3, 0, sent=3, images=3), *stopped, a_night(0, 0, sent=5, images=5)])

    (message,) = said({"batches": [GOING]}, batches=[DONE], nights={"catalog": night})

    assert "3 images made for $0.06 at the time 2027-01-18T08:00:00Z of schedule night" in message.text
    assert ", and 3 images for $0.06 at 1 time before it, not told until now. In all" in message.text
    assert (message.data["times_before"], message.data["images_before"]) == (1, 3)


def test_a_time_that_is_told_again_tells_of_those_before_it_as_it_did_and_the_next_one_does_not():
    before = told_by_then(a_night(1, 4, sent=4, images=4), 1)
    first = night_of("night", [a_night(2, 0, sent=3, images=3), before])
    again = night_of("night", [a_night(2, 0, sent=4, images=4), before], first.told)
    then = night_of("night", [a_night(3, 0, sent=1, images=1), a_night(2, 0, sent=4, images=4), before], again.told)

    assert [(each.images, each.images_before) for each in (first, again, then)] == [(3, 3), (4, 3), (1, 0)]


def told_by_then(firing, images):
    """One that stopped when it had made so many, and was told."""
    return dataclasses.replace(firing, detail={"made": images, "made_for": 20_000 * images})


def a_night(day, exit_code, **bought):
    firing = a_firing(FiringState.ENDED)
    sums = Bought(charged=20_000 * bought["images"], **bought)
    return dataclasses.replace(firing, id=day, at=NOW + day * 86_400, exit_code=exit_code, bought=sums)


def test_the_end_of_a_batch_is_told_for_the_time_that_bought_it_and_once():
    bought = dataclasses.replace(a_night(1, None, sent=2, images=2), state=FiringState.WORKING)
    nothing = dataclasses.replace(a_night(2, None, sent=0, images=0), state=FiringState.WORKING)

    first = night_of("night", [bought])
    then = night_of("night", [nothing, dataclasses.replace(bought, state=FiringState.ENDED, exit_code=0)])

    assert (first.images, first.goes_on) == (2, True)
    assert (then.at, then.images, then.goes_on) == (bought.at, 2, False)
    told = said(
        {"batches": [DONE], "nights": {"catalog": first}},
        batches=[DONE],
        nights={"catalog": then},
    )
    assert told == []


def test_a_time_that_stopped_is_told_also_where_the_next_one_has_come_by_then():
    stopped = dataclasses.replace(a_firing(FiringState.STOPPED), detail={"made": 2, "made_for": 40_000})
    due = dataclasses.replace(a_firing(FiringState.DUE), at=NOW + 60)

    (message,) = said(firings=[("night", due)], settled={"night": stopped})

    assert message.type == "schedule.stopped"
    assert message.text.startswith("2 images made for $0.04. ")
    assert (message.data["time_images"], message.data["time_charged_usd"]) == (2, 0.04)


def test_a_partial_time_that_went_on_and_bought_more_is_told_again():
    def partial(made):
        detail = {"left_out": 5 - made, "made": made, "made_for": 20_000 * made}
        return {"firings": [("night", dataclasses.replace(a_firing(FiringState.STOPPED), exit_code=4, detail=detail))]}

    (message,) = said(partial(2), **partial(4))

    assert (message.type, message.data["time_images"]) == ("schedule.partial", 4)


def test_times_that_nobody_saw_are_one_message():
    (message,) = said(missed={"night": MissedTimes(count=3, first=NOW - 2 * 86_400, last=NOW)})

    assert message.title == "schedule night: 3 times missed"
    assert "2027-01-13T08:00:00Z to 2027-01-15T08:00:00Z" in message.text
    assert (message.data["times"], message.data["last_at"]) == (3, "2027-01-15T08:00:00Z")


def named(progress, name):
    return dataclasses.replace(progress, batch=dataclasses.replace(progress.batch, name=name))


def a_firing(state):
    return Firing(
        id=1,
        schedule_id=1,
        at=NOW,
        acts_at=NOW,
        by_hand=False,
        state=state,
        batch="b" if state is FiringState.STOPPED else None,
        holder=None,
        tries=1,
        headway=None,
        headway_at=None,
        began_at=NOW,
        ended_at=NOW,
        exit_code=2,
        code="bad_input",
        message="no such file",
    )


def a_shrunken_firing(rows=16):
    plan = {"rows": rows, "rows_before": 60}
    return dataclasses.replace(a_firing(FiringState.ENDED), batch="b", exit_code=0, message=None, detail=plan)


def test_a_manifest_that_has_lost_half_of_its_rows_is_told_once_and_the_next_good_time_ends_that():
    shrunk = {"firings": [("night", a_shrunken_firing())]}

    (message,) = said(**shrunk)

    assert (message.type, message.data["rows"], message.data["rows_before"]) == ("schedule.shrunk", 16, 60)
    assert "The manifest has 16 rows, and had 60 the time before" in message.text
    assert "lightfast schedule run-now night" in message.text
    assert said(shrunk, **shrunk) == []
    assert said(firings=[("night", a_shrunken_firing(rows=31))]) == []


def test_a_schedule_works_again_when_a_later_time_has_ended_and_not_when_it_begins():
    failed = {"firings": [("night", a_firing(FiringState.FAILED))]}
    told = [change.after for change in changed(Standing(now=NOW, **failed), ())]
    later = dataclasses.replace(a_firing(FiringState.ENDED), at=NOW + 86_400, exit_code=0)

    for state in FIRING_OPEN:
        assert changed(Standing(now=NOW, firings=[("night", dataclasses.replace(later, state=state))]), told) == []
    at = Standing(now=NOW, firings=[("night", later)])
    (change,) = changed(at, told)
    assert [event.name for event in events_of(change, at)] == ["schedule_works_again"]


def test_a_schedules_time_that_failed_is_told_to_the_channels_that_it_names():
    at = Standing(now=NOW, firings=[("night", a_firing(FiringState.FAILED))], schedules_notify={"night": ("anna",)})
    (change,) = changed(at, ())

    (message,) = outgoing(change, at, [PROGRAM])

    assert set(message.payloads) == {"anna", "webhook"}
    assert json.loads(message.payloads["anna"])["text"] == "no such file\nlightfast schedule show night"
