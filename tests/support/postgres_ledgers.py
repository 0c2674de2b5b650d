"""Empty ledgers on PostgreSQL. A database is given to one test after the other and emptied in between.

Making one for each test, some 300 files on disk, took longer than most tests do.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

from jobs.ledger.database import schema
from sandbox.servers import Postgres

#: Their rows are part of an empty ledger.
_KEPT = ("alembic_version", "ledger")
_TABLES = tuple(name for name in schema.metadata.tables if name not in _KEPT)

#: What a test may have changed besides rows. Where it did, or left a connection open, nobody else gets the database.
_AS_MADE = """
SELECT
  (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()) AS connections,
  (SELECT count(*) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
   WHERE d.datname = current_database()) AS settings,
  (SELECT md5(string_agg(concat_ws(' ', c.oid::regclass, c.relkind, c.reloptions, a.attname, a.atttypid, a.attnotnull),
                         ',' ORDER BY c.oid::regclass::text, a.attnum))
   FROM pg_class c LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND NOT a.attisdropped
   WHERE c.oid >= 16384) AS tables,
  (SELECT count(*) FROM pg_proc WHERE oid >= 16384) + (SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal)
  + (SELECT count(*) FROM pg_namespace WHERE oid >= 16384 AND nspname NOT LIKE 'pg_%') AS others
"""
_WITH_ROWS = sql.SQL(" UNION ALL ").join(
    sql.SQL("SELECT {} WHERE EXISTS (SELECT 1 FROM {})").format(name, sql.Identifier(name)) for name in _TABLES
)
#: What was learnt of rows that are gone would plan the next test's questions.
_FORGET = "DELETE FROM pg_statistic WHERE starelid >= 16384"


@dataclass(eq=False, kw_only=True)
class LedgerDatabases:
    """The databases of one server. `template`: the name of one that holds an empty ledger."""

    server: Postgres
    template: str
    _free: list[str] = field(default_factory=list)
    _as_made: dict[str, Any] = field(init=False)  # what `_AS_MADE` says of an empty ledger, and the rows in it

    def __post_init__(self) -> None:
        with self._connected(f"{self.server.url.rpartition('/')[0]}/{self.template}") as connection:
            self._as_made = _look(connection)

    @contextlib.contextmanager
    def one(self) -> Iterator[str]:
        """The address of an empty ledger that nobody else has meanwhile."""
        url = self._free.pop() if self._free else self.server.new_database(self.template)
        yield url
        with self._connected(url) as connection:
            found = _look(connection)
            if {**found, "rows": None} == {**self._as_made, "rows": None}:
                self._empty(connection, found)
                self._free.append(url)

    def _empty(self, connection: psycopg.Connection, found: dict[str, Any]) -> None:
        if filled := [name for (name,) in connection.execute(_WITH_ROWS)]:
            names = sql.SQL(", ").join(map(sql.Identifier, filled))
            connection.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY CASCADE").format(names))
            connection.execute(_FORGET)
        for table in _KEPT:
            if found["rows"][table] != (rows := self._as_made["rows"][table]):
                connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
                for row in rows:
                    values = sql.SQL(", ").join(sql.Placeholder() * len(row))
                    insert = sql.SQL("INSERT INTO {} VALUES ({})").format(sql.Identifier(table), values)
                    connection.execute(insert, row)

    @staticmethod
    @contextlib.contextmanager
    def _connected(url: str) -> Iterator[psycopg.Connection]:
        with contextlib.closing(psycopg.connect(url, autocommit=True)) as connection:
            yield connection


def _look(connection: psycopg.Connection) -> dict[str, Any]:
    (*told,) = connection.execute(_AS_MADE).fetchone() or ()
    rows = {
        name: connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(name))).fetchall() for name in _KEPT
    }
    return {"told": told, "rows": rows}
