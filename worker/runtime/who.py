"""Who is at this machine, for what is put on record."""

from __future__ import annotations

import getpass
import platform


def who() -> str:
    """Whoever started this process: USER@HOST."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a user without a name, as in many containers
        user = "?"
    return f"{user}@{platform.node()}"
