"""Worker processes: each tells now and then that it lives, and when the laziest of its lanes last looked for work."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select

from jobs.ledger.accounts.worker_values import WorkerProcess
from jobs.ledger.database.schema import workers

#: Seconds after which a silent worker is forgotten: all it held was taken over long ago.
FORGOTTEN = 7 * 86_400.0


def touch(tx: Connection, name: str, now: float, looked_at: float | None) -> None:
    """Notes a sign of life."""
    tx.execute(delete(workers).where((workers.c.name == name) | (workers.c.seen_at < now - FORGOTTEN)))
    tx.execute(insert(workers).values(name=name, seen_at=now, looked_at=looked_at))


def leave(tx: Connection, name: str) -> None:
    """Forgets one that has ended in order, and left nothing to take over."""
    tx.execute(delete(workers).where(workers.c.name == name))


def seen(tx: Connection, since: float) -> list[WorkerProcess]:
    """Those that gave a sign of life since then, by name."""
    alive = select(workers).where(workers.c.seen_at >= since).order_by(workers.c.name)
    return [WorkerProcess(**row._mapping) for row in tx.execute(alive)]  # noqa: SLF001  public in fact
