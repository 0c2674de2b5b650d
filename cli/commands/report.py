"""The commands that tell what is on record; each has a module of its own."""

from __future__ import annotations

from cli.commands.accounts import accounts
from cli.commands.results import results
from cli.commands.status import status
from cli.commands.unknown import unknown
from cli.commands.why import why

__all__ = ["accounts", "results", "status", "unknown", "why"]
