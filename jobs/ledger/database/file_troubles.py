"""What keeps SQLite from its file, in words: a full disk, rights, a disk that fails. Each with what helps."""

from __future__ import annotations

import os
import pwd
import sqlite3
from pathlib import Path

from sqlalchemy import Engine, ExceptionContext, event
from sqlalchemy.exc import DBAPIError

from jobs.formatting import in_words

#: An extended code ends with its plain one in these bits.
_PLAIN = 0xFF
_BESIDE = "SQLite writes files beside it, even to read"


def remember_path(engine: Engine, path: Path) -> None:
    """Errors of this engine tell which file they are about."""

    @event.listens_for(engine, "handle_error")
    def _note(context: ExceptionContext) -> None:
        context.original_exception.ledger_path = path  # type: ignore[attr-defined]


def path_of(error: BaseException) -> Path | None:
    """The SQLite file that an error of the database is about; None: it is not known, or there is none."""
    found = getattr(error.orig if isinstance(error, DBAPIError) else error, "ledger_path", None)
    return found if isinstance(found, Path) else None


def file_trouble(error: BaseException) -> str | None:
    """Why, in words that follow "the ledger", and what helps; None where SQLite's file is not to blame."""
    cause, path = error.orig if isinstance(error, DBAPIError) else error, path_of(error)
    if path is None or not isinstance(cause, sqlite3.Error):
        return None
    code, folder = (getattr(cause, "sqlite_errorcode", None) or 0) & _PLAIN, path.parent
    if code == sqlite3.SQLITE_FULL:
        return f"cannot be written: the disk of {folder} is full. Make room there"
    if code == sqlite3.SQLITE_IOERR:
        return f"cannot be read or written: the disk of {folder} reports an error ({cause}). See that it works"
    refused = code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}
    return _refused(path, cause) if refused else None


def away_words(error: BaseException) -> str:
    """Why a ledger cannot be used, in words that follow "the ledger"; else what the database says."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return file_trouble(error) or f"cannot be reached: {in_words(cause)}"


def _refused(path: Path, cause: sqlite3.Error) -> str:
    folder, who = path.parent, _user()
    if path.is_dir():
        return "cannot be opened: it is a folder. Name a file in database_url"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"is read-only: {who} may not write to the folder {folder} ({_BESIDE}). Allow it, or use a copy"
    if path.exists() and not os.access(path, os.W_OK):
        return f"is read-only: {who} may not write to its file. Allow it, or use a copy of it"
    return f"cannot be opened or written: {cause}. See that {who} may write to {folder} and the files in it"


def _user() -> str:
    try:
        return f"user {pwd.getpwuid(os.geteuid()).pw_name}"
    except KeyError:  # a user without a name, as in many containers
        return f"user {os.geteuid()}"
