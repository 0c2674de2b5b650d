"""The rows of a CSV, one at a time, with the line each begins on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from jobs.manifest.csv_layout import CsvLayout
from jobs.manifest.csv_records import RecordReader
from jobs.manifest.names import header_of
from jobs.manifest.raw_rows import OWN_PREFIX, Fault, RawRow
from jobs.manifest.text import TextFile

_MARK = "\ufeff"
_AGAIN = Fault("the header stands here again")


def csv_rows(file: TextFile, layout: CsvLayout) -> Iterator[RawRow]:
    """One pass over the file, from below the header."""
    header = layout.header
    keep = [not name.startswith(OWN_PREFIX) for name in header.names]
    columns, all_own = list(itertools.compress(header.names, keep)), all(keep)
    with file.open() as text:
        reader = RecordReader(text, layout.form)
        records = iter(reader)
        names = next(records)[1]
        first, unnamed = names[0], header.unnamed
        for position, (line, values, problem) in enumerate(records):
            fault, head = problem, values[0]
            if head == first or head[:1] == _MARK:  # files that were put together
                values[0] = values[0].removeprefix(_MARK)
                fault = _AGAIN if len(names) > 1 and header_of(values) == header else problem
            own = values if all_own else list(itertools.compress(values, keep))
            cells = dict(zip(columns, own, strict=False))
            if unnamed:
                cells = {name: text for name, text in cells.items() if text or name not in unnamed}
            yield RawRow(position, line, cells, cells, fault, (), None, None, reader.longer == line)
