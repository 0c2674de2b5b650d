"""What the manifest said while rows had prompts of their own, so that these images come back with it, too."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Brings the schema to this step."""
    op.add_column("earlier_requests", sa.Column("manifest_hash", sa.Text()))
    op.add_column("earlier_requests", sa.Column("request", sa.LargeBinary()))
