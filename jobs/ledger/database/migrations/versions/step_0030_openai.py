"""Files and batches of OpenAI's API, and answers that are given again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

_TIME = sa.Float(precision=53)
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Brings the schema to this step."""
    op.create_table(
        "openai_files",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("token_id", sa.Integer(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("parts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME),
        sa.Column("deleted_at", _TIME),
        sa.ForeignKeyConstraint(["token_id"], ["access_tokens.id"], name=op.f("fk_openai_files_token_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_openai_files")),
        sa.UniqueConstraint("name", name=op.f("uq_openai_files_name")),
    )
    op.create_table(
        "openai_batches",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("token_id", sa.Integer(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("input_file", sa.Text(), nullable=False),
        sa.Column("completion_window", sa.Text(), nullable=False),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("batch_id", sa.Integer()),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("ends_as", sa.Text()),
        sa.Column("errors", sa.Text(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.Column("expires_at", _TIME, nullable=False),
        sa.Column("times", sa.Text(), nullable=False),
        sa.Column("output_seconds", _TIME, nullable=False),
        sa.Column("output_file", sa.Text()),
        sa.Column("error_file", sa.Text()),
        sa.Column("rows_total", sa.Integer()),
        sa.Column("rows_completed", sa.Integer()),
        sa.Column("rows_failed", sa.Integer()),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("taken_by", sa.Text()),
        sa.Column("taken_until", _TIME),
        sa.ForeignKeyConstraint(["token_id"], ["access_tokens.id"], name=op.f("fk_openai_batches_token_id")),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name=op.f("fk_openai_batches_batch_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_openai_batches")),
        sa.UniqueConstraint("name", name=op.f("uq_openai_batches_name")),
        sa.UniqueConstraint("token_id", "fingerprint", name=op.f("uq_openai_batches_token_id_fingerprint")),
    )
    op.create_table(
        "kept_answers",
        sa.Column("token_id", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
        sa.ForeignKeyConstraint(["token_id"], ["access_tokens.id"], name=op.f("fk_kept_answers_token_id")),
        sa.PrimaryKeyConstraint("token_id", "key", name=op.f("pk_kept_answers")),
    )
