"""Tokens, what their batches hold of their daily budgets, whose a batch is, and who did what."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

_TIME = sa.Float(precision=53)
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Brings the schema to this step."""
    op.create_table(
        "access_tokens",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("daily_budget", sa.BigInteger()),
        sa.Column("writes_to", sa.Text()),
        sa.Column("reads", sa.Text(), server_default="[]", nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("used_at", _TIME),
        sa.Column("revoked_at", _TIME),
        sa.CheckConstraint("role IN ('viewer', 'producer', 'operator')", name=op.f("ck_access_tokens_role")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_tokens")),
        sa.UniqueConstraint("name", name=op.f("uq_access_tokens_name")),
        sa.UniqueConstraint("prefix", name=op.f("uq_access_tokens_prefix")),
    )
    op.create_table(
        "access_log",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("token_id", sa.Integer()),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text()),
        sa.Column("detail", sa.Text(), server_default="{}", nullable=False),
        sa.ForeignKeyConstraint(["token_id"], ["access_tokens.id"], name=op.f("fk_access_log_token_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_access_log")),
    )
    if op.get_bind().dialect.name == "sqlite":
        op.execute("ALTER TABLE batches ADD COLUMN token_id INTEGER REFERENCES access_tokens (id)")
    else:
        op.add_column("batches", sa.Column("token_id", sa.Integer()))
        op.create_foreign_key(op.f("fk_batches_token_id"), "batches", "access_tokens", ["token_id"], ["id"])
    op.create_table(
        "token_holds",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("token_id", sa.Integer(), nullable=False),
        sa.Column("batch_id", sa.Integer(), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("spent_before", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["token_id"], ["access_tokens.id"], name=op.f("fk_token_holds_token_id")),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name=op.f("fk_token_holds_batch_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_token_holds")),
    )
    op.create_index("ix_token_holds_day", "token_holds", ["token_id", "day"])
    op.create_index("ix_token_holds_batch", "token_holds", ["batch_id"])
