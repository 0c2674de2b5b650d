"""The text of a manifest's file: plain or gzipped, in its encoding, and never a line more than memory holds."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from jobs.errors import BadInput
from jobs.manifest.encodings import Encoding, wrong_text
from jobs.manifest.packed import open_bytes

#: Characters of one cell. A prompt is far below; beyond it is an unclosed quote or a wrong file.
CELL_LIMIT = 1_000_000
#: Characters of one line. What a line has beyond them is not read, which keeps memory bounded.
LINE_LIMIT = 8_000_000
#: What is wrong with a longer cell, or line.
TOO_LONG = f"a cell is longer than {CELL_LIMIT:,} characters. Perhaps a quote is not closed, or this is no manifest."


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFile:
    """A file of text, and how it is read."""

    path: Path
    name: str  # as the user named it
    encoding: Encoding

    @contextmanager
    def open(self) -> Iterator[IO[str]]:
        """From the beginning, without its byte order mark. `BadInput` where it is no such text."""
        with open_bytes(self.path, self.name) as raw:
            raw.read(self.encoding.mark)
            try:
                # Line ends stay as they are: inside quotes they belong to the cell.
                yield io.TextIOWrapper(raw, encoding=self.encoding.name, newline="")
            except UnicodeError as error:
                raise wrong_text(self.path, self.name, self.encoding) from error


def too_long(name: str, line: int) -> BadInput:
    """The error to raise where a longer cell cannot be left out."""
    return BadInput(f"{name}, line {line}: {TOO_LONG}")


def bounded_lines(text: IO[str]) -> Iterator[str]:
    """Physical lines with their ends, each as far as LINE_LIMIT."""
    while line := text.readline(LINE_LIMIT):
        if len(line) == LINE_LIMIT:
            leave_line(text, line)
        yield line


def leave_line(text: IO[str], read: str) -> None:
    """Reads on to the end of a line of which the beginning was read."""
    while read and read[-1] not in "\r\n":
        read = text.readline(LINE_LIMIT)
