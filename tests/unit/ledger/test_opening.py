"""A SQLite ledger is opened while others open it, too."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from jobs.ledger import open_ledger
from jobs.ledger.database import engine


def test_a_new_ledger_opens_although_another_process_begins_to_write_to_its_file_at_this_moment(tmp_path, monkeypatch):
    file = tmp_path / "ledger.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("CREATE TABLE looked_at (once)")
        other.execute("DROP TABLE looked_at")
        other.execute("BEGIN IMMEDIATE")
        waits = []
        monkeypatch.setattr(engine.time, "sleep", lambda seconds: waits.append(seconds) or other.execute("ROLLBACK"))

        with closing(open_ledger(f"sqlite:///{file}")) as ledger:
            assert ledger.accounts.all() == []

    assert len(waits) == 1
