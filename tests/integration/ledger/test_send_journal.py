"""A killed worker's submits: what had left is unknown, what had not is free again, and in doubt all may have left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from jobs.ledger import open_ledger
from jobs.ledger.database import send_journal
from jobs.ledger.database.send_journal import SendJournal
from tests.support import ROOT, stocked_ledger

NOW = stocked_ledger.NOW
WORKER = """
import sys
from jobs.ledger import open_ledger
from tests.support import stocked_ledger
ledger = open_ledger(sys.argv[1])
with ledger.hold(stocked_ledger.NOW):
    claim = ledger.claims.submits("main", stocked_ledger.NOW, lease=90, at_most=3, horizon=9, holder="worker 1")
    ledger.departs(claim.intents[0].attempt_id)
    print("sent", flush=True)
    sys.stdin.read()
"""


def killed_after_one_of_three(url):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", WORKER, url], cwd=ROOT, text=True, **pipes) as worker:
        assert worker.stdout.readline() == "sent\n"
        worker.send_signal(signal.SIGKILL)


@pytest.fixture
def ledger(sqlite_ledger_url):
    ledger = open_ledger(sqlite_ledger_url)
    stocked_ledger.stock(ledger, stocked_ledger.rows(5))
    killed_after_one_of_three(sqlite_ledger_url)
    yield ledger
    ledger.close()


def test_a_killed_workers_unsent_submits_are_free_again_and_only_the_sent_one_is_unknown(ledger):
    for _ in range(2):  # the second worker dies before it does anything
        with ledger.hold(NOW + 1):
            assert [one.key for one in ledger.unknowns.all("spring")] == ["k0"]

    with ledger.hold(NOW + 1):
        again = ledger.claims.submits("main", NOW + 1, lease=90, horizon=9)
    assert len(again.intents) == 4


def after_another_boot(path, monkeypatch):
    monkeypatch.setattr(send_journal, "boot_id", lambda: "another")


def without_a_list(path, monkeypatch):
    path.unlink()


def with_a_list_of_another_process(path, monkeypatch):
    path.write_text(path.read_text().replace("worker 1", "worker 2"))


def with_a_torn_list(path, monkeypatch):
    path.write_text("{")


@pytest.mark.parametrize(
    "doubt", [after_another_boot, without_a_list, with_a_list_of_another_process, with_a_torn_list]
)
def test_in_doubt_every_submit_may_have_left(ledger, monkeypatch, doubt):
    doubt(ledger.path.with_name(f"{ledger.path.name}.departures"), monkeypatch)

    with ledger.hold(NOW + 1):
        assert len(ledger.unknowns.all("spring")) == 3


def test_a_list_that_cannot_be_written_on_is_taken_away(tmp_path, monkeypatch):
    listed = SendJournal(path=tmp_path / "list")
    listed.begin("worker")
    monkeypatch.setattr(os, "write", lambda *_: 1)  # a disk that filled up after the first byte

    listed.note(1)
    listed.begin("worker")

    assert not (tmp_path / "list").exists()
