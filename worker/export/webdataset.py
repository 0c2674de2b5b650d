"""Shards for WebDataset: tar files in which the files of one sample have one name."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import orjson

from jobs.export.samples import ImageSample

CONTENT_TYPE = "application/x-tar"
ENDING = ".tar"
_MODE = 0o644
#: Bytes that are written at once: a sample's caption and record are small.
_BUFFER = 1_000_000


class TarShard:
    """One shard. The same samples make the same bytes: nobody's name and no time is in it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=_BUFFER)
        self._tar = tarfile.open(fileobj=self._file, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115  closed below

    def add(self, sample: ImageSample, ending: str, data: bytes, record: dict[str, object]) -> None:
        """The picture, its caption and its record."""
        self._put(f"{sample.name}.{ending}", data)
        self._put(f"{sample.name}.txt", sample.caption.encode())
        self._put(f"{sample.name}.json", orjson.dumps(record))

    def _put(self, name: str, data: bytes) -> None:
        head = tarfile.TarInfo(name)
        head.size, head.mode = len(data), _MODE
        self._tar.addfile(head, io.BytesIO(data))
        # It would keep every head: 100 MB for a shard of small images.
        self._tar.members.clear()  # type: ignore[attr-defined]  # unknown to typeshed

    def close(self) -> None:
        """Ends the file."""
        self._tar.close()
        self._file.close()
