"""Pictures as files in a folder for each split, and what is known of them beside them.

That is `metadata.jsonl`. Where `datasets` would guess other types from it than the columns have, differing ones for two
splits even, it is `metadata.parquet`, which says them.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson

from jobs.errors import LightfastError
from jobs.export.records import RecordShape
from jobs.export.samples import ImageSample
from worker.export import parquet
from worker.export.state import FinishedPart, Placed, lines_name, place, place_file
from worker.storage.base import Store

METADATA, TYPED_METADATA = "metadata.jsonl", "metadata.parquet"
JSONL = "application/jsonl"
#: Pictures of one part.
_PICTURES = 1_000
#: Puts at once.
_PUTS = 16
_TYPES = {"jpg": "image/jpeg", "tif": "image/tiff"}


class FolderPart:
    """Up to a thousand pictures, each put as it comes. What is known of them is kept until all parts are there."""

    def __init__(self, store: Store, dest: str, split: str) -> None:
        self._store, self._dest, self._split = store, dest, split
        self._threads = ThreadPoolExecutor(_PUTS, thread_name_prefix="export-put")
        self._running: deque[Future[None]] = deque()
        self._lines: list[bytes] = []
        self.samples = self.size = 0

    def takes(self, size: int) -> bool:  # noqa: ARG002  as every part
        """Whether one more belongs to it."""
        return self.samples < _PICTURES

    def add(self, sample: ImageSample, ending: str, data: bytes, record: dict[str, object]) -> None:
        """One picture more; no more than a few wait to be put."""
        while len(self._running) >= _PUTS:
            self._running.popleft().result()
        name, kind = f"{sample.name}.{ending}", _TYPES.get(ending, f"image/{ending}")
        put = self._threads.submit(place, self._store, self._dest, f"{self._split}/{name}", data, kind)
        self._running.append(put)
        line = {"file_name": name, "text": sample.caption, **record}
        self._lines.append(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        self.samples += 1
        self.size += len(data)

    def put(self, number: int, of_split: int) -> tuple[str, Placed]:  # noqa: ARG002  as every part
        """Waits for all of it; where its lines are, and what they are."""
        while self._running:
            self._running.popleft().result()
        lines, name = b"".join(self._lines), lines_name(number)
        place(self._store, self._dest, name, lines, JSONL)
        self.close()
        return name, Placed(hashlib.sha256(lines).hexdigest(), len(lines))

    def close(self) -> None:
        """Puts no more."""
        self._threads.shutdown(wait=True, cancel_futures=True)


def put_metadata(
    store: Store, dest: str, folder: Path, parts: Sequence[FinishedPart], shape: RecordShape
) -> list[dict[str, Any]]:
    """Puts the lines of all parts, a file for each split; what was put."""
    metadata, kind = (TYPED_METADATA, parquet.CONTENT_TYPE) if shape.states_types else (METADATA, JSONL)
    files: list[dict[str, Any]] = []
    for split in dict.fromkeys(part.split for part in parts):
        mine = [part for part in parts if part.split == split]
        path, name = folder / metadata, f"{split}/{metadata}"
        all_lines = (_lines(store, dest, part) for part in mine)
        if shape.states_types:
            parquet.write_metadata(path, shape, all_lines)
        else:
            with path.open("wb") as file:
                file.writelines(all_lines)
        placed = place_file(store, dest, name, path, kind)
        totals = {"samples": sum(part.samples for part in mine), "bytes": sum(part.bytes for part in mine)}
        files.append({"file": name, "split": split, **totals, **placed._asdict()})
        path.unlink()
    return files


def _lines(store: Store, dest: str, part: FinishedPart) -> bytes:
    lines = store.read(part.file)
    if lines is None:  # taken away by who ended it first
        raise LightfastError(f"{dest} is exported by another process, too. The same command says how it ended.")
    return lines
