"""How a provider task was said to have ended while that is not yet believed, and what of it has come."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Brings the schema to this step."""
    op.add_column("attempts", sa.Column("doubt", sa.Text(), nullable=True))
    op.add_column("attempts", sa.Column("doubted_since", sa.Float(precision=53), nullable=True))
    op.add_column("attempts", sa.Column("doubts", sa.Integer(), server_default="0", nullable=False))
    op.add_column("attempts", sa.Column("came", sa.Integer(), server_default="0", nullable=False))
