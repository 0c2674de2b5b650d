"""The parts of an .xlsx, which is a zip archive of XML: that none takes all memory, and formulas without a value."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from xml.parsers import expat

from jobs.errors import BadInput
from jobs.manifest.packed import is_blown_up
from jobs.manifest.text import LINE_LIMIT

#: Bytes read at once.
_CHUNK = 1 << 16
#: Elements that openpyxl holds whole: a row of a sheet, and one of the texts that the sheets share.
_HELD = ("row", "si")


def demand_bounded(path: Path, name: str) -> None:
    """Raises `BadInput` for a workbook that would take all memory, before anything of it is held.

    What a part unpacks to is told by the archive's directory, and Python's zipfile reads no more than that.
    """
    with zipfile.ZipFile(path) as archive:
        for part in archive.infolist():
            if is_blown_up(part.compress_size, part.file_size):
                raise BadInput(
                    f"{name} is no workbook of rows: its part {part.filename} unpacks from {part.compress_size:,} to "
                    f"{part.file_size:,} bytes, and is not read."
                )
            if part.file_size > LINE_LIMIT and not _is_bounded(archive, part):
                raise BadInput(
                    f"{name} is no workbook of rows: in its part {part.filename} a cell or a row is longer than "
                    f"{LINE_LIMIT:,} characters, and it is not read."
                )


def _is_bounded(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> bool:
    """Whether no row, and no shared text, is longer than a line of a CSV may be."""
    held = _Held()
    parser = expat.ParserCreate()
    parser.StartElementHandler = held.start
    parser.CharacterDataHandler = held.text
    with archive.open(part) as file:
        try:
            for chunk in _chunks(file):
                held.since_event += len(chunk)
                parser.Parse(chunk)
                if held.characters > LINE_LIMIT or held.since_event > LINE_LIMIT:
                    return False
        except expat.ExpatError:  # a picture, for example; what is damaged is told when it is read
            return True
    return True


@dataclass(slots=True)
class _Held:
    """What a reader holds at this place of a part."""

    characters: int = 0
    since_event: int = 0  # bytes of a tag, such as one with a long attribute

    def start(self, name: str, _: Mapping[str, str]) -> None:
        if name.rpartition(":")[2] in _HELD:
            self.characters = 0
        self.since_event = 0

    def text(self, text: str) -> None:
        self.characters += len(text)
        self.since_event = 0


# -- formulas ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Uncalculated:
    """Formulas of a sheet that have no value: a program wrote them, and Excel never saw them."""

    cells: int = 0
    first: str = ""  # the first of these cells, such as B120
    _cell: str = ""
    _is_text: bool = False
    _has_formula: bool = False
    _has_value: bool = False
    _in_value: bool = False

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        """Takes in an element's begin."""
        match name.rpartition(":")[2]:
            case "c":
                self._cell, self._is_text = attributes.get("r", "?"), attributes.get("t") == "str"
                self._has_formula = self._has_value = False
            case "f":
                self._has_formula = True
            case "v":
                self._in_value = True
                self._has_value = self._is_text  # the text of no length is a value, too

    def text(self, _: str) -> None:
        """Takes in characters."""
        if self._in_value:
            self._has_value = True

    def end(self, name: str) -> None:
        """Takes in an element's end."""
        name = name.rpartition(":")[2]
        if name == "v":
            self._in_value = False
        elif name == "c" and self._has_formula and not self._has_value:
            self.cells += 1
            self.first = self.first or self._cell


def uncalculated(xml: IO[bytes]) -> Uncalculated:
    """Reads a sheet to its end."""
    found = Uncalculated()
    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = found.start, found.end
    parser.CharacterDataHandler = found.text
    for chunk in _chunks(xml):
        parser.Parse(chunk)
    return found


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk
