"""Opens a destination by its address: a bucket at one of three clouds, or a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from jobs.errors import StoreError

if TYPE_CHECKING:
    from worker.storage.base import Store


def open_store(dest: str) -> Store:
    """Opens s3://bucket/prefix, gs://…, az://container/prefix, file:///… or a folder.

    A missing bucket, missing credentials and an endpoint that does not answer are found here; rights by `probe`.
    """
    scheme, separator, _ = dest.partition("://")
    if not separator:
        return _folder(Path(dest))
    if scheme == "file":
        return _folder(_file_path(dest))
    if scheme not in {"s3", "gs", "az"}:
        message = f"{dest}: a destination is s3://bucket/prefix, gs://…, az://…, file:///… or a folder"
        raise StoreError(code="bad_destination", message=message, retryable=False)
    bucket, _, prefix = dest.partition("://")[2].partition("/")
    if not bucket:
        raise StoreError(code="bad_destination", message=f"{scheme}://: no bucket is named", retryable=False)
    return _bucket(scheme, bucket, prefix.strip("/"))


def addresses_above(dest: str) -> Iterator[str]:
    """The addresses that a destination lies below, the nearest first: of a bucket at last the whole of it."""
    scheme, separator, rest = dest.partition("://")
    if not separator or scheme == "file":
        folder = _file_path(dest) if separator else Path(dest)
        yield from map(str, folder.resolve().parents)
        return
    bucket, _, prefix = rest.partition("/")
    parts = [part for part in prefix.split("/") if part]
    for number in range(len(parts) - 1, -1, -1):
        yield f"{scheme}://{'/'.join([bucket, *parts[:number]])}"


def _bucket(scheme: str, bucket: str, prefix: str) -> Store:
    if scheme == "s3":
        from worker.storage.s3 import open_s3  # noqa: PLC0415  its library takes 0.2 s to load

        return open_s3(bucket, prefix)
    from worker.storage.object_store import open_bucket  # noqa: PLC0415  the same

    return open_bucket(scheme, bucket, prefix)


def _folder(path: Path) -> Store:
    from worker.storage.disk import DiskStore  # noqa: PLC0415  only where there is a folder

    return DiskStore(path)


def _file_path(dest: str) -> Path:
    host, slash, _ = dest.partition("://")[2].partition("/")
    if host not in {"", "localhost"} or not slash:
        message = f"{dest}: a file URL has three slashes, file:///folder"
        raise StoreError(code="bad_destination", message=message, retryable=False)
    return Path(unquote(dest.partition("://")[2].removeprefix("localhost")))
