"""Folders as destinations: one below a SQLite ledger's own folder is kept relative to it.

So the folder that holds both may be renamed, moved, or copied to another machine, and what is paid is still found. All
other destinations are kept as they are; above this column everybody sees full paths.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sqlalchemy import Dialect, Engine, Text
from sqlalchemy.types import TypeDecorator

#: How a destination begins that is kept relative.
HERE = "./"
_ATTRIBUTE = "lightfast_folder"


class Destination(TypeDecorator[str]):
    """A column of destinations."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """As it is kept."""
        folder = _folder_of(dialect)
        return value if folder is None or value is None else relative(value, folder)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """As everybody sees it."""
        folder = _folder_of(dialect)
        return value if folder is None or value is None else absolute(value, folder)


def count_from(engine: Engine, folder: Path) -> None:
    """Relative destinations of this engine count from the folder."""
    setattr(engine.dialect, _ATTRIBUTE, folder)


def _folder_of(dialect: Dialect) -> Path | None:
    found: Any = getattr(dialect, _ATTRIBUTE, None)
    return found if isinstance(found, Path) else None


def relative(dest: str, folder: Path) -> str:
    """`./out` for a folder below `folder`; any other destination as it is."""
    if not dest.startswith("/") or ".." in Path(dest).parts:
        return dest
    for root in (str(folder), os.path.realpath(folder)):
        if Path(dest).is_relative_to(root):
            below = Path(dest).relative_to(root).as_posix()
            return HERE if below == "." else f"{HERE}{below}"
    return dest


def absolute(dest: str, folder: Path) -> str:
    """The full path of `./out`; any other destination as it is."""
    return str(folder / dest.removeprefix(HERE)) if dest.startswith(HERE) else dest
