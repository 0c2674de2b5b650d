"""`watch` and `submit --wait`: they end where `run` would, and say why."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import NamedTuple

import pytest

from cli.flow.execute import OutputMode, RunOutcome, tell
from cli.flow.watch import Watch
from cli.output.progress import PlainScreen
from jobs.ledger.accounts.values import Account
from jobs.ledger.claims.values import Failing
from jobs.results.completion import STUCK_AFTER, Reason
from jobs.results.troubles import troubles
from jobs.states import JobState
from tests.unit.results.test_contact_sheet import progress
from worker.local.run import RunEnding
from worker.registration.options import WorkLimits

BROKE = {"paused_until": math.inf, "paused_code": "no_balance", "paused_message": "insufficient points"}
READY = progress(jobs={JobState.DONE: 3, JobState.READY: 5}, images_total=8, images_stored=3, images_ready=5)
PROBED = progress(
    jobs={JobState.DONE: 3, JobState.READY: 4, JobState.WORKING: 1},
    images_total=8,
    images_stored=3,
    images_ready=4,
    images_in_flight=1,
)
RUNS = progress(jobs={JobState.DONE: 3, JobState.WORKING: 5}, images_total=8, images_stored=3, images_in_flight=5)


def account(**changes):
    values = {"paused_until": None, "paused_code": None, "paused_message": None, **changes}
    return Account(
        name="main",
        provider="maxapi.io",
        submits_per_second=1.0,
        polls_per_second=1.0,
        max_in_flight=4,
        in_flight=0,
        throttled=0,
        **values,
    )


class Told:
    """A ledger that others work on, as it would look at each second."""

    def __init__(self, *looks, workers=1, is_sqlite=False, is_held=False, **state):
        self._looks, self._account = itertools.cycle(looks), account(**state)
        self._workers, self.is_sqlite, self._held = workers, is_sqlite, is_held
        self.reports = self.accounts = self.workers = self

    def clock_offset(self):
        return 0.0

    def progress(self, _name, _now=None):
        return next(self._looks)

    def all(self):
        return [self._account]

    def seen(self, _now, _within):
        return [None] * self._workers

    def is_held(self):
        return self._held

    def unwritable(self):
        return None


class Clock:
    """A second passes where somebody sleeps one."""

    def __init__(self, gives_up_after=10_000.0):
        self.now, self._last = 0.0, gives_up_after

    def monotonic(self):
        return self.now

    def time(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        if self.now > self._last:
            pytest.fail("it never ends")


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("cli.flow.watch.time", clock)
    return clock


def watch(ledger, max_stall=60.0):
    screen = PlainScreen(now=lambda: 0.0)
    watched = Watch(ledger=ledger, name="b", limits=WorkLimits(max_stall=max_stall), screen=screen)
    ending = watched.until_it_ends()
    return Ended(ending, ending.exit_code, ending.reason, watched.message(ending))


class Ended(NamedTuple):
    ending: RunEnding
    exit_code: int
    reason: Reason
    message: str


def test_probes_of_an_account_without_balance_are_no_headway(clock):
    ending = watch(Told(READY, PROBED, **BROKE))

    assert (ending.exit_code, ending.reason) == (4, Reason.ACCOUNT_PAUSED)
    assert 60 <= clock.now < 120
    assert "insufficient points" in ending.message


class Resting(Told):
    """Its account answers 429 for ever: it rests for five minutes, then one submit probes it for two seconds."""

    REST, PROBE = 300.0, 2.0

    def __init__(self, clock):
        super().__init__(READY)
        self._clock = clock

    def all(self):
        ends = self._clock.now - self._phase() + self.REST
        return [account(paused_until=ends, paused_code="throttled", paused_message="slow down")]

    def progress(self, _name, _now=None):
        return READY if self._phase() < self.REST else PROBED

    def _phase(self):
        return self._clock.now % (self.REST + self.PROBE)


@pytest.mark.parametrize("max_stall", [60.0, 301.0, 900.0])
def test_an_account_that_only_rests_ends_the_watch_with_4_after_max_stall(clock, max_stall):
    ending = watch(Resting(clock), max_stall=max_stall)

    assert (ending.exit_code, ending.reason) == (4, Reason.ACCOUNT_PAUSED)
    assert max_stall <= clock.now <= max_stall + 5
    assert "slow down" in ending.message


@pytest.mark.usefixtures("clock")
def test_an_account_that_no_row_waits_for_is_not_what_holds_a_batch_up():
    elsewhere = dataclasses.replace(READY, waits_at=frozenset({"apimaster"}), budget_allows=False)

    ending = watch(Told(elsewhere, **BROKE))

    assert ending.reason is Reason.BUDGET_USED
    assert "insufficient points" not in ending.message


def test_slow_provider_tasks_are_waited_for_while_somebody_works(clock):
    assert watch(Told(RUNS)).reason is Reason.NOTHING_MOVES
    assert clock.now >= STUCK_AFTER


@pytest.mark.parametrize("ledger", [{"workers": 0}, {"is_sqlite": True}])
def test_where_nobody_works_max_stall_is_all_that_is_waited(clock, ledger):
    ending = watch(Told(RUNS, **ledger))

    assert (ending.exit_code, ending.reason) == (4, Reason.NOTHING_MOVES)
    assert clock.now < 120


@pytest.mark.parametrize(
    ("rows", "code", "says"),
    [
        ({JobState.DONE: 8}, 0, "finished."),
        ({JobState.DONE: 7, JobState.FAILED: 1}, 3, "finished, 1 row needs you."),
    ],
)
@pytest.mark.usefixtures("clock")
def test_a_finished_batch_is_not_said_to_stand_still(rows, code, says):
    ending = watch(Told(progress(jobs=rows, images_total=8, images_stored=7)))

    assert (ending.exit_code, ending.message) == (code, says)


FAILING = Failing(
    account="main",
    provider="maxapi.io",
    provider_model=None,
    dest=None,
    images=20,
    money=400_000,
    since=0.0,
    code="not_an_image",
    message='HTML came: "Just a moment..."',
)
UNSTORED = progress(
    jobs={JobState.READY: 5, JobState.WORKING: 20},
    images_total=25,
    images_stored=0,
    images_ready=5,
    images_generated=20,
    copy_errors={"not_an_image": 20},
    failing=(FAILING,),
)
TRYING = dataclasses.replace(
    UNSTORED, jobs={JobState.READY: 4, JobState.WORKING: 21}, images_ready=4, images_in_flight=1, batch=READY.batch
)


def test_where_nothing_can_be_stored_a_submit_that_tries_is_no_headway(clock):
    ending = watch(Told(UNSTORED, TRYING))

    assert (ending.exit_code, ending.reason) == (4, Reason.NOTHING_STORED)
    assert 60 <= clock.now < 120
    for words in ("account main (maxapi.io)", "20 paid images ($0.40)", "not_an_image", "Just a moment..."):
        assert words in ending.message


def test_a_batch_that_another_holds_up_is_told_which_when_one_submit_tries_and_what_helps(clock, capsys):
    blamed = dataclasses.replace(FAILING, batch="html", next_try_at=300.0)
    waits = progress(jobs={JobState.READY: 5}, images_total=5, images_stored=0, images_ready=5, failing=(blamed,))

    ending = watch(Told(waits))
    tell(RunOutcome(ending=ending.ending, message=ending.message, code=4, seconds=None), Told(waits), OutputMode())
    told = capsys.readouterr().out

    assert ending.reason is Reason.NOTHING_STORED
    assert "What is paid" not in ending.message
    assert "Nothing of this batch waits to be copied" in ending.message
    assert "one that tries it from 1970-01-01 00:05:00Z on" in told
    assert "when that is fixed, to try again what batch html has paid:  lightfast resume html" in told
    assert "give-up" not in told
    assert "lightfast resume html" in next(iter(troubles(waits, [])))


def test_images_that_only_fail_to_be_copied_are_not_waited_for_as_slow_tasks_are(clock):
    left = {"jobs": {JobState.DONE: 3, JobState.WORKING: 2}, "images_total": 5, "images_stored": 3}

    ending = watch(Told(progress(**left, images_generated=2, copy_errors={"not_an_image": 2})))

    assert (ending.exit_code, ending.reason) == (4, Reason.NOTHING_STORED)
    assert clock.now < 120
    assert "2 paid images cannot be copied: 2 not_an_image" in ending.message


def test_images_that_wait_for_a_person_keep_nobody_waiting(clock):
    held = progress(jobs={JobState.DONE: 3, JobState.HELD: 1}, images_total=4, images_stored=3, images_stuck=1)

    assert watch(Told(held)).reason is Reason.ROWS_NEED_YOU
    assert clock.now == 0


def test_a_reason_that_only_counts_on_is_said_once(capsys):
    screen = PlainScreen(now=lambda: 0.0)
    for images in (20, 27, 40):
        more = dataclasses.replace(FAILING, images=images)
        screen.show(dataclasses.replace(UNSTORED, failing=(more,)), [])

    assert capsys.readouterr().err.count("failed in a row") == 1
