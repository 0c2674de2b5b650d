"""The ledger's schema, step by step: one file a step in `versions`, run by Alembic on the connection it is given."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection


def config() -> Config:
    """Alembic's settings; the address comes with the connection."""
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent))
    return made


def upgrade(connection: Connection, step: str = "head") -> None:
    """Brings a ledger to a step, in the transaction of this connection."""
    settings = config()
    settings.attributes["connection"] = connection
    command.upgrade(settings, step)
