"""What a data set consists of, counted while it is written. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from jobs.export.findings import PictureFinding
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
    blank: int = 0
    unseen: int = 0  # that could not be decoded, and so not looked at
    flagged: int = 0  # as near duplicates
    dropped: int = 0  # near duplicates that are not in it
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

    def add(self, sample: ImageSample, finding: PictureFinding) -> None:
        """An image that is in the data set."""
        self.images += 1
        self.blank += finding.is_blank
        self.unseen += finding.is_unseen
        self.flagged += finding.duplicate_of is not None
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

    @property
    def through(self) -> int:
        """Images of which is decided."""
        return self.images + len(self.missing) + self.dropped

    def lack(self, sample: ImageSample, reason: str) -> None:
        """An image that cannot be had."""
        self.missing.append({**left_out(sample), "reason": reason})


def left_out(sample: ImageSample) -> Values:
    """An image that is not in the data set, as its lists name it."""
    return {
        "batch": sample.batch, "key": sample.key, "index": sample.index, "name": sample.name, "dest": sample.dest,
        "path": sample.path,
    }  # fmt: skip
