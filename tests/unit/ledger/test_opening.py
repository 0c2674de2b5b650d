"""A ledger is opened: a SQLite file while others open it, too, and an address that is shown."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from cli.flow.environment import ledger_line
from jobs.errors import LightfastError
from jobs.ledger import open_ledger
from jobs.ledger.database import engine
from jobs.settings.model import Settings


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


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://mia:tellnobody@db.test/shop",
        "postgresql://mia@db.test/shop?password=tellnobody",
        "postgresql://db.test/shop?sslpassword=tellnobody&application_name=a@b",
    ],
)
def test_the_ledgers_address_is_shown_without_its_password_wherever_it_stands(url):
    settings = Settings(database_url=url)

    for line in (engine.shown(engine.normalized(url)), ledger_line(settings)):
        assert "db.test/shop" in line
        assert "tellnobody" not in line


def test_a_parameter_that_other_clients_read_is_named_with_what_helps():
    with pytest.raises(LightfastError, match=r'invalid connection option "pgbouncer".*Leave it out of database_url'):
        open_ledger("postgresql://u@127.0.0.1:1/shop?pgbouncer=true")
