"""Rows that wait are found by the provider's own model."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

WAITS = sa.text("state = 'ready'")


def upgrade() -> None:
    """Brings the schema to this step."""
    of = ["batch_id", "provider", "provider_model", "position"]
    op.create_index("ix_jobs_ready_model", "jobs", of, sqlite_where=WAITS, postgresql_where=WAITS)
