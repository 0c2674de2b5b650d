"""What is learnt of an account's limits, and how batches share it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Brings the schema to this step."""
    number = sa.Float(precision=53)
    for name in ("rate_top", "in_flight_top", "cut_at", "quickest", "usual"):
        op.add_column("accounts", sa.Column(name, number, nullable=True))
    for name in ("since_cut", "patience"):
        op.add_column("accounts", sa.Column(name, sa.Integer(), server_default="0", nullable=False))
    op.add_column("accounts", sa.Column("bound_by", sa.Text(), server_default="work", nullable=False))
    op.add_column("accounts", sa.Column("share_floor", number, server_default="0", nullable=False))
    op.create_table(
        "shares",
        sa.Column("account_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("batch_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("tag", number, nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_shares_account_id")),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name=op.f("fk_shares_batch_id")),
        sa.PrimaryKeyConstraint("account_id", "batch_id", name=op.f("pk_shares")),
    )
    # By ALTER TABLE itself: to copy a table that others refer to, as Alembic would, is more than this needs.
    op.execute("ALTER TABLE batches DROP COLUMN served")
