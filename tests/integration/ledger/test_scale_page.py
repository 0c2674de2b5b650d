"""What docs/scale.md says to PostgreSQL, PostgreSQL takes."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import psycopg

from jobs.ledger import open_ledger

PAGE = (Path(__file__).parents[3] / "docs" / "scale.md").read_text("utf-8")


def test_the_tables_take_the_pages_settings_and_the_ledger_opens_afterwards(postgres_ledger_url):
    (statements,) = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
    with psycopg.connect(postgres_ledger_url, autocommit=True) as connection:
        for statement in filter(str.strip, statements.split(";")):
            connection.execute(statement)
        changed = connection.execute(
            "SELECT relname FROM pg_class WHERE reloptions::text LIKE '%autovacuum%'"
        ).fetchall()

    assert {name for (name,) in changed} == {"attempts", "images", "jobs", "accounts", "batches"}
    with contextlib.closing(open_ledger(postgres_ledger_url)) as ledger:
        assert ledger.accounts.all() == []


def test_every_setting_of_the_server_that_the_page_names_is_one(postgres_server):
    section = PAGE.partition("## PostgreSQL")[2].partition("## Several ledgers")[0]
    named = {
        name for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    with psycopg.connect(postgres_server.url) as connection:
        known = {name for (name,) in connection.execute("SELECT name FROM pg_settings").fetchall()}

    assert len(named) >= 8
    assert named <= known
