"""Messages that people and programs are to be told, and the channels that a batch names for its own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

_TIME = sa.Float(precision=53)
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_WAITS = sa.text("next_at IS NOT NULL")


def upgrade() -> None:
    """Brings the schema to this step."""
    op.create_table(
        "outbox",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("webhook_id", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("next_at", _TIME),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("problem", sa.Text()),
        sa.Column("sent_at", _TIME),
        sa.Column("given_up_at", _TIME),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
    )
    op.create_index("ix_outbox_due", "outbox", ["channel", "next_at"], sqlite_where=_WAITS, postgresql_where=_WAITS)
    op.add_column("batches", sa.Column("notify", sa.Text()))
