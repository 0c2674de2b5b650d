"""The rows of a plain text: each line that is not blank is a prompt."""

from __future__ import annotations

from collections.abc import Iterator

from jobs.manifest.raw_rows import Fault, RawRow
from jobs.manifest.text import CELL_LIMIT, TOO_LONG, TextFile, bounded_lines

#: The column that holds the lines.
COLUMN = "prompt"


def text_rows(file: TextFile) -> Iterator[RawRow]:
    """One pass over the file."""
    position = 0
    with file.open() as text:
        for number, line in enumerate(bounded_lines(text), 1):
            prompt = line.strip()
            if prompt:
                cells = {COLUMN: prompt[:CELL_LIMIT]}
                yield RawRow(position, number, cells, cells, Fault(TOO_LONG) if len(prompt) > CELL_LIMIT else None)
                position += 1
