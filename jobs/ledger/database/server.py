"""The PostgreSQL server below a ledger: is it the one that is on record, and what do its settings do to money."""

from __future__ import annotations

import json

from sqlalchemy import ColumnElement, Connection, literal_column, select, text, update
from sqlalchemy.exc import DBAPIError

from jobs.ledger.database import engine
from jobs.ledger.database.schema import accounts, batches, events
from jobs.ledger.database.schema import ledger as ledger_row
from jobs.ledger.database.statements import fetch_value

#: Attempts left out in the numbering after a restore: a late answer to one that was forgotten must meet no other.
FORGOTTEN_AT_MOST = 1_000_000

#: The event of an answer to an attempt that a restore has forgotten.
FOR_NOBODY = "answer_for_nobody"

#: SQLSTATEs of a server that does not tell: no such function, no right to it, not supported.
_DOES_NOT_TELL = {"42883", "42501", "0A000"}

#: The cluster's own id, the timeline it writes on (one more with each failover or restore to a point in time), and the
#: database's number in it (another one after a dump was read back). NULL on a standby, which writes on none.
_ORIGIN: ColumnElement[str] = literal_column("""
    (CASE WHEN pg_is_in_recovery() THEN NULL ELSE
        (SELECT system_identifier FROM pg_control_system())::text
        || '/' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)
        || '/' || (SELECT oid FROM pg_database WHERE datname = current_database())::text
    END)
""")
_WHERE = select(_ORIGIN)
_MOVED = select(ledger_row.c.origin.is_not(None) & (ledger_row.c.origin != _ORIGIN))


def tells_origin(database: engine.Database) -> bool:
    """Whether the server says where it comes from. SQLite and some managed servers do not."""
    if database.is_sqlite:
        return False
    try:
        _origin(database)
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) in _DOES_NOT_TELL:
            return False
        raise
    return True


def _origin(database: engine.Database) -> str | None:
    with database.reading() as tx:
        return tx.execute(_WHERE).scalar_one()


def learn_origin(database: engine.Database) -> None:
    """Puts it on record for a ledger that has none yet, and for a copy of an empty one: there is nothing to forget."""
    origin = _origin(database)
    with database.reading() as tx:
        known = tx.execute(select(ledger_row.c.origin)).scalar_one()
        copied = known is not None and origin is not None and known.rpartition("/")[0] == origin.rpartition("/")[0]
        empty = tx.execute(select(batches.c.id).limit(1)).first() is None
    if origin is not None and known != origin and (known is None or (copied and empty)):
        with database.writing() as tx:
            tx.execute(update(ledger_row).values(origin=origin))


def has_moved(tx: Connection) -> bool:
    """Whether this is another server, timeline or database than the one on record: it may have forgotten the newest."""
    return bool(fetch_value(tx, _MOVED))


def trust(tx: Connection) -> None:
    """Puts the server on record as it is now. Attempts and images it may have forgotten keep their numbers."""
    tx.execute(update(ledger_row).values(origin=tx.execute(_WHERE).scalar_one()))
    tx.execute(update(accounts).values(attempts_made=accounts.c.attempts_made + FORGOTTEN_AT_MOST))
    tx.execute(_SKIP_IMAGES, {"more": FORGOTTEN_AT_MOST})


_SKIP_IMAGES = text(
    "SELECT setval(pg_get_serial_sequence('images', 'id'), nextval(pg_get_serial_sequence('images', 'id')) + :more)"
)


def tasks_of_nobody(tx: Connection) -> list[str]:
    """Provider tasks that answered to attempts nobody knows any more."""
    told = tx.execute(select(events.c.detail).where(events.c.name == FOR_NOBODY).order_by(events.c.id)).scalars()
    return list(dict.fromkeys(str(json.loads(detail)["task_id"]) for detail in told))


def durability(database: engine.Database) -> dict[str, str]:
    """The settings that money depends on, by name; empty on SQLite, where they are ours."""
    if database.is_sqlite:
        return {}
    names = ("fsync", "full_page_writes", "synchronous_commit", "synchronous_standby_names")
    with database.writing() as tx:  # they hold where something is written
        found = {name: str(tx.execute(text(f"SHOW {name}")).scalar_one()) for name in names}
        found["in_recovery"] = "on" if tx.execute(text("SELECT pg_is_in_recovery()")).scalar_one() else "off"
        found["standbys"] = str(tx.execute(text("SELECT count(*) FROM pg_stat_replication")).scalar_one())
    found["origin"] = (_origin(database) if tells_origin(database) else None) or ""
    return found
