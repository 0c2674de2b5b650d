"""What a connection pooler between a ledger and its PostgreSQL server refuses or drops, in words. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

#: What pgbouncer or libpq says, and what helps.
REMEDIES = (
    (
        "invalid connection option",
        "Leave it out of database_url: pgbouncer=true and connection_limit are Prisma's, and unknown to PostgreSQL",
    ),
    (
        "unsupported startup parameter",
        (
            "A connection pooler stands before the database and refuses start-up options. Leave `options` out of "
            "database_url, and PGOPTIONS out of the environment; set them for the role instead: ALTER ROLE … SET …"
        ),
    ),
    (
        "statement pooling",
        (
            "The connection pooler before the database gives each statement another session (pool_mode = statement), "
            "and a ledger needs transactions: set pool_mode = transaction, or session, for this database"
        ),
    ),
)

#: `-c name=value`, `-cname=value` or `--name=value`; a backslash keeps a blank in a value.
_OPTION = re.compile(r"(?:-c\s*|--)([\w.-]+)=((?:\\.|[^\s\\])*)")
#: Set by the ledger itself in each transaction, whatever is asked for.
_OURS = frozenset({"synchronous_commit", "lock_timeout", "idle_in_transaction_session_timeout"})


def options_of(text: str | Sequence[str]) -> dict[str, str]:
    """The settings in libpq's `options`, without those that the ledger sets itself."""
    words = text if isinstance(text, str) else " ".join(text)
    found = {name.replace("-", "_"): re.sub(r"\\(.)", r"\1", value) for name, value in _OPTION.findall(words)}
    return {name: value for name, value in found.items() if name not in _OURS}


def dropped(settings: Sequence[str]) -> str:
    """What is said of start-up options that a session does not have."""
    return (
        f"{', '.join(settings)} was asked for (options in database_url, or PGOPTIONS) and is not in force: a "
        "connection pooler before the database drops start-up options (ignore_startup_parameters). Set it for the role "
        "instead (ALTER ROLE … SET …), and leave it out here"
    )
