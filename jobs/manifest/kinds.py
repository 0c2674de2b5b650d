"""What kind of file a manifest is, by its first bytes; what is none of them is refused by its name, with what helps."""

from __future__ import annotations

import enum
import gzip
import zipfile
import zlib
from pathlib import Path

from jobs.errors import BadInput
from jobs.manifest.packed import demand_sound

_GZIP = b"\x1f\x8b"
_ZIP = b"PK\x03\x04"
_PARQUET = b"PAR1"
#: First bytes of files that people have instead of a manifest, and what they are.
_OTHERS = {
    b"\xd0\xcf\x11\xe0": "an old Excel file (.xls), or one with a password: save it as .xlsx, without one",
    b"ARROW1": "an Arrow (Feather) file: write Parquet",
    b"SQLite format 3": "an SQLite database: export the table as CSV",
    b"%PDF": "a PDF",
    b"BZh": "packed with bzip2: unpack it, or pack it with gzip",
    b"\xfd7zXZ": "packed with xz: unpack it, or pack it with gzip",
    b"\x28\xb5\x2f\xfd": "packed with zstd: unpack it, or pack it with gzip",
    b"7z\xbc\xaf": "a 7z archive: unpack it",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
}
#: What of a zip archive tells what it is: a name in it, or its beginning.
_IN_ZIP = {
    "xl/workbook.bin": "a binary workbook (.xlsb): save it as .xlsx",
    "Index/": "an Apple Numbers file: export it as CSV or Excel",
    "word/": "a Word document",
}
_OPEN_DOCUMENT = b"application/vnd.oasis.opendocument"


class FileKind(enum.Enum):
    """How a manifest's bytes are to be read."""

    TEXT = enum.auto()
    PARQUET = enum.auto()
    XLSX = enum.auto()


def kind_of(path: Path, name: str) -> FileKind:
    """Looks at the first bytes. `BadInput` where there is no file, nothing in it, or something else than a manifest."""
    head = _head(path, name)
    if head.startswith(_GZIP):
        unpacked = _unpacked(path)
        if unpacked.startswith((_ZIP, _PARQUET)):
            raise BadInput(f"{name} is packed with gzip, which .xlsx and Parquet do not need: unpack it (gunzip).")
        demand_sound(path, name)
        head = unpacked
    if head.startswith(_ZIP):
        return _in_zip(path, name)
    if head.startswith(_PARQUET):
        return FileKind.PARQUET
    for magic, what in _OTHERS.items():
        if head.startswith(magic):
            raise BadInput(f"{name} is {what}.")
    return FileKind.TEXT


def _head(path: Path, name: str) -> bytes:
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except FileNotFoundError:
        raise BadInput(f"{name}: there is no such file.") from None
    except IsADirectoryError:
        raise BadInput(f"{name} is a folder; a manifest is one file, such as a CSV.") from None
    except OSError as error:
        raise BadInput(f"{name} cannot be read: {error.strerror}.") from error
    if not head:
        raise BadInput(f"{name} is empty; the first line of a CSV names its columns.")
    return head


def _unpacked(path: Path) -> bytes:
    """The first bytes inside; of a damaged file none, which is told when it is read."""
    try:
        with gzip.open(path) as file:
            return file.read(16)
    except (OSError, EOFError, zlib.error):
        return b""


def _in_zip(path: Path, name: str) -> FileKind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            kind = b""
            if "mimetype" in names:
                with archive.open("mimetype") as file:
                    kind = file.read(100)
    # zipfile itself raises the last two: for a compression that it does not know, and for files with a password.
    except (zipfile.BadZipFile, OSError, zlib.error, NotImplementedError, RuntimeError) as error:
        raise BadInput(f"{name} looks like .xlsx or another zip archive, and is damaged: {error}") from error
    if "xl/workbook.xml" in names:
        return FileKind.XLSX
    if kind.startswith(_OPEN_DOCUMENT):
        raise BadInput(f"{name} is an OpenDocument file (.ods): save it as .xlsx or CSV.")
    for part, what in _IN_ZIP.items():
        if any(each.startswith(part) for each in names):
            raise BadInput(f"{name} is {what}.")
    inside = ", ".join(names[:3]) + (" …" if len(names) > 3 else "")  # noqa: PLR2004  enough to know it by
    raise BadInput(f"{name} is a zip archive ({inside}): unpack it, and give one file.")
