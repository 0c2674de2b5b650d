"""The provider's own route of rows and attempts, and what images cost that are billed by tokens."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Brings the schema to this step."""
    op.add_column("jobs", sa.Column("mode", sa.Text(), nullable=True))
    op.add_column("attempts", sa.Column("mode", sa.Text(), nullable=True))
    op.add_column("images", sa.Column("cost", sa.BigInteger(), nullable=True))
    settled = sa.text("cost IS NOT NULL")
    op.create_index("ix_images_settled", "images", ["id"], sqlite_where=settled, postgresql_where=settled)
