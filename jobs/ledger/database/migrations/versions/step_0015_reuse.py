"""Images that are taken from where another one lies."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

TAKEN_OVER = sa.text("origin_id IS NOT NULL")


def upgrade() -> None:
    """Brings the schema to this step."""
    op.add_column("images", sa.Column("source_id", sa.BigInteger(), nullable=True))
    op.add_column("images", sa.Column("origin_id", sa.BigInteger(), nullable=True))
    op.add_column("images", sa.Column("lies_at", sa.Text(), nullable=True))
    op.create_index(
        "ix_images_origin", "images", ["batch_id", "origin_id"], sqlite_where=TAKEN_OVER, postgresql_where=TAKEN_OVER
    )
