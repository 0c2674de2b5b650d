"""Brings a manifest here: standard input, s3:// and https:// become a file that can be read more than once."""

from __future__ import annotations

import shutil
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from jobs.errors import BadInput, LightfastError

#: Seconds a server may be silent while it hands over a manifest.
SILENCE = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A manifest on this machine. `name`: as people may see it, without the secrets of a signed address."""

    path: Path
    name: str


@contextmanager
def local_source(manifest: str) -> Iterator[Source]:
    """The manifest as a local file; a copy made for it is gone at the end."""
    if manifest != "-" and "://" not in manifest:
        yield Source(path=Path(manifest), name=manifest)
        return
    with tempfile.TemporaryDirectory(prefix="lightfast-") as folder:
        path = Path(folder) / "manifest"
        with path.open("wb") as file:
            _fetch(manifest, file)
        yield Source(path=path, name=shown_name(manifest))


def shown_name(manifest: str) -> str:
    """s3://bucket/a.csv; a query may hold a signature and is left out."""
    if manifest == "-":
        return "standard input"
    if "://" not in manifest:
        return manifest
    parts = urlsplit(manifest)
    return f"{parts.scheme}://{parts.hostname or ''}{parts.path}"


def _fetch(manifest: str, file: IO[bytes]) -> None:
    scheme = manifest.partition("://")[0]
    if manifest == "-":
        shutil.copyfileobj(sys.stdin.buffer, file)
    elif scheme == "s3":
        _fetch_s3(manifest, file)
    elif scheme in ("https", "http"):
        _fetch_http(manifest, file)
    else:
        raise BadInput(f"{shown_name(manifest)}: a manifest is a path, - , s3://… or https://…")


def _fetch_s3(manifest: str, file: IO[bytes]) -> None:
    import boto3  # noqa: PLC0415  slow to import, rarely used
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415  the same

    bucket, _, key = manifest.removeprefix("s3://").partition("/")
    try:
        boto3.client("s3").download_fileobj(bucket, key, file)
    except ClientError as refused:
        raise BadInput(f"{manifest} cannot be read: {refused.response['Error'].get('Code', 'refused')}") from None
    except (BotoCoreError, ValueError) as trouble:
        raise LightfastError(f"{manifest} cannot be read: {trouble}") from None


def _fetch_http(manifest: str, file: IO[bytes]) -> None:
    request = urllib.request.Request(manifest, headers={"User-Agent": "lightfast"})  # noqa: S310  http(s) only
    try:
        with urllib.request.urlopen(request, timeout=SILENCE) as answer:  # noqa: S310  the same
            shutil.copyfileobj(answer, file)
    except urllib.error.HTTPError as refused:
        raise BadInput(f"{shown_name(manifest)} cannot be read: the server says {refused.code}") from None
    except (OSError, ValueError) as trouble:
        raise LightfastError(f"{shown_name(manifest)} cannot be read: {trouble}") from None
