"""The emergency stop: since when no submit is claimed, and who said so."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Brings the schema to this step."""
    op.add_column("ledger", sa.Column("stopped_at", sa.Float(precision=53), nullable=True))
    op.add_column("ledger", sa.Column("stopped_by", sa.Text(), nullable=True))
