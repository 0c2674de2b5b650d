"""The commands that tell what is on record; each has a module of its own."""

from __future__ import annotations

from cli.accounts import accounts
from cli.results import results
from cli.status import status
from cli.unknown import unknown
from cli.why import why

__all__ = ["accounts", "results", "status", "unknown", "why"]
