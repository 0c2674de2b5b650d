"""The text of a manifest's file: plain or gzipped, in its encoding, and never a line more than memory holds."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from jobs.errors import BadInput

#: Characters of one cell. A prompt is far below; beyond it is an unclosed quote or a wrong file.
CELL_LIMIT = 1_000_000
#: Bytes of one line: a cell of four-byte characters, and as much again. Keeps memory bounded before a line is whole.
LINE_LIMIT = 8_000_000

_GZIP = b"\x1f\x8b"
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFile:
    """A file of text, and how it is read."""

    path: Path
    name: str  # as the user named it
    encoding: str

    @contextmanager
    def open(self, *, any_length: bool = False) -> Iterator[IO[str]]:
        """From the beginning. `BadInput` where it is no such text; `LongLine` where a line is too long.

        `any_length`: for who reads no lines.
        """
        with _open_bytes(self.path) as raw:
            try:
                # Line ends stay as they are: inside quotes they belong to the cell.
                lines = raw if any_length else cast("IO[bytes]", _BoundedLines(raw))
                yield io.TextIOWrapper(lines, encoding=self.encoding, newline="")
            except UnicodeError as error:
                raise BadInput(_bad_text(self)) from error
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise BadInput(f"{self.name} is a damaged gzip file: {error}.") from error


class LongLine(Exception):
    """A line beyond LINE_LIMIT."""


class _BoundedLines(io.BufferedIOBase):
    """Passes bytes on, and stops at a line that would not fit in memory."""

    def __init__(self, inner: IO[bytes]) -> None:
        self._inner = inner
        self._length = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def read1(self, size: int = -1, /) -> bytes:
        """What the text layer asks for."""
        data = cast("io.BufferedReader", self._inner).read1(size)
        end = max(data.rfind(b"\n"), data.rfind(b"\r"))
        self._length = len(data) - end - 1 + (self._length if end < 0 else 0)
        if self._length > LINE_LIMIT:
            raise LongLine
        return data


def too_long(name: str, line: int) -> BadInput:
    """The error to raise for a cell beyond CELL_LIMIT, or a line beyond LINE_LIMIT."""
    return BadInput(
        f"{name}, line {line}: a cell is longer than {CELL_LIMIT:,} characters. "
        "Perhaps a quote is not closed, or this is no manifest."
    )


@contextmanager
def _open_bytes(path: Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as file:
        if file.peek(2).startswith(_GZIP):
            with gzip.open(file) as unpacked:
                yield cast("IO[bytes]", unpacked)
        else:
            yield file


def _bad_text(file: TextFile) -> str:
    """Reads again, slowly, to name the line."""
    name, encoding = file.name, file.encoding
    with _open_bytes(file.path) as raw:
        head = raw.read(4)
    if encoding == "utf-8-sig" and head.startswith(_UTF_16):
        return f"{name} is UTF-16, not UTF-8: give --encoding utf-16, or export it as UTF-8."
    shown = "UTF-8" if encoding == "utf-8-sig" else encoding
    line, byte = _first_bad_byte(file.path, encoding)
    return (
        f"{name}, line {line}: byte 0x{byte:02x} is not {shown}. "
        "Export the file as UTF-8, or say what it is: --encoding cp1252 (Excel on Windows), utf-16 …"
    )


def _first_bad_byte(path: Path, encoding: str) -> tuple[int, int]:
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(), translate=True)
    line, byte = 1, 0
    with _open_bytes(path) as raw:
        try:
            for chunk in iter(lambda: raw.read(1 << 16), b""):
                for byte in chunk:
                    line += decoder.decode(bytes((byte,))).count("\n")
            decoder.decode(b"", final=True)
        except UnicodeError:
            pass
    return line, byte
