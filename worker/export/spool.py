"""The samples of a look through the batches, kept in a file here: what is written is what was looked at."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Iterator
from pathlib import Path

import orjson

from jobs.export.samples import ImageSample

_FIELDS = tuple(each.name for each in dataclasses.fields(ImageSample))
#: Fields that JSON makes lists of.
_TUPLES = ("flags", "found_before")
_VALUES = operator.attrgetter(*_FIELDS)
#: Bytes that are read at once. At each read the threads that fetch images take their turn, and this one waits.
_BUFFER = 1_000_000


class SampleSpool:
    """Samples in their order, a line each. The ledger is read once, and may change while they are exported."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "samples.jsonl"
        self._file = self._path.open("wb")

    def add(self, sample: ImageSample) -> None:
        """One more."""
        self._file.write(orjson.dumps(_VALUES(sample), option=orjson.OPT_APPEND_NEWLINE))

    def close(self) -> None:
        """No more are added."""
        self._file.close()

    def __iter__(self) -> Iterator[ImageSample]:
        """All of them, as often as they are asked for."""
        with self._path.open("rb", buffering=_BUFFER) as file:
            for line in file:
                values = dict(zip(_FIELDS, orjson.loads(line), strict=True))
                yield ImageSample(**values | {name: tuple(values[name]) for name in _TUPLES})
