"""Images that were taken from another one are found by that one, whatever their batch."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

TAKEN_OVER = sa.text("origin_id IS NOT NULL")


def upgrade() -> None:
    """Brings the schema to this step."""
    op.drop_index("ix_images_origin", "images")
    of = ["origin_id", "job_id"]
    op.create_index("ix_images_taken_from", "images", of, sqlite_where=TAKEN_OVER, postgresql_where=TAKEN_OVER)
