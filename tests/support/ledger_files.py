"""Empty SQLite ledgers, copied from one that was made before: making each anew costs ten times as much."""

from __future__ import annotations

import contextlib
import functools
import secrets
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path

from jobs.ledger import Ledger, open_ledger


def new_ledger(path: Path, live: Callable[[Ledger], object] | None = None) -> str:
    """The address of a new ledger in this file, with an id and a secret of its own.

    Args:
        path: The file, which does not exist yet.
        live: What has happened in the ledger so far. It is called once in a process, and its result copied.
    """
    content, own = _template(live)
    for old in own:
        content = content.replace(old.encode(), secrets.token_hex(len(old) // 2).encode())
    path.write_bytes(content)
    return f"sqlite:///{path}"


@functools.cache
def _template(live: Callable[[Ledger], object] | None) -> tuple[bytes, tuple[str, str]]:
    """A ledger's file, and its id and secret in hexadecimal digits."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ledger.db")
        with contextlib.closing(open_ledger(f"sqlite:///{path}")) as ledger:
            if live is not None:
                live(ledger)
        with contextlib.closing(sqlite3.connect(path)) as connection:
            own = connection.execute("SELECT id, secret FROM ledger").fetchone()
        return path.read_bytes(), own
