"""One statement for many rows.

PostgreSQL would read and plan a statement for each row: it is given the rows as arrays instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any, cast

from sqlalchemy import BindParameter, Connection, Table, Update, bindparam, column, func
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql import visitors
from sqlalchemy.types import NullType, TypeEngine

from jobs.ledger.database.engine import is_alone
from jobs.ledger.database.statements import run, run_each, tell

#: Rows that one statement inserts in SQLite. Of a statement for each row, half the time would go into running it.
_TOGETHER = 250


def update_many(tx: Connection, statement: Update, rows: Sequence[Mapping[str, Any]]) -> None:
    """Runs an update, which is built once, for each row of parameters; no row does nothing."""
    if len(rows) == 1:
        run(tx, statement, rows[0])
    elif rows and is_alone(tx):
        run_each(tx, statement, rows)
    elif rows:
        _update_by_arrays(tx, statement, rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class _ByArrays:
    """An update of all rows that its parameters name: each is an array, with a value for each row."""

    statement: Update
    names: tuple[str, ...]
    key: tuple[str, ...]  # of these, those that tell which row it is


def _update_by_arrays(tx: Connection, statement: Update, rows: Sequence[Mapping[str, Any]]) -> None:
    made = _by_arrays(statement)
    for together in _each_once(rows, made.key):
        run(tx, made.statement, {name: [row[name] for row in together] for name in made.names})


def _each_once(rows: Sequence[Mapping[str, Any]], key: tuple[str, ...]) -> Iterator[list[Mapping[str, Any]]]:
    """The rows in their order, in groups that name no row twice: one statement changes a row once."""
    group: list[Mapping[str, Any]] = []
    named: set[tuple[Any, ...]] = set()
    for row in rows:
        which = tuple([row[name] for name in key])
        if which in named:
            yield group
            group, named = [], set()
        group.append(row)
        named.add(which)
    yield group


@cache
def _by_arrays(statement: Update) -> _ByArrays:
    """The update with `unnest` of arrays in the place of its parameters."""
    types: dict[str, TypeEngine[Any]] = {}
    table = cast("Table", statement.table)
    for assigned, value in cast("Any", statement)._values.items():  # noqa: SLF001  what `values` was given
        at = table.c[assigned] if isinstance(assigned, str) else assigned
        types |= {name: kind for name, kind in _wanted(value, at.type) if name not in types}
    conditions = statement._where_criteria  # noqa: SLF001  what `where` was given
    key = dict(each for condition in conditions for each in _wanted(condition, NullType()))
    types |= key
    arrays = [bindparam(name, type_=ARRAY(kind)) for name, kind in types.items()]
    row = func.unnest(*arrays).table_valued(*[column(name, kind) for name, kind in types.items()]).render_derived()

    def in_its_place(element: Any, **_: Any) -> Any:
        return row.c[element.key] if isinstance(element, BindParameter) and element.key in types else None

    changed = cast("Update", visitors.replacement_traverse(statement, {}, in_its_place))
    return _ByArrays(statement=changed, names=tuple(types), key=tuple(key))


def _wanted(clause: Any, otherwise: TypeEngine[Any]) -> Iterator[tuple[str, TypeEngine[Any]]]:
    """The parameters that each row gives, with their types; of one that has none `otherwise`."""
    for element in visitors.iterate(clause):
        if isinstance(element, BindParameter) and element.required:
            yield element.key, otherwise if isinstance(element.type, NullType) else element.type


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
    cursor = cast("Any", tx.connection.cursor())
    try:
        with cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)
    except tx.dialect.loaded_dbapi.Error as error:
        tell(tx, error, statement, cursor)


@cache
def _insert(table: str, columns: tuple[str, ...], rows: int) -> str:
    one = f"({', '.join('?' * len(columns))})"
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {', '.join([one] * rows)}"  # noqa: S608  names of ours
