"""The bytes of a manifest's file, unpacked where it is gzipped."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from jobs.errors import BadInput

_GZIP = b"\x1f\x8b"
#: Bytes up to which anything is unpacked, and how many times its packed size a larger part may have. A table's XML
#: comes to 10 to 60 times; zeros, or one letter again and again, to 1,000.
_SMALL, _TIMES = 64_000_000, 200


def is_blown_up(packed: int, unpacked: int) -> bool:
    """Whether so many bytes unpack to so many that they are no table, but would take all memory."""
    return unpacked > _SMALL and unpacked > _TIMES * packed


@contextmanager
def open_bytes(path: Path, name: str) -> Iterator[IO[bytes]]:
    """From the beginning. `BadInput` where it is a gzip file and damaged; `name` is the user's for it."""
    with path.open("rb") as file:
        if not file.peek(2).startswith(_GZIP):
            yield file
            return
        try:
            with gzip.open(file) as unpacked:
                yield cast("IO[bytes]", unpacked)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise BadInput(f"{name} is a damaged gzip file: {error}.") from error
