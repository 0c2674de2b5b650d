"""One pass over all samples before anything is written: that each can be, how many they are, and which. Pure."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from jobs.errors import BadInput
from jobs.export.options import ExportOptions
from jobs.export.samples import ImageSample, SampleNames, samples_of
from jobs.formatting import count
from jobs.manifest.templates import Missing
from jobs.results.rows import own_values

if TYPE_CHECKING:
    from jobs.ledger.batches.values import Batch
    from jobs.ledger.reports.values import Result

#: Rows without a value for the caption that are named.
_NAMED = 5


@dataclass(slots=True, kw_only=True)
class SampleSurvey:
    """What a pass over the samples found. Counts grow as it goes on."""

    batches: Sequence[Batch]
    options: ExportOptions
    rows: int = 0
    rows_without: int = 0  # that have no stored image of their newest revision
    rows_partial: int = 0  # that have some, and lack others
    images_lacking: int = 0  # of these rows
    rows_going_on: int = 0  # that may still get images
    images: int = 0
    bytes: int = 0
    splits: Counter[str] = field(default_factory=Counter)  # images
    _names: SampleNames = field(default_factory=SampleNames)
    _own: dict[str, None] = field(default_factory=dict)
    _lacking: list[str] = field(default_factory=list)
    _lack: int = 0
    _digest: Any = field(default_factory=hashlib.sha256)

    def __post_init__(self) -> None:
        for batch in self.batches:
            self._own.update(dict.fromkeys(batch.columns))

    def walk(self, results: Iterable[tuple[Batch, Result]]) -> Iterator[ImageSample]:
        """The samples, counted as they pass. Rows whose caption lacks a value have none here: see `demand_whole`."""
        for batch, result in results:
            self.rows += 1
            self._own.update(dict.fromkeys(own_values(result)))
            try:
                samples = list(samples_of(batch, result, self.options, self._names))
            except Missing as missing:
                self._lack += 1
                if len(self._lacking) < _NAMED:
                    self._lacking.append(
                        f"--caption: {{{missing.column}}} is empty in row {result.key} of {batch.name}; "
                        f"a default helps: {{{missing.column}|…}}"
                    )
                continue
            self.rows_without += not samples
            if samples and (lacking := len(result.images) - len(samples)):
                self.rows_partial += 1
                self.images_lacking += lacking
            for sample in samples:
                self.images += 1
                self.bytes += sample.size
                self.splits[sample.split] += 1
                self._digest.update(sample.identity)
                yield sample

    @property
    def own(self) -> tuple[str, ...]:
        """The own columns of all batches."""
        return tuple(name for name in self._own if not name.startswith("lf_"))

    @property
    def fingerprint(self) -> str:
        """Stands for all that is exported and how. A change of either is another export."""
        said = {
            **self.options.identity,
            "batches": [each.name for each in self.batches],
            "own": self.own,
            "samples": self._digest.hexdigest(),
        }
        return hashlib.sha256(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)).hexdigest()

    def demand_whole(self) -> None:
        """Raises `BadInput` where captions lack values, or there is nothing to export."""
        if self._lack:
            more = [f"… {count(self._lack, 'row')} in all"] if self._lack > len(self._lacking) else []
            raise BadInput([*self._lacking, *more])
        if not self.images:
            names = ", ".join(each.name for each in self.batches)
            raise BadInput(f"{names}: no image of {count(self.rows, 'row')} is stored, so there is nothing to export.")
