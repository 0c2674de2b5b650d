"""The bytes of samples, compared with what is on record of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from jobs.export.samples import ImageSample
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSample:
    """A sample and its bytes, or why there are none."""

    position: int  # among all samples, from 0
    sample: ImageSample
    data: bytes = b""
    sha256: str = ""  # of `data`
    lacking: str | None = None


def read_samples(stores: Destinations, samples: Iterable[tuple[int, ImageSample]]) -> Iterator[ReadSample]:
    """Reads them in their order, several at a time. Raises `StoreError` where a store does not answer."""

    def read(numbered: tuple[int, ImageSample]) -> ReadSample:
        position, sample = numbered
        data = stores.store(sample.dest).read(sample.path)
        if data is None:
            return ReadSample(position=position, sample=sample, lacking=GONE)
        sha256 = hashlib.sha256(data).hexdigest()
        if sample.sha256 is not None and sha256 != sample.sha256:
            return ReadSample(position=position, sample=sample, lacking=CHANGED)
        return ReadSample(position=position, sample=sample, data=data, sha256=sha256)

    return in_order(read, iter(samples), READS, weight=lambda each: max(each[1].size, LEAST_WEIGHT), most=WINDOW)
