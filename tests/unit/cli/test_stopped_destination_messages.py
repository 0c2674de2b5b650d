"""A batch that waits since another's images cannot be stored: every screen names which, what helps, and when."""

from __future__ import annotations

import contextlib
import time

import pytest
from typer.testing import CliRunner

from cli.main import app
from jobs.ledger import open_ledger
from jobs.policy.copy_failures import ENOUGH
from tests.integration.ledger.test_copy_failures import buy, due, fail
from tests.support import stocked_ledger
from tests.support.stocked_ledger import NOW


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "time", lambda: NOW)
    with contextlib.closing(open_ledger(f"sqlite:///{tmp_path / 'lightfast.db'}")) as ledger:
        stocked_ledger.stock(ledger, stocked_ledger.rows(50))
        stocked_ledger.stock(ledger, stocked_ledger.rows(3), name="summer")
        buy(ledger, ENOUGH, only="spring")
        fail(ledger, due(ledger, ENOUGH))


@pytest.mark.parametrize("words", ["status summer", "why summer k1", "resume summer", "accounts"])
def test_who_is_to_blame_what_helps_and_when_it_is_tried_is_on_every_screen(words):
    done = CliRunner().invoke(app, words.split())

    page = " ".join((done.stdout + done.stderr).split())
    assert "20 paid images" in page
    assert "one that tries it from 20" in page
    assert "to try again what batch spring has paid: lightfast resume spring" in page
    assert "its turn comes" not in page
    if words == "accounts":
        assert "awake, submits wait: see below" in page
