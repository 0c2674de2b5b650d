"""`lightfast schedule …`: what is refused with what is right, what is asked, and what the screens say."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sqlite3
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from jobs.errors import LightfastError
from jobs.formatting import money
from jobs.ledger import open_ledger
from jobs.ledger.accounts.monthly_budgets import month_of
from jobs.ledger.accounts.worker_values import EmergencyStop
from jobs.ledger.schedules.values import Attachment, Ended, NewSchedule
from jobs.policy.firing import LEFT_TO_THE_NEXT
from jobs.results.completion import Reason
from jobs.states import FiringState
from providers.types import MICROS
from tests.support.shop_ledger import call, document
from tests.support.stocked_ledger import NOW, account, claim, new_batch, rows, stock
from worker.scheduling.by_hand import Waiting

LEDGER = "sqlite:///lightfast.db"
ADD = ("schedule", "add", "nightly", "0 3 * * *", "cat.csv", "--to", "out")


@pytest.fixture(autouse=True)
def catalogue(monkeypatch):
    monkeypatch.setenv("MAXAPI_IO_API_KEY", "key-of-a-test")
    write(6)


def write(count, head="key,prompt"):
    rows = "".join(f"k{number},A lamp {number}\n" for number in range(count))
    Path("cat.csv").write_text(f"{head}\n{rows}")


@contextlib.contextmanager
def ledger():
    with contextlib.closing(open_ledger(LEDGER)) as opened:
        yield opened


def refused(*words, code=2):
    """What a command says that changes nothing."""
    with pytest.raises(LightfastError) as told:
        call(*words)
    assert told.value.exit_code == code
    return str(told.value)


def add(*words):
    return call(*ADD, "--budget", "5", "--yes", *words)


# -- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "say how much with --budget USD (one time) or --monthly-budget USD"),
        (("--budget", "much"), '--budget: "much": expected an amount in USD'),
        (("--budget", "1", "--timezone", "Berlin"), "did you mean Europe/Berlin?"),
        (("--budget", "1", "--into", "old"), '--into: "old": expected same or new'),
        (("--budget", "1", "--into", "new"), "--into new would pay for every row each time: add --reuse"),
        (("--budget", "1", "--overlap", "both"), "expected skip or queue"),
        (("--budget", "1", "--catch-up", "all"), "expected none or last"),
        (("--budget", "1", "--jitter", "soon"), "expected a time such as 90s"),
        (("--budget", "1", "--keep", "90d"), "--keep is for --into new"),
        (("--budget", "1", "--into", "new", "--reuse", "--keep", "90"), "--keep 90: at least 1d"),
        (("--budget", "1", "--batch", "other"), "--batch is not for a schedule: its batches are called as it is"),
        (("--budget", "1", "--limit", "3"), "--limit is not for a schedule: rows beyond it would be taken for gone"),
        (("--budget", "1", "--append"), "--append is not for a schedule"),
        (("--budget", "1", "--changed", "error"), "--changed: expected keep or redo"),
        (("--budget", "0.01"), "6 images would cost"),
        (("--budget", "1", "--provider", "apimaster"), "--provider apimaster: it has no account"),
        (("--budget", "1", "--map", "key="), "has no key column, and --into same needs one"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_on_record(words, expected):
    said = refused(*ADD, *words, "--yes")

    assert expected in said
    assert not Path("lightfast.db").exists()


def test_all_that_is_wrong_is_told_at_once():
    said = refused("schedule", "add", "nightly", "61 * * * *", "-", "--timezone", "Mars", "--jitter", "x")

    for expected in (
        "its minute may be 0 to 59",
        '--timezone: "Mars"',
        '--jitter: "x"',
        "standard input",
        "--budget USD",
    ):
        assert expected in said


@pytest.mark.parametrize("name", ["a/b", "", "x" * 81, "naïve"])
def test_a_name_that_cannot_be_a_batchs_is_refused(name):
    assert "expected letters, digits" in refused("schedule", "add", name, *ADD[3:], "--budget", "1")


def test_without_consent_nothing_is_on_record():
    said = refused(*ADD, "--budget", "5")

    assert "add --yes" in said
    assert not Path("lightfast.db").exists()
    assert not Path("out").exists()


def test_there_is_one_of_that_name():
    add()
    assert "There is a schedule nightly already:  lightfast schedule show nightly" in refused(
        *ADD, "--budget", "5", "--yes", code=2
    )


def test_a_command_that_is_named_leads_to_the_stand_ins_ledger_where_this_one_did(monkeypatch):
    words = (*ADD, "--budget", "5", "--yes", "--sandbox")
    monkeypatch.setattr(sys, "argv", ["lightfast", *words])
    add("--sandbox")

    assert "lightfast schedule show nightly --sandbox" in refused(*words, code=2)


@pytest.mark.parametrize("verb", ["show", "run-now", "pause", "resume", "remove", "edit"])
def test_a_name_that_is_not_there_is_told_with_the_near_one(verb):
    add()
    assert "There is no schedule 'nighly' in this ledger. Did you mean" in refused("schedule", verb, "nighly")


# -- what is on record ---------------------------------------------------------------------------------------------


def test_what_the_first_time_would_cost_is_shown_and_nothing_is_made():
    said = add().stderr

    assert "6 images" in said
    assert "it may spend at most $5.00 at each time" in said
    assert "Nobody works by the clock here now:  lightfast schedule serve" in said
    with ledger() as opened:
        (schedule,) = opened.schedules.all()
        assert opened.batches.all() == []
    assert (schedule.budget, schedule.options["manifest"]) == (5_000_000, str(Path("cat.csv").absolute()))
    assert (schedule.options["to"], schedule.options["changed"]) == (str(Path("out").absolute()), "redo")


def test_list_and_show_tell_programs_all_there_is():
    add("--timezone", "Europe/Berlin", "--monthly-budget", "50", "--partial", "--jitter", "5m")

    (listed,) = document("schedule", "list")["schedules"]
    shown = document("schedule", "show", "nightly")

    assert {name: listed[name] for name in ("name", "cron", "timezone", "paused", "last", "jitter_seconds")} == {
        "name": "nightly",
        "cron": "0 3 * * *",
        "timezone": "Europe/Berlin",
        "paused": False,
        "last": None,
        "jitter_seconds": 300.0,
    }
    assert listed["options"] == {"to": str(Path("out").absolute()), "partial": True, "changed": "redo"}
    assert (listed["budget_usd"], listed["monthly_budget_usd"]) == (5.0, 50.0)
    assert shown["times"][0] == shown["next_at"] == listed["next_at"]
    assert len(shown["times"]) == 5
    assert shown["next_would"]["new"] == 6
    assert shown["history"] == []


def test_the_secrets_of_a_manifests_address_are_not_shown():
    add()
    with ledger() as opened:
        (before,) = opened.schedules.all()
        options = {**before.options, "manifest": "https://me:pass-word@127.0.0.1:1/cat.csv?sig=signature"}
        changed = NewSchedule(name="nightly", cron="0 3 * * *", timezone="UTC", options=options, budget=1)
        assert opened.schedules.edit(changed, time.time())

    for words in (("list",), ("show", "nightly"), ("list", "--json"), ("show", "nightly", "--json")):
        told = call("schedule", *words)
        assert "pass-word" not in told.stdout + told.stderr
        assert "signature" not in told.stdout + told.stderr
    assert document("schedule", "show", "nightly")["manifest"] == "https://127.0.0.1/cat.csv"


def test_show_says_why_the_next_time_would_fail():
    add()
    Path("cat.csv").unlink()

    assert "it would fail: " in call("schedule", "show", "nightly").stdout
    assert "cat.csv" in document("schedule", "show", "nightly")["next_would"]["problem"]


def test_a_budget_of_the_estimate_that_show_tells_is_enough(monkeypatch):
    monkeypatch.delenv("MAXAPI_IO_API_KEY")
    monkeypatch.setenv("MAXAPI_DEV_API_KEY", "key-of-a-test")  # billed by tokens: the last image holds more at first
    add()
    estimate = document("schedule", "show", "nightly")["next_would"]["estimate_usd"]

    call("schedule", "edit", "nightly", "--budget", f"{estimate:.6f}")

    would = document("schedule", "show", "nightly")["next_would"]
    assert (would.get("problem"), would["estimate_usd"]) == (None, estimate)
    call("schedule", "edit", "nightly", "--budget", f"{estimate - 0.000001:.6f}")
    said = call("schedule", "show", "nightly").stdout
    assert f"6 images would cost {money(round(estimate * MICROS))}" in said
    held = f"{money(round(would['margin_usd'] * MICROS))} of it only set aside while the last image is made"
    assert would["margin_usd"] > 0
    assert held in said
    call("schedule", "edit", "nightly", "--budget", "5", "--yes")
    assert held in call("schedule", "show", "nightly").stdout


def test_a_failed_time_stands_below_the_list_with_its_reason():
    add()
    with ledger() as opened:
        fail(opened, "cat.csv: 3 rows are bad")

    told = call("schedule", "list").stdout
    assert "failed" in told
    assert "cat.csv: 3 rows are bad" in told
    (listed,) = document("schedule", "list")["schedules"]
    assert (listed["last"]["state"], listed["last"]["exit_code"]) == ("failed", 2)


def fail(opened, message):
    now = time.time()
    assert opened.schedules.fire_by_hand("nightly", now) is None
    _, firing = opened.schedules.take("me", now)
    ended = Ended(state=FiringState.FAILED, exit_code=2, code="bad_input", message=message)
    assert opened.schedules.fail(firing.id, "me", ended, now)


def test_a_time_whose_manifest_has_lost_most_of_its_rows_stands_below_the_list():
    add()
    with ledger() as opened:
        opened.schedules.fire_by_hand("nightly", time.time())
        _, firing = opened.schedules.take("me", time.time())
        plan = {"rows": 16, "rows_before": 60, "gone": 44, "images": 0, "estimate": 0}
        ended = Ended(state=FiringState.ENDED, exit_code=0, detail=plan)
        opened.schedules.end(firing.id, ended, time.time())

    told = "its manifest has 16 rows, and had 60 the time before"
    assert told in call("schedule", "list").stdout
    assert f"done (44 gone, 0 images, estimated $0.00): {told}" in call("schedule", "show", "nightly").stdout
    assert document("schedule", "list")["schedules"][0]["last"]["plan"]["rows_before"] == 60


def test_rows_that_failed_stand_below_the_list_with_the_command_that_shows_them():
    add()
    with ledger() as opened:
        opened.schedules.fire_by_hand("nightly", time.time())
        _, firing = opened.schedules.take("me", time.time())
        message = "nothing is new: the manifest is as it was, and 1 row of it needs you"
        ended = Ended(state=FiringState.ENDED, exit_code=3, code="rows_need_you", message=message)
        opened.schedules.end(firing.id, ended, time.time())

    assert "rows failed, are held or lost:  lightfast status nightly" in call("schedule", "list").stdout
    assert f"done, rows need you: {message}" in call("schedule", "show", "nightly").stdout


def test_a_bad_line_of_a_manifest_is_named_with_the_time_that_met_it():
    add()
    with ledger() as opened:
        fail(opened, "cat.csv: 1 row is bad, of 6. Nothing was spent.\n  line 4, key k2, column ratio: 7:5\n  Fix it.")

    for words in (("list",), ("show", "nightly")):
        assert "line 4, key k2, column ratio: 7:5" in call("schedule", *words).stdout


def test_beside_a_run_nothing_is_fired_by_hand_and_nothing_is_left_to_be_fired_later():
    add()
    with ledger() as opened:
        with opened.hold(time.time()):
            assert "is worked on by process" in refused("schedule", "run-now", "nightly", code=1)
        assert opened.schedules.history(opened.schedules.find("nightly").id) == []


def test_a_paused_one_has_no_next_time_until_it_is_resumed():
    add()
    assert "it is paused" in call("schedule", "pause", "nightly").stderr
    assert "paused" in call("schedule", "list").stdout
    assert document("schedule", "show", "nightly")["next_at"] is None

    call("schedule", "resume", "nightly")
    assert document("schedule", "show", "nightly")["next_at"] is not None


def test_a_removed_one_leaves_its_batches():
    add()
    assert "add --yes" in refused("schedule", "remove", "nightly")
    call("schedule", "remove", "nightly", "--yes")
    assert call("schedule", "list").stdout == "No schedule yet.\n"


def test_one_that_is_removed_says_that_its_month_is_no_longer_counted():
    add("--monthly-budget", "0.5")
    with contextlib.closing(sqlite3.connect("lightfast.db")) as file:
        file.execute("INSERT INTO schedule_months SELECT id, ?, 75000 FROM schedules", [month_of(time.time())])
        file.commit()

    said = call("schedule", "remove", "nightly", "--yes").stderr

    assert "$0.0750 of this month are no longer counted" in said


def test_images_that_are_on_record_or_being_made_are_told_apart_from_what_the_next_time_would_add(monkeypatch):
    monkeypatch.delenv("MAXAPI_IO_API_KEY")
    main = '[accounts.main]\nprovider = "maxapi.io"\napi_key = "key-of-a-test"\n'
    Path("lightfast.toml").write_text(main)
    Path("cat.csv").write_text("key,prompt\n" + "".join(f"k{number},a lamp {number}\n" for number in range(4)))
    add()
    with ledger() as opened:
        stock(opened, rows(3), name="nightly", dest=str(Path("out").absolute()))
        assert claim(opened, NOW, at_most=1) == 1

    said = call("schedule", "show", "nightly").stdout

    assert "it would make 3 images for $" in said
    assert "(1 new); 2 of them wait in its batch already; 1 is being made now" in said
    would = document("schedule", "show", "nightly")["next_would"]
    assert (would["images"], would["waiting"], would["new"], would["margin_usd"]) == (3, 2, 1, 0.0)


@pytest.mark.parametrize(("budget", "told"), [("0.05", "about 2 of these"), ("0.01", "none of these")])
def test_show_tells_how_much_of_it_a_partial_time_could_buy(budget, told):
    add("--partial")
    call("schedule", "edit", "nightly", "--budget", budget)

    said = call("schedule", "show", "nightly").stdout

    assert f"it would make {told}, as it may spend ${budget} (--budget): 6 images for $0.12 (6 new)" in said


@pytest.fixture
def used_month():
    """A batch of the schedule with two rows to make, where $0.01 of its month is left, and of its own budget too."""
    add("--monthly-budget", "0.5")
    now = time.time()
    with ledger() as opened:
        assert opened.schedules.fire_by_hand("nightly", now) is None
        _, firing = opened.schedules.take("me", now)
        attachment = Attachment(firing_id=firing.id, holder="me", detail={"rows": 2}, seen=None)
        opened.accounts.sync([account()])
        Path("out").mkdir()
        batch = new_batch("nightly", dest=str(Path("out").absolute()), budget=10_000)
        opened.batches.record_manifest(batch, rows(2), attachment=attachment, now=now - 5)
    with contextlib.closing(sqlite3.connect("lightfast.db")) as file:
        file.execute("INSERT INTO schedule_months SELECT id, ?, 490000 FROM schedules", [month_of(now)])
        file.commit()


@pytest.mark.usefixtures("used_month")
def test_a_used_month_is_named_wherever_its_rows_wait_with_the_command_that_raises_it():
    month = "$0.49 of the monthly budget of $0.50 of schedule nightly is spent or reserved"
    raises = "lightfast schedule edit nightly --monthly-budget 0.53"

    for words in (("status",), ("status", "nightly")):
        assert month in call(*words).stdout
    assert raises in call("status", "nightly").stdout
    told = document("status", "nightly")["schedule"]
    assert (told["name"], told["monthly_budget_usd"], told["spent_this_month_usd"]) == ("nightly", 0.5, 0.49)
    assert told["month_allows_next_row"] is False

    with ledger() as opened, opened.hold(time.time()):
        said = call("resume", "nightly", "--budget", "5", "--yes").stderr
    assert month in said
    assert f"It leaves $0.01 of the $0.04 that may come; the other rows wait until it is raised:  {raises}" in said


@pytest.mark.usefixtures("used_month")
def test_a_resume_that_its_month_stops_names_what_frees_it_and_no_other_command():
    said = call("resume", "nightly", "--budget", "5", "--yes", code=4)

    told = said.stdout + said.stderr
    assert "lightfast schedule edit nightly --monthly-budget 0.53" in told
    assert "retry nightly" not in told


@pytest.mark.usefixtures("used_month")
def test_of_a_schedules_batch_the_month_is_shown_and_its_schedule_goes_on_with_it():
    told = " ".join(call("status", "nightly").stdout.split())

    assert "money $0.00 spent (" in told
    assert "month $0.49 of $0.50 of schedule nightly, UTC" in told
    assert (
        "nobody works on it now: `lightfast schedule run-now nightly`, or `lightfast schedule serve`, goes on" in told
    )
    assert "lightfast run" not in told


@pytest.mark.usefixtures("used_month")
@pytest.mark.parametrize("verb", ["resume", "retry"])
def test_a_nights_rest_that_partial_gave_up_is_made_by_the_next_time_and_no_run_is_named(verb):
    with ledger() as opened:
        opened.batches.cancel("nightly", LEFT_TO_THE_NEXT)

    said = refused(verb, "nightly", "--yes")
    assert said.startswith("batch nightly takes no more: its time's budget is used, and the next time makes the rest")
    assert said.endswith("To let it come now:  lightfast schedule run-now nightly")
    assert "the next time makes the rest (--partial). To let it come now:" in call("status", "nightly").stdout


def test_a_resume_of_what_is_finished_says_that_there_is_nothing_to_go_on_with():
    add()
    with ledger() as opened:
        stock(opened, rows(1), name="shop", dest=str(Path("out").absolute()))
        opened.batches.cancel("shop")
    with contextlib.closing(sqlite3.connect("lightfast.db")) as file:
        file.execute("UPDATE batches SET state = 'active', reason = NULL")
        file.execute("UPDATE jobs SET state = 'done'")
        file.commit()

    assert "shop is finished: there is nothing to go on with." in call("resume", "shop").stderr


def test_an_add_above_its_month_names_what_allows_it_and_no_month_that_it_has_not_had():
    said = refused(*ADD, "--monthly-budget", "0.05", "--yes")

    assert "and this time may spend $0.05 (--monthly-budget). Nothing was spent." in said
    assert "With --partial it makes about 2 of them, and later times the rest." in said
    assert said.endswith("All of it needs  --monthly-budget 0.12")


def test_an_edit_of_the_budget_shows_the_one_that_was_given():
    add("--monthly-budget", "9")
    with ledger() as opened:
        stock(opened, rows(1), name="nightly", dest=str(Path("out").absolute()))
    with contextlib.closing(sqlite3.connect("lightfast.db")) as file:
        file.execute("UPDATE batches SET charged = 5213")
        file.commit()

    said = call("schedule", "edit", "nightly", "--budget", "6", "--yes").stderr

    assert " of budget $6.00" in said
    assert "6.005213" not in said


def test_the_lines_of_a_failed_time_stand_under_one_another():
    add()
    with ledger() as opened:
        fail(opened, "11 rows are bad\n  line 2, key z10\n  Fix them.")

    lines = call("schedule", "show", "nightly").stdout.splitlines()
    (at,) = [place for place, line in enumerate(lines) if line.startswith("history")]
    assert lines[at + 1 : at + 3] == [f"{'':14}line 2, key z10", f"{'':14}Fix them."]


@pytest.mark.usefixtures("used_month")
def test_a_plain_resume_speaks_of_the_month_that_holds_its_rows_up():
    said = call("resume", "nightly").stderr

    assert "nightly is not paused, but its rows wait: $0.49 of the monthly budget of $0.50 of schedule nightly" in said
    assert "lightfast schedule edit nightly --monthly-budget 0.53" in said
    assert "goes on by" not in said


@pytest.mark.usefixtures("used_month")
def test_the_list_proposes_the_month_that_does_now_and_none_where_it_is_not_needed_any_more():
    old = "the month is used. To raise it:  lightfast schedule edit nightly --monthly-budget 0.77"
    with ledger() as opened:
        ((_, firing),) = opened.schedules.going_on()
        stopped = Ended(state=FiringState.STOPPED, exit_code=4, code="month_budget_used", message=old)
        opened.schedules.end(firing.id, stopped, time.time())

    for words in (("list",), ("show", "nightly")):
        said = call("schedule", *words).stdout
        assert "schedule edit nightly --monthly-budget 0.53" in said
        assert "0.77" not in said

    with ledger() as opened:
        opened.batches.cancel("nightly")
    assert "--monthly-budget" not in call("schedule", "list").stdout
    assert "its batch has finished since" in call("schedule", "list").stdout


def test_a_time_that_was_too_dear_for_its_month_proposes_none_that_has_grown_old():
    add("--monthly-budget", "0.5")
    problem = "6 images would cost $0.60. Nothing was spent."
    edit = "lightfast schedule edit nightly --monthly-budget 0.60"
    with ledger() as opened:
        opened.schedules.fire_by_hand("nightly", time.time())
        _, firing = opened.schedules.take("me", time.time())
        message = f"{problem} To allow it, if the manifest is as you want it:  {edit}"
        plan = {"estimate": 600_000, "images": 6}
        ended = Ended(state=FiringState.FAILED, exit_code=2, code="month_budget_used", message=message, detail=plan)
        opened.schedules.end(firing.id, ended, time.time())
        opened.schedules.edit(dataclasses.replace(opened.schedules.find("nightly"), budget=None), time.time())
    assert edit in call("schedule", "list").stdout

    with contextlib.closing(sqlite3.connect("lightfast.db")) as file:
        file.execute("INSERT INTO schedule_months SELECT id, ?, 75000 FROM schedules", [month_of(time.time())])
        file.commit()

    said = call("schedule", "list").stdout
    assert edit not in said
    assert f"{problem} What it would cost now:  lightfast schedule show nightly" in said


# -- editing -------------------------------------------------------------------------------------------------------


def test_an_edit_keeps_what_is_not_said_and_takes_back_what_is_unset():
    add("--map", "key=key", "--partial", "--ratio", "1:1", "--monthly-budget", "50")

    call("schedule", "edit", "nightly", "--overlap", "queue", "--unset", "ratio", "--unset", "--partial", "--yes")

    after = document("schedule", "show", "nightly")
    assert after["overlap"] == "queue"
    assert after["options"] == {"to": str(Path("out").absolute()), "changed": "redo", "map": ["key=key"]}
    assert (after["budget_usd"], after["monthly_budget_usd"]) == (5.0, 50.0)


def test_an_edit_keeps_how_long_batches_are_kept():
    add("--into", "new", "--reuse", "--keep", "90d", "--jitter", "12d")

    call("schedule", "edit", "nightly", "--overlap", "queue")

    after = document("schedule", "show", "nightly")
    assert (after["keep_seconds"], after["jitter_seconds"]) == (90 * 86_400.0, 12 * 86_400.0)
    said = call("schedule", "show", "nightly").stdout
    assert "90 d 0 h after its end each batch goes into an archive" in said
    assert "each time is acted on up to 12 d 0 h later" in said


@pytest.mark.parametrize(
    ("words", "asks"),
    [
        (("--budget", "4"), False),
        (("--catch-up", "none", "--jitter", "1m"), False),
        (("--budget", "6"), True),
        (("--monthly-budget", "50"), False),
        (("--cron", "@hourly"), True),
        (("--ratio", "16:9"), True),
    ],
)
def test_an_edit_asks_where_it_may_cost_more_or_buys_other_things(words, asks):
    add()

    if asks:
        assert "add --yes" in refused("schedule", "edit", "nightly", *words)
    else:
        call("schedule", "edit", "nightly", *words)


def spend_of_the_month(usd):
    with contextlib.closing(sqlite3.connect("lightfast.db")) as file:
        of_all = "INSERT INTO schedule_months SELECT id, ?, ? FROM schedules"
        file.execute(of_all, [month_of(time.time()), round(usd * MICROS)])
        file.commit()


@pytest.mark.parametrize(
    ("words", "left", "told"),
    [
        (
            ("--partial",),
            0.05,
            "it would make about 2 of these, as it may spend $0.05, which is left of this month's $1.00",
        ),
        (
            ("--partial",),
            0.0,
            "it would make none of these, as it may spend $0.00, which is left of this month's $1.00",
        ),
        ((), 0.05, "it would fail: 6 images would cost $0.12"),
    ],
)
def test_an_edit_shows_what_is_left_of_the_month_as_show_does(words, left, told):
    add("--monthly-budget", "1", *words)
    spend_of_the_month(1 - left)

    said = call("schedule", "edit", "nightly", "--ratio", "1:1", "--yes").stderr

    assert told in said
    assert told in call("schedule", "show", "nightly").stdout
    assert document("schedule", "show", "nightly")["options"]["ratio"] == "1:1"


def test_an_add_shows_how_many_images_its_budget_allows():
    assert (
        "it would make about 2 of these, as it may spend $0.05 (--budget)"
        in add("--partial", "--budget", "0.05").stderr
    )


def test_beside_one_that_works_for_one_schedule_alone_submit_is_refused_and_the_list_says_who_is_missing():
    add()
    with ledger() as opened, opened.hold(time.time()):
        assert "nobody works on" in refused("submit", "cat.csv", "--to", "out", "--yes")
        assert "Nobody works by the clock here now" in call("schedule", "list").stderr


def test_an_edit_of_the_times_alone_does_not_read_the_manifest():
    add()
    Path("cat.csv").unlink()

    assert "add --yes" in refused("schedule", "edit", "nightly", "--cron", "0 4 * * *")
    call("schedule", "edit", "nightly", "--cron", "0 4 * * *", "--timezone", "Europe/Berlin", "--yes")

    after = document("schedule", "show", "nightly")
    assert (after["cron"], after["timezone"]) == ("0 4 * * *", "Europe/Berlin")
    assert "cat.csv" in refused("schedule", "edit", "nightly", "--budget", "6", "--yes")


def test_an_option_that_is_not_there_cannot_be_taken_back_nor_the_last_budget():
    add()

    assert "--unset nothing: there is no such option" in refused("schedule", "edit", "nightly", "--unset", "nothing")
    assert "say how much with --budget USD" in refused("schedule", "edit", "nightly", "--unset", "budget")


# -- beside the others ---------------------------------------------------------------------------------------------


def test_submit_on_one_machine_is_refused_where_nobody_would_hear_it():
    said = refused("submit", "cat.csv", "--to", "out", "--yes")
    assert "Start  lightfast schedule serve " in said

    add()
    with ledger() as opened, opened.hold(time.time()):
        assert "nobody works on" in refused("submit", "cat.csv", "--to", "out", "--yes")
    with ledger() as opened, opened.hold(time.time(), serves=True):
        assert "cat is on record: 6 images to make" in call("submit", "cat.csv", "--to", "out", "--yes").stderr


def test_pause_all_says_that_schedules_are_skipped():
    add()
    said = call("pause", "--all").stderr

    assert "Schedules are skipped meanwhile" in said
    assert "Schedules are skipped meanwhile" in call("schedule", "list").stdout
    assert "lightfast resume --all" in refused("schedule", "run-now", "nightly", code=4)


# -- run-now, where nobody serves ----------------------------------------------------------------------------------


def worked(monkeypatch, act=lambda _ledger: None, code=0, **told):
    """`run-now` whose work is done by `act` on its ledger, and which has then seen what is told."""

    async def fire(settings, schedule):
        with ledger() as opened:
            act(opened)
        known = {"at": None, "times": set(), "batches": {}, "is_removed": False, "stop": None, "waiting": ()}
        return code, SimpleNamespace(**known | told)

    monkeypatch.setattr("cli.commands.schedule._fire", fire)


def test_a_schedule_that_is_removed_while_it_is_fired_is_told_with_what_is_left_of_its_batch(monkeypatch):
    add()

    def remove(opened):
        stock(opened, rows(3), name="nightly")
        opened.schedules.remove("nightly")

    worked(monkeypatch, remove, is_removed=True, batches={"nightly": None})
    ended = call("schedule", "run-now", "nightly", "--json", code=4)

    told = json.loads(ended.stdout)
    assert (told["at"], told["state"], told["exit_code"]) == (None, None, 4)
    assert "nightly was removed meanwhile: what was being made is stored." in told["message"]
    assert "3 rows of nightly are not made. To go on with them:  lightfast retry nightly" in ended.stderr


def test_a_night_that_keeps_another_from_being_fired_is_named_with_what_helps(monkeypatch):
    add()
    night = Waiting(batch="nightly-1", reason=Reason.BATCH_PAUSED, why="paused on your word")
    worked(monkeypatch, waiting=[night])

    ended = call("schedule", "run-now", "nightly", code=4)

    assert "nightly was not fired. Its batch nightly-1 waits, and would be bought twice: paused on y" in ended.stderr
    assert "To go on with nightly-1:  lightfast resume nightly-1" in ended.stderr
    assert "To give up its other rows:  lightfast cancel nightly-1" in ended.stderr


def test_what_was_not_fired_when_it_was_interrupted_goes_on_with_the_same_command(monkeypatch):
    add()
    worked(monkeypatch, code=130)

    ended = call("schedule", "run-now", "nightly", "--json", code=130)

    assert "nightly was not fired: the same command goes on." in ended.stderr
    assert json.loads(ended.stdout)["exit_code"] == 130


def test_a_stop_of_all_submits_that_keeps_a_time_from_beginning_is_named(monkeypatch):
    add()
    worked(monkeypatch, stop=EmergencyStop(since=NOW, by="mia"))

    ended = call("schedule", "run-now", "nightly", code=4)

    assert "all submits are stopped since" in ended.stderr
    assert "lightfast resume --all" in ended.stderr


def test_who_is_refused_beside_run_now_is_told_which_command_holds_the_ledger(monkeypatch):
    add()
    monkeypatch.setattr(sys, "argv", ["/usr/bin/lightfast", "schedule", "run-now", "nightly", "--json"])
    with ledger() as opened, opened.hold(time.time()):
        monkeypatch.setattr(sys, "argv", ["lightfast", "schedule", "serve"])
        assert "(lightfast schedule run-now)" in refused("schedule", "serve", code=1)
