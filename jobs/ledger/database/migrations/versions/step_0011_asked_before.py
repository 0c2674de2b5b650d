"""Rows are found by what was asked for, in any batch."""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Brings the schema to this step."""
    op.create_index("ix_jobs_request", "jobs", ["request_hash"])
