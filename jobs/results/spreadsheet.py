"""Result lines for Excel: as .xlsx, written row by row, and what Excel would change in a CSV. Text stays text."""

from __future__ import annotations

import math
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import IO

from jobs.errors import BadInput
from jobs.formatting import count, moment, option, usd
from jobs.manifest.raw_rows import as_text
from jobs.manifest.xlsx_text import escaped
from jobs.results.rows import Column, Type, Values, as_term

#: Excel's own limits: rows with the header, columns, and characters of a cell
#: (https://support.microsoft.com/office/1672b34d-7043-467e-8e27-269d656771c3).
MOST_ROWS, MOST_COLUMNS, MOST_CHARACTERS = 1_048_576, 16_384, 32_767
#: Integers from here on are text: Excel keeps 15 digits.
_ROUNDED = 10**15
#: Cells that Excel changes when it opens a CSV: formulas, digits beyond those it shows, leading zeros.
_FORMULA = r"[=+@\t\r].*|-(?![\d.,]+$).*"
_CHANGED = re.compile(rf"{_FORMULA}|0\d+|\d{{12,}}", re.DOTALL)
_IS_FORMULA = re.compile(_FORMULA, re.DOTALL)


def without_formula(text: str) -> str:
    """A cell that no spreadsheet takes for a formula when it opens a CSV: an apostrophe stands before one that is."""
    return f"'{text}" if _IS_FORMULA.match(text) else text


def check_size(rows: int, columns: int) -> None:
    """Refuses what no sheet can hold."""
    if rows >= MOST_ROWS:
        raise BadInput(
            f"a sheet of .xlsx has {MOST_ROWS - 1:,} rows below its header, and these are {rows:,}. "
            "Write CSV or Parquet, or fewer lines (--only)."
        )
    if columns > MOST_COLUMNS:
        raise BadInput(
            f"a sheet of .xlsx has {MOST_COLUMNS:,} columns, and these are {columns:,}: choose some (--columns)."
        )


def write_xlsx(file: IO[bytes], columns: Sequence[Column], lines: Iterable[Values]) -> int:
    """One sheet with a header row that stays in sight. Returns the lines written."""
    from openpyxl import Workbook  # noqa: PLC0415  large, rarely used
    from openpyxl.cell import WriteOnlyCell  # noqa: PLC0415  the same

    check_size(0, len(columns))
    book = Workbook(write_only=True)
    sheet = book.create_sheet("results")
    sheet.freeze_panes = "A2"

    def cell(value: object) -> object:
        if not isinstance(value, str) or value[:1] not in ("=", "#"):
            return value
        text = WriteOnlyCell(sheet, value)  # taken for a formula or an error
        text.data_type = "s"
        return text

    sheet.append([cell(escaped(column.name)) for column in columns])
    number = 0
    try:
        for number, line in enumerate(lines, start=1):
            if number >= MOST_ROWS:
                check_size(number, len(columns))
            sheet.append([cell(_value(column, line)) for column in columns])
    finally:
        sheet.close()  # its own file, whatever becomes of the workbook
    with tempfile.TemporaryFile() as whole:  # a zip archive cannot be left alone by a reader that has seen enough
        book.save(whole)
        whole.seek(0)
        shutil.copyfileobj(whole, file)
    return number


def _value(column: Column, line: Values) -> object:
    """What a cell holds. A number only where it is read again as the same text."""
    kind, value = column.of(line)
    if kind is Type.MONEY and isinstance(value, int):
        return usd(value)
    if kind is Type.TIME and isinstance(value, int | float):
        return moment(math.floor(value)).replace(tzinfo=None)  # Excel knows no time zones
    if value is None or value == [] or isinstance(value, bool):
        return None if value == [] else value
    if isinstance(value, int | float) and _is_kept(value):
        return value
    text = escaped(as_text(value))
    if len(text) > MOST_CHARACTERS:
        others = option("--columns", f"*,{as_term(f'-{column.name}')}")
        raise BadInput(
            f"a cell of .xlsx has {MOST_CHARACTERS:,} characters, and column {column.name!r} of row "
            f"{line.get('lf_key')} has {len(text):,}. Leave it out ({others}), or write CSV."
        )
    return text


def _is_kept(value: float) -> bool:
    if isinstance(value, int):
        return -_ROUNDED < value < _ROUNDED
    return math.isfinite(value) and not value.is_integer() and float(f"{value:.15g}") == value


class Excel:
    """Counts what Excel would change in a CSV that passes by. Nothing is changed here: own values stay as they are."""

    def __init__(self) -> None:
        self._cells = 0
        self._first = ""

    def watch(self, columns: Sequence[Column], lines: Iterable[Values]) -> Iterator[Values]:
        """The same lines."""
        for line in lines:
            for column in columns:
                value = column.of(line)[1]
                if isinstance(value, str | int) and _CHANGED.fullmatch(str(value)):
                    self._cells += 1
                    self._first = self._first or f"column {column.name} of row {line.get('lf_key')}"
            yield line

    @property
    def note(self) -> str:
        """For a person; empty where Excel changes nothing."""
        if not self._cells:
            return ""
        return (
            f"Excel takes {count(self._cells, 'cell')} for a formula or a number when it opens a CSV "
            f"(the first: {self._first}). -o FILE.xlsx keeps all as it is."
        )
