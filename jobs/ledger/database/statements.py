"""Statements that are run often: compiled once, and run on the driver's own cursor.

SQLAlchemy looks a statement up, checks and converts at each run, and its rows find a column by name slowly: together
more work than the database's own. Here a statement, which stands as a constant in its module, is compiled at its first
run for an engine, and rows are named tuples. Errors are SQLAlchemy's all the same, with all that hears of them.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NoReturn, TypeVar

import orjson
from sqlalchemy import (
    BindParameter,
    Boolean,
    ColumnElement,
    Connection,
    Dialect,
    Select,
    bindparam,
    cast,
    literal_column,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import NullType, TypeDecorator, TypeEngine

Parameters = Mapping[str, Any]
Row = Any  # a named tuple
_Convert = Callable[[Any], Any]
_T = TypeVar("_T")
_NONE: Parameters = {}


def fetch(tx: Connection, statement: Any, parameters: Parameters = _NONE) -> list[Row]:
    """The rows of a question, each a named tuple of its columns.

    Raises:
        DBAPIError: As `Connection.execute`.
    """
    made = _compiled(tx.dialect, statement)
    return _run(tx, made.text, made.bound(parameters), made.rows, made.how)


def fetch_first(tx: Connection, statement: Any, parameters: Parameters = _NONE) -> Row | None:
    """The first row of a question; None: it has none. As `fetch`."""
    rows = fetch(tx, statement, parameters)
    return rows[0] if rows else None


def fetch_value(tx: Connection, statement: Any, parameters: Parameters = _NONE) -> Any:
    """The first column of the first row of a question; None: it has none. As `fetch`."""
    rows = fetch(tx, statement, parameters)
    return rows[0][0] if rows else None


def has_row(question: Select[Any]) -> ColumnElement[bool]:
    """Whether a question about the row around it has an answer; it is asked for each of these, by its index.

    Not `EXISTS`: PostgreSQL may turn that into a join, and then reads all rows that wait, of every batch, each time.
    """
    return question.limit(literal_column("1")).scalar_subquery().is_not(None)


#: Either database's own INSERT, which can say what to do where the row is there. By the dialect's name.
INSERT: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def run(tx: Connection, statement: Any, parameters: Parameters = _NONE) -> int:
    """Runs a change; how many rows it found.

    Raises:
        DBAPIError: As `Connection.execute`.
    """
    made = _compiled(tx.dialect, statement)
    return _run(tx, made.text, made.bound(parameters), _count, made.how)


def run_each(tx: Connection, statement: Any, rows: Sequence[Parameters]) -> None:
    """Runs a change once for each row of parameters, in one call of the driver. As `run`."""
    made = _compiled(tx.dialect, statement)
    _run(tx, made.text, [made.bound(row) for row in rows], _count, many=True)


def run_text(tx: Connection, text: str) -> Any:
    """Runs a text that takes no parameters; on PostgreSQL it may be several commands. As `run`.

    Returns the first value that one of them found; None: none did.
    """
    return _run(tx, text, None, _first_value)


def _run(
    tx: Connection,
    text: str,
    parameters: Any,
    take: Callable[[Any], _T],
    how: Mapping[str, Any] = _NONE,
    *,
    many: bool = False,
) -> _T:
    cursor: Any = None
    try:
        cursor = tx.connection.cursor()
        heard = tx.engine.dispatch.before_cursor_execute
        if heard:  # who listens to SQLAlchemy's statements hears of these, too
            heard(tx, cursor, text, parameters, None, many)
        if many:
            cursor.executemany(text, parameters)
        elif parameters is None:
            cursor.execute(text)
        else:
            cursor.execute(text, parameters, **how)
        taken = take(cursor)
        cursor.close()
    except BaseException as error:  # noqa: BLE001  also of a wait that was broken off, as SQLAlchemy
        tell(tx, error, text, cursor)
    return taken


def tell(tx: Connection, error: BaseException, text: str, cursor: Any) -> NoReturn:
    """Raises what a driver's cursor raised, as SQLAlchemy does: wrapped, listeners told, a lost connection given up."""
    tx._handle_dbapi_exception(error, text, None, cursor, None)  # noqa: SLF001  it has no public name
    raise error  # never reached; it raises always


def _count(cursor: Any) -> int:
    return int(cursor.rowcount)


def _first_value(cursor: Any) -> Any:
    while cursor.description is None:
        if not hasattr(cursor, "nextset") or not cursor.nextset():  # SQLite's has one command
            return None
    return cursor.fetchone()[0]


# -- one of many values --------------------------------------------------------------------------------------------


def among(column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    """Whether a column has one of the values of the list that is bound to a name.

    One parameter, however many values there are: `in_` would be another text for each number of them.
    """
    return _Among(column, bindparam(name, type_=_List(column.type)))


def array(name: str, of: TypeEngine[Any]) -> ColumnElement[Any]:
    """A parameter that is a list of values, as an array of PostgreSQL."""
    return cast(bindparam(name, type_=_List(of)), ARRAY(of))


class _List(TypeDecorator[list[Any]]):
    """Many values as one parameter: on SQLite a JSON array, on PostgreSQL the text of an array.

    psycopg takes lists, too, but looks up how to write each value of them: four times the work.
    """

    impl = NullType  # as Text it would be sent as text, which PostgreSQL compares with no number
    cache_ok = True

    def __init__(self, of: TypeEngine[Any]) -> None:
        super().__init__()
        self.of = of

    def process_bind_param(self, value: list[Any] | None, dialect: Dialect) -> Any:
        convert = self.of.dialect_impl(dialect).bind_processor(dialect)
        values = list(value or ()) if convert is None else [convert(each) for each in value or ()]
        if dialect.name == "postgresql":
            return "{" + ",".join([_element(each) for each in values]) + "}"
        return orjson.dumps(values).decode()


def _element(value: Any) -> str:
    """A value as it stands in the text of an array."""
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, int | float):
        return repr(value)
    raise TypeError(f"{type(value).__name__} cannot be written into an array")


class _Among(FunctionElement[bool]):
    name = "among"
    type = Boolean()
    inherit_cache = True
    _is_implicitly_boolean = True


@compiles(_Among, "sqlite")
def _among_json(element: _Among, compiler: SQLCompiler, **options: Any) -> str:
    column, values = (compiler.process(each, **options) for each in element.clauses)
    return f"({column} IN (SELECT value FROM json_each({values})))"  # noqa: S608  names of ours


@compiles(_Among, "postgresql")
def _among_array(element: _Among, compiler: SQLCompiler, **options: Any) -> str:
    column, values = (compiler.process(each, **options) for each in element.clauses)
    return f"({column} = ANY ({values}))"


# -- compiled ------------------------------------------------------------------------------------------------------


class _Compiled:
    """A statement as an engine's driver takes it."""

    __slots__ = ("_arrange", "_brought", "_converted", "_dialect", "_named", "_returned", "how", "text")

    def __init__(self, statement: Any, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        self._dialect = dialect
        wanted = {name for bound, name in compiled.bind_names.items() if bound.required}
        if any(bound.required and bound.expanding for bound in compiled.bind_names):
            raise TypeError("a list of values is bound by `among`, not by an expanding parameter")
        expanded = compiled.construct_expanded_state(dict.fromkeys(wanted))
        self.text = expanded.statement
        self._brought = {name: each for name, each in expanded.parameters.items() if name not in wanted}
        self._converted = tuple(_converted(compiled.bind_names, dialect))
        self._arrange = _arranged(expanded.positiontup or ()) if compiled.positional else None
        self._returned = tuple(getattr(statement, "selected_columns", ()))
        self._named: Callable[[Sequence[Any]], list[Row]] | None = None
        #: psycopg prepares it, where its connection may (`prepared`).
        self.how = {"prepare": True} if dialect.name == "postgresql" else _NONE

    def bound(self, parameters: Parameters) -> Any:
        """Parameters as the driver takes them: by place, or by name."""
        values = parameters
        if self._brought:
            values = {**self._brought, **parameters}
        if self._converted:
            values = dict(values)
            for name, convert in self._converted:
                values[name] = convert(values[name])
        return self._arrange(values) if self._arrange else values

    def rows(self, cursor: Any) -> list[Row]:
        """What a cursor found, converted, with names."""
        if self._named is None:
            self._named = self._naming(cursor.description)
        return self._named(cursor.fetchall())

    def _naming(self, description: Sequence[Any]) -> Callable[[Sequence[Any]], list[Row]]:
        row = namedtuple("row", [each[0] for each in description], rename=True)  # type: ignore[misc] # noqa: PYI024
        kinds = [each.type.dialect_impl(self._dialect) for each in self._returned]
        told = [each[1] for each in description]  # the driver's own types
        converts = [kind.result_processor(self._dialect, one) for kind, one in zip(kinds, told, strict=True)]
        places = [(place, convert) for place, convert in enumerate(converts) if convert is not None]
        if not places:
            return lambda rows: list(map(row._make, rows))

        def converted(rows: Sequence[Any]) -> list[Row]:
            made = []
            for told in rows:
                values = list(told)
                for place, convert in places:
                    values[place] = convert(values[place])
                made.append(row._make(values))
            return made

        return converted


def _converted(names: Mapping[BindParameter[Any], str], dialect: Dialect) -> list[tuple[str, _Convert]]:
    kinds = [(name, bound.type.dialect_impl(dialect)) for bound, name in names.items() if not bound.expanding]
    found = [(name, kind.bind_processor(dialect)) for name, kind in kinds]
    return [(name, convert) for name, convert in found if convert is not None]


def _arranged(names: Sequence[str]) -> Callable[[Parameters], tuple[Any, ...]]:
    if not names:
        return lambda _: ()
    if len(names) == 1:
        return lambda values: (values[names[0]],)
    return itemgetter(*names)


_ATTRIBUTE = "lightfast_statements"


def _compiled(dialect: Dialect, statement: Any) -> _Compiled:
    """By dialect, of which each engine has its own: what it converts depends on the ledger's folder.

    Kept on the dialect itself, so that they end with their engine: a compiled statement holds its dialect.
    """
    of_dialect: dict[Any, _Compiled] | None = getattr(dialect, _ATTRIBUTE, None)
    if of_dialect is None:
        of_dialect = {}
        setattr(dialect, _ATTRIBUTE, of_dialect)
    made = of_dialect.get(statement)
    if made is None:
        made = of_dialect[statement] = _Compiled(statement, dialect)
    return made
