"""How a ledger is made and upgraded when it is opened, and which schemas are refused."""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
import time
import uuid
from pathlib import Path

from sqlalchemy import Connection, insert, inspect, text
from sqlalchemy.exc import DatabaseError

from jobs.errors import LedgerBusy, LightfastError, WrongSchema
from jobs.ledger.database import file_troubles, pooler, schema
from jobs.ledger.database.engine import Database, shown
from jobs.ledger.database.worker_lock import is_locked, who_holds

#: The newest step in migrations/versions; a test holds it to that.
HEAD = "0031"
#: The advisory lock under which a PostgreSQL schema is made or upgraded: "ligh" as a number.
SCHEMA_LOCK = 0x6C696768
#: Seconds that a process waits while another one makes or upgrades the schema.
_SCHEMA_WAIT = 600

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
            f"{who_holds(f'{database.path}.lock')} It works with an older version, and the ledger is brought to this "
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
