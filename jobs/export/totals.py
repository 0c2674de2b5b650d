"""What a data set consists of, counted while it is written. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from jobs.export.samples import PROMPT, ImageSample
from jobs.manifest.raw_rows import as_text
from jobs.results.rows import Values

#: Different values of a column that are counted; one with more is only named.
MOST_VALUES = 12
#: Characters of a value that is shown.
_SHOWN = 60


@dataclass(slots=True)
class Totals:
    """Counts of what was exported, and of what could not be."""

    images: int = 0  # all that were exported
    splits: Counter[str] = field(default_factory=Counter)
    models: Counter[tuple[str, str]] = field(default_factory=Counter)  # model, provider
    missing: list[Values] = field(default_factory=list)
    price: int = 0  # micro-dollars, of the images
    unpriced: int = 0
    _prompts: set[int] = field(default_factory=set)
    _values: dict[str, dict[str, Counter[str]] | None] = field(default_factory=dict)

    @property
    def prompts(self) -> int:
        """Different ones."""
        return len(self._prompts)

    @property
    def columns(self) -> dict[str, dict[str, Counter[str]]]:
        """Images by own column, value and split, where a column has few values for many images."""
        return {name: values for name, values in self._values.items() if values and 2 * len(values) <= self.images}

    def add(self, sample: ImageSample) -> None:
        """An image that is in the data set."""
        self.images += 1
        self.splits[sample.split] += 1
        self.models[str(sample.facts["model"] or "not known"), str(sample.facts["provider"] or "not known")] += 1
        self._prompts.add(hash(sample.facts[PROMPT]))
        self.price += sample.price or 0
        self.unpriced += sample.price is None
        for name, value in sample.own.items():
            self._count(name, as_text(value)[:_SHOWN], sample.split)

    def _count(self, name: str, value: str, split: str) -> None:
        values = self._values.setdefault(name, defaultdict(Counter))
        if values is None:
            return
        values[value][split] += 1
        if len(values) > MOST_VALUES:
            self._values[name] = None

    def lack(self, sample: ImageSample, reason: str) -> None:
        """An image that cannot be had."""
        said = {"batch": sample.batch, "key": sample.key, "index": sample.index, "name": sample.name}
        self.missing.append({**said, "dest": sample.dest, "path": sample.path, "reason": reason})
