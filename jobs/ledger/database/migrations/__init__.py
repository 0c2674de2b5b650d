"""The ledger's schema, step by step: one file a step in `versions`, run by Alembic on the connection it is given."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine


def config() -> Config:
    """Alembic's settings; the address comes with the connection."""
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent))
    return made


def upgrade(writer: Engine) -> None:
    """Brings a ledger to the newest step, in one transaction."""
    settings = config()
    with writer.begin() as connection:
        settings.attributes["connection"] = connection
        command.upgrade(settings, "head")
