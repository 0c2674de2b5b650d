"""One statement for many rows.

On SQLite SQLAlchemy would spend most of the time on each row's parameters, of which none has to be converted there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any, cast

from sqlalchemy import Connection, Table, Update
from sqlalchemy.exc import DBAPIError

from jobs.ledger.database.engine import is_alone

#: Rows that one statement inserts in SQLite. Of a statement for each row, half the time would go into running it.
_TOGETHER = 250

#: By statement: its text, the names of its parameters in their order, and the values of those that it brings itself.
_written: dict[Update, tuple[str, tuple[str, ...], Mapping[str, Any]]] = {}


def update_many(tx: Connection, statement: Update, rows: Sequence[Mapping[str, Any]]) -> None:
    """Runs an update, which is built once, for each row of parameters; no row does nothing."""
    if not rows:
        return
    if not is_alone(tx):
        tx.execute(statement, rows)
        return
    if statement not in _written:
        compiled = statement.compile(dialect=tx.dialect)
        brought = {name: bound.effective_value for name, bound in compiled.binds.items() if not bound.required}
        _written[statement] = str(compiled), tuple(compiled.positiontup or ()), brought
    text, names, own = _written[statement]
    tx.exec_driver_sql(text, [tuple([row[name] if name in row else own[name] for name in names]) for row in rows])


def insert_many(tx: Connection, table: Table, columns: tuple[str, ...], rows: Sequence[Sequence[Any]]) -> None:
    """Inserts rows, each with its values for these columns in their order; no row does nothing."""
    if not rows:
        return
    if not is_alone(tx):
        _copy(tx, f"COPY {table.name} ({', '.join(columns)}) FROM STDIN", rows)
        return
    whole = len(rows) - len(rows) % _TOGETHER
    for start in range(0, whole, _TOGETHER):
        values = tuple(chain.from_iterable(rows[start : start + _TOGETHER]))
        tx.exec_driver_sql(_insert(table.name, columns, _TOGETHER), values)
    if whole < len(rows):
        tx.exec_driver_sql(_insert(table.name, columns, 1), [tuple(row) for row in rows[whole:]])


def _copy(tx: Connection, statement: str, rows: Sequence[Sequence[Any]]) -> None:
    """PostgreSQL's own way for many rows, in the same transaction, with SQLAlchemy's errors."""
    driver, cursor = tx.dialect.loaded_dbapi, cast("Any", tx.connection.cursor())
    try:
        with cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)
    except driver.Error as error:
        raise DBAPIError.instance(
            statement, None, error, driver.Error, hide_parameters=True, dialect=tx.dialect
        ) from error


@cache
def _insert(table: str, columns: tuple[str, ...], rows: int) -> str:
    one = f"({', '.join('?' * len(columns))})"
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join([one] * rows)}"  # noqa: S608  names of ours
