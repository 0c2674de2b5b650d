"""Connections and transactions, and what errors of a database mean."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    ExceptionContext,
    create_engine,
    event,
    make_url,
    select,
    text,
)
from sqlalchemy.exc import DBAPIError, DisconnectionError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import NullPool, QueuePool, StaticPool

from jobs.errors import LightfastError
from jobs.ledger.database import file_troubles, prepared, schema
from jobs.ledger.database.folder_destinations import count_from
from jobs.ledger.database.statements import run_text

#: Seconds a SQLite writer waits for another process's transaction. Long: a manifest of a million rows is one.
_BUSY_SECONDS = 120
#: KiB of a SQLite file that a connection keeps in memory. More would make a process grow with its ledger, and not make
#: it faster: the system keeps what is read as well, and rows were recorded more slowly with 32,000.
_WRITER_CACHE, _READER_CACHE = 16_000, 2_000
#: Seconds between two tries where SQLite does not wait by itself.
_BUSY_LOOK = 0.02
#: Times a PostgreSQL transaction is run again after a deadlock or a serialization failure, or where what a session had
#: prepared is of no use. Facts are idempotent.
_RETRIES = 5
_RETRYABLE = {"40001", "40P01", *prepared.MISPREPARED}
#: A session that takes no writes: of a primary that was demoted, or of a server that is read-only. PostgreSQL leaves it
#: open, so that nobody takes it for a dead connection; a new one may lead to a server that writes.
_READ_ONLY = "25006"
#: SQLSTATEs of a session that is of no use any more: read-only, left in a transaction that failed, or ended by the
#: server (shut down, crashed, starting, database dropped, idle for too long).
_USELESS = {*prepared.MISPREPARED, _READ_ONLY, "25P02", "25P03", "57P01", "57P02", "57P03", "57P04", "57P05"}
#: SQLite's own codes: a file that may not be written, and one of its extended forms, a file that is not at its place.
_SQLITE_READONLY, _SQLITE_MOVED = 8, 1032
#: Bytes below which the disk of a SQLite ledger counts as full.
_LEAST_ROOM = 1024 * 1024
#: Seconds after which a connection that nobody used is asked whether it is alive.
_IDLE = 1.0
#: Seconds a new connection may take when it is asked whether the database answers at all.
_ANEW = 5

_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(slots=True, kw_only=True)
class Database:
    """A ledger's engines. SQLite has one writing connection, so a transaction never waits for its own process."""

    url: URL
    writer: Engine
    reader: Engine
    path: Path | None
    preparer: Engine | None = None  # see `planned_once`
    existed: bool = True
    tells_origin: bool = False  # whether the server says where it comes from; see `server`
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def is_sqlite(self) -> bool:
        """True for SQLite, the embedded default."""
        return self.url.get_backend_name() == "sqlite"

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A writing transaction: BEGIN IMMEDIATE on SQLite, so it never finds out late that it may not write."""
        with self.lock if self.is_sqlite else contextlib.nullcontext(), self.writer.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def filling(self) -> Iterator[Connection]:
        """A writing transaction for a mass of new rows that refer to each other, and to what it writes itself.

        SQLite does not look up what each row refers to. Where it does, it also saves, before each statement of many
        rows, every page that this changes, so as to undo the statement alone: more bytes than the rows have.
        """
        if not self.is_sqlite:
            with self.writing() as connection:
                yield connection
            return
        with self.lock, self.writer.connect() as connection:
            driver = cast("Any", connection.connection.driver_connection)
            driver.execute("PRAGMA foreign_keys=OFF")  # before the transaction: within one it does nothing
            try:
                with connection.begin():
                    yield connection
            finally:
                if not connection.invalidated:
                    driver.execute("PRAGMA foreign_keys=ON")

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A reading transaction with one consistent view."""
        with self.reader.begin() as connection:
            yield connection

    def write(self, work: Callable[Concatenate[Connection, _P], _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Runs `work` in one writing transaction; again from its beginning after a deadlock or a lost connection.

        Raises:
            DBAPIError: The database is away, or refuses what `work` writes.
        """
        tries = 0
        while True:
            try:
                with self.writing() as tx:
                    return work(tx, *args, **kwargs)
            except DBAPIError as error:
                tries += 1
                if not retried(error, tries):
                    raise

    def read(self, work: Callable[Concatenate[Connection, _P], _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Runs `work` in one reading transaction."""
        with self.reading() as tx:
            return work(tx, *args, **kwargs)

    @property
    def planned_once(self) -> Database:
        """The same, for transactions that are very frequent, where there is one right way to find each row.

        That is its key, or an index that holds only what is due. PostgreSQL plans these once for all values. What runs
        with SQLAlchemy's own `execute` is planned as anywhere.
        """
        return self if self.preparer is None else replace(self, writer=self.preparer, preparer=None)

    def close(self) -> None:
        """Closes every connection: one that a thread still uses when that thread gives it back."""
        for engine in (self.writer, self.reader):
            event.listen(engine, "checkin", _end)
            engine.dispose()


def _end(_connection: object, record: Any) -> None:
    record.close()


def is_alone(tx: Connection) -> bool:
    """Whether nobody else can write while this transaction does, whatever rows it has locked: as on SQLite."""
    return tx.dialect.name == "sqlite"


def normalized(url: str) -> URL:
    """`postgres://` and `postgresql://` mean psycopg."""
    parsed = make_url(url.replace("postgres://", "postgresql://", 1) if url.startswith("postgres://") else url)
    return parsed.set(drivername="postgresql+psycopg") if parsed.get_backend_name() == "postgresql" else parsed


def connect(url: str) -> Database:
    """The engines for a ledger's address; nothing is opened or made yet."""
    parsed = normalized(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed)
    if parsed.get_backend_name() == "postgresql":
        return _postgresql(parsed)
    raise LightfastError(f"a ledger lives in SQLite or PostgreSQL, not in {parsed.get_backend_name()}")


def _sqlite(url: URL) -> Database:
    in_memory = url.database in (None, "", ":memory:")
    options: dict[str, Any] = {
        "hide_parameters": True,
        "connect_args": {"timeout": _BUSY_SECONDS, "check_same_thread": False},
    }
    if in_memory:
        engine = create_engine(url, poolclass=StaticPool, **options)
        _with_pragmas(engine, "BEGIN IMMEDIATE", _WRITER_CACHE)
        return Database(url=url, writer=engine, reader=engine, path=None)
    path = Path(str(url.database)).absolute()
    writer = create_engine(url, poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=600, **options)
    reader = create_engine(url, poolclass=QueuePool, pool_size=4, **options)
    for engine in (writer, reader):
        count_from(engine, path.parent)
        file_troubles.remember_path(engine, path)
    _with_pragmas(writer, "BEGIN IMMEDIATE", _WRITER_CACHE)
    return Database(
        url=url,
        writer=writer,
        reader=_with_pragmas(reader, "BEGIN", _READER_CACHE),
        path=path,
        existed=path.exists(),
    )


def _with_pragmas(engine: Engine, begin: str, cache: int) -> Engine:
    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver must not open transactions of its own kind
        _use_wal(connection)
        for pragma in ("synchronous=FULL", "foreign_keys=ON", f"cache_size=-{cache}"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        run_text(connection, begin)

    if not isinstance(engine.pool, StaticPool):  # which is the only copy of a ledger in memory
        _throw_useless_away(engine)
    return engine


def _use_wal(connection: Any) -> None:
    """Write-ahead logging. SQLite does not wait by itself for others that look into a new file at this moment."""
    end = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= end:
                raise
            time.sleep(_BUSY_LOOK)
        else:
            return


def _throw_useless_away(engine: Engine) -> None:
    """A connection that takes no writes, and all that are as old, are never used again; see `is_read_only`."""

    @event.listens_for(engine, "handle_error")
    def _judge(context: ExceptionContext) -> None:
        error = context.original_exception
        if is_read_only(error) or getattr(error, "sqlstate", None) in _USELESS:
            context.is_disconnect = True


#: How a PostgreSQL transaction begins. What the ledger needs of the server is set in each one, in the same message: a
#: pooler may give every transaction another session, and may drop what was asked for at the start of one.
#: synchronous_commit is ours to insist on: an intent that a crash forgets is money paid twice.
#: A process that stands still in the middle (stopped, or its machine is) holds rows that others wait for: the server
#: ends its session. Not so for reads, which hold nobody up: of results that somebody pages through one may stand long.
_BEGIN_WRITING = (
    "BEGIN; SET LOCAL synchronous_commit = on; SET LOCAL lock_timeout = '60s'; "
    "SET LOCAL idle_in_transaction_session_timeout = '30s'"
)
#: Sums of several statements come out only in one view of the rows.
_BEGIN_READING = "BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL lock_timeout = '60s'"


def _postgresql(url: URL) -> Database:
    engine = create_engine(
        url,
        pool_size=8,
        max_overflow=8,
        pool_use_lifo=True,  # a connection that was just used has its statements ready
        hide_parameters=True,
        isolation_level="AUTOCOMMIT",  # the driver must not open transactions of its own kind
        use_native_hstore=False,  # a question at each start, to which no column of ours needs an answer
        connect_args={
            **_connect_args(url, seconds=10),
            # A connection whose other end is gone without a word fails within a minute instead of a quarter of an hour.
            "keepalives_idle": 20,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": 45_000,
        },
    )

    preparing = prepared.Preparing()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        begin = preparing.begin if options.get("prepares") else prepared.begin_unprepared
        begin(connection, options.get("begins_with", _BEGIN_WRITING))

    _throw_useless_away(engine)
    preparing.watch(engine)
    _ask_what_lay_idle(engine)
    reader = engine.execution_options(begins_with=_BEGIN_READING)
    preparer = engine.execution_options(prepares=True)
    prepared.plan_others_as_usual(preparer)
    return Database(url=url, writer=engine, reader=reader, preparer=preparer, path=None)


def _ask_what_lay_idle(engine: Engine) -> None:
    """Before a connection that was not used for a while is used again, it is asked whether it is alive.

    SQLAlchemy's own `pool_pre_ping` asks each time, which is as much as one statement more in each transaction.
    """

    @event.listens_for(engine, "checkin")
    def _note(_connection: Any, record: Any) -> None:
        record.info[_USED_AT] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _ask(connection: Any, record: Any, _proxy: Any) -> None:
        if time.monotonic() - record.info.get(_USED_AT, time.monotonic()) < _IDLE:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise DisconnectionError(str(error)) from error


_USED_AT = "lightfast_used_at"  # in what SQLAlchemy's pool remembers of a connection


def _connect_args(url: URL, *, seconds: int) -> dict[str, Any]:
    """What every connection to this PostgreSQL server needs. `seconds`: that it may take to come about.

    Nothing is prepared until a transaction has found out that it may (`prepared`).
    """
    return {"connect_timeout": seconds, "prepare_threshold": None, **_which_of(url)}


def _which_of(url: URL) -> dict[str, str]:
    """Of several hosts, the one that writes. Of one there is no choice, and a standby may well be read."""
    hosts = url.query.get("host", ())
    several = len(hosts) > 1 if isinstance(hosts, tuple) else "," in hosts
    return {"target_session_attrs": "read-write"} if several and "target_session_attrs" not in url.query else {}


def _fresh(database: Database) -> Engine:
    """Connections to a PostgreSQL server that share nothing with those of the pool."""
    return create_engine(database.url, poolclass=NullPool, connect_args=_connect_args(database.url, seconds=_ANEW))


def answers(database: Database) -> bool:
    """Whether the database answers on a new connection, which shares nothing with those that may hang."""
    if database.is_sqlite:
        return True
    try:
        with _fresh(database).connect() as connection:
            return connection.execute(text("SELECT 1")).scalar() == 1
    except (DBAPIError, OSError):
        return False


def unwritable(database: Database) -> str | None:
    """Why a database that answers takes no writes, in words that follow "the ledger"; None: it does.

    A session of the pool that is read-only while new ones are not is thrown away, with all that are as old.
    """
    if database.is_sqlite:
        return _file_unwritable(database.path)
    with database.reading() as connection:
        found = _standing(connection)
    if found is None:
        return None
    with _fresh(database).connect() as connection:
        found = _standing(connection)
    if found is None:
        database.writer.dispose()
    return found


def _standing(connection: Connection) -> str | None:
    standby, read_only = connection.execute(
        text("SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on'")
    ).one()
    if standby:
        return "is read-only: its server is a standby, or was demoted to one"
    return "is read-only: its server takes no writes (default_transaction_read_only)" if read_only else None


def _file_unwritable(path: Path | None) -> str | None:
    if path is None:
        return None
    if shutil.disk_usage(path.parent).free < _LEAST_ROOM:
        return f"cannot be written: the disk of {path.parent} is full"
    there = f"{path.absolute().as_uri()}?mode=rw"  # else one that was moved away would get an empty file in its place
    try:
        with contextlib.closing(sqlite3.connect(there, timeout=0, isolation_level=None, uri=True)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("UPDATE ledger SET id = id")  # BEGIN alone does not fail on a read-only file
            connection.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        return "is read-only: its file may not be written" if is_read_only(error) else None  # else somebody writes
    return None


def retried(error: DBAPIError, tries: int) -> bool:
    """Whether a transaction that failed with `error` may simply run again."""
    if is_read_only(error):
        return tries == 1  # on a new connection; where that is read-only too, the database is away
    state = getattr(error.orig, "sqlstate", None)
    return state in _RETRYABLE and tries < _RETRIES


def is_away(error: BaseException) -> bool:
    """Whether nothing can be written now: locked, full, away, read-only. Else what was to be written is to blame.

    psycopg calls a read-only session's refusal an internal error.
    """
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    return isinstance(error, (OperationalError, InterfaceError, PoolTimeoutError, OSError)) or is_read_only(error)


def is_read_only(error: BaseException) -> bool:
    """Whether the database, or the session, takes no writes while it may well be read."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if getattr(cause, "sqlstate", None) == _READ_ONLY:
        return True
    code = getattr(cause, "sqlite_errorcode", None) or 0
    return code & 0xFF == _SQLITE_READONLY and code != _SQLITE_MOVED  # one that was moved is saved from its connection


def shown(url: URL) -> str:
    """A ledger's address for people: a full path, or a URL without its password."""
    if url.get_backend_name() == "sqlite" and url.database:
        return str(Path(url.database).absolute())
    return url.difference_update_query(_PASSWORDS).render_as_string(hide_password=True)


#: Of libpq's parameters in a URL's query.
_PASSWORDS = ("password", "sslpassword")


def identity(database: Database) -> tuple[str, float, str]:
    """The ledger's own id, its birth in Unix seconds, and its secret."""
    with database.reading() as connection:
        row = connection.execute(select(schema.ledger)).one()
    return row.id, row.created_at, row.secret


def clock_offset(database: Database) -> float:
    """The database's clock minus ours, in seconds: with many machines, its clock is the one that counts."""
    if database.is_sqlite:
        return 0.0
    with database.reading() as connection:
        before = time.time()
        theirs = connection.execute(text("SELECT extract(epoch FROM clock_timestamp())::float8")).scalar_one()
        return float(theirs) - (before + time.time()) / 2
