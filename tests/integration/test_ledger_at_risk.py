"""A database server that may forget what was paid: whoever spends says so, in the words of `doctor`."""

from __future__ import annotations

import contextlib

import pytest
import structlog
from typer.testing import CliRunner

from cli.commands.doctor import durability
from cli.main import app
from jobs.ledger import open_ledger
from jobs.settings.sources import load_settings
from worker.lanes.worker import Worker
from worker.services import build


@pytest.fixture
def here(monkeypatch, postgres_ledger_url):
    """Settings of a ledger on a server with fsync = off, as that of the tests is."""
    monkeypatch.setenv("MAXAPI_IO_API_KEY", "key-1")
    monkeypatch.setenv("MAXAPI_IO_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("LIGHTFAST_DATABASE_URL", postgres_ledger_url)
    return load_settings()


def risks_of(settings):
    found = [finding.text for finding in durability(settings) if finding.verdict == "problem"]
    assert any("fsync = off" in text for text in found)
    return found


@pytest.mark.parametrize("command", ["run", "submit"])
def test_run_and_submit_say_before_they_ask_what_doctor_says(here, tmp_path, command):
    (tmp_path / "more.csv").write_text("key,prompt\na,a lamp\n")

    done = CliRunner().invoke(app, [command, "more.csv", "--to", str(tmp_path / "out")])

    assert done.exception, "nobody is there to say yes"
    assert [f"warning: {risk}." in done.stderr for risk in risks_of(here)] == [True] * len(risks_of(here))


async def test_a_worker_logs_when_it_starts_what_doctor_says(here):
    services = build(here)
    try:
        with structlog.testing.capture_logs() as events:
            await Worker(services).start()
    finally:
        await services.close()

    assert [one["problem"] for one in events if one["event"] == "ledger_at_risk"] == risks_of(here)


def test_in_a_sandbox_nothing_is_at_risk(here):
    with contextlib.closing(open_ledger(here.database_url)) as ledger:
        assert ledger.risks(sandbox=True) == []
