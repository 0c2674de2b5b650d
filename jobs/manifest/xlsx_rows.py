"""The rows of a sheet of .xlsx, one at a time, each with its number in the sheet; formulas as Excel calculated them."""

from __future__ import annotations

import datetime as dt
import itertools
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

from jobs.errors import BadInput
from jobs.formatting import as_stands
from jobs.manifest.xlsx_text import unescaped

#: Rows in which formulas are looked for that nobody has calculated.
_LOOKED_AT = 100

#: A row's number in its sheet, and its cells as JSON values.
SheetRow = tuple[int, list[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """One sheet of a workbook."""

    path: Path
    name: str  # the workbook's, as the user named it
    title: str
    others: int  # visible sheets beside it

    def rows(self) -> Iterator[SheetRow]:
        """Rows that hold something. `BadInput` where the file is damaged."""
        with _workbook(self.path, self.name) as book:
            yield from _rows(book[self.title])

    def uncalculated(self) -> str | None:
        """A cell among the first rows whose formula has no value: a program wrote it, and Excel never saw it."""
        with _workbook(self.path, self.name) as values, _workbook(self.path, self.name, formulas=True) as formulas:
            pairs = zip(_cells(values[self.title]), _cells(formulas[self.title]), strict=False)
            empty = (formula for value, formula in pairs if formula.data_type == "f" and value.value is None)
            return next((str(formula.coordinate) for formula in empty), None)


def find_sheet(path: Path, name: str, asked: str | None) -> Sheet:
    """The sheet that `--sheet` names, else the first that can be seen and holds something."""
    with _workbook(path, name) as book:
        sheets = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"] or list(book.worksheets)
        if asked is not None:
            alike = [each for each in book.worksheets if each.title.strip().casefold() == asked.strip().casefold()]
            found = next((each for each in alike if each.title == asked), alike[0] if alike else None)
        else:
            found = next((each for each in sheets if next(_rows(each), None) is not None), None)
        titles = ", ".join(f'"{each.title}"' for each in book.worksheets)
        if found is None:
            raise BadInput(
                f"{name} has no rows." if asked is None else f'--sheet "{asked}": {name} has {titles or "no sheet"}.'
            )
        return Sheet(path=path, name=name, title=found.title, others=sum(each is not found for each in sheets))


@contextmanager
def _workbook(path: Path, name: str, *, formulas: bool = False) -> Iterator[Any]:
    """A workbook that is read row by row."""
    from openpyxl import load_workbook  # noqa: PLC0415  large, rarely used
    from openpyxl.utils.exceptions import InvalidFileException  # noqa: PLC0415  the same

    # It warns of what it does not keep (styles, validation), and only values are asked for.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"openpyxl\b")
    with path.open("rb") as file:  # a name without an ending would be refused
        try:
            book = load_workbook(file, read_only=True, data_only=not formulas, keep_links=False)
            try:
                yield book
            finally:
                book.close()
        except (zipfile.BadZipFile, InvalidFileException, ParseError, LookupError, ValueError, TypeError) as error:
            raise BadInput(f"{name} is a damaged .xlsx file, or none: {error}") from error


def _rows(sheet: Any) -> Iterator[SheetRow]:
    sheet.reset_dimensions()  # what a file says of its own size is wrong in some
    for number, cells in enumerate(sheet.iter_rows(values_only=True), 1):
        values = [_as_json(value) for value in cells]
        if not all(value is None or (isinstance(value, str) and not value.strip()) for value in values):
            yield number, values


def _cells(sheet: Any) -> Iterator[Any]:
    sheet.reset_dimensions()
    return itertools.chain.from_iterable(itertools.islice(sheet.iter_rows(), _LOOKED_AT))


def _as_json(value: object) -> object:
    """A cell's value: whole numbers without a fraction, dates as ISO 8601 has them."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return unescaped(value)
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, dt.datetime):
        return as_stands(value.replace(microsecond=0))  # what a day's fraction is not exact in
    return as_stands(value) if isinstance(value, dt.date | dt.time) else str(value)
