"""Where a schedule's time begins among the attempts, so that each attempt belongs to one time for good."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Brings the schema to this step."""
    op.add_column("firings", sa.Column("attempts_before", sa.Text()))
