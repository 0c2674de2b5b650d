"""Gives the free space of a SQLite ledger back to the disk."""

from __future__ import annotations

import shutil
import sqlite3

from jobs.ledger.database.engine import Database


def compact(database: Database) -> tuple[int, int] | None:
    """Bytes of the file before and after; None: there is none, the disk has no room, or somebody else uses it.

    The file is written anew: that takes about its size again on the disk, and nobody else can write meanwhile.
    """
    path = database.path
    if path is None:
        return None
    before = path.stat().st_size
    if shutil.disk_usage(path.parent).free < 2 * before:
        return None
    with database.lock, database.writer.connect() as connection:
        raw = connection.connection.driver_connection
        if raw is None:
            return None
        try:
            raw.execute("VACUUM")
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.OperationalError:
            return None
    return before, path.stat().st_size
