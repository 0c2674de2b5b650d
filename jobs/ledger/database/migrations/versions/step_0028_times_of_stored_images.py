"""The index of when images were stored holds stored ones only: a row that is recorded is not written to it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

WAS_STORED = sa.text("stored_at IS NOT NULL")


def upgrade() -> None:
    """Brings the schema to this step."""
    op.drop_index("ix_images_stored", "images")
    of = ["batch_id", "stored_at"]
    op.create_index("ix_images_stored", "images", of, sqlite_where=WAS_STORED, postgresql_where=WAS_STORED)
