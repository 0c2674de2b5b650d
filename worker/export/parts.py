"""Parts of a data set: a shard of each split is open, is put when it is full, and is then on record."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from jobs.export.samples import ImageSample
from worker.export import webdataset
from worker.export.state import FinishedPart, record, something_else
from worker.storage.base import PutResult, Store


class Shard(Protocol):
    """A file that samples are written into."""

    def add(self, sample: ImageSample, ending: str, data: bytes, record: dict[str, object]) -> None:
        """One sample more."""

    def close(self) -> None:
        """Ends the file."""


@dataclass(slots=True)
class _OpenShard:
    file: Path
    shard: Shard
    samples: int = 0
    bytes: int = 0


class ShardWriter:
    """Writes the parts of all splits, in an order that only the samples decide."""

    def __init__(self, store: Store, dest: str, folder: Path, *, size: int, finished: Sequence[FinishedPart]) -> None:
        self._store, self._dest, self._folder, self._size = store, dest, folder, size
        self.finished = list(finished)
        self._numbers = Counter(part.split for part in finished)
        self._open: dict[str, _OpenShard] = {}
        self._seen = finished[-1].seen if finished else 0
        self._missing: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Lets go of what is still open: the samples in it are read again by the export that goes on."""
        for each in self._open.values():
            each.shard.close()

    def lack(self, position: int, reason: str) -> None:
        """A sample whose picture cannot be had."""
        self._missing[str(position)] = reason

    def add(self, position: int, sample: ImageSample, ending: str, data: bytes, record: dict[str, object]) -> None:
        """Adds a sample to its split; a shard that would become too large is put before."""
        shard = self._open.get(sample.split)
        if shard and shard.bytes + len(data) > self._size:
            self._put(sample.split, position)
            shard = None
        if shard is None:
            file = self._folder / f"{sample.split}{webdataset.ENDING}"
            shard = self._open[sample.split] = _OpenShard(file, webdataset.TarShard(file))
        shard.shard.add(sample, ending, data, record)
        shard.samples += 1
        shard.bytes += len(data)

    def put_open(self, seen: int) -> None:
        """Puts what is open, at the end."""
        for split in list(self._open):
            self._put(split, seen)

    def _put(self, split: str, seen: int) -> None:
        shard = self._open.pop(split)
        shard.shard.close()
        name = f"{split}-{self._numbers[split]:06}{webdataset.ENDING}"
        with shard.file.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        put = self._store.put_new(name, shard.file, content_type=webdataset.CONTENT_TYPE)
        if put is PutResult.EXISTS and self._store.sha256_of(name) != sha256:
            raise something_else(self._dest, name)
        shard.file.unlink()
        self._numbers[split] += 1
        self._seen = max(self._seen, seen)
        part = FinishedPart(
            number=len(self.finished),
            split=split,
            file=name,
            samples=shard.samples,
            bytes=shard.bytes,
            sha256=sha256,
            seen=self._seen,
            missing=self._missing,
        )
        record(self._store, self._dest, part)
        self.finished.append(part)
        self._missing = {}


class Replay:
    """What the parts on record say of samples, so that no object is read twice without need."""

    def __init__(self, finished: Sequence[FinishedPart]) -> None:
        self._missing = {int(at): why for part in finished for at, why in part.missing.items()}
        self._left: Counter[str] = Counter()
        for part in finished:
            self._left[part.split] += part.samples

    def lacks(self, position: int) -> str | None:
        """Why the picture of a sample could not be had; None: it could, or nobody has looked."""
        return self._missing.get(position)

    def has(self, sample: ImageSample) -> bool:
        """Whether a sample is in a finished part. Asked once for each, in order, but for those that are lacking."""
        if not self._left[sample.split]:
            return False
        self._left[sample.split] -= 1
        return True
