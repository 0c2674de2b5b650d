"""What is said about how far a batch is: no pace of another run, no time left for what will not come."""

from __future__ import annotations

import dataclasses
import math
import sys

import pytest

from cli.flow.execute import RunOutcome, summary
from cli.flow.plan_screen import _fitting
from cli.output.progress import PlainScreen
from jobs.results.completion import RunState
from jobs.results.progress import seconds_left
from jobs.states import BatchState, JobState
from tests.unit.cli.test_watch import account
from tests.unit.results.test_contact_sheet import progress
from worker.local.run import Reason, RunEnding


def test_the_pace_and_the_time_left_are_this_runs_own(capsys):
    clock = [1000.0]
    screen = PlainScreen(now=lambda: clock[0])
    of_before, of_now = (990.0, 992.0, 994.0, 996.0), (1010.0, 1020.0, 1030.0)
    counts = {"images_total": 20, "images_stored": 4, "images_ready": 5, "images_in_flight": 1}

    screen.show(progress(stored_at=of_before, **counts), ())
    clock[0] = 1030.0
    screen.show(progress(stored_at=of_before + of_now, **counts), ())

    first, later = capsys.readouterr().err.splitlines()
    assert ("a minute" in first, "left" in first) == (False, False)
    assert "9 images a minute" in later
    assert "about 40 s left" in later


def test_no_time_is_promised_where_nothing_is_on_its_way_or_a_person_paused_it():
    stored = {"stored_at": (1010.0, 1020.0, 1030.0), "images_ready": 6}
    one = progress(**stored, images_in_flight=1)
    paused = dataclasses.replace(one, batch=dataclasses.replace(one.batch, state=BatchState.PAUSED))

    assert seconds_left(progress(**stored), [], 1030.0) is None
    assert seconds_left(one, [], 1030.0) == pytest.approx(7 * 20 / 3)
    assert seconds_left(paused, [], 1030.0) == pytest.approx(20 / 3)


@pytest.mark.parametrize("rests", [{}, {"paused_until": 1400.0}, {"paused_until": math.inf}])
@pytest.mark.parametrize("next_at", [None, 1500.0])
def test_the_time_left_never_counts_up_while_nothing_is_stored(rests, next_at):
    """An account rests, or only rows that wait for their turn are left beside a slow image."""
    one = progress(stored_at=(1010.0, 1020.0, 1030.0), images_ready=6, images_in_flight=1, next_at=next_at)

    told = [seconds_left(one, [account(**rests)], 1030.0 + later) for later in range(0, 300, 5)]

    assert told == sorted(told, reverse=True)
    assert seconds_left(one, [account(**rests)], 1331.0) is None, "after five minutes there is no pace to speak of"


def test_a_last_image_that_takes_far_longer_than_the_others_is_promised_for_no_moment():
    """A task that is called done without its image is asked about for minutes, after a quick rush of the others."""
    one = progress(stored_at=(1029.8, 1029.9, 1030.0), images_in_flight=1)

    told = [seconds_left(one, [], now) for now in (1030.0, 1039.0, 1041.0, 1320.0)]

    assert [left is not None for left in told] == [True, True, False, False]


def test_each_line_says_that_an_account_is_paused(capsys):
    clock = [1000.0]
    screen = PlainScreen(now=lambda: clock[0])
    paused = account(paused_until=math.inf, paused_message="insufficient balance")

    for stored in (4, 5):
        screen.show(progress(images_total=20, images_stored=stored, images_ready=5), (paused,))
        clock[0] += 20.0

    _, first, later = capsys.readouterr().err.splitlines()
    assert "account main paused" in first
    assert "account main paused" in later


def test_a_rest_comes_on_top_of_the_time_left_unless_another_account_takes_the_rows():
    one = progress(stored_at=(1010.0, 1020.0, 1030.0), images_ready=6, images_in_flight=1)
    rests, until_a_person = account(paused_until=1330.0), account(paused_until=math.inf)

    assert seconds_left(one, [rests], 1030.0) == pytest.approx(300 + 7 * 20 / 3)
    assert seconds_left(one, [rests, account()], 1030.0) == pytest.approx(7 * 20 / 3)
    assert seconds_left(one, [until_a_person], 1030.0) == pytest.approx(20 / 3), (
        "rows that wait for a person are not counted"
    )


def test_a_clock_that_is_set_back_silences_nobody(capsys):
    clock = [10_000.0]
    screen = PlainScreen(now=lambda: clock[0])

    screen.show(progress(images_total=20, images_stored=4), ())
    clock[0] -= 7_200.0
    screen.show(progress(images_total=20, images_stored=5), ())

    assert len(capsys.readouterr().err.splitlines()) == 2


def test_a_line_a_minute_shows_that_the_program_lives_where_nothing_changes(capsys):
    clock = [10_000.0]
    screen = PlainScreen(now=lambda: clock[0])

    for _ in range(12):
        screen.show(progress(images_total=20, images_stored=4), ())
        clock[0] += 10.0

    first, second = capsys.readouterr().err.splitlines()
    assert "still at work" not in first
    assert "still at work" in second


def test_a_used_budget_names_the_one_that_would_do(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["lightfast", "run", "catalog.csv", "--sandbox"])
    counts = {"jobs": {JobState.READY: 3}, "remaining_money": 60_000, "sandbox": True}
    ending = RunEnding(reason=Reason.BUDGET_USED, standing=standing(**counts))

    *_, (first, _), (last, _) = summary(RunOutcome(ending=ending, message="", code=4, seconds=3.0))

    assert first.split("  ", 1)[1].strip() == "lightfast resume catalog --budget 1.29 --sandbox"
    assert last.strip() == "this goes on; 3 rows wait, at most $0.06", "what raises the budget works the batch, too"


@pytest.mark.parametrize("budget", [["--budget", "1.20"], ["--budget=1.20"]])
def test_a_command_that_sets_the_budget_is_named_with_the_one_that_would_do(monkeypatch, budget):
    """Repeated as it was, it would set the used one again, whatever `resume` has raised it to."""
    monkeypatch.setattr(sys, "argv", ["lightfast", "run", "catalog.csv", *budget, "--partial", "--sandbox"])

    told = lines_of(reason=Reason.BUDGET_USED, jobs={JobState.READY: 3}, remaining_money=60_000, sandbox=True)

    assert "next        lightfast run catalog.csv --partial --sandbox --budget 1.29" in told
    assert "            this goes on; 3 rows wait, at most $0.06" in told
    assert not [line for line in told if "resume" in line or "same command" in line]


@pytest.mark.parametrize("reason", [Reason.BATCH_PAUSED, Reason.INTERRUPTED])
def test_a_run_whose_batch_is_paused_names_what_ends_that(reason):
    counted = progress(jobs={JobState.READY: 3}, remaining_money=60_000)
    counted = dataclasses.replace(counted, batch=dataclasses.replace(counted.batch, state=BatchState.PAUSED))
    ending = RunEnding(reason=reason, standing=RunState(progress=counted, accounts=(), now=0.0))

    told = [line for line, _ in summary(RunOutcome(ending=ending, message="", code=4, seconds=3.0))]

    assert told[-2:] == [
        "next        lightfast resume catalog",
        "            then the same command goes on; 3 rows wait, at most $0.06",
    ]


def standing(**changes):
    return RunState(progress=progress(**changes), accounts=(), now=0.0)


def lines_of(**changes):
    ending = RunEnding(reason=changes.pop("reason"), standing=standing(**changes))
    return [line for line, _ in summary(RunOutcome(ending=ending, message="", code=3, seconds=3.0))]


def test_reasons_add_up_to_the_rows_they_stand_beside_and_what_helps_can_be_pasted():
    jobs, errors = {JobState.FAILED: 5}, {"moderation": 3, "wrong_pixels": 2}
    alone = lines_of(reason=Reason.ROWS_NEED_YOU, jobs=jobs, errors=errors)
    mixed = lines_of(reason=Reason.ROWS_NEED_YOU, jobs={**jobs, JobState.LOST: 1}, errors={**errors, "link_dead": 1})

    assert "  failed          5 rows   3 moderation, 2 wrong_pixels" in alone
    assert "  failed          5 rows" in mixed
    assert "  reasons         6 rows   3 moderation, 2 wrong_pixels, 1 link_dead" in mixed
    assert any(line.endswith("with other pixels:  lightfast redo catalog --error wrong_pixels") for line in alone)
    assert any(line.endswith("another try of 1 row:  lightfast retry catalog") for line in mixed)


def test_a_run_that_is_stopped_tells_what_is_reserved():
    (money,) = [line for line in lines_of(reason=Reason.INTERRUPTED, in_flight_money=480_000) if "money" in line]

    assert "$0.48 reserved in flight" in money


def test_rows_left_out_on_the_users_word_are_not_called_done():
    rows = {JobState.DONE: 1, JobState.INVALID: 1, JobState.SKIPPED: 2}
    ending = RunEnding(reason=Reason.DONE, standing=standing(jobs=rows))

    headline, *_ = summary(RunOutcome(ending=ending, message="", code=0, seconds=3.0))

    assert headline[0] == "catalog: finished in 3 s, 1 row done, 1 bad left out, 2 skipped"


def test_a_table_of_routes_fits_a_narrow_terminal():
    rows = [("ROUTE", "", "IMAGES", "PIXELS", "EACH", "USD", "TIME", "BOUND BY")]
    rows += [
        ("maxapi.io", "gpt-image-2 1:1", "1", "1024x1024", "0.0200", usd, "3 s", "max_in_flight 10") for usd in "12"
    ]

    assert "BOUND BY" in _fitting(rows, None)[0]
    assert "BOUND BY" not in _fitting(rows, 80)[0]
    assert max(map(len, _fitting(rows, 80))) <= 80
