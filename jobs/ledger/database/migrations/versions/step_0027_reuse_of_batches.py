"""Which batches were recorded with --reuse: rows of theirs that are made again take what was made meanwhile, too."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Brings the schema to this step. Of batches on record, only those of schedules are known to have asked for it."""
    op.add_column("batches", sa.Column("reuse", sa.Text()))
    connection = op.get_bind()
    mark = sa.text("UPDATE batches SET reuse = :how WHERE schedule_id = :owner")
    for owner, options in connection.execute(sa.text("SELECT id, options FROM schedules")).all():
        if how := json.loads(options).get("reuse"):
            connection.execute(mark, {"how": how, "owner": owner})
