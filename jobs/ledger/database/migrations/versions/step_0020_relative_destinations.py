"""A folder destination below a SQLite ledger's own folder is kept relative to it, so that both may be moved together."""

from __future__ import annotations

import os
from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

#: Where destinations stand.
COLUMNS = (("batches", "dest"), ("images", "lies_at"), ("copy_failures", "dest"), ("destination_troubles", "dest"))


def upgrade() -> None:
    """Brings the data to this step; no table changes."""
    connection = op.get_bind()
    file = connection.engine.url.database
    if connection.dialect.name != "sqlite" or file in (None, "", ":memory:"):
        return
    folder = Path(str(file)).absolute().parent
    for table, column in COLUMNS:
        at = sa.column(column, sa.Text)
        rows = sa.table(table, at)
        for dest in connection.execute(sa.select(at).select_from(rows).where(at.like("/%")).distinct()).scalars().all():
            kept = _kept(dest, folder)
            if kept is not None:
                connection.execute(sa.update(rows).where(at == dest).values({column: kept}))


def _kept(dest: str, folder: Path) -> str | None:
    for root in (str(folder), os.path.realpath(folder)):
        if ".." not in Path(dest).parts and Path(dest).is_relative_to(root):
            below = Path(dest).relative_to(root).as_posix()
            return "./" if below == "." else f"./{below}"
    return None
