"""Files that come with a request: streamed to disk, bounded in bytes, in time and in number."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from fastapi import HTTPException, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from web.callbacks.connection_limits import connection_of

#: Bytes of a request with a file, and of its other fields together.
MOST, MOST_FIELDS = 512 * 1024 * 1024, 256 * 1024
#: Uploads at once, and the bytes that they may have together; others are asked to come again.
AT_ONCE, TOGETHER = 100, 4 * MOST
#: Fields beside the file, and characters of a file's name that are kept.
FIELDS, NAME = 60, 200

TOO_LARGE, BUSY, UNREADABLE = 413, 503, 422


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A file that came in, and the fields beside it."""

    path: Path  # gone when the request is answered
    filename: str
    bytes: int
    fields: Mapping[str, list[str]]

    def field(self, name: str, unset: str = "") -> str:
        """The first value of a field."""
        return next(iter(self.fields.get(name, ())), unset)


class Uploads:
    """Takes files in; belongs to one event loop."""

    def __init__(self) -> None:
        self._coming = self._bytes = 0

    @contextlib.asynccontextmanager
    async def received(self, request: Request, name: str) -> AsyncIterator[Upload]:
        """The file in the form's field `name`.

        Raises:
            HTTPException: It is too large (413), comes with too many others (503), or is no such form (422).
        """
        expected = _length(request)
        if self._coming >= AT_ONCE or self._bytes + expected > TOGETHER:
            raise HTTPException(BUSY, "too many uploads at once", headers={"Retry-After": "10"})
        self._coming, self._bytes = self._coming + 1, self._bytes + expected
        try:
            async with _form(request) as form:
                file = form.get(name)
                if not isinstance(file, UploadFile):
                    raise HTTPException(UNREADABLE, f"{name}: a file in a form (multipart/form-data)")
                with tempfile.NamedTemporaryFile(prefix="lightfast-upload-") as kept:
                    await run_in_threadpool(_write, file.file, kept)
                    yield Upload(
                        path=Path(kept.name),
                        filename=plain_name(file.filename or name),
                        bytes=kept.tell(),
                        fields=_texts(form),
                    )
        finally:
            self._coming, self._bytes = self._coming - 1, self._bytes - expected


def plain_name(name: str) -> str:
    """A file's name without folders and what no terminal or header should be given."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return "".join(each for each in last if each.isprintable())[:NAME] or "upload"


def _length(request: Request) -> int:
    """Bytes that a request has at most."""
    said = request.headers.get("content-length", "")
    length = int(said) if said.isascii() and said.isdecimal() else MOST
    if length > MOST:
        raise HTTPException(TOO_LARGE, f"an upload has {MOST:,} bytes at most")
    return length


@contextlib.asynccontextmanager
async def _form(request: Request) -> AsyncIterator[FormData]:
    if (connection := connection_of(request)) is not None:
        connection.take_upload(MOST)
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise HTTPException(UNREADABLE, "a file is sent as multipart/form-data")
    async with request.form(max_files=1, max_fields=FIELDS, max_part_size=MOST_FIELDS) as form:
        yield form


def _write(file: Any, into: IO[bytes]) -> None:
    shutil.copyfileobj(file, into, 1 << 20)
    into.flush()


def _texts(form: FormData) -> dict[str, list[str]]:
    texts: dict[str, list[str]] = {}
    for name, value in form.multi_items():
        if isinstance(value, str):
            texts.setdefault(name, []).append(value)
    return texts
