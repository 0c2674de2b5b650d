"""Whether a SQLite ledger's file is still the one that is open, and what to do when it is not.

A file that was removed, or replaced by another, goes on working for who has it open, and is gone when he ends.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from jobs.errors import LedgerGone
from jobs.ledger.database.engine import Database

#: Device and inode.
Identity = tuple[int, int]


def identity_of(path: Path | None) -> Identity | None:
    """Which file is there now; None: none."""
    if path is None:
        return None
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def gone(database: Database, path: Path, now: float) -> LedgerGone:
    """Saves what the open file holds beside its place, and says so."""
    moment = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    saved = path.with_name(f"{path.name}.saved-{moment}")
    connection = database.writer.raw_connection()  # the oldest: a new one would open what is at the path now
    try:
        connection.driver_connection.execute("VACUUM INTO ?", (str(saved),))  # type: ignore[union-attr]
    finally:
        connection.close()
    return LedgerGone(
        f"the ledger {path} was removed or replaced while this run worked on it, so it stopped. All that it "
        f"knew, what is paid above all, is saved:  {saved}\n"
        f"  Remove {path.name}, {path.name}-wal and {path.name}-shm where they are there, "
        f"rename the saved file to {path.name}, then run the same command: it pays nothing twice."
    )
