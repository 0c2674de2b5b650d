"""A run meets trouble with its account, as a process against the stand-in: nothing fails, and it finishes by itself."""

from __future__ import annotations

import contextlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cli.flow.environment import standin
from jobs.errors import LightfastError
from jobs.ledger import open_ledger
from jobs.states import JobState
from tests.support.command import Started, run_here
from tests.support.patience import until

QUICK = {"takes": {"default": [0.1, 0.3]}, "answer_seconds": {"default": [0.02, 0.05]}, "pictures": {"tiny": True}}
REST = 0.5  # seconds
RESTS = dict.fromkeys(
    (f"{first}{kind}_COOLDOWN" for kind in ("LONG", "UNCLEAR", "SHORT") for first in ("", "LONGEST_")), REST
)
IN_FLIGHT = 4
ROWS = 24
PRICE = 0.02


@pytest.fixture
def start(tmp_path, sandbox):
    """Starts a run; it is gone when the test ends."""
    running = []

    def begin(**limits: float) -> Started:
        environment = {
            "TEST_RESTS": json.dumps(RESTS),
            "TEST_TIMINGS": json.dumps({"poll_refused": REST}),
            "TEST_LIMITS": json.dumps({"max_in_flight": IN_FLIGHT, "submits_per_second": 40.0, **limits}),
        }
        running.append(run_here(tmp_path, sandbox.url, ROWS, 300.0, **environment))
        return running[-1]

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def ledger_of(folder):
    return contextlib.closing(open_ledger(f"sqlite:///{folder / 'ledger.db'}", create=False))


def until_paused(folder, process, code):
    def lives():
        assert process.poll() is None, process.communicate()

    def paused():
        with contextlib.suppress(LightfastError), ledger_of(folder) as ledger:  # not there yet
            return any(account.paused_code == code for account in ledger.accounts.all())
        return False

    until(paused, meanwhile=lives)


def refused(sandbox):
    """When the submits came that met the trouble, at once or as tasks that fail."""
    at_once = [submit["at"] for submit in sandbox.submits() if submit["status"] not in (0, 200)]
    return sorted([*at_once, *(task["created_at"] for task in sandbox.tasks() if task["outcome"] != "success")])


def assert_rests_between(came, *, at_once):
    """So many come at once, and then no more before a rest: however slow the machine is, they come no sooner."""
    assert all(later - earlier >= REST / 2 for earlier, later in zip(came, came[at_once:], strict=False))


def finish(process):
    _, said = process.communicate()
    return process.returncode, said


def charged(sandbox):
    return sorted(task["prompt"] for task in sandbox.tasks() if task["charged_images"])


@pytest.mark.parametrize("broke", ["402", "points"])
def test_without_balance_nothing_fails_and_after_a_top_up_the_batch_finishes_by_itself(tmp_path, sandbox, start, broke):
    sandbox.play(**QUICK, balances={"maxapi.io": 10 * PRICE}, io_broke=broke)
    process = start()
    until_paused(tmp_path, process, "no_balance")
    until(lambda: len(refused(sandbox)) >= 2 * IN_FLIGHT + 2)  # probes, too

    sandbox._ask("topup", {"provider": "maxapi.io", "key": "sandbox-key", "usd": 5.0})
    code, said = finish(process)

    assert code == 0, said
    if broke == "402":
        assert_rests_between(refused(sandbox)[IN_FLIGHT:], at_once=1)
    else:  # a probe that is accepted looks well until its task has failed
        assert_rests_between(refused(sandbox), at_once=2 * IN_FLIGHT)
    assert charged(sandbox) == sorted(f"lamp {row}" for row in range(ROWS))
    with ledger_of(tmp_path) as ledger:
        assert ledger.reports.progress("b").jobs == {JobState.DONE: ROWS}
        assert ledger.reports.progress("b").batch.charged == round(ROWS * PRICE * 1_000_000)


def test_with_a_revoked_key_nothing_fails_and_with_a_good_one_the_batch_finishes_by_itself(tmp_path, sandbox, start):
    sandbox.play(**QUICK, rules=[{"trouble": "hang", "times": IN_FLIGHT}])
    process = start()
    until(lambda: len(sandbox.submits()) == IN_FLIGHT)  # and no more, before one of them is answered
    sandbox._ask("revoke", {"key": "sandbox-key"})
    sandbox.answer()
    until_paused(tmp_path, process, "bad_key")

    sandbox._ask("revoke", {"key": "sandbox-key", "back": True})
    code, said = finish(process)

    assert code == 0, said
    assert charged(sandbox) == sorted(f"lamp {row}" for row in range(ROWS))


def test_a_storm_of_503_holds_a_handful_of_rows_and_the_rest_is_made_by_itself_when_it_is_over(
    tmp_path, sandbox, start
):
    storm = 3 + IN_FLIGHT + 2  # three until it is noticed, others on their way, two probes at the least
    sandbox.play(**QUICK, rules=[{"trouble": "503", "after": 6, "times": storm}])
    process = start()
    until_paused(tmp_path, process, "server_error")

    code, said = finish(process)

    assert code == 3, said
    with ledger_of(tmp_path) as ledger:
        jobs, unknown = ledger.reports.progress("b").jobs, ledger.unknowns.all()
    assert jobs == {JobState.DONE: ROWS - len(unknown), JobState.HELD: len(unknown)}
    assert len(unknown) == storm
    assert_rests_between(refused(sandbox)[3 + IN_FLIGHT :], at_once=1)
    assert len(charged(sandbox)) == jobs[JobState.DONE]


def test_rehearsals_that_begin_at_once_in_one_folder_have_a_stand_in_each(tmp_path):
    both, done = threading.Barrier(2), []

    def rehearse():
        both.wait()
        with standin(tmp_path) as url:
            done.append(url)
            both.wait()

    with ThreadPoolExecutor(2) as threads:
        for each in [threads.submit(rehearse) for _ in range(2)]:
            each.result()

    assert len(set(done)) == 2
