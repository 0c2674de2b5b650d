"""A batch is counted often, by a run, its watchers and Prometheus: what is counted is in indexes, not in rows."""

from __future__ import annotations

import dataclasses
import re

import pytest
from sqlalchemy import event

from jobs.ledger import open_ledger
from jobs.ledger.accounts import configured, destinations
from jobs.ledger.pruning import candidates
from jobs.ledger.schedules.values import NewSchedule
from jobs.policy.copy_failures import BEGUN, ENOUGH
from tests.integration.ledger import test_copy_failures
from tests.support import stocked_ledger
from tests.support.stocked_ledger import NOW


@pytest.fixture
def steps(sqlite_ledger_url):
    """How SQLite goes about counting a batch, step by step."""
    ledger = open_ledger(sqlite_ledger_url)
    stocked_ledger.stock(ledger, stocked_ledger.rows(3))
    reader, asked = ledger._database.reader, []
    event.listen(reader, "before_cursor_execute", lambda _c, _cursor, said, values, *_: asked.append((said, values)))
    ledger.reports.progress("spring")
    found = []
    with reader.connect() as connection:
        for said, values in [one for one in asked if one[0].startswith("SELECT")]:
            told = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {said}", values)
            found += [row[3] for row in told]
    ledger.close()
    return found


def test_the_mass_of_rows_is_counted_without_reading_them(steps):
    of_a_whole_batch = [step for step in steps if re.search(r"(jobs|images|attempts).* \(batch_id=\?\)", step)]
    scans = [step for step in steps if re.match(r"SCAN (jobs|images|attempts)\b", step)]

    assert any("COVERING INDEX ix_jobs_state" in step for step in steps)
    assert any("COVERING INDEX ix_images_batch" in step for step in steps)
    assert [step for step in of_a_whole_batch if "COVERING" not in step] == []
    assert scans == []


def ways_of(url, ask):
    """How SQLite goes about each thing that is asked, step by step."""
    ledger = open_ledger(url)
    stocked_ledger.stock(ledger, stocked_ledger.rows(3))
    reader, asked = ledger._database.reader, []
    event.listen(reader, "before_cursor_execute", lambda _c, _cursor, said, values, *_: asked.append((said, values)))
    ask(ledger)
    with reader.connect() as connection:
        looks = [(said, values) for said, values in asked if said.startswith("SELECT")]
        plans = [connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {said}", values).all() for said, values in looks]
    ledger.close()
    return [[row[3] for row in plan] for plan in plans]


_WHOLE = re.compile(r"SCAN (jobs|images|earlier_requests)\b")


def test_a_look_up_by_request_reads_no_batch_from_end_to_end(sqlite_ledger_url):
    hashes = [row.request_hash for row in stocked_ledger.rows(9)]
    now, earlier = ways_of(
        sqlite_ledger_url, lambda ledger: ledger.batches.made_elsewhere(hashes, besides=7, sandbox=False)
    )

    assert "SEARCH jobs USING INDEX ix_jobs_request (request_hash=?)" in now
    assert "SEARCH earlier_requests USING INDEX ix_earlier_requests_request (request_hash=?)" in earlier
    assert not list(filter(_WHOLE.match, (*now, *earlier)))


def test_who_else_has_a_rows_images_is_found_without_reading_a_batch(sqlite_ledger_url):
    itself, copies = ways_of(sqlite_ledger_url, lambda ledger: ledger.batches.image_holders(1, [1, 2, 3]))

    assert any("ix_images_taken_from" in step for step in copies)
    assert not list(filter(_WHOLE.match, (*itself, *copies)))
    assert not [step for step in (*itself, *copies) if "(batch_id=?" in step]


def test_whether_an_earlier_batch_of_a_schedule_goes_on_is_found_without_reading_its_rows(sqlite_ledger_url):
    def ask(ledger):
        ledger.schedules.add(NewSchedule(name="nightly", cron="0 3 * * *", timezone="UTC", options={}, budget=1), NOW)
        ledger.schedules.in_the_way(ledger.schedules.find("nightly").id)

    steps = [step for way in ways_of(sqlite_ledger_url, ask) for step in way]

    assert [step for step in steps if " jobs " in step] == [
        "SEARCH jobs USING INDEX ix_jobs_state (batch_id=? AND state=?)"
    ]


def work_of_a_claim(ledger, now, account="main"):
    """Hundreds of SQLite's own instructions that one claim takes: no clock, and the same on every machine."""
    done = []
    with ledger._database.writing() as tx:  # the one connection that writes
        tx.connection.driver_connection.set_progress_handler(lambda: done.append(1), 100)
    claimed = ledger.claims.submits(account, now, lease=90, at_most=2).intents
    with ledger._database.writing() as tx:
        tx.connection.driver_connection.set_progress_handler(None, 0)
    return claimed, len(done)


@pytest.mark.parametrize("others", [0, 10], ids=["nothing may be sent", "another model behind them may"])
def test_rows_that_wait_for_images_to_be_stored_again_are_not_read_by_every_claim(sqlite_ledger_url, others):
    found = []
    for place, rows in enumerate((200, 2_000)):
        ledger = open_ledger(f"{sqlite_ledger_url}.{place}")
        stocked_ledger.stock(ledger, [test_copy_failures.other_model(row) for row in stocked_ledger.rows(rows)])
        test_copy_failures.buy_and_fail(ledger, ENOUGH)
        if others:
            storable = stocked_ledger.rows(others, first=rows)
            ledger.batches.record_manifest(stocked_ledger.new_batch(), storable, append=True, now=NOW)
            _one_is_stored(ledger)
        claimed, work = work_of_a_claim(ledger, NOW + 1)
        found.append((len(claimed), work))
        ledger.close()

    (few, little), (as_few, as_little) = found
    assert few == as_few == (2 if others else 0)
    assert as_little <= 2 * little + 10


def _one_is_stored(ledger):
    """One of the other model, which is tried as a probe."""
    test_copy_failures.buy(ledger, 1)
    (copy,) = [copy for copy in test_copy_failures.due(ledger, 100) if copy.provider_model.startswith("gpt")]
    test_copy_failures.store(ledger, [copy])


def test_what_waits_to_be_copied_for_another_account_is_not_read_by_every_claim(sqlite_ledger_url):
    found = []
    for place, backlog in enumerate((100, 1_000)):
        ledger = open_ledger(f"{sqlite_ledger_url}.{place}")
        ledger.accounts.sync([stocked_ledger.account(), stocked_ledger.account(name="dev", provider="maxapi.dev")])
        theirs = [
            dataclasses.replace(row, provider="maxapi.dev", key=f"d{row.position}") for row in stocked_ledger.rows(50)
        ]
        ledger.batches.record_manifest(stocked_ledger.new_batch("dev"), theirs, now=NOW)
        ledger.batches.record_manifest(
            stocked_ledger.new_batch(), stocked_ledger.rows(backlog, prompt="a vase"), now=NOW
        )
        test_copy_failures.buy_and_fail(ledger, BEGUN, account="dev")
        assert test_copy_failures.buy(ledger, backlog) == backlog
        claimed, work = work_of_a_claim(ledger, NOW + 1, account="dev")
        found.append((len(claimed), work))
        ledger.close()

    (few, little), (as_few, as_little) = found
    assert few == as_few == 2
    assert as_little <= 2 * little + 10


def test_when_images_were_stored_is_read_from_its_index_alone(sqlite_ledger_url):
    """SQLite takes that index only where a question says that an image was stored, or compares its time."""

    def ask(ledger):
        ledger.reports.progress("spring")
        with ledger._database.reading() as tx:
            destinations._stored(tx, [1], NOW)
            candidates.ended(tx, 1, NOW)

    about_times = [plan for plan in ways_of(sqlite_ledger_url, ask) if any("ix_images_stored" in step for step in plan)]

    assert len(about_times) == 4, "the pace, what was there before the batch, the last minutes, the newest"
    assert all("ix_images_stored (batch_id=?" in plan[0] for plan in about_times)


def test_what_other_accounts_have_in_progress_is_found_without_reading_what_has_ended(sqlite_ledger_url):
    def ask(ledger):
        with ledger._database.reading() as tx:
            assert configured.stranded(tx, []) == []

    ways = ways_of(sqlite_ledger_url, ask)

    of_attempts = [step for plan in ways for step in plan if re.match(r"(SCAN|SEARCH) attempts\b", step)]
    assert of_attempts == [
        "SCAN attempts USING INDEX ix_attempts_in_flight",
        "SCAN attempts USING INDEX ix_attempts_polled",
    ]


def test_what_a_batch_would_lose_is_counted_without_reading_what_it_has_made(sqlite_ledger_url):
    in_flight, uncopied = ways_of(sqlite_ledger_url, lambda ledger: ledger.reports.at_risk("spring"))

    assert in_flight[0] == "SEARCH attempts USING INDEX ix_attempts_at_stake (batch_id=? AND state=?)"
    assert re.match(r"SEARCH images USING INDEX ix_images_(due|batch) ", uncopied[0])


def test_the_first_and_the_newest_image_are_found_without_reading_those_between(sqlite_ledger_url):
    ways = ways_of(sqlite_ledger_url, lambda ledger: ledger.reports.stored_span(1))

    # Of one statement for both SQLite tells the same way, and reads every image.
    assert ways == [["SEARCH images USING COVERING INDEX ix_images_stored (batch_id=? AND stored_at>?)"]] * 2
