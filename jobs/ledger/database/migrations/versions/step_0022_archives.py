"""Batches whose bulk lies in an archive, and how far its writing or bringing back has come."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Brings the schema to this step."""
    op.add_column("batches", sa.Column("archive", sa.Text()))
    op.add_column("batches", sa.Column("archive_step", sa.Text()))
    op.add_column("batches", sa.Column("archive_at", sa.Float(precision=53)))
    op.add_column("batches", sa.Column("archive_sums", sa.Text()))
