"""How accounts stood minute by minute, and sessions of browsers that were ended."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None

_TIME = sa.Float(precision=53)


def upgrade() -> None:
    """Brings the schema to this step."""
    op.create_table(
        "account_minutes",
        sa.Column("account_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("attempts_made", sa.BigInteger(), nullable=False),
        sa.Column("throttled", sa.Integer(), nullable=False),
        sa.Column("in_flight", sa.Integer(), nullable=False),
        sa.Column("submits_per_second", _TIME, nullable=False),
        sa.Column("max_in_flight", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_account_minutes_account_id")),
        sa.PrimaryKeyConstraint("account_id", "at", name=op.f("pk_account_minutes")),
    )
    op.create_table(
        "ended_sessions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("ended_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ended_sessions")),
    )
