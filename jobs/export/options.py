"""What an export is asked for, read from the command's words. Pure."""

from __future__ import annotations

import bisect
import functools
import hashlib
import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import orjson

from jobs.manifest.templates import Template, parse

#: Kinds of data sets that can be written.
SHAPES = ("imagefolder", "webdataset", "parquet")
DEFAULT_CAPTION = "{prompt}"
#: What becomes of a picture that is nearly the same as an earlier one: it stays unseen, is flagged, or is left out.
NEAR_DUPLICATES = ("keep", "flag", "drop")
#: Bytes of a shard if nothing else is said: what training jobs read well from a bucket.
SHARD_SIZE = 500_000_000
#: Formats that pictures can be converted to, and the quality of JPEG and WebP if nothing is said.
FORMATS = ("jpeg", "png", "webp")
QUALITY = 95

_ALL = 100  # percent
_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_BITS = 64


@dataclass(frozen=True, slots=True)
class SplitShare:
    """A part of the data set, and the percentage of it that belongs there."""

    name: str
    share: Fraction


WHOLE = (SplitShare("train", Fraction(_ALL)),)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """What decides the bytes that are written."""

    shape: str
    caption: Template = field(default_factory=lambda: parse(DEFAULT_CAPTION, "--caption"))
    columns: tuple[str, ...] | None = None  # of the records; None: own columns and provenance
    splits: tuple[SplitShare, ...] = WHOLE
    split_by: str | None = None  # a column; None: the key of the manifest's row
    shard_size: int = SHARD_SIZE  # bytes
    with_cost: bool = False
    license: str | None = None  # as the user names it
    format: str | None = None  # of the pictures; None: as they are stored
    quality: int = QUALITY
    max_side: int | None = None  # pixels; larger pictures are made smaller
    near_duplicates: str = "flag"

    @property
    def looks(self) -> bool:
        """Whether pictures are looked at, for near duplicates and blank ones."""
        return self.near_duplicates != "keep"

    @property
    def converts(self) -> bool:
        """Whether pictures may become others than they are."""
        return self.format is not None or self.max_side is not None

    @property
    def identity(self) -> dict[str, object]:
        """The same in plain values: two exports of the same samples and identity write the same bytes."""
        return {
            "as": self.shape,
            "caption": self.caption.source,
            "columns": self.columns,
            "split": [[each.name, str(each.share)] for each in self.splits],
            "split_by": self.split_by,
            "shard_size": self.shard_size,
            "with_cost": self.with_cost,
            "license": self.license,
            "pictures": [self.format, self.quality, self.max_side],
            "near_duplicates": self.near_duplicates,
        }

    @property
    def fingerprint(self) -> str:
        """Stands for the options, whatever is exported."""
        return hashlib.sha256(orjson.dumps(self.identity, option=orjson.OPT_SORT_KEYS)).hexdigest()


def split_of(value: str, splits: tuple[SplitShare, ...]) -> str:
    """The split that a value belongs to: always the same one, whatever else is exported."""
    if len(splits) == 1:
        return splits[0].name
    at = hashlib.sha256(value.encode("utf-8", "surrogatepass")).digest()[: _BITS // 8]
    return splits[bisect.bisect(_ends(splits), int.from_bytes(at))].name


@functools.cache
def _ends(splits: tuple[SplitShare, ...]) -> tuple[int, ...]:
    """Where the next split begins, among the numbers of `_BITS` bits; but for the last."""
    shares = itertools.accumulate(each.share for each in splits[:-1])
    return tuple(math.ceil(end * 2**_BITS / _ALL) for end in shares)


#: What `datasets` takes for all splits, and YAML for no text.
_NO_SPLITS = frozenset({"all", "y", "n", "yes", "no", "true", "false", "on", "off", "null"})
#: Words in names of files and folders, and the split that `datasets` takes them for where it reads no card.
_KNOWN_WORDS = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "dev": "validation", "val": "validation",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip


def read_split(text: str) -> tuple[SplitShare, ...]:
    """The value of --split, "train=90,validation=5,test=5".

    Raises:
        ValueError: What is legal, in words.
    """
    legal = "names of small letters with percentages, as in train=90,validation=5,test=5"
    splits = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*([a-z_]+)\s*=\s*(\d+(?:\.\d+)?)\s*%?\s*", part)
        if found is None or Fraction(found[2]) == 0:
            raise ValueError(legal)
        splits.append(SplitShare(found[1], Fraction(found[2])))
    if taken := [each.name for each in splits if each.name in _NO_SPLITS]:
        raise ValueError(f'another name than "{taken[0]}", which loaders take for something else')
    _demand_told_apart([each.name for each in splits])
    if len({each.name for each in splits}) < len(splits):
        raise ValueError(f"each name once: {legal}")
    if (total := sum(each.share for each in splits)) != _ALL:
        raise ValueError(f"percentages that add up to 100, and these are {float(total):g}")
    return tuple(splits)


def taken_for(split: str) -> list[str]:
    """The splits that `datasets` takes files of this one for, by the words of its name; none: it knows none of them."""
    return [_KNOWN_WORDS[word] for word in split.split("_") if word in _KNOWN_WORDS]


def _demand_told_apart(names: Sequence[str]) -> None:
    known: dict[str, str] = {}
    for name in dict.fromkeys(names):
        taken = taken_for(name)
        if len(taken) > 1:  # of two words for one split, too: a loader finds its rows twice
            raise ValueError(f'another name than "{name}", which loaders take for {" and for ".join(sorted(taken))}')
        for split in taken:
            if (other := known.setdefault(split, name)) != name:
                raise ValueError(f'other names than "{other}" and "{name}": loaders take both for {split}')


def read_size(text: str) -> int:
    """Bytes: 500MB, 1.5GB, in steps of a thousand.

    Raises:
        ValueError: What is legal, in words.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", text.strip().casefold())
    number = int(Fraction(found[1]) * _UNITS[found[2]]) if found and found[2] in _UNITS else 0
    if number < 1:
        raise ValueError("a size such as 500MB or 1GB")
    return number


def read_columns(text: str) -> tuple[str, ...]:
    """Names with commas between them, each once.

    Raises:
        ValueError: What is legal, in words.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise ValueError("names of columns with commas between them")
    return names
