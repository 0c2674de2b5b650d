"""One statement for many rows.

PostgreSQL would read and plan a statement for each row: it is given the rows as arrays instead.
"""

from __future__ import annotations

import contextlib
import enum
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import chain, repeat
from typing import Any, cast

from sqlalchemy import BindParameter, Connection, Index, Table, Update, column, exists, func, select
from sqlalchemy.sql import visitors
from sqlalchemy.types import NullType, TypeEngine

from jobs.ledger.database.engine import is_alone
from jobs.ledger.database.statements import array, run, run_each, tell

#: Rows that one statement inserts in SQLite. Of a statement for each row, half the time would go into running it.
TOGETHER = 250


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
    arrays = [array(name, kind) for name, kind in types.items()]
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
    whole = len(rows) - len(rows) % TOGETHER
    for start in range(0, whole, TOGETHER):
        values = tuple(chain.from_iterable(rows[start : start + TOGETHER]))
        tx.exec_driver_sql(_insert(table.name, columns, TOGETHER), values)
    if whole < len(rows):
        tx.exec_driver_sql(_insert(table.name, columns, 1), [tuple(row) for row in rows[whole:]])


class Inserter:
    """Inserts many rows into a table, some at once, which come by column.

    A column has a value for each row, or one for all of them; a `range` counts on from row to row. In SQLite half the
    time would go into handing over each value: what many rows have in common is handed over once.
    """

    def __init__(self, tx: Connection, table: Table, columns: tuple[str, ...]) -> None:
        self._tx, self._table, self._columns = tx, table.name, columns
        #: Columns that once were not the same in all rows: from then on they are handed over row by row, so that there
        #: are few statements. To read one takes longer than to run it.
        self._unlike: set[int] = set()

    def insert(self, count: int, values: Sequence[Sequence[Any]]) -> None:
        """The next `count` rows; none does nothing."""
        if not is_alone(self._tx):
            _copy(self._tx, f"COPY {self._table} ({', '.join(self._columns)}) FROM STDIN", _rows(count, values))
            return
        for start in range(0, count, TOGETHER):
            of_part = slice(start, min(start + TOGETHER, count))
            part = [given[of_part] if len(given) == count else given for given in values]
            self._insert_some(of_part.stop - start, part)

    def _insert_some(self, count: int, values: Sequence[Sequence[Any]]) -> None:
        if count < TOGETHER:
            text = _insert(self._table, self._columns, 1)
            self._tx.exec_driver_sql(text, list(_rows(count, values)))
            return
        self._unlike |= {at for at, given in enumerate(values) if len(given) > 1 and not isinstance(given, range)}
        kinds, shared, own = list[_Given](), list[Any](), list[Any]()
        for at, given in enumerate(values):
            if at in self._unlike:
                kinds.append(_Given.EACH)
                own += _quick(given) if len(given) == count else repeat(given[0], count)
            else:
                kinds.append(_Given.COUNTED if len(given) > 1 else _Given.ONCE)
                shared.append(given[0])
        self._tx.exec_driver_sql(_insert_by_column(self._table, self._columns, tuple(kinds), count), (*shared, *own))


@contextlib.contextmanager
def indexed_when_filled(tx: Connection, index: Index) -> Iterator[None]:
    """Whoever fills an empty table of SQLite within has this index made of all rows at the end, in their transaction.

    It is for an index whose entries come in no order: each row would change another page of it, which takes a third of
    the time of all. In PostgreSQL nobody else could read the table meanwhile.
    """
    is_first = is_alone(tx) and not tx.execute(select(exists(select(*index.columns)))).scalar()
    if is_first:
        index.drop(tx)
    yield
    if is_first:
        index.create(tx)


class _Given(enum.Enum):
    """How a column is handed over: a value for each row, one for all, or the first, from which they are counted."""

    EACH = enum.auto()
    ONCE = enum.auto()
    COUNTED = enum.auto()


def _quick(given: Sequence[Any]) -> Iterable[Any]:
    """Python's sqlite3 looks for a way to convert each value that is `bytes`, which takes long; not for a bytearray."""
    return map(bytearray, given) if {*map(type, given)} == {bytes} else given


def _rows(count: int, values: Sequence[Sequence[Any]]) -> Iterator[tuple[Any, ...]]:
    return zip(*[given if len(given) == count else repeat(given[0], count) for given in values], strict=True)


def _copy(tx: Connection, statement: str, rows: Iterable[Sequence[Any]]) -> None:
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


@lru_cache(maxsize=64)
def _insert_by_column(table: str, columns: tuple[str, ...], kinds: tuple[_Given, ...], rows: int) -> str:
    """Its parameters: those that all rows share, by column; then those of each other column, row by row."""
    shared = itertools.count(1)
    own = itertools.count(1 + sum(kind is not _Given.EACH for kind in kinds), rows)
    firsts = [next(own if kind is _Given.EACH else shared) for kind in kinds]

    def value(kind: _Given, first: int, row: int) -> str:
        if kind is _Given.EACH:
            return f"?{first + row}"
        return f"?{first} + {row}" if kind is _Given.COUNTED else f"?{first}"

    each = (", ".join(value(*of_column, row) for of_column in zip(kinds, firsts, strict=True)) for row in range(rows))
    # FAIL leaves the rows before a refused one, which the transaction takes back; to undo them here SQLite would save
    # every page that the statement changes.
    into = f"INSERT OR FAIL INTO {table} ({', '.join(columns)})"
    return f"{into} VALUES {', '.join(f'({one})' for one in each)}"  # names of ours
