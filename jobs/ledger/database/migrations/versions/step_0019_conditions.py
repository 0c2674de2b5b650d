"""What the log has told of the state of things, so that of many workers one tells of each change.

Batches that are on record have been told of: an upgrade does not tell of each of them anew.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Brings the schema to this step."""
    op.create_table(
        "conditions",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("since", sa.Float(precision=53), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", "subject", name="pk_conditions"),
    )
    op.execute(
        "INSERT INTO conditions (name, subject, state, since, detail) "
        "SELECT 'batch', name, 'finished', created_at, '{}' FROM batches"
    )
