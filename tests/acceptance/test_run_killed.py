"""Real processes against the sandbox: killed, interrupted and started again, a run pays for nothing twice."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import pytest

from jobs.ledger import open_ledger
from jobs.states import JobState
from tests.support.command import Started, run_here
from tests.support.patience import until

STUCK = [{"trouble": "stuck"}]
STALL = 300.0  # seconds; where something is slow, it is not stuck
UNDER_NOHUP = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
SCENARIO = {
    "takes": {"default": [0.2, 0.6]},
    "answer_seconds": {"default": [0.05, 0.15]},
    "pictures": {"tiny": True},
}


def listed(answer, name):
    return answer[name] if isinstance(answer, dict) else answer


def paid(sandbox) -> Counter[str]:
    return Counter(task["prompt"] for task in listed(sandbox.tasks(), "tasks"))


def wait_for(sandbox, submits: int, process: Started) -> None:
    def lives():
        assert process.poll() is None, process.communicate()

    until(lambda: len(listed(sandbox.submits(), "submits")) >= submits, meanwhile=lives)


@pytest.fixture(autouse=True)
def _quick(sandbox):
    sandbox.play(**SCENARIO)


def start(folder: Path, sandbox, rows: int) -> Started:
    return run_here(folder, sandbox.url, rows, STALL)


def finish(process: Started) -> tuple[int, str]:
    _, said = process.communicate()
    return process.returncode, said


def ledger_of(folder: Path):
    return open_ledger(f"sqlite:///{folder / 'ledger.db'}", create=False)


def test_a_run_killed_three_times_pays_nothing_twice_and_holds_only_what_was_in_the_air(tmp_path, sandbox):
    in_the_air = 0
    sandbox.play(**SCENARIO, rules=STUCK)  # so none gets further than the account's cap
    for submits in (30, 60, 90):
        process = start(tmp_path, sandbox, 150)
        wait_for(sandbox, submits, process)
        process.kill()
        finish(process)
        sandbox.finish()
        in_the_air += 40  # the account's cap bounds what can have been on its way

    sandbox.play(**SCENARIO)
    code, said = finish(start(tmp_path, sandbox, 150))

    ledger = ledger_of(tmp_path)
    jobs, unknown = ledger.reports.progress("b").jobs, ledger.unknowns.all()
    assert paid(sandbox).most_common(1)[0][1] == 1
    assert jobs.get(JobState.DONE, 0) + jobs.get(JobState.HELD, 0) == 150
    assert len(unknown) == jobs.get(JobState.HELD, 0) <= in_the_air
    assert code == (3 if unknown else 0), said
    stored = {path.parent.name for path in (tmp_path / "dest").rglob("*.png")}
    assert len(stored) == jobs[JobState.DONE]
    never_sent = 150 - len(paid(sandbox))
    assert never_sent <= len(unknown)  # whatever has no charge is at least listed
    ledger.close()


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (signal.SIGINT, 130),
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGHUP, 143, marks=pytest.mark.skipif(UNDER_NOHUP, reason="SIGHUP is ignored here")),
    ],
)
def test_a_signal_lets_the_submits_in_the_air_come_down_and_the_same_command_goes_on(
    tmp_path, sandbox, number, expected
):
    sandbox.play(**SCENARIO, rules=STUCK)
    process = start(tmp_path, sandbox, 60)
    wait_for(sandbox, 20, process)
    process.send_signal(number)
    code, said = finish(process)
    sandbox.play(**SCENARIO)
    sandbox.finish()
    ledger = ledger_of(tmp_path)

    assert code == expected, said
    assert not ledger.unknowns.all()
    assert finish(start(tmp_path, sandbox, 60))[0] == 0
    assert paid(sandbox) == {f"lamp {row}": 1 for row in range(60)}
    ledger.close()


def test_troubled_answers_cost_no_other_attempt_its_record(tmp_path, sandbox):
    rules = [
        {"trouble": "refuse huge", "prompt": "lamp 3"},
        {"trouble": "refuse nul", "prompt": "lamp 5"},
        {"trouble": "refuse surrogate", "prompt": "lamp 7"},
        {"trouble": "poll huge x2", "prompt": "lamp 8"},
        {"trouble": "poll nul x2", "prompt": "lamp 9"},
        {"trouble": "cut", "prompt": "lamp 2", "times": 1},
        {"trouble": "cdn truncated x1", "prompt": "lamp 4"},
        {"trouble": "cdn 404 x1", "prompt": "lamp 6"},
    ]
    sandbox.play(**SCENARIO, rules=rules)

    code, said = finish(start(tmp_path, sandbox, 10))

    ledger = ledger_of(tmp_path)
    assert code == 3, said
    assert ledger.reports.progress("b").jobs == {JobState.DONE: 6, JobState.FAILED: 3, JobState.HELD: 1}
    assert max(paid(sandbox).values()) == 1
    ledger.close()
