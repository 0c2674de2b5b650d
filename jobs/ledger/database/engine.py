"""Connections and transactions, how a ledger is made and upgraded, and the lock of the one worker on SQLite."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import platform
import secrets
import shutil
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TextIO, TypeVar

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    ExceptionContext,
    create_engine,
    event,
    insert,
    inspect,
    make_url,
    select,
    text,
)
from sqlalchemy.exc import DatabaseError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import NullPool, QueuePool, StaticPool

from jobs.errors import LedgerBusy, LightfastError, WrongSchema
from jobs.formatting import utc
from jobs.ledger.database import file_troubles, pooler, schema
from jobs.ledger.database.folder_destinations import count_from

#: The newest step in migrations/versions; a test holds it to that.
HEAD = "0023"

#: Seconds a SQLite writer waits for another process's transaction. Long: a manifest of a million rows is one.
_BUSY_SECONDS = 120
#: Seconds between two tries where SQLite does not wait by itself.
_BUSY_LOOK = 0.02
#: Times a PostgreSQL transaction is run again after a deadlock or a serialization failure. Facts are idempotent.
_RETRIES = 5
_RETRYABLE = {"40001", "40P01"}
#: A session that takes no writes: of a primary that was demoted, or of a server that is read-only. PostgreSQL leaves it
#: open, so that nobody takes it for a dead connection; a new one may lead to a server that writes.
_READ_ONLY = "25006"
#: SQLSTATEs of a session that is of no use any more: read-only, left in a transaction that failed, or ended by the
#: server (shut down, crashed, starting, database dropped, idle for too long).
_USELESS = {_READ_ONLY, "25P02", "25P03", "57P01", "57P02", "57P03", "57P04", "57P05"}
#: SQLite's own codes: a file that may not be written, and one of its extended forms, a file that is not at its place.
_SQLITE_READONLY, _SQLITE_MOVED = 8, 1032
#: Bytes below which the disk of a SQLite ledger counts as full.
_LEAST_ROOM = 1024 * 1024
#: Seconds a new connection may take when it is asked whether the database answers at all.
_ANEW = 5
#: The advisory lock under which a PostgreSQL schema is made or upgraded: "ligh" as a number.
SCHEMA_LOCK = 0x6C696768
#: Seconds that a process waits while another one makes or upgrades the schema.
_SCHEMA_WAIT = 600

_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(slots=True, kw_only=True)
class Database:
    """A ledger's engines. SQLite has one writing connection, so a transaction never waits for its own process."""

    url: URL
    writer: Engine
    reader: Engine
    path: Path | None
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

    def close(self) -> None:
        """Closes every connection."""
        self.writer.dispose()
        self.reader.dispose()


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
        engine = _with_pragmas(create_engine(url, poolclass=StaticPool, **options), "BEGIN IMMEDIATE")
        return Database(url=url, writer=engine, reader=engine, path=None)
    path = Path(str(url.database)).absolute()
    writer = create_engine(url, poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=600, **options)
    reader = create_engine(url, poolclass=QueuePool, pool_size=4, **options)
    for engine in (writer, reader):
        count_from(engine, path.parent)
        file_troubles.remember_path(engine, path)
    return Database(
        url=url,
        writer=_with_pragmas(writer, "BEGIN IMMEDIATE"),
        reader=_with_pragmas(reader, "BEGIN"),
        path=path,
        existed=path.exists(),
    )


def _with_pragmas(engine: Engine, begin: str) -> Engine:
    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver must not open transactions of its own kind
        _use_wal(connection)
        for pragma in ("synchronous=FULL", "foreign_keys=ON", "cache_size=-32000"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

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
        pool_pre_ping=True,
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

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("begins_with", _BEGIN_WRITING))

    _throw_useless_away(engine)
    reader = engine.execution_options(begins_with=_BEGIN_READING)
    return Database(url=url, writer=engine, reader=reader, path=None)


def _connect_args(url: URL, *, seconds: int) -> dict[str, Any]:
    """What every connection to this PostgreSQL server needs. `seconds`: that it may take to come about.

    No prepared statements: behind a pooler the next transaction may run in a session that does not know them.
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


# -- birth and upgrade ---------------------------------------------------------------------------------------------


#: What SQLite says of a file that is not as it left it.
_DAMAGED = ("malformed", "not a database")
_OF_THE_DAMAGED = (
    "Put a copy of it back, or what `sqlite3 FILE .recover` can read of it; an older copy does not know what was sent "
    "since and would pay for it again. Without one,  lightfast adopt DEST  rebuilds it from the stored images"
)


def prepare(database: Database, *, create: bool, upgrade: bool) -> None:
    """Makes an empty schema, upgrades SQLite after a copy, refuses any other schema than ours."""
    if database.path is not None:
        if not create and not database.path.exists():
            raise LightfastError(f"there is no ledger at {database.path}")
        _make_folder(database.path.parent)
    try:
        _prepare_schema(database, create=create, upgrade=upgrade)
    except DatabaseError as error:
        where, said = shown(database.url), str(error.orig)
        if database.is_sqlite and any(word in said for word in _DAMAGED):
            raise LightfastError(f"the ledger at {where} is damaged: {said}. {_OF_THE_DAMAGED}") from error
        if why := file_troubles.file_trouble(error):
            raise LightfastError(f"the ledger {where} {why}. Nothing was spent.") from error
        remedy = next((f". {words}" for mark, words in pooler.REMEDIES if mark in said), "")
        raise LightfastError(f"the ledger at {where} cannot be opened: {said.strip()}{remedy}") from error


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LightfastError(
            f"the ledger's folder {folder} cannot be made: {error.strerror}. Make it, or name another place in "
            "database_url. Nothing was spent."
        ) from error


def _prepare_schema(database: Database, *, create: bool, upgrade: bool) -> None:
    if not database.is_sqlite:
        _demand_options(database)
    with database.reading() as connection:
        found = revision(connection)
    if found == HEAD:
        return
    if found is None and create:
        _be_born(database)
    elif found is not None and (upgrade or database.is_sqlite) and _is_older(found):
        _upgrade(database)
    else:
        _refuse(database, found)


def _demand_options(database: Database) -> None:
    """A pooler may drop the user's start-up options without a word: a search_path leads to other tables then."""
    asked = pooler.options_of(database.url.query.get("options") or os.environ.get("PGOPTIONS", ""))
    if not asked:
        return
    with database.reading() as connection:
        dropped = [f"{name} = {value}" for name, value in asked.items() if not _holds(connection, name, value)]
    if dropped:
        raise LightfastError(f"the ledger at {shown(database.url)} cannot be opened: {pooler.dropped(dropped)}")


def _holds(connection: Connection, name: str, value: str) -> bool:
    """Whether a setting of this session is what was asked for, written as the server would write it."""
    before = connection.execute(text("SELECT current_setting(:name, true)"), {"name": name}).scalar()
    asked = text("SELECT set_config(:name, :value, true)")
    return connection.execute(asked, {"name": name, "value": value}).scalar() == before


def revision(connection: Connection) -> str | None:
    """The schema's step, or None where there is no schema."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _be_born(database: Database) -> None:
    with database.writing() as connection:
        _lock_schema(connection)
        if revision(connection) is not None:
            return  # another process was first
        _demand_empty(database, connection)
        schema.metadata.create_all(connection)
        born = {"id": uuid.uuid4().hex, "created_at": time.time(), "secret": secrets.token_hex(32)}
        connection.execute(insert(schema.ledger).values(**born))
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
        connection.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": HEAD})
    database.existed = False


def _demand_empty(database: Database, connection: Connection) -> None:
    """Tables of these names may be another program's, or a ledger's whose version was lost: neither is written to."""
    ours = {*schema.metadata.tables, "alembic_version"}
    taken = sorted(ours & set(inspect(connection).get_table_names()))
    if taken:
        raise WrongSchema(
            f"the database at {shown(database.url)} is no ledger, and has tables of these names already: "
            f"{', '.join(taken)}. Give Lightfast a database, or a PostgreSQL schema, of its own; if this is a restored "
            "ledger, its table alembic_version was left out. Nothing was changed."
        )


def _is_older(found: str) -> bool:
    return found.isdigit() and int(found) < int(HEAD)


def _upgrade(database: Database) -> None:
    from jobs.ledger.database import migrations  # noqa: PLC0415  alembic is slow to import and seldom needed

    if database.path is None:
        with database.writing() as connection:
            _lock_schema(connection)
            migrations.upgrade(connection)  # looks at the schema now: where another process was first, nothing is left
        return
    if is_locked(database):
        raise LedgerBusy(
            f"{_who_holds(f'{database.path}.lock')} It works with an older version, and the ledger is brought to this "
            "version's schema when it has ended: wait for it, or stop it with Ctrl-C. Nothing was changed."
        )
    _copy_sqlite(database, _free(database.path.with_name(f"{database.path.name}.before-{HEAD}")))
    with database.writing() as connection:
        migrations.upgrade(connection)


def _lock_schema(connection: Connection) -> None:
    """One process at a time makes or upgrades the schema, until its transaction ends; the others wait.

    SQLite's writing transactions are alone anyway.
    """
    if connection.dialect.name == "postgresql":
        wait = text("SELECT set_config('lock_timeout', :wait, true)")
        before = connection.execute(text("SELECT current_setting('lock_timeout')")).scalar_one()
        connection.execute(wait, {"wait": f"{_SCHEMA_WAIT}s"})
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": SCHEMA_LOCK})
        connection.execute(wait, {"wait": before})


def _free(path: Path) -> Path:
    """The path, or with a number where something is: an older copy may be the only good one."""
    numbered = (path.with_name(f"{path.name}~{number}") for number in itertools.count(2))
    return next(each for each in itertools.chain([path], numbered) if not os.path.lexists(each))


def _copy_sqlite(database: Database, copy: Path) -> None:
    with database.reader.connect() as connection:
        connection.connection.driver_connection.execute("VACUUM INTO ?", (str(copy),))  # type: ignore[union-attr]
    shutil.copystat(str(database.path), copy)


def _refuse(database: Database, found: str | None) -> None:
    where = shown(database.url)
    if found is None:
        raise WrongSchema(f"the ledger at {where} has no schema yet.  Run  lightfast migrate")
    if _is_older(found):
        raise WrongSchema(
            f"the ledger at {where} has schema {found}, this program needs {HEAD}.  Run  lightfast migrate"
        )
    if not found.isdigit():
        raise WrongSchema(f"the database at {where} is another program's (its schema is {found}). Use one of its own")
    raise WrongSchema(f"the ledger at {where} has schema {found}, newer than this program's {HEAD}.  Update Lightfast")


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


# -- one worker at a time ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def worker_lock(database: Database, *, serves: bool = False) -> Iterator[None]:
    """The file lock beside a SQLite ledger. Having it proves that every earlier holder is dead: the system frees it.

    `serves`: the holder works on everything on record, and on what comes later.
    """
    if database.path is None:
        yield
        return
    path = database.path.with_name(database.path.name + ".lock")
    with _opened(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LedgerBusy(_who_holds(file.name)) from None
        _sign(file.fileno(), serves=serves)
        yield


def _opened(path: Path) -> TextIO:
    try:
        return path.open("a+")
    except OSError as error:
        raise LightfastError(
            f"the ledger {path.with_suffix('')} cannot be worked on: {path} cannot be written ({error.strerror}). "
            "Allow this user to write to its folder. Nothing was spent."
        ) from error


def is_locked(database: Database) -> bool:
    """Whether somebody works on a SQLite ledger. Where its folder may not be written, a look at the lock is enough."""
    if database.path is None:
        return False
    try:
        with database.path.with_name(database.path.name + ".lock").open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # two who look do not take each other for a worker
    except BlockingIOError:
        return True
    except OSError:  # nobody has ever worked on it, or it cannot be seen
        return False
    return False


def is_served(database: Database) -> bool:
    """Whether somebody works on everything that a SQLite ledger holds, and on what is recorded there now."""
    if database.path is None or not is_locked(database):
        return False
    try:
        signed = json.loads(database.path.with_name(database.path.name + ".lock").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(signed, dict) and bool(signed.get("serves"))


def _sign(descriptor: int, *, serves: bool) -> None:
    signed = {"pid": os.getpid(), "host": platform.node(), "since": utc(time.time()), "serves": serves}
    holder = json.dumps(signed)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, holder.encode(), 0)


def _who_holds(path: str) -> str:
    try:
        holder = json.loads(Path(path).read_text(encoding="utf-8"))
        who = f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (OSError, ValueError, KeyError):
        who = "another process"
    return (
        f"the ledger {path.removesuffix('.lock')} is worked on by {who}. One `run` works on a SQLite ledger at a time."
    )
