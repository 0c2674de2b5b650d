"""A manifest, or a file that it names, that changes while a person reads the plan: told, and nothing is recorded."""

from __future__ import annotations

import contextlib
import os

import pytest

from jobs.errors import BadInput, LightfastError
from jobs.ledger import open_ledger
from jobs.planning.planner import Planner
from jobs.settings.sources import load_settings
from tests.support.ledger_files import new_ledger
from tests.support.manifest_world import NOW
from tests.support.worker_world import png
from worker.registration.options import BatchOptions
from worker.registration.preflight import take
from worker.registration.register import at_most, record
from worker.storage.opening import open_store

ROWS = "key,prompt,image_urls\na,red lamp,\nb,blue lamp,photo.png\n"


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A ledger without batches, a manifest and the file that it names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("APIMASTER_API_KEY", "key")
    (tmp_path / "m.csv").write_text(ROWS)
    (tmp_path / "photo.png").write_bytes(png(colour=1))
    new_ledger(tmp_path / "lightfast.db")
    return tmp_path


@contextlib.contextmanager
def agreed_to(shop, monkeypatch, **options):
    """What is recorded by the function that is given, and how many rows were planned for that."""
    planned, plan = [], Planner.plan
    monkeypatch.setattr(Planner, "plan", lambda planner, raw: (planned.append(raw.line), plan(planner, raw))[1])
    given, settings = BatchOptions(manifest="m.csv", to="out", **options), load_settings()
    with (
        take(given, settings, keeps_rows=True) as preflight,
        contextlib.closing(open_ledger(settings.database_url)) as ledger,
    ):
        assert preflight.reasons == []
        planned.clear()

        def go_on():
            record(preflight, open_store(preflight.dest), ledger, still=at_most(preflight), now=NOW)
            return [row.request.prompt for row in ledger.reports.results(preflight.name)], len(planned)

        yield ledger, go_on


def test_rows_are_planned_once_for_a_run(shop, monkeypatch):
    with agreed_to(shop, monkeypatch) as (_, go_on):
        assert go_on() == (["red lamp", "blue lamp"], 0)


@pytest.mark.parametrize(
    "later", [ROWS.replace("red", "old"), ROWS + "c,lamp,\n", "key,prompt,image_urls\na,red lamp,\n"]
)
def test_a_manifest_that_changes_before_consent_is_told_and_nothing_is_recorded(shop, monkeypatch, later):
    with agreed_to(shop, monkeypatch) as (ledger, go_on):
        (shop / "m.csv").write_text(later)

        with pytest.raises(LightfastError, match=r"changed while it was read\. Nothing was recorded; run again"):
            go_on()
        assert ledger.batches.all() == []


def test_a_manifest_that_is_saved_again_without_a_change_is_recorded(shop, monkeypatch):
    with agreed_to(shop, monkeypatch) as (_, go_on):
        (shop / "m.csv").write_text(ROWS)
        os.utime(shop / "m.csv", (1, 1))

        assert go_on()[0] == ["red lamp", "blue lamp"]


def test_a_file_that_a_row_is_made_from_and_that_changes_before_consent_is_told(shop, monkeypatch):
    with agreed_to(shop, monkeypatch) as (ledger, go_on):
        (shop / "photo.png").write_bytes(png(colour=2, padding=5))

        with pytest.raises(BadInput, match="changed while it was read"):
            go_on()
        assert ledger.batches.all() == []


def test_a_file_that_is_gone_before_consent_is_told(shop, monkeypatch):
    with agreed_to(shop, monkeypatch) as (ledger, go_on):
        (shop / "photo.png").unlink()

        with pytest.raises(LightfastError, match=r"photo\.png"):
            go_on()
        assert ledger.batches.all() == []


def test_more_files_than_are_remembered_are_looked_at_again(shop, monkeypatch):
    monkeypatch.setattr("worker.references.REMEMBERED", 1)
    (shop / "m.csv").write_text(ROWS + "c,lamp,other.png\n")
    (shop / "other.png").write_bytes(png(colour=3))
    with agreed_to(shop, monkeypatch) as (_, go_on):
        prompts, planned = go_on()

        assert (prompts, planned > 0) == (["red lamp", "blue lamp", "lamp"], True)
