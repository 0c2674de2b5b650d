"""Parts of a data set: one of each split is open, is put when it is full, and is then on record."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Protocol, Self

from jobs.export.findings import PictureFinding
from jobs.export.records import RecordShape
from jobs.export.samples import ImageSample
from worker.export import parquet, webdataset
from worker.export.imagefolder import FolderPart
from worker.export.inspection import FindingsNotes
from worker.export.state import FinishedPart, Placed, place_file, record
from worker.storage.base import Store


class Shard(Protocol):
    """A file that samples are written into."""

    def add(self, sample: ImageSample, ending: str, data: bytes, record: dict[str, object]) -> None:
        """One sample more."""

    def close(self) -> None:
        """Ends the file."""


class OpenPart(Protocol):
    """What samples of one split are added to until it is full."""

    samples: int
    size: int  # bytes of the pictures

    def takes(self, size: int) -> bool:
        """Whether a picture of this size still belongs to it."""

    def add(self, sample: ImageSample, ending: str, data: bytes, record: dict[str, object]) -> None:
        """One sample more."""

    def put(self, number: int, of_split: int) -> tuple[str, Placed]:
        """Puts it; the file's path below the destination, and what was put. Numbers: among all, and of its split."""

    def close(self) -> None:
        """Lets go of it."""


class ShardPart:
    """A file that is written here, and put when it is full."""

    def __init__(self, store: Store, dest: str, shard: Shard, file: Path, *, name: str, kind: str, most: int) -> None:  # noqa: PLR0913  what it is made of
        self._store, self._dest, self._shard, self._file = store, dest, shard, file
        self._name, self._kind, self._most = name, kind, most
        self.samples = self.size = 0

    def takes(self, size: int) -> bool:
        """One picture that is larger than a shard has one for itself."""
        return not self.samples or self.size + size <= self._most

    def add(self, sample: ImageSample, ending: str, data: bytes, record: dict[str, object]) -> None:
        """One sample more."""
        self._shard.add(sample, ending, data, record)
        self.samples += 1
        self.size += len(data)

    def put(self, number: int, of_split: int) -> tuple[str, Placed]:  # noqa: ARG002  as every part
        """Ends the file and puts it."""
        self._shard.close()
        name = self._name.format(number=of_split)
        placed = place_file(self._store, self._dest, name, self._file, self._kind)
        self._file.unlink()
        return name, placed

    def close(self) -> None:
        """Lets go of the file."""
        self._shard.close()


def opener(
    store: Store, dest: str, folder: Path, *, shape: str, records: RecordShape, most: int
) -> Callable[[str], OpenPart]:
    """What opens the next part of a split. `most`: bytes of pictures in a file."""

    def open_part(split: str) -> OpenPart:
        file = folder / f"{split}.part"
        if shape == "imagefolder":
            return FolderPart(store, dest, split)
        if shape == "parquet":
            name, kind = f"data/{split}-{{number:05}}.parquet", parquet.CONTENT_TYPE
            return ShardPart(store, dest, parquet.ParquetShard(file, records), file, name=name, kind=kind, most=most)
        name, kind = f"{split}-{{number:06}}.tar", webdataset.CONTENT_TYPE
        return ShardPart(store, dest, webdataset.TarShard(file), file, name=name, kind=kind, most=most)

    return open_part


class ShardWriter:
    """Writes the parts of all splits, in an order that only the samples decide."""

    def __init__(
        self, store: Store, dest: str, open_part: Callable[[str], OpenPart], finished: list[FinishedPart]
    ) -> None:
        """`finished`: the parts that are there; those that are put are added to it."""
        self._store, self._dest, self._open_part = store, dest, open_part
        self.finished = finished
        self._numbers = Counter(part.split for part in finished)
        self._open: dict[str, OpenPart] = {}
        self._seen = finished[-1].seen if finished else 0
        self._missing: dict[str, str] = {}
        self._notes = FindingsNotes(self._seen)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Lets go of what is still open: the samples in it are read again by the export that goes on."""
        for each in self._open.values():
            with contextlib.suppress(Exception):  # of a full disk: what ended this is told, not that
                each.close()

    def lack(self, position: int, reason: str) -> None:
        """A sample whose picture cannot be had."""
        self._missing[str(position)] = reason

    def note(self, position: int, found: PictureFinding) -> None:
        """What was found of a sample that was added, or left out."""
        self._notes.add(position, found)

    def add(self, position: int, sample: ImageSample, ending: str, data: bytes, record: dict[str, object]) -> None:
        """Adds a sample to its split; a part that is full is put before."""
        part = self._open.get(sample.split)
        if part and not part.takes(len(data)):
            self._put(sample.split, position)
            part = None
        if part is None:
            part = self._open[sample.split] = self._open_part(sample.split)
        part.add(sample, ending, data, record)

    def put_open(self, seen: int) -> None:
        """Puts what is open, at the end."""
        for split in list(self._open):
            self._put(split, seen)

    def _put(self, split: str, seen: int) -> None:
        part = self._open[split]
        name, placed = part.put(len(self.finished), self._numbers[split])
        del self._open[split]
        self._numbers[split] += 1
        self._seen = max(self._seen, seen)
        done = FinishedPart(
            number=len(self.finished),
            split=split,
            file=name,
            samples=part.samples,
            bytes=part.size,
            sha256=placed.sha256,
            file_bytes=placed.file_bytes,
            seen=self._seen,
            missing=self._missing,
            findings=asdict(self._notes.take(self._seen)),
        )
        record(self._store, self._dest, done)
        self.finished.append(replace(done, findings={}))
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
