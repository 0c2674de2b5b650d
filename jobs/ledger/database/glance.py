"""A look into a SQLite ledger that is not this command's own: it is not made, upgraded or written to."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path


def has_batch(path: Path, name: str) -> bool | None:
    """Whether the ledger in this file has a batch of this name on record; None: the file cannot be read as one."""
    log = path.with_name(f"{path.name}-wal")
    try:
        # Without a log nobody has the file open, and reading it as a file that never changes leaves nothing beside it.
        how = "mode=ro" if log.exists() else "mode=ro&immutable=1"
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?{how}", timeout=1, uri=True)) as there:
            return there.execute("SELECT 1 FROM batches WHERE name = ?", (name,)).fetchone() is not None
    except (sqlite3.Error, OSError):
        return None
