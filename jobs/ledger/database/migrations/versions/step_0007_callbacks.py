"""When an account was last called back."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Brings the schema to this step."""
    op.add_column("accounts", sa.Column("called_back_at", sa.Float(precision=53), nullable=True))
