"""The bytes of samples, compared with what is on record of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass

from jobs.export.samples import ImageSample
from worker.export.appearance import Appearance
from worker.export.pictures import Conversion, convert, look
from worker.runtime.executors import in_order
from worker.storage.destinations import Destinations

#: Objects that are read at once.
READS = 16
#: Bytes of images that are read ahead of the one that is written.
WINDOW = 96_000_000
#: What an image counts for that is smaller, or whose size is not on record: a Python object is not free either.
LEAST_WEIGHT = 40_000

GONE = "gone"
CHANGED = "changed since it was stored"
UNREADABLE = "no picture that can be converted"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSample:
    """A sample and its bytes as they are exported, or why there are none."""

    position: int  # among all samples, from 0
    sample: ImageSample
    data: bytes = b""
    sha256: str = ""  # of `data`
    ending: str = ""
    pixels: tuple[int, int] | None = None  # None: as on record
    look: Appearance | None = None  # None: it could not be decoded, or nobody asked
    lacking: str | None = None


class SampleReader:
    """Reads samples, and has their pictures looked at and converted by other processes, where that is asked for."""

    def __init__(self, stores: Destinations, pool: Executor | None, conversion: Conversion | None) -> None:
        """`pool`: None where no picture is decoded. `conversion`: None where they are only looked at."""
        self._stores, self._pool, self._conversion = stores, pool, conversion

    def read(self, samples: Iterable[tuple[int, ImageSample]]) -> Iterator[ReadSample]:
        """Reads them in their order, several at a time. Raises `StoreError` where a store does not answer."""
        return in_order(self._read, iter(samples), READS, weight=self._weight, most=WINDOW)

    def _weight(self, numbered: tuple[int, ImageSample]) -> int:
        """Bytes that an image takes at most: one that is written anew is no larger than its pixels."""
        _, sample = numbered
        width, height = sample.facts["width"], sample.facts["height"]
        if self._conversion is None or not isinstance(width, int) or not isinstance(height, int):
            return max(sample.size, LEAST_WEIGHT)
        return max(sample.size, LEAST_WEIGHT, 3 * width * height)

    def _read(self, numbered: tuple[int, ImageSample]) -> ReadSample:
        position, sample = numbered
        data = self._stores.store(sample.dest).read(sample.path)
        if data is None:
            return ReadSample(position=position, sample=sample, lacking=GONE)
        sha256 = hashlib.sha256(data).hexdigest()
        if sample.sha256 is not None and sha256 != sample.sha256:
            return ReadSample(position=position, sample=sample, lacking=CHANGED)
        if self._pool is None:
            return ReadSample(position=position, sample=sample, data=data, sha256=sha256, ending=sample.ending)
        if self._conversion is None:
            seen = self._pool.submit(look, data).result()
            return ReadSample(
                position=position, sample=sample, data=data, sha256=sha256, ending=sample.ending, look=seen
            )
        made = self._pool.submit(convert, data, sample.ending, self._conversion).result()
        if made is None:
            return ReadSample(position=position, sample=sample, lacking=UNREADABLE)
        return ReadSample(
            position=position,
            sample=sample,
            data=made.data,
            sha256=hashlib.sha256(made.data).hexdigest(),
            ending=made.ending,
            pixels=(made.width, made.height),
            look=made.look,
        )
