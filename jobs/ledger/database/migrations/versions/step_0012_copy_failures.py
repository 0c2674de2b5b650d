"""Images that failed to be copied since the last stored one, by account, provider model and destination."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Brings the schema to this step."""
    op.create_table(
        "copy_failures",
        sa.Column("account_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("provider_model", sa.Text(), nullable=False),
        sa.Column("dest", sa.Text(), nullable=False),
        sa.Column("images", sa.Integer(), server_default="0", nullable=False),
        sa.Column("money", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("since", sa.Float(precision=53), nullable=True),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("probe_at", sa.Float(precision=53), nullable=True),
        sa.Column("probes", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("account_id", "provider_model", "dest", name=op.f("pk_copy_failures")),
    )
