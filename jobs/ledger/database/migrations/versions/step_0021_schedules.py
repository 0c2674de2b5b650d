"""Schedules, what has become of their times, and what they have cost in each month."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_TIME = sa.Float(precision=53)
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_STATES = "'due', 'queued', 'reading', 'working', 'stopped', 'ended', 'failed', 'skipped', 'missed'"
_NOT_OVER = sa.text("state NOT IN ('ended', 'failed', 'skipped', 'missed')")


def upgrade() -> None:
    """Brings the schema to this step."""
    op.create_table(
        "schedules",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("cron", sa.Text(), nullable=False),
        sa.Column("timezone", sa.Text(), nullable=False),
        sa.Column("jitter", _TIME, nullable=False),
        sa.Column("goes_into", sa.Text(), nullable=False),
        sa.Column("overlap", sa.Text(), nullable=False),
        sa.Column("catch_up", sa.Text(), nullable=False),
        sa.Column("options", sa.Text(), nullable=False),
        sa.Column("budget", sa.BigInteger()),
        sa.Column("monthly_budget", sa.BigInteger()),
        sa.Column("keep", _TIME),
        sa.Column("next_at", _TIME),
        sa.Column("seen", sa.Text()),
        sa.Column("created_at", _TIME, nullable=False),
        sa.CheckConstraint("goes_into IN ('same', 'new')", name=op.f("ck_schedules_goes_into")),
        sa.CheckConstraint("overlap IN ('skip', 'queue')", name=op.f("ck_schedules_overlap")),
        sa.CheckConstraint("catch_up IN ('none', 'last')", name=op.f("ck_schedules_catch_up")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedules")),
        sa.UniqueConstraint("name", name=op.f("uq_schedules_name")),
    )
    op.create_index("ix_schedules_next_at", "schedules", ["next_at"])
    op.create_table(
        "schedule_months",
        sa.Column("schedule_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("month", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("spent", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["schedule_id"], ["schedules.id"], name=op.f("fk_schedule_months_schedule_id")),
        sa.PrimaryKeyConstraint("schedule_id", "month", name=op.f("pk_schedule_months")),
    )
    if op.get_bind().dialect.name == "sqlite":
        op.execute("ALTER TABLE batches ADD COLUMN schedule_id INTEGER REFERENCES schedules (id)")
    else:
        op.add_column("batches", sa.Column("schedule_id", sa.Integer()))
        op.create_foreign_key(op.f("fk_batches_schedule_id"), "batches", "schedules", ["schedule_id"], ["id"])
    op.create_table(
        "firings",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("schedule_id", sa.Integer(), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("acts_at", _TIME, nullable=False),
        sa.Column("by_hand", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("batch_id", sa.Integer()),
        sa.Column("holder", sa.Text()),
        sa.Column("taken_at", _TIME),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("headway", sa.Text()),
        sa.Column("headway_at", _TIME),
        sa.Column("began_at", _TIME),
        sa.Column("ended_at", _TIME),
        sa.Column("exit_code", sa.Integer()),
        sa.Column("code", sa.Text()),
        sa.Column("message", sa.Text()),
        sa.Column("detail", sa.Text(), server_default="{}", nullable=False),
        sa.CheckConstraint(f"state IN ({_STATES})", name=op.f("ck_firings_state")),
        sa.ForeignKeyConstraint(["schedule_id"], ["schedules.id"], name=op.f("fk_firings_schedule_id")),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name=op.f("fk_firings_batch_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_firings")),
    )
    op.create_index("ux_firings_time", "firings", ["schedule_id", "at"], unique=True)
    op.create_index(
        "ix_firings_not_over", "firings", ["schedule_id"], sqlite_where=_NOT_OVER, postgresql_where=_NOT_OVER
    )
