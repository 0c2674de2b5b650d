"""A run meets trouble with its account, as a process against the stand-in: nothing fails, and it finishes by itself."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobs.errors import LightfastError
from jobs.ledger import open_ledger
from jobs.states import Job

HERE = Path(__file__).parent
QUICK = {"takes": {"default": [0.1, 0.3]}, "answer_seconds": {"default": [0.02, 0.05]}, "pictures": {"tiny": True}}
RESTS = {"LONG_REST": 0.5, "UNCLEAR_REST": 0.5, "SHORT_REST": 0.2}
IN_FLIGHT = 4
ROWS = 24
PRICE = 0.02


@pytest.fixture
def start(tmp_path, sandbox):
    """Starts a run; it is gone when the test ends."""
    running = []

    def begin(**limits: float) -> subprocess.Popen[str]:
        command = [sys.executable, str(HERE / "run_here.py"), str(tmp_path), sandbox.url, str(ROWS), "60"]
        environment = {
            "PYTHONPATH": f"{HERE.parent}:{HERE}",
            "TEST_RESTS": json.dumps(RESTS),
            "TEST_LIMITS": json.dumps({"max_in_flight": IN_FLIGHT, "submits_per_second": 40.0, **limits}),
        }
        running.append(subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True))
        return running[-1]

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def ledger_of(folder):
    return contextlib.closing(open_ledger(f"sqlite:///{folder / 'ledger.db'}", create=False))


def until_paused(folder, process, code, seconds=20.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process.poll() is None, process.communicate()
        with contextlib.suppress(LightfastError), ledger_of(folder) as ledger:  # not there yet
            if any(account.paused_code == code for account in ledger.accounts()):
                return
        time.sleep(0.05)
    raise AssertionError(f"never paused by {code}")


def finish(process):
    _, said = process.communicate(timeout=60)
    return process.returncode, said


def charged(sandbox):
    return sorted(task["prompt"] for task in sandbox.tasks() if task["charged_images"])


@pytest.mark.parametrize("broke", ["402", "points"])
def test_without_balance_nothing_fails_and_after_a_top_up_the_batch_finishes_by_itself(tmp_path, sandbox, start, broke):
    sandbox.play(**QUICK, balances={"maxapi.io": 10 * PRICE}, io_broke=broke)
    process = start()
    until_paused(tmp_path, process, "no_balance")
    sent = len(sandbox.submits())
    time.sleep(1.0)
    followed = len(sandbox.submits()) - sent

    sandbox._ask("topup", {"provider": "maxapi.io", "key": "sandbox-key", "usd": 5.0})
    code, said = finish(process)

    assert code == 0, said
    assert followed <= IN_FLIGHT + 2  # in the air, and the probes of a second
    assert charged(sandbox) == sorted(f"lamp {row}" for row in range(ROWS))
    with ledger_of(tmp_path) as ledger:
        assert ledger.progress("b").jobs == {Job.DONE: ROWS}
        assert ledger.progress("b").batch.charged == round(ROWS * PRICE * 1_000_000)


def test_with_a_revoked_key_nothing_fails_and_with_a_good_one_the_batch_finishes_by_itself(tmp_path, sandbox, start):
    sandbox.play(**QUICK)
    process = start(submits_per_second=5.0)
    while not sandbox.submits():
        time.sleep(0.02)
    sandbox._ask("revoke", {"key": "sandbox-key"})
    until_paused(tmp_path, process, "bad_key")

    sandbox._ask("revoke", {"key": "sandbox-key", "back": True})
    code, said = finish(process)

    assert code == 0, said
    assert charged(sandbox) == sorted(f"lamp {row}" for row in range(ROWS))


def test_a_storm_of_503_holds_a_handful_of_rows_and_the_rest_is_made_by_itself_when_it_is_over(
    tmp_path, sandbox, start
):
    sandbox.play(**QUICK, rules=[{"trouble": "503", "after": 6}])
    process = start()
    until_paused(tmp_path, process, "server_error")
    time.sleep(1.0)

    sandbox.play(**QUICK)
    code, said = finish(process)

    assert code == 3, said
    with ledger_of(tmp_path) as ledger:
        jobs, unknown = ledger.progress("b").jobs, ledger.unknown()
    assert jobs == {Job.DONE: ROWS - len(unknown), Job.HELD: len(unknown)}
    assert 3 <= len(unknown) <= 3 + IN_FLIGHT + 3
    assert len(charged(sandbox)) == jobs[Job.DONE]
