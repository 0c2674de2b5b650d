"""The bytes of a manifest's file, unpacked where it is gzipped."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from jobs.errors import BadInput

if TYPE_CHECKING:
    from typing_extensions import Buffer

_GZIP = b"\x1f\x8b"
#: Bytes up to which anything is unpacked, and how many times its packed size a larger part may have. A table's XML
#: comes to 10 to 60 times; zeros, or one letter again and again, to 1,000.
_SMALL, _TIMES = 64_000_000, 200
_CHUNK = 1_048_576


def is_blown_up(packed: int, unpacked: int) -> bool:
    """Whether so many bytes unpack to so many that they are no table, but would take all memory."""
    return unpacked > _SMALL and unpacked > _TIMES * packed


class _Bounded(io.RawIOBase):
    """What is unpacked, up to where nothing sensible unpacks to as much."""

    def __init__(self, unpacked: gzip.GzipFile, packed: int, name: str) -> None:
        super().__init__()
        self._unpacked, self._packed, self._name = unpacked, packed, name
        self._count = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        """The next bytes.

        Raises:
            BadInput: They are too many to be a table.
        """
        count = self._unpacked.readinto(buffer)
        self._count += count
        if is_blown_up(self._packed, self._count):
            raise BadInput(f"{self._name}: its {self._packed:,} bytes unpack to more than any table's would.")
        return count


@contextmanager
def open_bytes(path: Path, name: str) -> Iterator[IO[bytes]]:
    """From the beginning. `BadInput` where it is a gzip file and damaged; `name` is the user's for it."""
    with path.open("rb") as file:
        if not file.peek(2).startswith(_GZIP):
            yield file
            return
        try:
            with gzip.open(file) as unpacked:
                yield cast("IO[bytes]", io.BufferedReader(_Bounded(unpacked, path.stat().st_size, name)))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise BadInput(f"{name} is a damaged gzip file: {error}.") from error


def demand_sound(path: Path, name: str) -> None:
    """Unpacks a gzip file once, and keeps nothing of it: a tenth of the time that it takes to read its rows.

    A file of blank lines would be read for a minute else, until it turns out to be no table.

    Raises:
        BadInput: It is damaged, or unpacks to more than any table would.
    """
    with open_bytes(path, name) as unpacked:
        while unpacked.read(_CHUNK):
            pass
