"""When a callback last made an attempt's poll due."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Brings the schema to this step."""
    op.add_column("attempts", sa.Column("hinted_at", sa.Float(precision=53), nullable=True))
