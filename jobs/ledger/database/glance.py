"""A look into a SQLite ledger that is not this command's own: it is not made, upgraded or written to."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from sqlalchemy import URL, create_engine
from sqlalchemy.pool import NullPool

from jobs.ledger.database.engine import Database
from jobs.ledger.database.folder_destinations import count_from


def has_batch(path: Path, name: str) -> bool | None:
    """Whether the ledger in this file has a batch of this name on record; None: the file cannot be read as one."""
    try:
        with contextlib.closing(_connected(path)) as there:
            return there.execute("SELECT 1 FROM batches WHERE name = ?", (name,)).fetchone() is not None
    except (sqlite3.Error, OSError):
        return None


def only_to_read(path: Path) -> Database:
    """The engines for a ledger that is only looked into: what would write to it fails."""
    url = URL.create("sqlite", database=str(path))
    reader = create_engine(url, creator=lambda: _connected(path), poolclass=NullPool, hide_parameters=True)
    count_from(reader, path.parent)
    return Database(url=url, writer=reader, reader=reader, path=path)


def _connected(path: Path) -> sqlite3.Connection:
    # Without a log nobody has the file open, and reading it as a file that never changes leaves nothing beside it.
    log = path.with_name(f"{path.name}-wal")
    how = "mode=ro" if log.exists() else "mode=ro&immutable=1"
    return sqlite3.connect(f"{path.absolute().as_uri()}?{how}", timeout=1, uri=True)
