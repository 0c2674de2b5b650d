"""Files that come with a request: streamed to disk, bounded in bytes, in time and in number."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from fastapi import HTTPException, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from jobs.ledger.access.values import Token
from jobs.whole_text import why_not_whole
from web.callbacks.connection_limits import connection_of
from worker.images.staging import remove_stale

#: Bytes of a request with a file, and of its other fields together.
MOST, MOST_FIELDS = 512 * 1024 * 1024, 256 * 1024
#: Uploads at once, and the bytes that they may have together; others are asked to come again.
AT_ONCE, TOGETHER = 200, 8 * MOST
#: Of one token, so that it keeps nobody else's out.
OF_ONE_AT_ONCE, OF_ONE = 60, 2 * MOST
#: What the names of their temporary files begin with.
PREFIX = "lightfast-upload-"
#: Fields beside the file, and characters of a file's name that are kept.
FIELDS, NAME = 60, 200

HOW_LONG, TOO_LARGE, BUSY, UNREADABLE = 411, 413, 503, 422


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
    """Takes files in; belongs to one event loop. What a killed server has left of its own is removed first."""

    def __init__(self) -> None:
        remove_stale(prefix=PREFIX)
        self._coming: Counter[int] = Counter()  # by token
        self._bytes: Counter[int] = Counter()

    @contextlib.asynccontextmanager
    async def received(self, request: Request, name: str, token: Token) -> AsyncIterator[Upload]:
        """The file in the form's field `name`; afterwards `what_came` tells it from others.

        Raises:
            HTTPException: It is too large (413), does not say how large (411), comes with too many others (503), or is
                no such form (422).
        """
        expected = _length(request)
        is_full = self._coming.total() >= AT_ONCE or self._bytes.total() + expected > TOGETHER
        has_enough = self._coming[token.id] >= OF_ONE_AT_ONCE or self._bytes[token.id] + expected > OF_ONE
        if is_full or has_enough:
            raise HTTPException(BUSY, "too many uploads at once", headers={"Retry-After": "10"})
        came = Counter({token.id: 1}), Counter({token.id: expected})
        self._coming, self._bytes = self._coming + came[0], self._bytes + came[1]
        try:
            async with _form(request) as form:
                file = form.get(name)
                if not isinstance(file, UploadFile):
                    raise HTTPException(UNREADABLE, f"{name}: a file in a form (multipart/form-data)")
                with tempfile.NamedTemporaryFile(prefix=PREFIX) as kept:
                    with contextlib.suppress(OSError):  # a file system without locks: then nothing is removed either
                        fcntl.flock(kept, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    texts, filename = _texts(form), plain_name(file.filename or name)
                    digest = await run_in_threadpool(_write, file.file, kept)
                    told = [filename, digest, sorted(texts.items())]
                    request.state.upload = hashlib.sha256(json.dumps(told).encode()).hexdigest()
                    yield Upload(path=Path(kept.name), filename=filename, bytes=kept.tell(), fields=texts)
        finally:
            self._coming, self._bytes = self._coming - came[0], self._bytes - came[1]


def is_form(request: Request) -> bool:
    """Whether a request may bring a file."""
    return request.headers.get("content-type", "").lower().startswith("multipart/")


def plain_name(name: str) -> str:
    """A file's name without folders and what no terminal or header should be given."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return "".join(each for each in last if each.isprintable())[:NAME] or "upload"


def _length(request: Request) -> int:
    """Bytes that a request has at most.

    One that is chunked, too, would send as many as it likes.
    """
    said = "" if "transfer-encoding" in request.headers else request.headers.get("content-length", "")
    if not (said.isascii() and said.isdecimal()):
        raise HTTPException(HOW_LONG, "an upload says how long it is (Content-Length)")
    length = int(said[:20])
    if length > MOST:
        raise HTTPException(TOO_LARGE, f"an upload has {MOST:,} bytes at most")
    return length


@contextlib.asynccontextmanager
async def _form(request: Request) -> AsyncIterator[FormData]:
    if (connection := connection_of(request)) is not None:
        connection.take_upload(MOST)
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise HTTPException(UNREADABLE, "a file is sent as multipart/form-data")
    try:
        form = await request.form(max_files=1, max_fields=FIELDS, max_part_size=MOST_FIELDS)
    except ValueError as wrong:  # its Content-Type may name a charset that is none
        raise HTTPException(UNREADABLE, "the form cannot be read; it is UTF-8, and needs no charset") from wrong
    try:
        _demand_whole(form)
        yield form
    finally:
        await form.close()


def _demand_whole(form: FormData) -> None:
    """Some charsets make of a form what is no text, which no answer and no page could hold."""
    for name, value in form.multi_items():
        if why := why_not_whole(name):
            raise HTTPException(UNREADABLE, f"the name of a field cannot be read: {why}")
        if isinstance(value, str) and (why := why_not_whole(value)):
            raise HTTPException(UNREADABLE, f"{name}: expected a text, but {why}")


def _write(file: Any, into: IO[bytes]) -> str:
    """The hash of what was written."""
    hashed = hashlib.sha256()
    while part := file.read(1 << 20):
        hashed.update(part)
        into.write(part)
    into.flush()
    return hashed.hexdigest()


def what_came(request: Request) -> str:
    """What tells the form of a request from another, once it was received; "": it had none."""
    return getattr(request.state, "upload", "")


def _texts(form: FormData) -> dict[str, list[str]]:
    texts: dict[str, list[str]] = {}
    for name, value in form.multi_items():
        if isinstance(value, str):
            texts.setdefault(name, []).append(value)
    return texts
