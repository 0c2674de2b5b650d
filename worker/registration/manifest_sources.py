"""Brings a manifest here: standard input, s3:// and https:// become a file that can be read more than once."""

from __future__ import annotations

import asyncio
import io
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from jobs.errors import BadInput, LightfastError, StoreError
from jobs.settings.proxies import NO_PROXIES, Proxies
from worker.http.client import FetchError, Http
from worker.registration.addresses import split_address

if TYPE_CHECKING:
    from typing_extensions import Buffer

#: Bytes of a manifest that is fetched: a million rows of the longest prompts, and then some.
LIMIT = 8 * 1024**3
#: Seconds a manifest may take in all; a server that says nothing is given up much sooner.
TIMEOUT = 2 * 3600.0


#: How a manifest stood when it was read, to tell whether it has changed since: plain JSON values.
SourceState = Mapping[str, Any]


class UnchangedError(Exception):
    """The manifest is as it was seen before: there is nothing to read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestSource:
    """A manifest on this machine. `name`: as people may see it, without the secrets of a signed address."""

    path: Path
    name: str
    folder: Path | None  # that files it names count from; None: it comes from elsewhere and may name none
    state: SourceState | None  # as it was before it was read; None: it says nothing of itself

    def has_changed(self) -> bool:
        """Whether a file is another by now than when it began to be read. What was fetched came whole."""
        return self.folder is not None and self.state is not None and _file_state(self.path) != self.state


@contextmanager
def local_source(
    manifest: str,
    *,
    allow_private_hosts: bool = False,
    proxies: Proxies = NO_PROXIES,
    seen: SourceState | None = None,
    tell: Callable[[int], None] | None = None,
) -> Iterator[ManifestSource]:
    """The manifest as a local file; a copy made for it is gone at the end. `seen`: as it was when it was last read.

    `tell`: called with 0 rows as bytes come in; what it raises ends that.

    Raises:
        UnchangedError: It is still as it was seen.
    """
    if manifest != "-" and "://" not in manifest:
        path = Path(manifest)
        state = _file_state(path)
        if state is not None and state == seen:
            raise UnchangedError
        yield ManifestSource(path=path, name=manifest, folder=path.absolute().parent, state=state)
        return
    name = shown_name(manifest)
    with tempfile.TemporaryDirectory(prefix="lightfast-") as folder:
        path = Path(folder) / "manifest"
        with _Incoming(path, tell or (lambda _rows: None)) as file:
            state = _fetch(manifest, file, seen or {}, allow_private_hosts=allow_private_hosts, proxies=proxies)
        home = Path.cwd() if manifest == "-" else None
        yield ManifestSource(path=path, name=name, folder=home, state=state)


class _Incoming(io.BufferedWriter):
    """A file that says when something is written to it."""

    def __init__(self, path: Path, tell: Callable[[int], None]) -> None:
        super().__init__(io.FileIO(path, "wb"))
        self._tell = tell

    def write(self, data: Buffer, /) -> int:
        """Writes bytes, unless `tell` raises."""
        self._tell(0)
        return super().write(data)


def _file_state(path: Path) -> SourceState | None:
    """None: there is no such file, which who reads it tells."""
    try:
        found = path.stat()
    except OSError:
        return None
    return {"bytes": found.st_size, "modified": found.st_mtime_ns, "inode": found.st_ino}


def shown_name(manifest: str) -> str:
    """s3://bucket/a.csv; a query may hold a signature and is left out."""
    if manifest == "-":
        return "standard input"
    if "://" not in manifest:
        return manifest
    parts = split_address(manifest, "manifest")
    return f"{parts.scheme}://{parts.hostname or ''}{parts.path}"


def _fetch(
    manifest: str, file: IO[bytes], seen: SourceState, *, allow_private_hosts: bool, proxies: Proxies
) -> SourceState | None:
    scheme = manifest.partition("://")[0]
    if manifest == "-":
        shutil.copyfileobj(sys.stdin.buffer, file)
        return None
    if scheme == "s3":
        return _fetch_s3(manifest, file, seen)
    if scheme in ("https", "http"):
        fetching = _fetch_http(manifest, file, seen, allow_private_hosts=allow_private_hosts, proxies=proxies)
        return asyncio.run(fetching)
    raise BadInput(f"{shown_name(manifest)}: a manifest is a path, - , s3://… or https://…")


def _fetch_s3(manifest: str, file: IO[bytes], seen: SourceState) -> SourceState | None:
    """With the same access as a destination: one AWS configuration, and the same words for what is refused."""
    from worker.storage.s3 import download  # noqa: PLC0415  slow to import, rarely used

    bucket, _, key = manifest.removeprefix("s3://").partition("/")
    try:
        found = download(bucket, key, file, unless=seen.get("etag"))
    except StoreError as refused:
        text = f"{manifest} cannot be read: {refused.message}"
        raise (LightfastError(text) if refused.retryable and not refused.denied else BadInput(text)) from None
    if found is None:
        raise BadInput(f"{manifest} cannot be read: there is no such object")
    if not found.is_new:
        raise UnchangedError
    return {"etag": found.etag} if found.etag else None


async def _fetch_http(
    manifest: str, file: IO[bytes], seen: SourceState, *, allow_private_hosts: bool, proxies: Proxies
) -> SourceState | None:
    """Guarded like every download: whoever names the manifest need not be whoever owns this machine."""
    http = Http(allow_private_hosts=allow_private_hosts, proxies=proxies)
    unless = {header: seen[name] for name, header in _CONDITIONS.items() if seen.get(name)}
    try:
        done = await http.download(manifest, file, limit=LIMIT, timeout=TIMEOUT, unless=unless)
    except FetchError as refused:
        raise _told(manifest, refused) from None
    finally:
        await http.close()
    if done.status == HTTPStatus.NOT_MODIFIED:
        raise UnchangedError
    return {name: done.headers[name] for name in _CONDITIONS if name in done.headers} or None


#: What a server says of a file, and how it is asked for one that is not so any more.
_CONDITIONS = {"etag": "If-None-Match", "last-modified": "If-Modified-Since"}


def _told(manifest: str, refused: FetchError) -> LightfastError:
    help_ = ". LIGHTFAST_ALLOW_PRIVATE_HOSTS=1 permits it" if refused.code == "forbidden_address" else ""
    text = f"{shown_name(manifest)} cannot be read: {refused.message}{help_}"
    return LightfastError(text) if refused.retryable else BadInput(text)
