"""What rows asked for before they were made anew, so that a plan that asks for it again says so."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Brings the schema to this step."""
    op.create_table(
        "earlier_requests",
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("request_hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "revision", name="pk_earlier_requests"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_earlier_requests_job_id"),
    )
    op.create_index("ix_earlier_requests_request", "earlier_requests", ["request_hash"])
