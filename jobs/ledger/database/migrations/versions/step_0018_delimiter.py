"""The delimiter of a batch's manifest, for results that the same spreadsheet program opens."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Brings the schema to this step."""
    op.add_column("batches", sa.Column("delimiter", sa.Text))
