"""Indexes that a batch is counted by, without reading its rows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

REDONE = sa.text("revision > 1")
AT_STAKE = sa.text("state IN ('submitting', 'running', 'unknown', 'lost', 'abandoned')")


def upgrade() -> None:
    """Brings the schema to this step."""
    op.drop_index("ix_jobs_state", "jobs")
    op.create_index("ix_jobs_state", "jobs", ["batch_id", "state", "n"])
    op.create_index("ix_jobs_redone", "jobs", ["batch_id", "revision"], sqlite_where=REDONE, postgresql_where=REDONE)
    op.create_index(
        "ix_attempts_at_stake", "attempts", ["batch_id", "state"], sqlite_where=AT_STAKE, postgresql_where=AT_STAKE
    )
    op.drop_index("ix_images_batch", "images")
    op.create_index("ix_images_batch", "images", ["batch_id", "state", "surplus", "bytes", "flags"])
