"""The settings of a command, and whether what it says is about the stand-in's pictures and money."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobs.settings.model import Settings

#: Of every document that --json prints: a field that is renamed or dropped counts it up.
SCHEMA = 2
#: Any address does for reading: the stand-in's settings name its own ledger, and nothing is sent.
NOWHERE = "http://127.0.0.1:9"


#: Whether the settings that were read last are a stand-in's.
_standin: ContextVar[bool] = ContextVar("standin", default=False)
#: What was said of variables that are no settings.
_told: ContextVar[tuple[str, ...]] = ContextVar("told", default=())


def read_settings(config: Path | None, *, sandbox_url: str | None = None, secrets_needed: bool = True) -> Settings:
    """The settings. If they lead to the stand-in, all later output is marked SANDBOX."""
    from jobs.settings.sources import load_settings

    settings = load_settings(config, sandbox_url=sandbox_url, secrets_needed=secrets_needed)
    _standin.set(settings.is_sandbox)
    if settings.ignored_variables != _told.get():  # a command may read its settings twice
        _told.set(settings.ignored_variables)
        for ignored in settings.ignored_variables:
            sys.stderr.write(f"{sandbox_mark()}warning: {ignored}\n")
    return settings


def sandbox_mark() -> str:
    """The mark of every line about the stand-in's pictures and money; "" otherwise."""
    return "SANDBOX " if "--sandbox" in sys.argv or _standin.get() else ""
