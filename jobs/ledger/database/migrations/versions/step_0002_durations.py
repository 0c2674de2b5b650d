"""How long provider tasks take, and how many requests it took to find them done."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Brings the schema to this step."""
    op.create_table(
        "durations",
        sa.Column("account_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("provider_model", sa.Text(), nullable=False),
        sa.Column("resolution", sa.Text(), nullable=False),
        sa.Column("found", sa.BigInteger(), nullable=False),
        sa.Column("lateness", sa.Float(precision=53), nullable=False),
        sa.Column("learnt", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "provider_model", "resolution", name=op.f("pk_durations")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_durations_account_id_accounts")),
    )
    op.add_column("accounts", sa.Column("polls_made", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("attempts", sa.Column("asked_resolution", sa.Text(), nullable=True))
    op.add_column("attempts", sa.Column("ran_at", sa.Float(precision=53), nullable=True))
