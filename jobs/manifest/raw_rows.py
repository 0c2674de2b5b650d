"""One row of a manifest as it stands in its file, and the names of columns that mean something."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import orjson

from jobs.manifest.text import CELL_LIMIT, TOO_LONG

#: The columns Lightfast understands; all others are carried.
KNOWN_COLUMNS = (
    "key",
    "prompt",
    "model",
    "provider",
    "ratio",
    "resolution",
    "size",
    "n",
    "image_urls",
    "quality",
    "options",
)
#: Columns of this beginning are Lightfast's own results; a results file read as a manifest goes without them.
OWN_PREFIX = "lf_"
#: In a row that was made of another one: that one's key, so that the rows of one can be kept together.
ROW_COLUMN = f"{OWN_PREFIX}row"
#: Lists and objects in each other that a row may have. orjson writes 254, and results put a row into some more.
DEEPEST = 200
#: Why such a row cannot be.
TOO_DEEP = f"lists and objects in each other, more than {DEEPEST} levels deep"
#: Characters of a cell that are kept of a row with one that is too long, to know it by.
_KEPT = 2_000
#: Where a problem is with the row and no column of it.
WHOLE_ROW = "(row)"


class Cell(NamedTuple):
    """A value that cannot be, before its row is known."""

    column: str
    value: str
    legal: str


class Fault(NamedTuple):
    """Why a line can be no row."""

    what: str
    is_note: bool = False  # it is a line of one cell, as titles and footers are, which --skip-empty may leave out


class Variation(NamedTuple):
    """Which of several rows that are made of one row this is."""

    number: int  # of the row in its file: 0, 1, 2 …
    suffix: str  # what it adds to the row's key
    repeat: int  # 0, 1, 2 … of those that ask for the same
    row: str = ""  # the key that the row has without any variation; "": nothing was made of it


class RawRow(NamedTuple):
    """One row as it stands in the file. A plain tuple: a million are made."""

    position: int  # 0, 1, 2 …
    line: int  # physical line it begins on, from 1
    cells: Mapping[str, str]  # the row's own columns in order; what is no text is kept as JSON text, null as ""
    fields: Mapping[str, str]  # where known columns and templates look: `cells`, or the body of OpenAI's format
    fault: Fault | None = None  # why it cannot be a row at all
    wrong: tuple[Cell, ...] = ()  # what the reader saw of it that cannot be
    typed: Mapping[str, object] | None = None  # `cells` as JSON values, where they are more than text
    variation: Variation | None = None
    is_longer: bool = False  # it has more cells than the header, and the others are empty

    @property
    def carried(self) -> Mapping[str, object]:
        """The own columns as the results give them back."""
        return self.cells if self.typed is None else self.typed

    def with_cells(self, values: Mapping[str, str]) -> RawRow:
        """The row with these columns, too."""
        cells = {**self.cells, **values}
        return self._replace(
            cells=cells,
            fields=cells if self.fields is self.cells else {**self.fields, **values},
            typed=None if self.typed is None else {**self.typed, **values},
        )


def as_text(value: object) -> str:
    """A value as a cell holds it: text as it is, anything else as JSON, null as nothing."""
    if isinstance(value, str):
        return value
    return "" if value is None else orjson.dumps(value).decode()


def is_too_deep(value: object) -> bool:
    """Whether a JSON value is nested so deeply that it can be written nowhere. Halves of characters are no matter."""
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def bounded(raw: RawRow) -> RawRow:
    """The row, or a bad one where a cell is too long."""
    if all(len(cell) <= CELL_LIMIT for cell in raw.cells.values()):
        return raw
    cells = {name: cell[:_KEPT] for name, cell in raw.cells.items()}
    return raw._replace(cells=cells, fields=cells, fault=Fault(TOO_LONG), typed=None)
