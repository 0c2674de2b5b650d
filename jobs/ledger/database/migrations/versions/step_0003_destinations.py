"""Troubles of destinations, and what a batch asks of its copies."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Brings the schema to this step."""
    op.create_table(
        "destination_troubles",
        sa.Column("dest", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("since", sa.Float(precision=53), nullable=False),
        sa.Column("until", sa.Float(precision=53), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.CheckConstraint("kind IN ('refuses', 'behind')", name=op.f("ck_destination_troubles_kind")),
        sa.PrimaryKeyConstraint("dest", "holder", "kind", name=op.f("pk_destination_troubles")),
    )
    for name in ("strict_size", "decode", "sidecar"):
        op.add_column("batches", sa.Column(name, sa.Boolean(), server_default=sa.false(), nullable=False))
    op.drop_index("ix_images_due", table_name="images")
    op.create_index(
        "ix_images_due",
        "images",
        ["expires_at", "batch_id", "error_code"],
        unique=False,
        sqlite_where=sa.text("state = 'generated'"),
        postgresql_where=sa.text("state = 'generated'"),
    )
