"""A batch is counted often, by a run, its watchers and Prometheus: what is counted is in indexes, not in rows."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import event

from jobs.ledger import open_ledger
from tests.ledger import stock


@pytest.fixture
def steps(sqlite_ledger_url):
    """How SQLite goes about counting a batch, step by step."""
    ledger = open_ledger(sqlite_ledger_url)
    stock.stock(ledger, stock.rows(3))
    reader, asked = ledger._database.reader, []
    event.listen(reader, "before_cursor_execute", lambda _c, _cursor, said, values, *_: asked.append((said, values)))
    ledger.progress("spring")
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


def test_a_look_up_by_request_reads_no_batch_from_end_to_end(sqlite_ledger_url):
    ledger = open_ledger(sqlite_ledger_url)
    stock.stock(ledger, stock.rows(3))
    reader, asked = ledger._database.reader, []
    event.listen(reader, "before_cursor_execute", lambda _c, _cursor, said, values, *_: asked.append((said, values)))
    ledger.made_elsewhere([row.request_hash for row in stock.rows(9)], besides=7, sandbox=False)
    with reader.connect() as connection:
        found = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {asked[-1][0]}", asked[-1][1])]
    ledger.close()

    assert "SEARCH jobs USING INDEX ix_jobs_request (request_hash=?)" in found
