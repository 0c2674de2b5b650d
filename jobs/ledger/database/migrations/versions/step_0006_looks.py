"""When each worker's lanes last looked for work."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Brings the schema to this step."""
    op.add_column("workers", sa.Column("looked_at", sa.Float(precision=53), nullable=True))
