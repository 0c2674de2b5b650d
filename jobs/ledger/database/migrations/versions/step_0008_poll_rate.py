"""Polls a second, learnt where nobody declares them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Brings the schema to this step."""
    number = sa.Float(precision=53)
    op.add_column("accounts", sa.Column("learnt_polls", number, server_default="10", nullable=False))
    op.add_column("accounts", sa.Column("polls_cut_at", number, nullable=True))
