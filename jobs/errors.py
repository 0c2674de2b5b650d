"""What can go wrong, as a tree; the class is the policy, and the exit code its first word to a script.

    LightfastError      1   our fault or the surroundings'
    ├── BadInput        2   manifest, options or settings are wrong: nothing spent, nothing written
    ├── NeedsPerson     4   work is left that needs a person: budget, balance, key, bucket
    ├── LedgerBusy      1   another process works on this ledger
    ├── WrongSchema     1   the database is older or newer than this program
    └── StoreError      1   the destination did not take, give or delete an object

`CODES` are the stable codes of `lf_error` and `lf_flags`; docs/errors.md shows the same table.
"""

from __future__ import annotations

from collections.abc import Sequence

from providers.codes import CODES as PROVIDER_CODES


class LightfastError(Exception):
    """Says what, where, what it means for money, and the command that helps."""

    exit_code = 1


class BadInput(LightfastError):  # noqa: N818  the contract's name
    """The user's input is wrong. `problems`: one line each, the first the most important."""

    exit_code = 2

    def __init__(self, problems: Sequence[str] | str) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class NeedsPerson(LightfastError):  # noqa: N818  the contract's name
    """Work is left, and only a person can help; the same command goes on."""

    exit_code = 4


class LedgerBusy(LightfastError):  # noqa: N818  the contract's name
    """Another process holds the ledger; the message names it."""


class WrongSchema(LightfastError):  # noqa: N818  the contract's name
    """The database's schema is not this program's."""


class StoreError(LightfastError):
    """The destination refused or failed. `retryable`: the same call may work later. `denied`: a matter of rights."""

    def __init__(self, *, code: str, message: str, retryable: bool, denied: bool = False) -> None:
        self.code = code
        self.message = message
        self.retryable = retryable
        self.denied = denied
        super().__init__(f"{message} ({code})")


#: Codes that are not a provider's matter: what each means, and what to do. Kept sorted.
OWN_CODES: dict[str, str] = {
    "bad_image": "The provider's link gave bytes that are no whole image. Copied again by itself, from a fresh link.",
    "bad_row": "The row's values are not legal (line, column and value are in lf_message). Mend the row, run again.",
    "cancelled": "The batch was cancelled before this row was sent. Nothing was paid for it.",
    "empty_column": "Left out on your word: the column named by --skip-empty is empty.",
    "link_dead": "Paid, but its link died before it was copied. `lightfast retry` makes it anew, and pays.",
    "not_sent": "The request never left this machine. Sent again by itself.",
    "outcome_unknown": "Sent, and no readable answer: it may be paid. `lightfast unknown` lists and resolves it.",
    "task_forgotten": "The provider no longer knows the task. Its money may be gone; `lightfast retry` makes it anew.",
    "wrong-pixels": "Flag: the image has other pixels than the route promises. It is stored as it came.",
}

#: Every stable code -> what it means, what to do.
CODES: dict[str, str] = dict(sorted((PROVIDER_CODES | OWN_CODES).items()))
