"""Log events among what a person reads."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import re
from types import SimpleNamespace

import pytest
import structlog

from cli.flow.execute import log_events
from cli.output import events
from cli.output.progress import open_screen
from jobs.log_events import EVENTS
from tests.unit.cli.test_watch import READY, account
from worker.runtime import telemetry


@pytest.fixture(autouse=True)
def _as_before():
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def told(monkeypatch, *, is_terminal, log="text", is_shown=True):
    """What stderr gets of a ledger that is away, and of a destination that refuses writes."""
    stderr = io.StringIO()
    stderr.isatty = lambda: is_terminal
    monkeypatch.setattr("sys.stderr", stderr)
    log_events(SimpleNamespace(log=log), is_shown=is_shown)
    telemetry.emit("ledger_is_away", level="warning", problem="connection refused")
    telemetry.emit("destination_refuses", level="warning", dest="out", problem="AccessDenied")
    telemetry.emit("worker_drained", unknown=0)
    return stderr.getvalue()


def test_at_a_terminal_an_event_is_a_sentence_and_what_the_screen_tells_is_not_told_twice(monkeypatch):
    lines = told(monkeypatch, is_terminal=True).splitlines()

    assert [re.sub(r"^\d\d:\d\d:\d\dZ ", "", line) for line in lines] == [
        "warning: the ledger cannot be reached, and is tried again: connection refused"
    ]


def test_without_a_screen_beside_it_all_that_warns_is_told(monkeypatch):
    assert (
        ": a destination takes no writes: submits for it wait, and it is tried again by itself: AccessDenied (dest out)"
        in told(monkeypatch, is_terminal=True, is_shown=False)
    )


@pytest.mark.parametrize("is_shown", [True, False])
def test_whoever_reads_a_file_gets_the_same_sentences_as_at_a_terminal(monkeypatch, is_shown):
    at_a_terminal, in_a_file = (
        re.sub(r"\d\d:\d\d:\d\dZ ", "", told(monkeypatch, is_terminal=is_terminal, is_shown=is_shown))
        for is_terminal in (True, False)
    )

    assert in_a_file == at_a_terminal
    assert "ledger_is_away" not in in_a_file


def test_a_log_for_programs_names_the_events(monkeypatch):
    events_told = [json.loads(line)["event"] for line in told(monkeypatch, is_terminal=False, log="json").splitlines()]

    assert events_told == ["ledger_is_away", "destination_refuses", "worker_drained"]


@pytest.mark.parametrize("log", ["text", "json"])
def test_a_quiet_run_says_what_holds_it_up_once_in_a_sentence_or_in_a_log_for_programs(capsys, log):
    paused = account(paused_until=math.inf, paused_code="no_balance", paused_message="insufficient points")
    screen = open_screen(quiet=True, sandbox=False, log=log)

    for images in (3, 4):
        screen.show(dataclasses.replace(READY, images_stored=images), [paused])

    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" ")[2] for line in lines] == ["account main (maxapi.io) is paused: insufficient points"] * (
        log == "text"
    )


def test_every_event_that_a_screen_tells_is_one_that_there_is():
    assert {*events.SHOWN, *events.GOOD_NEWS} <= set(EVENTS)


@pytest.mark.parametrize("is_terminal", [True, False])
def test_what_a_screen_says_of_batches_and_accounts_is_not_said_again_by_the_log(monkeypatch, is_terminal):
    stderr = io.StringIO()
    stderr.isatty = lambda: is_terminal
    monkeypatch.setattr("sys.stderr", stderr)
    log_events(SimpleNamespace(log="text"), is_shown=True)

    telemetry.emit("account_paused", level="error", account="main", code="bad_key")
    telemetry.emit("batch_needs_person", level="error", batch="b", reason="account_paused")
    assert stderr.getvalue() == ""
    telemetry.emit("destination_takes_again", dest="out")
    assert "takes writes again" in stderr.getvalue(), "somebody waits for it"


def test_a_line_of_json_begins_with_when_how_bad_and_what(monkeypatch):
    stderr = io.StringIO()
    monkeypatch.setattr("sys.stderr", stderr)
    log_events(SimpleNamespace(log="json"))

    telemetry.emit("account_paused", level="error", account="main", code="bad_key", provider="maxapi.io")

    line = json.loads(stderr.getvalue())
    assert list(line) == ["timestamp", "level", "event", "account", "code", "provider"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line["timestamp"])


def test_a_trouble_that_goes_on_is_said_ever_more_seldom():
    assert [times for times in range(1, 100) if telemetry.is_telling(times)] == [1, 2, 4, 8, 16, 32, 64]
