"""Brings a manifest here: standard input, s3:// and https:// become a file that can be read more than once."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from jobs.errors import BadInput, LightfastError, StoreError
from jobs.settings.proxies import NO_PROXIES, Proxies
from worker.http.client import FetchError, Http

#: Bytes of a manifest that is fetched: a million rows of the longest prompts, and then some.
LIMIT = 8 * 1024**3
#: Seconds a manifest may take in all; a server that says nothing is given up much sooner.
TIMEOUT = 2 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestSource:
    """A manifest on this machine. `name`: as people may see it, without the secrets of a signed address."""

    path: Path
    name: str
    folder: Path | None  # that files it names count from; None: it comes from elsewhere and may name none


@contextmanager
def local_source(
    manifest: str, *, allow_private_hosts: bool = False, proxies: Proxies = NO_PROXIES
) -> Iterator[ManifestSource]:
    """The manifest as a local file; a copy made for it is gone at the end."""
    if manifest != "-" and "://" not in manifest:
        yield ManifestSource(path=Path(manifest), name=manifest, folder=Path(manifest).absolute().parent)
        return
    with tempfile.TemporaryDirectory(prefix="lightfast-") as folder:
        path = Path(folder) / "manifest"
        with path.open("wb") as file:
            _fetch(manifest, file, allow_private_hosts=allow_private_hosts, proxies=proxies)
        yield ManifestSource(path=path, name=shown_name(manifest), folder=Path.cwd() if manifest == "-" else None)


def shown_name(manifest: str) -> str:
    """s3://bucket/a.csv; a query may hold a signature and is left out."""
    if manifest == "-":
        return "standard input"
    if "://" not in manifest:
        return manifest
    parts = urlsplit(manifest)
    return f"{parts.scheme}://{parts.hostname or ''}{parts.path}"


def _fetch(manifest: str, file: IO[bytes], *, allow_private_hosts: bool, proxies: Proxies) -> None:
    scheme = manifest.partition("://")[0]
    if manifest == "-":
        shutil.copyfileobj(sys.stdin.buffer, file)
    elif scheme == "s3":
        _fetch_s3(manifest, file)
    elif scheme in ("https", "http"):
        asyncio.run(_fetch_http(manifest, file, allow_private_hosts=allow_private_hosts, proxies=proxies))
    else:
        raise BadInput(f"{shown_name(manifest)}: a manifest is a path, - , s3://… or https://…")


def _fetch_s3(manifest: str, file: IO[bytes]) -> None:
    """With the same access as a destination: one AWS configuration, and the same words for what is refused."""
    from worker.storage.s3 import download  # noqa: PLC0415  slow to import, rarely used

    bucket, _, key = manifest.removeprefix("s3://").partition("/")
    try:
        found = download(bucket, key, file)
    except StoreError as refused:
        text = f"{manifest} cannot be read: {refused.message}"
        raise (LightfastError(text) if refused.retryable and not refused.denied else BadInput(text)) from None
    if not found:
        raise BadInput(f"{manifest} cannot be read: there is no such object")


async def _fetch_http(manifest: str, file: IO[bytes], *, allow_private_hosts: bool, proxies: Proxies) -> None:
    """Guarded like every download: whoever names the manifest need not be whoever owns this machine."""
    http = Http(allow_private_hosts=allow_private_hosts, proxies=proxies)
    try:
        await http.download(manifest, file, limit=LIMIT, timeout=TIMEOUT)
    except FetchError as refused:
        raise _told(manifest, refused) from None
    finally:
        await http.close()


def _told(manifest: str, refused: FetchError) -> LightfastError:
    help_ = ". LIGHTFAST_ALLOW_PRIVATE_HOSTS=1 permits it" if refused.code == "forbidden_address" else ""
    text = f"{shown_name(manifest)} cannot be read: {refused.message}{help_}"
    return LightfastError(text) if refused.retryable else BadInput(text)
